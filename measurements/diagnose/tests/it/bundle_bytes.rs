//! The encoding of bundles: each has one, and nothing is kept that is over its limit.

use diagnose::bundle::{Bundle, BundleError, GpuParts, LabelledRim, Log, LogForm, VERSION};

/// Every part is there; none of them is looked into here.
fn bundle() -> Bundle {
    Bundle {
        version: VERSION,
        made_unix_s: 1_790_000_000,
        quote: vec![0xaa; 5000],
        collateral: vec![0xbb; 300],
        manifest: Some(vec![0xcc; 1200]),
        event_logs: vec![Log {
            form: LogForm::Runtime,
            bytes: vec![0xdd; 600],
        }],
        gpus: Some(GpuParts {
            evidence: b"[]".to_vec(),
            rims: vec![LabelledRim {
                label: "a.xml".into(),
                xml: b"<a/>".to_vec(),
            }],
            ocsp: vec![vec![1, 2, 3], Vec::new()],
        }),
        report_data: Some([0x5a; 64]),
    }
}

#[test]
fn what_is_written_is_read_and_written_again_the_same() {
    let bundle = bundle();
    let bytes = bundle.to_cbor().unwrap();
    assert_eq!(Bundle::from_cbor(&bytes), Ok(bundle.clone()));
    assert_eq!(Bundle::from_cbor(&bytes).unwrap().to_cbor(), Ok(bytes));

    let (manifest, gpus) = (None, None);
    let bare = Bundle {
        manifest,
        gpus,
        event_logs: Vec::new(),
        report_data: None,
        ..bundle
    };
    assert_eq!(Bundle::from_cbor(&bare.to_cbor().unwrap()), Ok(bare));
}

/// Written by hand from RFC 8949, so that the encoding stays what the documentation says.
#[test]
fn the_encoding_is_the_documented_one() {
    let bundle = Bundle {
        version: VERSION,
        made_unix_s: 24,
        quote: vec![0xaa],
        collateral: vec![0xbb, 0xcc],
        manifest: Some(vec![0xdd]),
        event_logs: vec![Log {
            form: LogForm::Runtime,
            bytes: vec![0xee],
        }],
        gpus: Some(GpuParts {
            evidence: vec![1],
            rims: vec![LabelledRim {
                label: "r".into(),
                xml: vec![2],
            }],
            ocsp: vec![vec![3]],
        }),
        report_data: Some([0; 64]),
    };
    let hex = [
        "a8 00 01 01 1818 02 41aa 03 42bbcc 04 41dd",
        "05 81 a2 00 02 01 41ee",
        "06 a3 00 4101 01 81 a2 00 6172 01 4102 02 81 4103",
        "07 5840",
    ];
    let mut written = hex::decode(hex.concat().replace(' ', "")).unwrap();
    written.extend([0; 64]);
    assert_eq!(bundle.to_cbor(), Ok(written));
}

/// The smallest bundle, whose encodings can be written by hand.
const SMALL: &str = "a5 00 01 01 18ff 02 41aa 03 41bb 05 80";

fn read(hex: &str) -> Result<Bundle, BundleError> {
    Bundle::from_cbor(&hex::decode(hex.replace(' ', "")).unwrap())
}

