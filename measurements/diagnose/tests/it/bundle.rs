//! Bundles: one encoding for each, every part held against the signed ones, and nobody verified by the bundle's own word.

use crate::common::{NOW_UNIX_S, manifest, random, vector};
use attest::{Comparison, Policy, Quote, Refusal, Root, RootClass};
use diagnose::{
    EventLogError, Source,
    bundle::{
        Appraised, At, Binding, Bundle, BundleRefusal, Expected, GpuParts, GpuRevocation, Gpus,
        Guest, LabelledRim, Log, LogForm, Part, PartError, SaidBy, VERSION,
    },
};
use gpu::{GpuBundleRefusal, GpuNonce, GpuRefusal, GpuRoots, RimError};
use registers::{Digest32, Digest48, GpuBinding, Register, ReportData};
use serde_json::json;
use simulator::SimulatedModule;

const BOUND: [u8; 64] = [0x5a; 64];
/// One hour after the youngest part of `tdx_quote_collateral.json` was issued, 2025-06-19T11:32:27Z.
const TDX_QUOTE_UNIX_S: u64 = 1_750_332_747;
/// 2023-11-14, when every certificate of the older GPU vectors was valid.
const GPU_UNIX_S: u64 = 1_700_000_000;

/// A simulated guest in process mode with its manifest and its list of events, and its root.
fn simulated() -> (Bundle, Root) {
    let manifest = manifest();
    let mut module = SimulatedModule::new(NOW_UNIX_S, &mut random("bundle")).unwrap();
    for event in manifest.rtmr3_events() {
        module.extend(3, &event.digest).unwrap();
    }
    let bundle = Bundle {
        version: VERSION,
        made_unix_s: NOW_UNIX_S,
        quote: module.quote(&BOUND),
        collateral: module.collateral_json().to_vec(),
        manifest: Some(manifest.to_json()),
        event_logs: vec![Log {
            form: LogForm::Runtime,
            bytes: serde_json::to_vec(manifest.rtmr3_events()).unwrap(),
        }],
        gpus: None,
        report_data: Some(BOUND),
    };
    let root = Root::insecure_test(module.root_der().to_vec()).unwrap();
    (bundle, root)
}

fn expected(root: &Root) -> Expected<'_> {
    Expected {
        policy: None,
        report_data: None,
        gpu_nonce: GpuNonce::InsecureAny,
        gpu_revocation: GpuRevocation::Checked,
        root,
        gpu_roots: &GpuRoots::NVIDIA,
        at: At::Made,
    }
}

fn appraise(bundle: &Bundle, root: &Root) -> Result<Appraised, BundleRefusal> {
    bundle.appraise(&expected(root))
}

fn refusal(bundle: &Bundle, root: &Root) -> BundleRefusal {
    appraise(bundle, root).expect_err("must be refused")
}

/// The vector whose quote is of a dstack guest, without logs.
fn intel() -> Option<Bundle> {
    Some(Bundle {
        version: VERSION,
        made_unix_s: TDX_QUOTE_UNIX_S,
        quote: vector("quotes/dcap-qvl/tdx_quote")?,
        collateral: vector("quotes/dcap-qvl/tdx_quote_collateral.json")?,
        manifest: None,
        event_logs: Vec::new(),
        gpus: None,
        report_data: None,
    })
}

