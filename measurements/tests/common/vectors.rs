//! Vectors from beside the workspace, for the tests of several crates.

#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    io::Write,
    process::{Command, Stdio},
};

use sha2::{Digest, Sha256};
pub use without::{vector, vectors};

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