#[test]
fn other_encodings_of_a_bundle_are_refused() {
    assert!(read(SMALL).is_ok());
    let longer = "a5 00 01 01 1900ff 02 41aa 03 41bb 05 80";
    for (what, hex, error) in [
        ("a longer integer", longer, BundleError::NotCanonical),
        (
            "a longer version",
            "a5 00 1801 01 18ff 02 41aa 03 41bb 05 80",
            BundleError::NotCanonical,
        ),
        (
            "a longer length",
            "a5 00 01 01 18ff 02 5801aa 03 41bb 05 80",
            BundleError::NotCanonical,
        ),
        (
            "a longer key",
            "a5 00 01 01 18ff 1802 41aa 03 41bb 05 80",
            BundleError::NotCanonical,
        ),
        (
            "unsorted keys",
            "a5 00 01 01 18ff 03 41bb 02 41aa 05 80",
            BundleError::NotCanonical,
        ),
        (
            "a key twice",
            "a6 00 01 01 18ff 02 41aa 02 41aa 03 41bb 05 80",
            BundleError::NotCanonical,
        ),
        (
            "a key nobody knows",
            "a6 00 01 01 18ff 02 41aa 03 41bb 05 80 08 00",
            BundleError::NotCanonical,
        ),
        (
            "an absent part as null",
            "a6 00 01 01 18ff 02 41aa 03 41bb 04 f6 05 80",
            BundleError::NotCanonical,
        ),
        (
            "a map of indefinite length",
            "bf 00 01 01 18ff 02 41aa 03 41bb 05 80 ff",
            BundleError::NotABundle,
        ),
        (
            "a byte string of indefinite length",
            "a5 00 01 01 18ff 02 5f41aaff 03 41bb 05 80",
            BundleError::NotABundle,
        ),
        (
            "a list of indefinite length",
            "a5 00 01 01 18ff 02 41aa 03 41bb 05 9fff",
            BundleError::NotABundle,
        ),
        (
            "a tag",
            "a5 00 01 01 c118ff 02 41aa 03 41bb 05 80",
            BundleError::NotABundle,
        ),
        (
            "text for bytes",
            "a5 00 01 01 18ff 02 6161 03 41bb 05 80",
            BundleError::NotABundle,
        ),
        (
            "a part left out",
            "a4 00 01 01 18ff 02 41aa 05 80",
            BundleError::NotABundle,
        ),
        (
            "a form of log nobody knows",
            "a5 00 01 01 18ff 02 41aa 03 41bb 05 81 a2 00 03 01 40",
            BundleError::NotABundle,
        ),
        (
            "another version",
            "a5 00 02 01 18ff 02 41aa 03 41bb 05 80",
            BundleError::Version { got: 2 },
        ),
        (
            "another version with other fields",
            "a1 00 02",
            BundleError::Version { got: 2 },
        ),
        ("a list", "80", BundleError::NotABundle),
        ("nothing", "", BundleError::NotABundle),
    ] {
        assert_eq!(read(hex), Err(error), "{what}");
    }
    assert_eq!(
        read(&[SMALL, "00"].concat()),
        Err(BundleError::NotCanonical),
        "a byte after the end"
    );
}

#[test]
fn what_is_over_its_limit_is_refused_before_it_is_kept() {
    let max = diagnose::limits::BUNDLE_BYTES_MAX;
    let over = |what, got, max| BundleError::OverLimit { what, got, max };
    assert_eq!(
        Bundle::from_cbor(&vec![0; max + 1]),
        Err(over("the bundle", max + 1, max))
    );
    // Lengths that lie: a quote, a list of logs, a list of OCSP responses of 2^62.
    for hex in [
        "a5 00 01 01 18ff 02 5b4000000000000000",
        "a5 00 01 01 18ff 02 41aa 03 41bb 05 9b4000000000000000",
        "a6 00 01 01 18ff 02 41aa 03 41bb 05 80 06 a3 00 40 01 80 02 9b4000000000000000",
        "bb4000000000000000 00 01",
    ] {
        assert_eq!(read(hex), Err(BundleError::NotABundle), "{hex}");
    }
    // As many logs as there is room for are not read to the end: the fifth is the last.
    let logs = "a2 00 02 01 40".repeat(5);
    let hex = ["a5 00 01 01 18ff 02 41aa 03 41bb 05 85", &logs].concat();
    assert_eq!(read(&hex), Err(BundleError::NotABundle));

    let check = |edit: fn(&mut Bundle), error| {
        let mut bundle = bundle();
        edit(&mut bundle);
        assert_eq!(bundle.to_cbor(), Err(error));
    };
    let max = attest::limits::QUOTE_BYTES_MAX;
    check(
        |bundle| bundle.quote = vec![0; attest::limits::QUOTE_BYTES_MAX + 1],
        over("the quote", max + 1, max),
    );
    let max = attest::limits::MANIFEST_BYTES_MAX;
    check(
        |bundle| bundle.manifest = Some(vec![0; attest::limits::MANIFEST_BYTES_MAX + 1]),
        over("the manifest", max + 1, max),
    );
    let max = diagnose::limits::BUNDLE_EVENT_LOGS_MAX;
    check(
        |bundle| bundle.event_logs = vec![bundle.event_logs[0].clone(); 5],
        over("the list of logs", max + 1, max),
    );
    check(|bundle| bundle.version = 2, BundleError::Version { got: 2 });
}

#[test]
fn no_bundle_that_was_cut_is_read() {
    let bundle = bundle();
    let bytes = bundle.to_cbor().unwrap();
    for at in 0..bytes.len() {
        assert_eq!(
            Bundle::from_cbor(&bytes[..at]),
            Err(BundleError::NotABundle),
            "cut at {at}"
        );
    }
}
