//! The build script of every program of a host: the commit that `--version` names.
//!
//! The guest's programs are built without it, since their bytes are measured and must not change with a commit. A release
//! is built again at each commit. A development build is not, so its commit is the one at which this script ran last.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=CHRYSALIS_COMMIT");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let named = std::env::var("CHRYSALIS_COMMIT").ok();
    let commit = named.filter(|name| plain(name)).or_else(|| {
        // Sources that lie in somebody else's repository have no commit of their own.
        let top = git(&["rev-parse", "--show-toplevel"])?;
        std::fs::metadata(format!("{top}/commit.rs")).ok()?;
        if release {
            watch();
        }
        let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
        Some(if release {
            commit
        } else {
            format!("{commit} or later")
        })
    });
    let commit = commit.unwrap_or_else(|| "unknown commit".into());
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo:rustc-env=CHRYSALIS_VERSION={version} ({commit})");
}

/// Runs this script again when another commit is checked out or made.
fn watch() {
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        if let Some(path) = git(&["rev-parse", "--git-path", name])
            && std::fs::metadata(&path).is_ok()
        {
            println!("cargo:rerun-if-changed={path}");
        }
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}

fn plain(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
