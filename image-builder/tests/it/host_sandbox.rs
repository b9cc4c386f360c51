//! A sandbox whose programs are the host's own, shown read-only: what the tests of the sandbox have without a download.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use image_builder::sandbox::Sandbox;
use tempfile::TempDir;

/// The program under test.
pub const IMAGE_BUILDER: &str = env!("CARGO_BIN_EXE_image-builder");

/// A directory that is a tree of nothing but links, and a sandbox in which they lead to the host's programs.
pub fn host_sandbox() -> (TempDir, Sandbox) {
    let tree = tempfile::tempdir().expect("a directory");
    let mut sandbox = Sandbox::new(tree.path()).launcher(IMAGE_BUILDER);
    for name in ["usr", "bin", "sbin", "lib", "lib64"] {
        let host = Path::new("/").join(name);
        match fs::read_link(&host) {
            Ok(target) => symlink(target, tree.path().join(name)).expect("a link"),
            Err(_) if host.is_dir() => sandbox = sandbox.read(&host, &host),
            Err(_) => {}
        }
    }
    (tree, sandbox)
}

/// Copies `from` to `to`, a program that a test runs. Another process does it: a test beside this one that starts a program
/// just now would inherit the file, open for writing, and the kernel runs no such file ("Text file busy").
pub fn executable(from: &Path, to: &Path) -> PathBuf {
    let mut install = Command::new("install");
    install.args(["-m", "755"]).args([from, to]);
    assert!(install.status().expect("coreutils").success());
    to.to_owned()
}
