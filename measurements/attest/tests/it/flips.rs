//! Every byte of a quote matters, and no bytes make the reader panic.

use crate::common::Case;
use attest::{Collateral, Quote, QuoteError, Refusal};
use simulator::Flaws;

/// A guest whose quote carries a report 1.0, one with 1.5, one with the extended one.
fn every_report() -> [Case; 3] {
    [(false, false), (true, false), (true, true)].map(|(quote_version_5, quote_extended)| {
        Case::simulated(Flaws {
            quote_version_5,
            quote_extended,
            ..Flaws::default()
        })
    })
}

#[test]
fn no_flipped_byte_of_a_simulated_quote_is_believed() {
    for mut case in every_report() {
        // A prime step, so that all kinds of fields are hit.
        for at in (0..case.quote.len()).step_by(61) {
            case.quote[at] ^= 1 << (at % 8);
            let refusal = case.refusal();
            assert!(
                !matches!(refusal, Refusal::Unnamed { .. }),
                "byte {at}: {refusal}"
            );
            case.quote[at] ^= 1 << (at % 8);
        }
        assert!(case.verify().is_ok());
    }
}

/// The fields whose bytes no signature covers, each byte: lengths, types, and the ends of the certificates.
#[test]
fn no_flipped_byte_outside_the_signatures_is_believed() {
    let mut case = Case::simulated(Flaws::default());
    let lengths_and_types = (632..636)
        .chain(764..770)
        .chain(1218..1220)
        .chain(1252..1258);
    let root_certificate = (case.quote.len() - 700..case.quote.len()).step_by(7);
    for at in lengths_and_types.chain(root_certificate) {
        for bit in [0, 5, 7] {
            case.quote[at] ^= 1 << bit;
            assert!(case.verify().is_err(), "byte {at} of {}", case.quote.len());
            case.quote[at] ^= 1 << bit;
        }
    }
}

#[test]
fn the_reader_never_panics_on_flipped_or_cut_quotes() {
    for case in every_report() {
        let whole = Quote::parse(&case.quote).unwrap();
        for at in 0..case.quote.len() {
            let mut flipped = case.quote.clone();
            flipped[at] ^= 0xff;
            if let Ok(other) = Quote::parse(&flipped) {
                // Only a byte under a signature may change without the reader's noticing.
                assert!(other != whole || at < 1252 + 307, "byte {at}");
            }
            assert!(Quote::parse(&case.quote[..at]).is_err(), "cut at {at}");
        }
    }
}

#[test]
fn only_zeros_may_follow_a_quote_and_not_many() {
    let mut case = Case::simulated(Flaws::default());
    let len = case.quote.len();
    case.quote.resize(len + 70, 0);
    assert!(case.verify().is_ok());
    case.quote[len + 69] = 1;
    assert_eq!(Quote::parse(&case.quote), Err(QuoteError::Padding));
    case.quote.resize(attest::limits::QUOTE_BYTES_MAX + 1, 0);
    let got = attest::limits::QUOTE_BYTES_MAX + 1;
    assert_eq!(
        Quote::parse(&case.quote),
        Err(QuoteError::TooLong { got, max: got - 1 })
    );
}

#[test]
fn a_length_that_lies_is_refused_before_anything_is_kept() {
    let mut case = Case::simulated(Flaws::default());
    case.quote[632..636].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(
        Quote::parse(&case.quote),
        Err(QuoteError::Truncated {
            field: "signature data"
        })
    );
}

/// Spelling has slack (hexadecimal upper or lower case, the copy of the root that nobody reads): such a flip must
/// change nothing at all.
#[test]
fn a_flipped_byte_of_collateral_is_refused_or_changes_nothing() {
    let module = simulator::SimulatedModule::new(
        crate::common::NOW_UNIX_S,
        &mut crate::common::random("case"),
    )
    .unwrap();
    let mut case = Case::simulated(Flaws::default());
    let believed = case.verify().unwrap();
    let json = module.collateral_json();
    for at in (0..json.len()).step_by(89) {
        let mut flipped = json.to_vec();
        flipped[at] ^= 1;
        let Ok(collateral) = Collateral::from_json(&flipped) else {
            continue;
        };
        case.collateral = collateral;
        match case.verify() {
            Ok(peer) => assert_eq!(peer, believed, "byte {at}"),
            Err(refusal) => {
                assert!(
                    !matches!(refusal, Refusal::Unnamed { .. }),
                    "byte {at}: {refusal}"
                );
            }
        }
    }
}
