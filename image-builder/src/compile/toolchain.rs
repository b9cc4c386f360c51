//! The Rust toolchain of the sources: found through rustup as cargo itself would, held to the version that they pin.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use super::TRIPLE;
use crate::error::{Error, Fault, error};

/// A toolchain, and the directory where its cargo keeps what it downloads.
#[derive(Debug, Clone)]
pub struct Toolchain {
    sysroot: PathBuf,
    cargo_home: PathBuf,
    /// `rustc`, its version and its commit.
    pub version: String,
}

impl Toolchain {
    /// The toolchain that the nearest `rust-toolchain.toml` at or above `sources` pins.
    pub fn of(sources: &Path) -> Result<Self, Error> {
        let pinned = pinned_in(sources)?;
        let verbose = said(quiet("rustc", sources).arg("-vV"))?;
        let field = |name: &str| {
            let mut lines = verbose.lines();
            lines
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let release = field("release:").unwrap_or("of no version");
        if release != pinned {
            return Err(error!(
                Tool,
                "the sources pin Rust {pinned}, and `rustc` in their directory is {release}: install rustup, which follows \
                 rust-toolchain.toml, or put that version first in PATH"
            ));
        }
        let commit = field("commit-hash:").unwrap_or("of no commit");
        let sysroot = said(quiet("rustc", sources).args(["--print", "sysroot"]))?;
        let sysroot = PathBuf::from(sysroot.trim_end());
        let target = sysroot.join("lib/rustlib").join(TRIPLE);
        if !target.is_dir() {
            return Err(error!(
                Tool,
                "the toolchain in {} has no {TRIPLE}: `rustup target add {TRIPLE}`",
                sysroot.display()
            ));
        }
        Ok(Self {
            sysroot,
            cargo_home: cargo_home()?,
            version: format!("rustc {release} {commit}"),
        })
    }

    /// Cargo's own directory on this machine.
    pub fn cargo_home(&self) -> &Path {
        &self.cargo_home
    }

    /// What of the toolchain is seen in the sandbox: what compiles for our target. Other targets, and the standard library's
    /// sources that some have installed, do not show.
    pub fn binds(&self) -> Vec<(PathBuf, String)> {
        let target = format!("lib/rustlib/{TRIPLE}");
        let mut parts = vec!["bin".to_owned(), target];
        for entry in fs::read_dir(self.sysroot.join("lib")).into_iter().flatten() {
            let Some(name) = entry
                .ok()
                .and_then(|entry| entry.file_name().into_string().ok())
            else {
                continue;
            };
            if name.contains(".so") {
                parts.push(format!("lib/{name}"));
            }
        }
        let bind = |part: String| (self.sysroot.join(&part), format!("/rust/{part}"));
        parts.into_iter().map(bind).collect()
    }

    /// Makes cargo download what the lock names and is not there yet, with the user's own configuration, so that a mirror of
    /// theirs is used.
    pub fn fetch(&self, sources: &Path) -> Result<(), Error> {
        let mut command = quiet("cargo", sources);
        command.args(["fetch", "--locked", "--target", TRIPLE]);
        said(command.stderr(Stdio::inherit())).map(drop)
    }

    /// What `cargo metadata` says about `sources` and the packages in it.
    pub fn metadata(&self, sources: &Path) -> Result<String, Error> {
        let mut command = quiet("cargo", sources);
        said(command.args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ]))
    }

    /// What `cargo tree` says a package of `sources` is made of along these edges: a line for each crate, with its licence.
    pub fn tree(&self, sources: &Path, package: &str, edges: &str) -> Result<String, Error> {
        let mut command = quiet("cargo", sources);
        command.args(["tree", "--offline", "--locked", "--prefix", "none"]);
        command.args(["--format", "{p}|{l}", "--target", TRIPLE]);
        said(command.args(["--edges", edges, "--package", package]))
    }
}