#[test]
fn a_bundle_verifies_a_guest_only_by_what_the_verifier_names() {
    let (bundle, root) = simulated();
    let policy = Policy::from_manifest(&manifest());
    let bound = Binding::Exactly(ReportData(BOUND));
    let full = Expected {
        policy: Some(&policy),
        report_data: Some(bound),
        at: At::Time(NOW_UNIX_S),
        ..expected(&root)
    };
    let appraised = bundle.appraise(&full).unwrap();
    assert!(appraised.is_verified());
    assert_eq!(appraised.manifest_from, SaidBy::Verifier);
    assert_eq!(appraised.guest.peer().root, RootClass::InsecureTest);
    assert_eq!(appraised.event_logs, [Source::Runtime]);

    for (what, less) in [
        (
            "no policy",
            Expected {
                policy: None,
                ..full
            },
        ),
        (
            "no report data",
            Expected {
                report_data: None,
                ..full
            },
        ),
        (
            "the bundle's time",
            Expected {
                at: At::Made,
                ..full
            },
        ),
    ] {
        let appraised = bundle.appraise(&less).unwrap();
        assert!(!appraised.is_verified(), "{what}");
        let Guest::Inspected(inspected) = &appraised.guest else {
            panic!("{what}");
        };
        // Compared all the same, with what the bundle says.
        assert_eq!(inspected.guest, Comparison::Equal, "{what}");
        assert_eq!(inspected.report_data, Comparison::Equal, "{what}");
        let bundles = [appraised.manifest_from, appraised.report_data_from];
        let count = bundles.iter().filter(|by| **by == SaidBy::Maker).count();
        assert_eq!(count, usize::from(what != "the bundle's time"), "{what}");
    }
}

#[test]
fn a_policy_without_registers_takes_the_guest_from_the_bundle_and_verifies_nobody() {
    let (mut bundle, root) = simulated();
    let mut policy = Policy::from_manifest(&manifest());
    policy.registers.clear();
    let bound = Binding::Exactly(ReportData(BOUND));
    let expected = Expected {
        policy: Some(&policy),
        report_data: Some(bound),
        at: At::Time(NOW_UNIX_S),
        ..expected(&root)
    };
    let appraised = bundle.appraise(&expected).unwrap();
    assert_eq!(appraised.manifest_from, SaidBy::Maker);
    assert!(!appraised.is_verified());
    bundle.manifest = None;
    assert_eq!(
        bundle.appraise(&expected).unwrap_err(),
        BundleRefusal::Quote(Refusal::EmptyPolicy)
    );
}

#[test]
fn each_part_is_held_against_the_quote() {
    let (good, root) = simulated();
    assert!(appraise(&good, &root).is_ok());
    let with = |edit: &dyn Fn(&mut Bundle)| {
        let mut bundle = good.clone();
        edit(&mut bundle);
        refusal(&bundle, &root)
    };
    let other = attest::Manifest::process(Digest48::of(b"other"), Digest48::of(b"config"));
    let refused = with(&|bundle| bundle.manifest = Some(other.to_json()));
    assert!(
        matches!(
            refused,
            BundleRefusal::Quote(Refusal::RegisterMismatch {
                register: Register::Rtmr3,
                ..
            })
        ),
        "{refused}"
    );
    let refused = with(&|bundle| bundle.report_data = Some([0; 64]));
    assert!(matches!(
        refused,
        BundleRefusal::Quote(Refusal::ReportDataMismatch { .. })
    ));
    let refused = with(&|bundle| bundle.quote[600] ^= 1);
    assert!(matches!(refused, BundleRefusal::Quote(_)), "{refused}");
    let manifest = manifest();
    let quoted = manifest.registers().rtmr[3];
    let one = &manifest.rtmr3_events()[..1];
    let refused = with(&|bundle| bundle.event_logs[0].bytes = serde_json::to_vec(one).unwrap());
    assert_eq!(
        refused,
        BundleRefusal::Replay {
            register: Register::Rtmr3,
            replayed: Digest48::ZERO.extended_by(&one[0].digest),
            events: 1,
            quoted,
        }
    );
    let refused = with(&|bundle| bundle.event_logs[0].form = LogForm::Ccel);
    assert!(
        matches!(
            refused,
            BundleRefusal::Part(PartError {
                part: Part::EventLog(0),
                ..
            })
        ),
        "{refused}"
    );
    assert!(matches!(
        Log::detect(b"no log".to_vec()),
        Err(EventLogError::Cut { .. } | EventLogError::Header { .. })
    ));
}

