//! `measurements gpu verify`, as a person runs it.

use std::{fs, path::Path, process::Output};

use crate::common::{json, run, vector};

const AT: &str = "2023-11-14T22:13:20Z";

fn copy(directory: &Path, name: &str, into: &str) -> Option<()> {
    let bytes = vector(&format!("nvidia/{name}"))?;
    let path = directory.join(into);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    Some(())
}

/// A directory with a report, its chain, the RIM of its driver and one of its VBIOS.
fn directory(vbios: &str) -> Option<tempfile::TempDir> {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    copy(at, "go-nvtrust/attestationReport.txt", "report.txt")?;
    copy(at, "go-nvtrust/gpuAkCertChain.txt", "chain.pem")?;
    copy(
        at,
        "nvtrust/Driver_RIM_test_no_gpu.swidtag",
        "rims/driver.swidtag",
    )?;
    copy(at, &format!("nvtrust/{vbios}"), "rims/vbios.swidtag")?;
    copy(at, "sdk/multi_gpu_hopper.json", "gpus.json")?;
    fs::write(at.join("rims/README.txt"), "no RIM").unwrap();
    Some(directory)
}

fn verify(directory: &Path, more: &[&str]) -> Output {
    let first = ["gpu", "verify", "--evidence"];
    run(directory, &[&first, more].concat())
}

fn errors(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn a_report_is_verified_with_its_rims() {
    let Some(directory) = directory("1010_0200_882_96005E0001_test_no_gpu.swidtag") else {
        return;
    };
    let report = [
        "report.txt",
        "--chain",
        "chain.pem",
        "--rim",
        "rims",
        "--at",
        AT,
    ];
    let out = verify(directory.path(), &report);
    assert_eq!(out.status.code(), Some(0), "{}", errors(&out));
    assert!(errors(&out).contains("verified: "));
    assert!(errors(&out).contains("the nonce was not checked"));
    assert!(errors(&out).contains("revocation was not checked"));

    let nonce = "4cff7f5380ead8fad8ec2c531c110aca4302a88f603792801a8ca29ee151af2e";
    let out = verify(
        directory.path(),
        &[&report[..], &["--nonce", nonce, "--json"]].concat(),
    );
    let printed = json(&out);
    assert_eq!(out.status.code(), Some(0));
    assert_eq!(printed["verified"], true);
    assert_eq!(printed["nonce_checked"], true);
    assert_eq!(printed["root"], "nvidia");
    assert_eq!(printed["gpus"][0]["driver"], "545.00");
    assert_eq!(printed["gpus"][0]["skipped"], serde_json::json!([35]));

    let out = verify(
        directory.path(),
        &[&report[..], &["--nonce", &nonce.replace('4', "5")]].concat(),
    );
    assert_eq!(out.status.code(), Some(1));
    assert!(errors(&out).contains("was made for the nonce 4cff"));
}

#[test]
fn every_measurement_that_differs_is_listed() {
    let Some(directory) = directory("1010_0200_882_96005E0001_PROD.swidtag") else {
        return;
    };
    let arguments = [
        "report.txt",
        "--chain",
        "chain.pem",
        "--rim",
        "rims",
        "--at",
        AT,
        "--json",
    ];
    let out = verify(directory.path(), &arguments);
    assert_eq!(out.status.code(), Some(1));
    let printed = json(&out);
    assert_eq!(printed["verified"], false);
    let mismatches = printed["gpus"][0]["mismatches"].as_array().unwrap();
    let indexes: Vec<_> = mismatches
        .iter()
        .map(|m| m["index"].as_u64().unwrap())
        .collect();
    assert_eq!(indexes, [1, 2, 3, 9]);
    assert!(mismatches.iter().all(|m| m["rim"] == "VBIOS RIM"));
}

#[test]
fn without_rims_nothing_is_verified_and_it_says_so() {
    let Some(directory) = directory("1010_0200_882_96005E0001_PROD.swidtag") else {
        return;
    };
    let out = verify(
        directory.path(),
        &["gpus.json", "--no-rim", "--at", AT, "--json"],
    );
    assert_eq!(out.status.code(), Some(0), "{}", errors(&out));
    assert!(errors(&out).starts_with("NOT VERIFIED: "));
    let printed = json(&out);
    assert_eq!(printed["verified"], false);
    assert_eq!(printed["compared_with_rims"], false);
    assert_eq!(printed["gpus"].as_array().unwrap().len(), 4);
    assert_eq!(
        printed["gpus"][3]["vbios_rim"],
        "NV_GPU_VBIOS_G520_0200_885_9600A50001"
    );

    // None of these has the RIMs of driver 590.12.
    let out = verify(
        directory.path(),
        &["gpus.json", "--rim", "rims", "--at", AT],
    );
    assert_eq!(out.status.code(), Some(1));
    assert!(
        errors(&out).contains("GPU 3: no driver RIM for `NV_GPU_DRIVER_GH100_590.12` was given")
    );
}

#[test]
fn misuse_is_no_refusal() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("e"), "[]").unwrap();
    let check = |more: &[&str], code: i32, words: &str| {
        let out = verify(directory.path(), more);
        assert_eq!(out.status.code(), Some(code), "{more:?}: {}", errors(&out));
        assert!(errors(&out).contains(words), "{more:?}: {}", errors(&out));
    };
    check(&["e"], 2, "--rim");
    check(&["e", "--rim", "r", "--no-rim"], 2, "cannot be used with");
    check(&["e", "--no-rim", "--ocsp-nonce", "00"], 2, "--ocsp");
    check(
        &["e", "--no-rim", "--insecure-test-rim-root", "e"],
        2,
        "--insecure-test-device-root",
    );
    check(&["e", "--no-rim"], 1, "it lists 0 GPUs");
    check(&["absent", "--no-rim"], 1, "reading absent");
    check(&["e", "--chain", "e", "--no-rim"], 1, "not PEM");
}
