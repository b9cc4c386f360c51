//! GPU evidence and RIMs of NVIDIA's own test data: what must be accepted, and what is wrong with the rest.

use crate::common::vector;
use gpu::Verified;
use gpu::{
    ChainError, EvidenceError, Gpu, GpuBundle, GpuBundleRefusal, GpuEvidence, GpuFeature, GpuNonce,
    GpuPolicy, GpuRefusal, GpuRootClass, GpuRoots, Inspected, Mismatch, Revocation, Rim, RimError,
    RimKind, inspect, inspect_bundle, verify, verify_bundle,
};

/// 2023-11-14, when every certificate of the older vectors was valid.
const AT_UNIX_S: u64 = 1_700_000_000;

fn policy(nonce: GpuNonce, at_unix_s: u64) -> GpuPolicy<'static> {
    GpuPolicy {
        roots: &GpuRoots::NVIDIA,
        at_unix_s,
        nonce,
        revocation: Revocation::InsecureUnchecked,
    }
}

fn any_nonce() -> GpuPolicy<'static> {
    policy(GpuNonce::InsecureAny, AT_UNIX_S)
}

fn nvidia(name: &str) -> Option<Vec<u8>> {
    vector(&format!("nvidia/{name}"))
}

fn bundle(name: &str) -> Option<GpuBundle> {
    Some(GpuBundle::from_json(&nvidia(name)?).unwrap())
}

fn evidence(report: &str, chain: &str) -> Option<GpuEvidence> {
    Some(GpuEvidence::from_report(&nvidia(report)?, &nvidia(chain)?).unwrap())
}

fn go_nvtrust() -> Option<GpuEvidence> {
    evidence(
        "go-nvtrust/attestationReport.txt",
        "go-nvtrust/gpuAkCertChain.txt",
    )
}

fn rim(name: &str) -> Option<Rim> {
    let label = name.rsplit('/').next().unwrap();
    Some(Rim::parse(label, &nvidia(name)?).unwrap())
}

fn appraised(vbios: &str) -> Option<Result<Verified<Gpu>, GpuRefusal>> {
    let rims = [rim("nvtrust/Driver_RIM_test_no_gpu.swidtag")?, rim(vbios)?];
    Some(verify(&go_nvtrust()?, &rims, &any_nonce()))
}

#[test]
fn a_report_with_both_its_rims_is_verified() {
    let Some(gpu) = appraised("nvtrust/1010_0200_882_96005E0001_test_no_gpu.swidtag") else {
        return;
    };
    let gpu = gpu.unwrap();
    // 21 measurements of the driver, 12 of the VBIOS, and the video decoder is off.
    assert_eq!(gpu.matched.len(), 32);
    assert_eq!(gpu.skipped, [35]);
    assert_eq!(gpu.driver_rim.version, "545.00");
    assert_eq!(gpu.vbios_rim.version, "96.00.5E.00.01");
    assert_eq!(gpu.evidence.root, GpuRootClass::Nvidia);
    assert_eq!(gpu.evidence.device, "41FFEEB20009E0BE49");
    // The signer of the VBIOS RIM is the first to expire: 2025-06-22 09:38:54.
    assert_eq!(gpu.expires_unix_s, 1_750_585_134);
}

#[test]
fn the_rim_of_another_build_names_every_measurement_that_differs() {
    let Some(gpu) = appraised("nvtrust/1010_0200_882_96005E0001_PROD.swidtag") else {
        return;
    };
    let Err(GpuRefusal::Measurements(mismatches)) = gpu else {
        panic!("{gpu:?}");
    };
    let indexes: Vec<u8> = mismatches.iter().map(|mismatch| mismatch.index).collect();
    assert_eq!(indexes, [1, 2, 3, 9]);
    for Mismatch {
        rim, got, accepted, ..
    } in &mismatches
    {
        assert_eq!(*rim, RimKind::Vbios);
        assert!(!accepted.contains(&got.unwrap()));
    }
    let words = GpuRefusal::Measurements(mismatches).to_string();
    assert!(words.contains("\n  measurement 9 (Measurement_9, VBIOS RIM): got "));
}