/// Where the verifier names guest and report data, the bundle's own must still be the quote's.
#[test]
fn a_bundle_that_contradicts_its_quote_does_not_hold_whatever_the_verifier_names() {
    let (good, root) = simulated();
    let (policy, bound) = (
        Policy::from_manifest(&manifest()),
        Binding::Exactly(ReportData(BOUND)),
    );
    let expected = Expected {
        policy: Some(&policy),
        report_data: Some(bound),
        at: At::Time(NOW_UNIX_S),
        ..expected(&root)
    };
    let other = attest::Manifest::process(Digest48::of(b"other"), Digest48::of(b"config"));
    let mut bundle = good.clone();
    bundle.manifest = Some(other.to_json());
    assert_eq!(
        bundle.appraise(&expected).unwrap_err(),
        BundleRefusal::Manifest {
            register: Register::Rtmr3,
            stated: other.registers().rtmr[3],
            quoted: manifest().registers().rtmr[3],
        }
    );
    let mut bundle = good;
    bundle.report_data = Some([0; 64]);
    assert_eq!(
        bundle.appraise(&expected).unwrap_err(),
        BundleRefusal::ReportData
    );
}

#[test]
fn a_real_quote_holds_as_of_the_time_it_was_bundled_and_not_now() {
    let Some(bundle) = intel() else {
        return;
    };
    let root = Root::intel();
    let appraised = appraise(&bundle, &root).unwrap();
    assert_eq!(appraised.guest.peer().root, RootClass::Intel);
    assert_eq!(appraised.manifest_from, SaidBy::Nobody);
    assert!(!appraised.is_verified());

    let later = Expected {
        at: At::Time(NOW_UNIX_S),
        ..expected(&root)
    };
    assert!(matches!(
        bundle.appraise(&later),
        Err(BundleRefusal::Quote(Refusal::CollateralExpired { .. }))
    ));

    let quote = Quote::parse(&bundle.quote).unwrap();
    let policy = Policy::exact(quote.td.registers);
    let full = Expected {
        policy: Some(&policy),
        report_data: Some(Binding::Exactly(quote.td.report_data)),
        at: At::Time(TDX_QUOTE_UNIX_S),
        ..expected(&root)
    };
    assert!(bundle.appraise(&full).unwrap().is_verified());
}

fn nvidia(name: &str) -> Option<Vec<u8>> {
    vector(&format!("nvidia/{name}"))
}

/// A simulated guest of the day of the GPU vectors, with one GPU and its RIMs.
fn with_gpu() -> Option<(Bundle, Root)> {
    let report = nvidia("go-nvtrust/attestationReport.txt")?;
    let report = hex::decode(report.trim_ascii()).unwrap();
    let chain = nvidia("go-nvtrust/gpuAkCertChain.txt")?;
    let encode =
        |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    let list = json!([{
        "arch": "HOPPER",
        "nonce": NONCE,
        "evidence": encode(&report),
        "certificate": String::from_utf8(chain).unwrap(),
    }]);
    let rim = |name: &str| {
        Some(LabelledRim {
            label: name.into(),
            xml: nvidia(&format!("nvtrust/{name}"))?,
        })
    };
    let evidence = list.to_string().into_bytes();
    let bound = GpuBinding::Evidence(Digest32::of(&evidence).0);
    let bound = ReportData::bind(&KEYSET, &nonce(), bound);
    let mut module = SimulatedModule::new(GPU_UNIX_S, &mut random("gpu")).unwrap();
    for event in manifest().rtmr3_events() {
        module.extend(3, &event.digest).unwrap();
    }
    let bundle = Bundle {
        version: VERSION,
        made_unix_s: GPU_UNIX_S,
        quote: module.quote(&bound.0),
        collateral: module.collateral_json().to_vec(),
        manifest: None,
        event_logs: Vec::new(),
        gpus: Some(GpuParts {
            evidence,
            rims: vec![
                rim("Driver_RIM_test_no_gpu.swidtag")?,
                rim("1010_0200_882_96005E0001_test_no_gpu.swidtag")?,
            ],
            ocsp: Vec::new(),
        }),
        report_data: None,
    };
    let root = Root::insecure_test(module.root_der().to_vec()).unwrap();
    Some((bundle, root))
}

