//! A simulated guest and a verifier that expects it.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod image;
pub mod made;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use measurements::{
    Collateral, Digest48, Manifest, Peer, Policy, Refusal, ReportData, Root, Verified,
    predict::{FirmwareBuild, Platform},
    verify,
};
use sha2::{Digest, Sha256};
use simulator::{Flaws, SimulatedModule};

/// 2026-09-22.
pub const NOW_UNIX_S: u64 = 1_790_000_000;

/// Everything a verifier is given, and what it expects.
pub struct Case {
    pub quote: Vec<u8>,
    pub collateral: Collateral,
    pub report_data: ReportData,
    pub policy: Policy,
    pub root: Root,
    pub now_unix_s: u64,
}

impl Case {
    /// A guest in process mode, with these flaws.
    pub fn simulated(flaws: Flaws) -> Case {
        let manifest = manifest();
        let mut module =
            SimulatedModule::with_flaws(NOW_UNIX_S, &mut random("case"), flaws).unwrap();
        for event in manifest.rtmr3_events() {
            module.extend(3, &event.digest).unwrap();
        }
        let report_data = ReportData([0x5a; 64]);
        Case {
            quote: module.quote(&report_data.0),
            collateral: Collateral::from_json(module.collateral_json()).unwrap(),
            report_data,
            policy: Policy::from_manifest(&manifest),
            root: Root::insecure_test(module.root_der().to_vec()).unwrap(),
            now_unix_s: NOW_UNIX_S,
        }
    }

    pub fn verify(&self) -> Result<Verified<Peer>, Refusal> {
        verify(
            &self.quote,
            &self.collateral,
            &self.report_data,
            &self.policy,
            &self.root,
            self.now_unix_s,
        )
    }

    pub fn refusal(&self) -> Refusal {
        self.verify().expect_err("must be refused")
    }
}

pub fn manifest() -> Manifest {
    Manifest::process(Digest48::of(b"agent binary"), Digest48::of(b"config bytes"))
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
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors")
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

/// A direct boot of a firmware of the older generation.
pub fn platform(firmware: &[u8], memory_mib: u64) -> Platform<'_> {
    Platform::new(firmware, FirmwareBuild::UP_TO_STABLE202502, memory_mib)
}

/// Runs the program in a directory.
pub fn run(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_measurements"))
        .current_dir(directory)
        .args(arguments)
        .output()
        .unwrap()
}

/// What it printed, as JSON.
pub fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}
