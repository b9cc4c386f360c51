//! Every byte of evidence and of a RIM matters: NVIDIA's test data with one bit turned, and cut.

use crate::common::vector;
use gpu::{
    GpuBundle, GpuEvidence, GpuNonce, GpuPolicy, GpuRoots, Revocation, Rim, inspect, inspect_bundle,
};

fn policy() -> GpuPolicy<'static> {
    GpuPolicy {
        roots: &GpuRoots::NVIDIA,
        at_unix_s: 1_700_000_000,
        nonce: GpuNonce::InsecureAny,
        revocation: Revocation::InsecureUnchecked,
    }
}

/// Turns one bit in every `step`th byte, from `start` on; no result may be believed unless `same` says that it means the same.
fn flip(
    file: &[u8],
    (start, step): (usize, usize),
    believed: impl Fn(&[u8]) -> bool,
    same: impl Fn(u8, u8) -> bool,
) {
    assert!(believed(file));
    let mut flipped = file.to_vec();
    for at in (start..file.len()).step_by(step) {
        flipped[at] ^= 1 << (at % 8);
        if believed(&flipped) {
            assert!(
                same(file[at], flipped[at]),
                "byte {at}, {:#04x} to {:#04x}",
                file[at],
                flipped[at]
            );
        }
        flipped[at] = file[at];
    }
}

/// The one thing that may change: a hex digit's case.
fn case_of_hex(from: u8, to: u8) -> bool {
    from.is_ascii_hexdigit() && from.eq_ignore_ascii_case(&to)
}

fn never(_: u8, _: u8) -> bool {
    false
}

fn bundles(name: &str, step: (usize, usize)) {
    let Some(json) = vector(&format!("nvidia/sdk/{name}")) else {
        return;
    };
    let believed = |bytes: &[u8]| {
        GpuBundle::from_json(bytes).is_ok_and(|bundle| inspect_bundle(&bundle, &policy()).is_ok())
    };
    flip(&json, step, believed, case_of_hex);
}

fn reports(directory: &str, report: &str, chain: &str, steps: [(usize, usize); 2]) {
    let read = |name: &str| vector(&format!("nvidia/{directory}/{name}"));
    let (Some(report), Some(chain)) = (read(report), read(chain)) else {
        return;
    };
    let believed = |report: &[u8], chain: &[u8]| {
        GpuEvidence::from_report(report, chain)
            .is_ok_and(|evidence| inspect(&evidence, &policy()).is_ok())
    };
    flip(
        &report,
        steps[0],
        |report| believed(report, &chain),
        case_of_hex,
    );
    flip(&chain, steps[1], |chain| believed(&report, chain), never);
}

fn rims(name: &str, at_unix_s: u64, step: (usize, usize)) {
    let Some(file) = vector(&format!("nvidia/{name}")) else {
        return;
    };
    let believed = |bytes: &[u8]| {
        let parsed = Rim::parse("flipped", bytes);
        parsed.is_ok_and(|rim| rim.check(&GpuRoots::NVIDIA, at_unix_s).is_ok())
    };
    flip(&file, step, believed, never);
}

const RIMS: [(&str, u64); 5] = [
    ("nvtrust/Driver_RIM_test_no_gpu.swidtag", 1_700_000_000),
    (
        "nvtrust/1010_0200_882_96005E0001_test_no_gpu.swidtag",
        1_700_000_000,
    ),
    (
        "nvtrust/1010_0200_882_96005E0001_PROD.swidtag",
        1_700_000_000,
    ),
    (
        "nvtrust/g520_0200_885_9600740001_PROD.swidtag",
        1_700_000_000,
    ),
    (
        "sdk/testdata/NV_GPU_DRIVER_GH100_550.144.03.xml",
        1_740_000_000,
    ),
];

const REPORTS: [[&str; 3]; 2] = [
    [
        "nvtrust",
        "hopperAttestationReport.txt",
        "hopperCertChain.txt",
    ],
    ["go-nvtrust", "attestationReport.txt", "gpuAkCertChain.txt"],
];

#[test]
fn no_flipped_bit_of_a_sample_is_believed() {
    bundles("hopper_evidence.json", (5, 211));
    for [directory, report, chain] in REPORTS {
        reports(directory, report, chain, [(3, 173), (3, 101)]);
    }
    for (start, (name, at_unix_s)) in RIMS.iter().enumerate() {
        rims(name, *at_unix_s, (100 * start, 911));
    }
}

#[test]
#[ignore = "twelve minutes: every byte"]
fn no_flipped_bit_of_any_byte_is_believed() {
    bundles("hopper_evidence.json", (0, 1));
    bundles("multi_gpu_hopper.json", (0, 5));
    for [directory, report, chain] in REPORTS {
        reports(directory, report, chain, [(0, 1), (0, 1)]);
    }
    for (name, at_unix_s) in RIMS {
        rims(name, at_unix_s, (0, 1));
    }
}

#[test]
fn no_cut_file_is_read() {
    let read = |name: &str| vector(&format!("nvidia/{name}"));
    let (Some(report), Some(chain), Some(rim), Some(json)) = (
        read("nvtrust/hopperAttestationReport.txt"),
        read("nvtrust/hopperCertChain.txt"),
        read("nvtrust/Driver_RIM_test_no_gpu.swidtag"),
        read("sdk/hopper_evidence.json"),
    ) else {
        return;
    };
    let report = hex::decode(report.trim_ascii()).unwrap();
    for end in (0..report.len()).step_by(3) {
        assert!(
            GpuEvidence::from_report(&report[..end], &chain).is_err(),
            "report cut at {end}"
        );
    }
    let longer = [&report[..], &[0]].concat();
    assert!(GpuEvidence::from_report(&longer, &chain).is_err());
    for end in (0..chain.trim_ascii().len()).step_by(13) {
        assert!(
            GpuEvidence::from_report(&report, &chain[..end]).is_err(),
            "chain cut at {end}"
        );
    }
    for end in (0..json.trim_ascii().len()).step_by(31) {
        assert!(
            GpuBundle::from_json(&json[..end]).is_err(),
            "JSON cut at {end}"
        );
    }
    for end in (0..rim.trim_ascii().len()).step_by(37) {
        assert!(Rim::parse("cut", &rim[..end]).is_err(), "RIM cut at {end}");
    }
}