const KEYSET: [u8; 32] = [7; 32];

fn nonce() -> [u8; 32] {
    let mut nonce = [0; 32];
    hex::decode_to_slice(NONCE, &mut nonce).unwrap();
    nonce
}

/// What a verifier names who asked this guest and its GPU with one nonce.
fn binding() -> Binding {
    Binding::Keyset {
        digest: KEYSET,
        nonce: nonce(),
    }
}

const NONCE: &str = "4cff7f5380ead8fad8ec2c531c110aca4302a88f603792801a8ca29ee151af2e";

#[test]
fn gpus_are_judged_with_the_rims_of_the_bundle() {
    let Some((bundle, root)) = with_gpu() else {
        return;
    };
    let policy = Policy::from_manifest(&manifest());
    let mut nonce = nonce();
    let full = Expected {
        policy: Some(&policy),
        report_data: Some(binding()),
        gpu_nonce: GpuNonce::Expected(nonce),
        gpu_revocation: GpuRevocation::InsecureUnchecked,
        at: At::Time(GPU_UNIX_S),
        ..expected(&root)
    };
    let check = |bundle: &Bundle, expected: &Expected<'_>, verified: bool| {
        let appraised = bundle.appraise(expected).unwrap();
        assert_eq!(appraised.is_verified(), verified);
        appraised.gpus.unwrap()
    };
    assert!(matches!(check(&bundle, &full, true), Gpus::Verified(gpus) if gpus.len() == 1));
    let any = Expected {
        gpu_nonce: GpuNonce::InsecureAny,
        ..full
    };
    check(&bundle, &any, false);
    // The bundle brings no OCSP response: its maker's choice, which the verifier did not make.
    let strict = Expected {
        gpu_revocation: GpuRevocation::Checked,
        ..full
    };
    check(&bundle, &strict, false);
    // Bytes of which nobody knows whether a GPU is in them.
    let Binding::Keyset { digest, .. } = binding() else {
        unreachable!()
    };
    let evidence = &bundle.gpus.as_ref().unwrap().evidence;
    let with = GpuBinding::Evidence(Digest32::of(evidence).0);
    let exactly = Expected {
        report_data: Some(Binding::Exactly(ReportData::bind(&digest, &nonce, with))),
        ..full
    };
    check(&bundle, &exactly, false);
    // A good GPU beside a quote that binds none, or another one.
    let mut moved = bundle.clone();
    moved.gpus.as_mut().unwrap().evidence.push(b' ');
    let mut none = bundle.clone();
    none.gpus = None;
    for other in [moved, none] {
        let refused = other.appraise(&full).unwrap_err();
        assert!(
            matches!(
                refused,
                BundleRefusal::Quote(Refusal::ReportDataMismatch { .. })
            ),
            "{refused}"
        );
    }

    nonce[0] ^= 1;
    let another = Expected {
        gpu_nonce: GpuNonce::Expected(nonce),
        ..full
    };
    let refused = bundle.appraise(&another).unwrap_err();
    assert!(matches!(first(refused), GpuRefusal::Nonce { .. }));

    let mut bare = bundle.clone();
    bare.gpus.as_mut().unwrap().rims.clear();
    assert!(matches!(check(&bare, &full, false), Gpus::Inspected(_)));

    let mut less = bundle.clone();
    less.gpus.as_mut().unwrap().rims.pop();
    let refused = less.appraise(&full).unwrap_err();
    assert!(matches!(first(refused), GpuRefusal::RimAbsent { .. }));

    let mut elsewhere = bundle.clone();
    let label = &mut elsewhere.gpus.as_mut().unwrap().rims[1].label;
    *label = "NV_GPU_VBIOS_G520_0200_885_96005E0001.xml".into();
    let refused = elsewhere.appraise(&full).unwrap_err();
    assert!(matches!(first(refused), GpuRefusal::RimAbsent { .. }));

    let mut tampered = bundle;
    let xml = &mut tampered.gpus.as_mut().unwrap().rims[0].xml;
    let at = xml.windows(5).position(|found| found == b"Hash0").unwrap();
    let digit = &mut xml[at + 7];
    *digit = if *digit == b'0' { b'1' } else { b'0' };
    let refused = tampered.appraise(&full).unwrap_err();
    assert!(matches!(
        first(refused),
        GpuRefusal::Rim {
            error: RimError::Digest,
            ..
        }
    ));
}