#[test]
fn a_rim_of_another_version_or_board_is_not_used() {
    let vbios = rim("nvtrust/1010_0200_882_96005E0001_test_no_gpu.swidtag");
    let driver = rim("nvtrust/Driver_RIM_test_no_gpu.swidtag");
    let others = rim("sdk/testdata/NV_GPU_DRIVER_GH100_550.144.03.xml");
    let (Some(vbios), Some(driver), Some(other), Some(evidence)) =
        (vbios, driver, others, go_nvtrust())
    else {
        return;
    };
    let check = |rims: &[&Rim]| {
        let rims: Vec<Rim> = rims.iter().copied().cloned().collect();
        verify(&evidence, &rims, &any_nonce())
    };
    assert!(check(&[&other, &vbios, &driver]).is_ok());
    let absent = |kind, id: &str, offered: &[&str]| GpuRefusal::RimAbsent {
        kind,
        id: id.into(),
        offered: offered.iter().map(|&name| name.into()).collect(),
    };
    assert_eq!(
        check(&[&other]),
        Err(absent(
            RimKind::Driver,
            "NV_GPU_DRIVER_GH100_545.00",
            &["NV_GPU_DRIVER_GH100_550.144.03.xml (GH100 550.144.03)"]
        ))
    );
    assert_eq!(
        check(&[&driver]),
        Err(absent(
            RimKind::Vbios,
            "NV_GPU_VBIOS_1010_0200_882_96005E0001",
            &["Driver_RIM_test_no_gpu.swidtag (GH100 545.00)"]
        ))
    );
    let twice = check(&[&driver, &vbios, &vbios]);
    assert!(
        matches!(
            twice,
            Err(GpuRefusal::RimAmbiguous {
                kind: RimKind::Vbios,
                ..
            })
        ),
        "{twice:?}"
    );

    let bytes = nvidia("nvtrust/1010_0200_882_96005E0001_test_no_gpu.swidtag").unwrap();
    for (label, used) in [
        ("anything", true),
        ("NV_GPU_VBIOS_1010_0200_882_96005E0001", true),
        ("nv_gpu_vbios_1010_0200_882_96005e0001.xml", true),
        ("NV_GPU_VBIOS_G520_0200_885_96005E0001", false),
        ("1010_0200_895_96005E0001_PROD.swidtag", false),
    ] {
        let labelled = Rim::parse(label, &bytes).unwrap();
        assert_eq!(check(&[&driver, &labelled]).is_ok(), used, "{label}");
    }
}

#[test]
fn a_rim_is_judged_at_the_time_of_the_evidence() {
    let names = [
        "Driver_RIM_test_no_gpu",
        "1010_0200_882_96005E0001_test_no_gpu",
    ];
    let rims: Option<Vec<Rim>> = names
        .iter()
        .map(|name| rim(&format!("nvtrust/{name}.swidtag")))
        .collect();
    let (Some(rims), Some(evidence)) = (rims, go_nvtrust()) else {
        return;
    };
    let at = |at| verify(&evidence, &rims, &policy(GpuNonce::InsecureAny, at));
    assert!(at(1_750_585_134).is_ok());
    let expired = at(1_750_585_135);
    let Err(GpuRefusal::Rim {
        kind: RimKind::Vbios,
        error: RimError::Chain(ChainError::Expired {
            position: 0, name, ..
        }),
        ..
    }) = &expired
    else {
        panic!("{expired:?}");
    };
    assert_eq!(name, "HCC RIM L4 Signer");
    // Late in 2026 the intermediate is over too, and it is named first.
    let later = at(1_795_000_000);
    let words = later.unwrap_err().to_string();
    assert!(
        words.contains("NVIDIA Reference Value L3 GH100 001"),
        "{words}"
    );
    let early = at(1_600_000_000);
    assert!(
        matches!(
            early,
            Err(GpuRefusal::Chain(ChainError::NotYetValid { .. }))
        ),
        "{early:?}"
    );
}

