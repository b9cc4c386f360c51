//! The programs that a scenario starts, built by the cargo and into the target directory of the running one.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the programs lie.
#[derive(Debug, Clone)]
pub struct Programs {
    dir: PathBuf,
}

/// What the guest is, which decides what is compiled outside the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// A machine: its agent is compiled in the image builder's sandbox alone.
    Machine,
    /// A process of this host: its agent, and with it the engine, is compiled here too, and what the pages that tests follow
    /// name besides.
    Process,
}

/// Packages whose programs are built at once: those of a stack, and those that a reader of the docs uses next.
const PACKAGES: [&str; 8] = [
    "demo",
    "tests",
    "host-proxy",
    "client",
    "simulator",
    "ledger",
    "image-builder",
    "measurements",
];

impl Programs {
    /// Those that lie where the running program does: in `target/debug`, or above its `deps` or `examples`.
    pub fn beside_this_one() -> Result<Programs> {
        let exe = std::env::current_exe()?;
        let mut dir = exe.parent().unwrap_or(&exe);
        if dir.ends_with("deps") || dir.ends_with("examples") {
            dir = dir.parent().unwrap_or(dir);
        }
        Ok(Programs {
            dir: dir.to_owned(),
        })
    }

    /// The packages whose programs are built for a guest.
    pub fn packages(guest: Guest) -> impl Iterator<Item = &'static str> {
        let more: &[&str] = match guest {
            Guest::Machine => &[],
            Guest::Process => &["guest-agent", "gpu-worker", "reference"],
        };
        PACKAGES.into_iter().chain(more.iter().copied())
    }

    /// Builds what is not built yet.
    pub fn build(&self, guest: Guest) -> Result<()> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["build", "--bins", "--manifest-path"])
            .arg(workspace_root().join("Cargo.toml"));
        cargo.arg("--target-dir").arg(self.target_dir());
        if self.dir.ends_with("release") {
            cargo.arg("--release");
        }
        for package in Programs::packages(guest) {
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
        let cargo = cargo.stdin(Stdio::null()).stdout(Stdio::null());
        match cargo.status()?.success() {
            true => Ok(()),
            false => Err(Error::other("cargo could not build the programs")),
        }
    }

    /// The target directory that they were built into.
    pub fn target_dir(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }

    /// The path of one program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// The directory of the workspace.
pub fn workspace_root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
