//! Whose fault a refusal is: the quote's, its certificate's, the collateral's, the operator's or the policy's.

use crate::common::{Case, NOW_UNIX_S};
use attest::{Fault, QuoteCertificate, Refusal, Root};
use registers::Digest48;
use simulator::{Flaws, Platform};

/// A case judged at another time.
fn at(flaws: Flaws, now_unix_s: u64) -> Case {
    let mut case = Case::simulated(flaws);
    case.now_unix_s = now_unix_s;
    case
}

#[test]
fn a_certificate_in_the_quote_of_another_day_is_not_the_collaterals_fault() {
    const DAY_S: u64 = 86_400;
    let of = QuoteCertificate::Leaf;
    let early = Flaws {
        platform_certificate_valid: Some(NOW_UNIX_S + 1..NOW_UNIX_S + DAY_S),
        ..Flaws::default()
    };
    let refusal = Case::simulated(early.clone()).refusal();
    let not_yet = Refusal::QuoteCertificateNotYetValid {
        of,
        from_unix_s: NOW_UNIX_S + 1,
        at_unix_s: NOW_UNIX_S,
    };
    assert_eq!(refusal, not_yet);
    let text = refusal.to_string();
    assert!(
        text.contains("the certificate of the peer's platform"),
        "{text}"
    );
    assert!(
        text.contains("2026-09-21T14:13:21Z") && text.contains("2026-09-21T14:13:20Z"),
        "{text}"
    );
    assert!(at(early, NOW_UNIX_S + 1).verify().is_ok());

    let late = Flaws {
        platform_certificate_valid: Some(NOW_UNIX_S - DAY_S..NOW_UNIX_S),
        ..Flaws::default()
    };
    assert!(Case::simulated(late.clone()).verify().is_ok());
    let expired = Refusal::QuoteCertificateExpired {
        of,
        until_unix_s: NOW_UNIX_S,
        at_unix_s: NOW_UNIX_S + 1,
    };
    assert_eq!(at(late, NOW_UNIX_S + 1).refusal(), expired);
}

#[test]
fn every_refusal_says_whose_fault_it_is() {
    const DAY_S: u64 = 86_400;
    let flawed = |edit: &dyn Fn(&mut Flaws)| {
        let mut flaws = Flaws::default();
        edit(&mut flaws);
        Case::simulated(flaws)
    };
    let with = |edit: &dyn Fn(&mut Case)| {
        let mut case = Case::simulated(Flaws::default());
        edit(&mut case);
        case
    };
    let years = |years: u64| NOW_UNIX_S + years * 365 * DAY_S;
    for (what, case, fault) in [
        ("cut", with(&|c| c.quote.truncate(1000)), Fault::Quote),
        ("signature", with(&|c| c.quote[700] ^= 1), Fault::Quote),
        ("old", with(&|c| c.report_data.0[0] ^= 1), Fault::Quote),
        (
            "other guest",
            with(&|c| c.policy.registers[0].rtmr[3] = Digest48([1; 48])),
            Fault::Quote,
        ),
        ("debug", flawed(&|f| f.td_attributes_set = 1), Fault::Quote),
        (
            "owner",
            flawed(&|f| f.mr_owner = Some(Digest48([1; 48]))),
            Fault::Quote,
        ),
        (
            "its certificate not valid yet",
            flawed(&|f| f.platform_certificate_valid = Some(NOW_UNIX_S + 1..years(1))),
            Fault::QuoteCertificate,
        ),
        (
            "its certificate expired",
            flawed(&|f| f.platform_certificate_valid = Some(0..NOW_UNIX_S - 1)),
            Fault::QuoteCertificate,
        ),
        (
            "its chain expired",
            with(&|c| c.now_unix_s = years(8)),
            Fault::QuoteCertificate,
        ),
        (
            "its chain not valid yet",
            with(&|c| c.now_unix_s = 0),
            Fault::QuoteCertificate,
        ),
        (
            "its certificate revoked",
            flawed(&|f| f.platform_certificate_revoked = true),
            Fault::QuoteCertificate,
        ),
        (
            "collateral expired",
            with(&|c| c.now_unix_s += 31 * DAY_S),
            Fault::Collateral,
        ),
        (
            "collateral not yet",
            with(&|c| c.now_unix_s -= 2 * DAY_S),
            Fault::Collateral,
        ),
        (
            "a certificate of the collateral not valid yet",
            flawed(&|f| f.tcb_signer_valid = Some(NOW_UNIX_S + 1..years(1))),
            Fault::Collateral,
        ),
        (
            "a certificate of the collateral expired",
            flawed(&|f| f.tcb_signer_valid = Some(0..NOW_UNIX_S - 1)),
            Fault::Collateral,
        ),
        (
            "collateral of another key",
            flawed(&|f| f.collateral_signed_by_other_key = true),
            Fault::Collateral,
        ),
        (
            "collateral of another platform",
            flawed(&|f| f.collateral_for_another_platform = true),
            Fault::Collateral,
        ),
        (
            "old collateral",
            with(&|c| c.policy.tcb_evaluation_number_min = 99),
            Fault::Collateral,
        ),
        (
            "out of date",
            flawed(&|f| f.platform = Platform::OutOfDate),
            Fault::Operator,
        ),
        (
            "below all",
            flawed(&|f| f.platform = Platform::BelowEveryLevel),
            Fault::Operator,
        ),
        (
            "revoked",
            flawed(&|f| f.platform = Platform::Revoked),
            Fault::Operator,
        ),
        (
            "enclave",
            flawed(&|f| f.quoting_enclave_unlisted = true),
            Fault::Operator,
        ),
        (
            "module",
            flawed(&|f| f.seam_attributes = 1),
            Fault::Operator,
        ),
        (
            "empty policy",
            with(&|c| c.policy.registers.clear()),
            Fault::Policy,
        ),
        (
            "another root",
            with(&|c| c.root = Root::intel()),
            Fault::Unknown,
        ),
    ] {
        let refusal = case.refusal();
        assert_eq!(refusal.fault(), fault, "{what}: {refusal}");
        if fault != Fault::Collateral {
            let text = refusal.to_string();
            assert!(!text.contains("fetch"), "{what}: {text}");
        }
    }
}