#[test]
fn the_rims_of_nvidia_hold_and_the_broken_ones_do_not() {
    let check = |name: &str, at_unix_s: u64| Some(rim(name)?.check(&GpuRoots::NVIDIA, at_unix_s));
    if nvidia("nvtrust/verifier_RIM_root.pem").is_none() {
        return;
    }
    for good in [
        "nvtrust/1010_0200_882_96005E0001_PROD.swidtag",
        "nvtrust/1010_0200_882_96005E0001_test_no_gpu.swidtag",
        "nvtrust/Driver_RIM_test_no_gpu.swidtag",
        "nvtrust/g520_0200_885_9600740001_PROD.swidtag",
    ] {
        assert_eq!(check(good, AT_UNIX_S), Some(Ok(())), "{good}");
    }
    let at_2025 = 1_740_000_000;
    let good = "sdk/testdata/NV_GPU_DRIVER_GH100_550.144.03.xml";
    assert_eq!(check(good, at_2025), Some(Ok(())));
    let bad = "sdk/testdata/incorrect_signature_driver_rim.xml";
    assert_eq!(check(bad, at_2025), Some(Err(RimError::BadSignature)));
    let bad = check("sdk/testdata/incorrect_cert_chain_driver_rim.xml", at_2025);
    assert!(
        matches!(bad, Some(Err(RimError::Chain(ChainError::Root { .. })))),
        "{bad:?}"
    );
}

#[test]
fn one_gpu_and_four_gpus_of_one_machine_pass_inspection() {
    let (Some(one), Some(four)) = (
        bundle("sdk/hopper_evidence.json"),
        bundle("sdk/multi_gpu_hopper.json"),
    ) else {
        return;
    };
    let nonce = *one.gpus()[0].nonce();
    let expected = policy(GpuNonce::Expected(nonce), AT_UNIX_S);
    for (bundle, count) in [(one, 1), (four, 4)] {
        let gpus = inspect_bundle(&bundle, &expected).unwrap();
        assert_eq!(gpus.len(), count);
        for Inspected {
            fields,
            nonce: answered,
            measurements,
            ..
        } in &gpus
        {
            assert_eq!(
                (fields.driver_version.as_str(), *measurements),
                ("590.12", 64)
            );
            assert_eq!(fields.vbios_version, "96.00.A5.00.01");
            assert_eq!(
                fields.vbios_rim_id(),
                "NV_GPU_VBIOS_G520_0200_885_9600A50001"
            );
            assert_eq!(fields.feature, Some(GpuFeature::ProtectedPcie));
            assert_eq!(fields.protected_pcie, Some(true));
            assert_eq!(fields.video_decoder, Some(false));
            assert_eq!(fields.opaque_version, Some(1));
            assert!(fields.firmware.is_some());
            assert_eq!(*answered, nonce);
        }
    }
}

#[test]
fn an_older_report_passes_inspection_and_lacks_the_newer_fields() {
    let Some(evidence) = evidence(
        "nvtrust/hopperAttestationReport.txt",
        "nvtrust/hopperCertChain.txt",
    ) else {
        return;
    };
    let Inspected { fields, .. } = inspect(&evidence, &any_nonce()).unwrap();
    assert_eq!(fields.driver_rim_id(), "NV_GPU_DRIVER_GH100_550.90.07");
    assert_eq!(
        fields.vbios_rim_id(),
        "NV_GPU_VBIOS_1010_0200_882_96009F0001"
    );
    assert_eq!((fields.protected_pcie, fields.feature), (Some(false), None));
    let Some(older) = go_nvtrust() else { return };
    let Inspected { fields, .. } = inspect(&older, &any_nonce()).unwrap();
    assert_eq!((fields.firmware, fields.protected_pcie), (None, None));
}

#[test]
fn a_report_with_a_broken_signature_is_refused() {
    let directory = "sdk/testdata/sample_attestation_data/gpu";
    let report = format!("{directory}/hopperAttestationReportInvalidSignature.txt");
    let Some(evidence) = evidence(&report, &format!("{directory}/hopperCertChain.txt")) else {
        return;
    };
    assert_eq!(
        inspect(&evidence, &any_nonce()),
        Err(GpuRefusal::ReportSignature)
    );
}

