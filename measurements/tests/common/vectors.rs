//! Vectors from beside the workspace, for the tests of several crates.

#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sha2::{Digest, Sha256};

/// A file of the vectors, or `None` where there are none. Continuous integration must have them.
pub fn vector(name: &str) -> Option<Vec<u8>> {
    match fs::read(vectors().join(name)) {
        Ok(bytes) => Some(bytes),
        Err(error) if std::env::var("CI").as_deref() == Ok("true") => panic!("{name}: {error}"),
        Err(_) => {
            println!("skipped: vectors not present");
            None
        }
    }
}

/// A sample inside the source of the verification library, which cargo unpacked in order to compile it.
pub fn sample_of_dcap_qvl(name: &str) -> Option<Vec<u8>> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    let found = fs::read_dir(home.join("registry/src"))
        .into_iter()
        .flatten()
        .filter_map(|index| index.ok())
        .find_map(|index| fs::read(index.path().join("dcap-qvl-0.7.1/sample").join(name)).ok());
    if found.is_none() {
        println!("skipped: the source of dcap-qvl 0.7.1 is not in cargo's registry");
    }
    found
}

/// Where they are, if they are.
pub fn vectors() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest
        .ancestors()
        .find(|directory| directory.join("Cargo.lock").exists());
    root.expect("a crate of this workspace")
        .join("../shared/vectors")
}

/// What gzip packed. By the program, which every system has that can unpack a package.
pub fn gunzip(packed: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .args(["--decompress", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Shorter than a pipe's buffer, so that writing never waits for reading.
    assert!(packed.len() < 60_000);
    child.stdin.take().unwrap().write_all(packed).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Repeatable bytes. Only for keys that guard nothing.
pub fn random(seed: &str) -> impl FnMut(&mut [u8]) {
    let mut state: [u8; 32] = Sha256::digest(seed).into();
    move |buffer| {
        for chunk in buffer.chunks_mut(32) {
            state = Sha256::digest(state).into();
            chunk.copy_from_slice(&Sha256::digest([&state[..], b"out"].concat())[..chunk.len()]);
        }
    }
}
