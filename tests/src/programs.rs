//! The programs that a stack starts, built by the cargo and into the target directory of the running one.

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Where the programs lie.
#[derive(Debug, Clone)]
pub struct Programs {
    dir: PathBuf,
}

/// Packages whose programs a stack needs. `tests` is among them so that features are resolved as in its own build and
/// nothing is compiled twice.
const PACKAGES: [&str; 6] = [
    "tests",
    "guest-agent",
    "host-proxy",
    "client",
    "simulator",
    "image-builder",
];

impl Programs {
    /// Builds what is not built yet; once per process.
    pub fn build() -> anyhow::Result<Programs> {
        static BUILT: OnceLock<Result<Programs, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| build().map_err(|e| format!("{e:#}")));
        built.clone().map_err(anyhow::Error::msg)
    }

    /// The target directory that they were built into.
    pub fn target_dir(&self) -> anyhow::Result<PathBuf> {
        let target = self.dir.parent();
        Ok(target
            .context("the profile's directory lies in a target directory")?
            .to_owned())
    }

    /// The path of one program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn build() -> anyhow::Result<Programs> {
    let dir = profile_dir()?;
    let target = dir
        .parent()
        .context("the profile's directory lies in a target directory")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--bins", "--manifest-path"])
        .arg(workspace_root().join("Cargo.toml"));
    cargo.arg("--target-dir").arg(target);
    if dir.file_name().is_some_and(|name| name == "release") {
        cargo.arg("--release");
    }
    for package in PACKAGES {
        cargo.args(["--package", package]);
    }
    // The cargo that runs us tells us about ourselves. Build scripts that watch those variables (ring's does) would see
    // them come and go, and be built again at every other start.
    for (name, _) in std::env::vars_os() {
        let about_us =
            |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST");
        if name.to_str().is_some_and(about_us) {
            cargo.env_remove(name);
        }
    }
    // Our own standard output is for results.
    let status = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("starting cargo")?;
    if !status.success() {
        bail!("cargo could not build the programs");
    }
    Ok(Programs { dir })
}

/// `target/debug` of the running program, which lies in it, in its `deps` or in its `examples`.
fn profile_dir() -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe().context("finding the running program")?;
    let dir = exe.parent().context("a program lies in a directory")?;
    let dir = if dir.ends_with("deps") || dir.ends_with("examples") {
        dir.parent().context("deps lies in a directory")?
    } else {
        dir
    };
    Ok(dir.to_owned())
}

/// The directory of the workspace.
pub fn workspace_root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