#[test]
fn a_report_under_another_devices_chain_is_refused() {
    let Some(evidence) = evidence(
        "nvtrust/hopperAttestationReport.txt",
        "go-nvtrust/gpuAkCertChain.txt",
    ) else {
        return;
    };
    assert_eq!(
        inspect(&evidence, &any_nonce()),
        Err(GpuRefusal::ReportSignature)
    );
}

#[test]
fn a_chain_of_four_is_refused() {
    let (Some(report), Some(chain)) = (
        nvidia("go-nvtrust/attestationReport.txt"),
        nvidia("go-nvtrust/invalidCertChain.txt"),
    ) else {
        return;
    };
    let refused = GpuEvidence::from_report(&report, &chain);
    let length = ChainError::Length {
        got: 4,
        min: 5,
        max: 5,
    };
    assert_eq!(refused.unwrap_err(), EvidenceError::Chain(length));
}

#[test]
fn another_nonce_and_another_root_are_refused() {
    let Some(evidence) = go_nvtrust() else { return };
    let got = *evidence.nonce();
    assert!(inspect(&evidence, &policy(GpuNonce::Expected(got), AT_UNIX_S)).is_ok());
    let mut expected = got;
    expected[31] ^= 1;
    let refused = inspect(&evidence, &policy(GpuNonce::Expected(expected), AT_UNIX_S));
    assert_eq!(refused, Err(GpuRefusal::Nonce { got, expected }));
    let roots = GpuRoots::insecure_test(b"a root", b"another").unwrap();
    let test = GpuPolicy {
        roots: &roots,
        ..any_nonce()
    };
    let refused = inspect(&evidence, &test);
    assert!(
        matches!(refused, Err(GpuRefusal::Chain(ChainError::Root { .. }))),
        "{refused:?}"
    );
}

#[test]
fn the_roots_are_those_that_nvidias_verifier_carries_and_no_test_roots() {
    let (Some(device), Some(rim)) = (
        nvidia("nvtrust/verifier_device_root.pem"),
        nvidia("nvtrust/verifier_RIM_root.pem"),
    ) else {
        return;
    };
    let [device, rim] = [device, rim].map(|pem| {
        let body: String = String::from_utf8(pem)
            .unwrap()
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap()
    });
    assert!(GpuRoots::insecure_test(&device, b"x").is_err());
    assert!(GpuRoots::insecure_test(b"x", &rim).is_err());
    assert!(GpuRoots::insecure_test(b"x", b"y").is_ok());
}

#[test]
fn a_gpu_that_stands_twice_or_was_asked_something_else_is_refused() {
    let Some(text) = nvidia("sdk/multi_gpu_hopper.json") else {
        return;
    };
    let mut gpus: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
    let again =
        |gpus: &[serde_json::Value]| GpuBundle::from_json(&serde_json::to_vec(gpus).unwrap());
    gpus[2] = gpus[0].clone();
    let refused = inspect_bundle(&again(&gpus).unwrap(), &any_nonce());
    assert_eq!(
        refused,
        Err(GpuBundleRefusal::Twice {
            first: 0,
            second: 2
        })
    );
    assert!(verify_bundle(&again(&gpus).unwrap(), &[], &any_nonce()).is_err());

    // The nonce beside the report is nobody's word: it has to be the one inside.
    gpus[1]["nonce"] = "00".repeat(32).into();
    let stated = EvidenceError::Gpu {
        position: 1,
        error: Box::new(EvidenceError::StatedNonce),
    };
    assert_eq!(again(&gpus).unwrap_err(), stated);
    gpus[1]["arch"] = "BLACKWELL".into();
    let other = EvidenceError::Gpu {
        position: 1,
        error: Box::new(EvidenceError::Architecture {
            got: "BLACKWELL".into(),
        }),
    };
    assert_eq!(again(&gpus).unwrap_err(), other);
    assert_eq!(
        again(&[]).unwrap_err(),
        EvidenceError::Count { got: 0, max: 16 }
    );
}
