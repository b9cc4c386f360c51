//! Quotes, extensions and registers by a library with the functions of Intel's, compiled here.

use crate::world::{config, models, module};
use guest_agent::platform::{Platform, PlatformError, TdxAttest, TdxAttestError};
use registers::{Digest48, ReportData};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Compiles the library in this directory. A C compiler is what the whole repository needs.
fn library(directory: &Path) -> PathBuf {
    let library = directory.join("libtdx_attest.so.1");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(format!("-DDIRECTORY=\"{}\"", directory.display()))
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/all/tdx_attest.c"
        ))
        .status();
    assert!(compiled.expect("a C compiler").success());
    library
}

/// Report data or a digest that steers the library.
fn steering<const N: usize>(what: u8, more: u8) -> [u8; N] {
    let mut bytes = [9; N];
    bytes[..2].copy_from_slice(&[what, more]);
    bytes
}

#[test]
fn a_quote_is_the_librarys_whole_and_each_is_freed_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut platform = TdxAttest::load(&library(directory.path())).unwrap();
    let file = |name: &str| std::fs::read(directory.path().join(name)).unwrap_or_default();
    let mut check = |what: u8, more: u8| platform.quote(&ReportData(steering(what, more)));
    let quote = module().quote(&[9; 64]);
    std::fs::write(directory.path().join("quote"), &quote).unwrap();
    assert_eq!(check(b'q', 0).unwrap(), quote);
    assert_eq!(file("asked"), steering::<64>(b'q', 0));
    assert_eq!(file("freed"), b"f");
    // Up to the limit, and no further: one byte more than 31 KiB, than 32, and than 255.
    assert_eq!(check(b'k', 31).unwrap().len(), 31 * 1024 + 1);
    for (what, more, size) in [
        (b'k', 32, 32 * 1024 + 1),
        (b'k', 255, 255 * 1024 + 1),
        (b'z', 0, 0),
        (b'n', 0, 0),
    ] {
        let refused = check(what, more).unwrap_err();
        assert!(
            matches!(refused, PlatformError::Answer { got, .. } if got == size),
            "{refused}"
        );
    }
    // All but the one that was none.
    assert_eq!(file("freed"), b"fffff");
}

#[test]
fn each_code_of_the_library_is_an_error_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let mut platform = TdxAttest::load(&library(directory.path())).unwrap();
    for (code, name) in [
        (1, "TDX_ATTEST_ERROR_UNEXPECTED"),
        (9, "TDX_ATTEST_ERROR_BUSY"),
        (12, "TDX_ATTEST_ERROR_UNSUPPORTED_ATT_KEY_ID"),
        (13, "the code 0xd, which tdx_attest.h does not name"),
        (255, "the code 0xff, which tdx_attest.h does not name"),
    ] {
        let quote = platform.quote(&ReportData(steering(b'c', code)));
        let extended = platform.extend(&Digest48(steering(b'c', code)));
        for (answer, function) in [
            (quote.map(drop), "tdx_att_get_quote"),
            (extended, "tdx_att_extend"),
        ] {
            let Err(PlatformError::TdxAttest(call, error)) = answer else {
                panic!("{code}: {answer:?}");
            };
            let got = (call, error, error.to_string());
            assert_eq!(
                got,
                (function, TdxAttestError(code.into()), name.to_owned())
            );
        }
    }
    assert!(!directory.path().join("freed").exists());
}

#[test]
fn registers_are_those_of_the_report() {
    let directory = tempfile::tempdir().unwrap();
    let mut platform = TdxAttest::load(&library(directory.path())).unwrap();
    let mut check = |report: &[u8]| {
        std::fs::write(directory.path().join("report"), report).unwrap();
        platform.registers()
    };
    // TDREPORT_STRUCT in which each field of 48 bytes from MRTD on is filled with its number.
    let mut report = [0xff; 1024];
    report[0] = 0x81;
    for (number, field) in report[528..912].chunks_mut(48).enumerate() {
        field.fill(number as u8);
    }
    let registers = check(&report).unwrap();
    let read = [registers.mrtd, registers.rtmr[0], registers.rtmr[3]];
    assert_eq!(read.map(|digest| digest.0), [0, 4, 7].map(|n| [n; 48]));
    let none = check(&[0; 1024]).unwrap_err();
    assert!(none.to_string().contains("type 0x00"), "{none}");
    let failed = check(b"").unwrap_err();
    assert!(
        failed
            .to_string()
            .ends_with("TDX_ATTEST_ERROR_DEVICE_FAILURE")
    );
}

#[test]
fn what_is_not_the_library_is_refused_by_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text");
    std::fs::write(&text, "no library").unwrap();
    let absent = directory.path().join("absent");
    let why = |path: &Path| TdxAttest::load(path).err().expect("none").to_string();
    assert!(why(Path::new("libtdx_attest.so.1")).contains("not an absolute path"));
    for path in [&text, &absent, Path::new("/proc/self/exe")] {
        let why = why(path);
        assert!(why.contains(path.to_str().unwrap()), "{why}");
    }
}

#[test]
fn the_program_extends_by_the_library_that_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let config = config(|config| config["profile"] = "cpu".into());
    std::fs::write(at("config.json"), &config).unwrap();
    let agent = |library: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_guest-agent"));
        command
            .arg(format!("--listen=unix:{}", at("guest.sock").display()))
            .arg("--config")
            .arg(at("config.json"))
            .arg("--models")
            .arg(models())
            .arg("--tdx-attest")
            .arg(library)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let absent = agent(&at("absent")).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&absent.stderr);
    assert_eq!(absent.status.code(), Some(1));
    assert!(said.contains("Intel's attestation library"), "{said}");

    // The configuration's digest is the first event: version 1, RTMR3.
    let mut child = agent(&library(directory.path()));
    // It says that it is ready, or ends where a production agent may not lock its memory: either is after it was measured.
    let mut first = [0];
    let _ = child.stdout.as_mut().unwrap().read(&mut first).unwrap();
    let _ = child.kill();
    child.wait().unwrap();
    let mut event = [0; 68];
    (event[0], event[4]) = (1, 3);
    event[12..60].copy_from_slice(&Digest48::of(&config).0);
    let extended = std::fs::read(at("extended")).unwrap();
    assert!(extended.chunks(68).any(|each| each == event));
}