fn first(refusal: BundleRefusal) -> GpuRefusal {
    match refusal {
        BundleRefusal::Gpus(GpuBundleRefusal::Gpus(mut gpus)) => gpus.remove(0).1,
        other => panic!("{other}"),
    }
}

/// What comes out of a bundle one of whose bytes was changed.
enum Changed {
    /// It is no bundle, or a part is refused.
    Refused,
    /// It holds, and what is believed of the guest is the same.
    Holds,
}

fn changed(bytes: &[u8], root: &Root, believed: &Appraised) -> Changed {
    let Ok(bundle) = Bundle::from_cbor(bytes) else {
        return Changed::Refused;
    };
    // The bundle's own time is nobody's: judge at the verifier's.
    let expected = Expected {
        at: At::Time(NOW_UNIX_S),
        ..expected(root)
    };
    match bundle.appraise(&expected) {
        Err(_) => Changed::Refused,
        Ok(appraised) => {
            assert_eq!(appraised.guest, believed.guest);
            assert_eq!(appraised.event_logs, believed.event_logs);
            Changed::Holds
        }
    }
}

/// Every byte, and of its frame every bit. Of quote and collateral every 487th byte, because `flips.rs` is about them.
#[test]
fn a_flipped_byte_is_refused_or_stands_where_nothing_covers_it() {
    let (bundle, root) = simulated();
    let bytes = bundle.to_cbor().unwrap();
    let believed = appraise(&bundle, &root).unwrap();
    let of = |part: &[u8]| {
        let found = bytes.windows(part.len()).position(|found| found == part);
        let start = found.unwrap();
        start..start + part.len()
    };
    let (quote, collateral) = (of(&bundle.quote), of(&bundle.collateral));
    let (manifest, log) = (
        of(bundle.manifest.as_ref().unwrap()),
        of(&bundle.event_logs[0].bytes),
    );
    let bound = bytes.len() - BOUND.len()..bytes.len();
    // The frame is `a7 00 01 01 1a`, then the time.
    let made = 5..9;
    let note = of(crate::common::manifest().note().as_bytes());
    let names: Vec<String> = crate::common::manifest()
        .rtmr3_events()
        .iter()
        .map(|event| event.name.clone())
        .collect();
    let uncovered = |at: usize| {
        let name = || names.iter().any(|name| stands_in(&bytes, at, name));
        let white = || bytes[at].is_ascii_whitespace();
        made.contains(&at)
            || note.contains(&at)
            || (log.contains(&at) && name())
            || (manifest.contains(&at) && (name() || white()))
            || collateral.contains(&at)
    };
    let mut flipped = bytes.clone();
    for at in 0..bytes.len() {
        let sampled = quote.contains(&at) || collateral.contains(&at);
        let long = [&manifest, &log, &bound]
            .iter()
            .any(|part| part.contains(&at));
        let bits = match (sampled, long) {
            (true, _) if at % 487 != 0 => 0..0,
            (false, false) => 0..8,
            (true, _) | (_, true) => at % 8..at % 8 + 1,
        };
        for bit in bits {
            flipped[at] ^= 1 << bit;
            if matches!(changed(&flipped, &root, &believed), Changed::Holds) {
                assert!(uncovered(at), "byte {at}, bit {bit}");
            }
            flipped[at] ^= 1 << bit;
        }
    }
}

/// Whether the byte stands in this text.
fn stands_in(bytes: &[u8], at: usize, text: &str) -> bool {
    let start = at.saturating_sub(text.len() - 1);
    let end = (at + text.len()).min(bytes.len());
    let mut around = bytes[start..end].windows(text.len());
    around.any(|found| found == text.as_bytes())
}