/// The `channel` of the nearest `rust-toolchain.toml`.
fn pinned_in(sources: &Path) -> Result<String, Error> {
    let unpinned = |why: &str| error!(Tool, "{} pins no Rust version: {why}", sources.display());
    let files = sources
        .ancestors()
        .map(|directory| directory.join("rust-toolchain.toml"));
    let file = { files }.find(|file| file.is_file());
    let file = file.ok_or_else(|| unpinned("there is no rust-toolchain.toml"))?;
    let text = fs::read_to_string(&file).map_err(Error::disk("reading", &file))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| unpinned(error.message()))?;
    let channel = table.get("toolchain").and_then(|part| part.get("channel"));
    let channel = channel.and_then(|channel| channel.as_str());
    let exact = |text: &&str| {
        let numbers = text.split('.').map(|part| part.parse::<u32>().is_ok());
        text.split('.').count() == 3 && { numbers }.all(|number| number)
    };
    let channel = channel.filter(exact);
    let channel = channel.ok_or_else(|| unpinned("its channel is no exact version"))?;
    Ok(channel.to_owned())
}

fn cargo_home() -> Result<PathBuf, Error> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let home = || set("HOME").map(|home| Path::new(&home).join(".cargo"));
    set("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(home)
        .ok_or_else(|| {
            error!(
                Tool,
                "neither CARGO_HOME nor HOME says where cargo keeps its downloads"
            )
        })
}

/// A program of the toolchain in `sources`, without the variables by which a caller's build, or the cargo that started this
/// program, would steer it.
fn quiet(program: &str, sources: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(sources).stdin(Stdio::null());
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(steers) {
            command.env_remove(&name);
        }
    }
    command
}

/// Whether a variable changes what is built. Where things lie and how the network is reached stays the user's choice.
fn steers(name: &str) -> bool {
    let kept = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "RUSTUP_HOME",
        "RUSTUP_AUTO_INSTALL",
        "RUSTUP_DIST_",
        "RUSTUP_USE_",
    ];
    let ours = name == "CARGO"
        || name.starts_with("CARGO_")
        || name.starts_with("RUST")
        || name.starts_with("LD_");
    ours && !kept.iter().any(|prefix| name.starts_with(prefix))
}

/// Runs a command and returns what it printed.
fn said(command: &mut Command) -> Result<String, Error> {
    let name = |command: &Command| {
        let words = command.get_args().map(|word| word.to_string_lossy());
        let words: Vec<_> = words.collect();
        format!(
            "{} {}",
            command.get_program().to_string_lossy(),
            words.join(" ")
        )
    };
    let output = command.output().map_err(|error| {
        error!(
            Tool,
            "`{}` does not start ({error}): Rust is installed with rustup, https://rustup.rs",
            name(command)
        )
    })?;
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    if !status.success() {
        let stderr = String::from_utf8_lossy(&stderr);
        let context = match stderr.trim() {
            "" => String::new(),
            said => format!(": {said}"),
        };
        return Err(error!(
            Tool,
            "`{}` failed ({status}){context}",
            name(command)
        ));
    }
    String::from_utf8(stdout).map_err(Error::of(Fault::Tool, "rustc or cargo printed no text: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_variables_do_not_steer_and_its_network_settings_stay() {
        for name in [
            "CARGO",
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_TARGET_DIR",
            "CARGO_PROFILE_IMAGE_DEBUG",
            "CARGO_PKG_NAME",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTUP_TOOLCHAIN",
            "LD_PRELOAD",
        ] {
            assert!(steers(name), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_HTTP_PROXY",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_CRATES_IO_PROTOCOL",
            "RUSTUP_HOME",
            "RUSTUP_DIST_SERVER",
            "HTTPS_PROXY",
            "PATH",
        ] {
            assert!(!steers(name), "{name}");
        }
    }

    #[test]
    fn only_an_exact_version_is_a_pin() {
        let check = |text: &str, expected: Option<&str>| {
            let directory = tempfile::tempdir().expect("a directory");
            let below = directory.path().join("a/b");
            fs::create_dir_all(&below).expect("a directory");
            fs::write(directory.path().join("rust-toolchain.toml"), text).expect("written");
            assert_eq!(pinned_in(&below).ok().as_deref(), expected, "{text}");
        };
        check("[toolchain]\nchannel = \"1.95.0\"\n", Some("1.95.0"));
        check("[toolchain]\nchannel = \"stable\"\n", None);
        check("[toolchain]\nchannel = \"1.95\"\n", None);
        check("[toolchain]\n", None);
        check("1.95.0", None);
    }
}
