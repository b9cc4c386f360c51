//! Quotes from real machines, through the same function as simulated ones.
//!
//! The vectors are Phala's dcap-qvl samples (MIT), read from the source that cargo compiled, by their digests. Nothing in the
//! policy is relaxed for them: they pass `Policy::exact` over their own registers.

use crate::common::{Case, NOW_UNIX_S, random};
use attest::{
    Collateral, CollateralPart, Comparison, PckCa, Platform, Policy, Quote, QuoteError, Refusal,
    ReportType, Root, RootClass, TcbStatus, inspect,
};
use registers::{Digest48, Register, ReportData};
use simulator::SimulatedModule;

/// One hour after the youngest part of `tdx_quote_collateral.json` was issued, 2025-06-19T11:32:27Z.
const TDX_QUOTE_UNIX_S: u64 = 1_750_332_747;
/// One hour after `tdx_quote_outdated_collateral.json`, 2026-02-18T11:58:51Z.
const OUTDATED_UNIX_S: u64 = 1_771_415_931;
/// One hour after the youngest part of `tdx_quote_td15ex_collateral.json`, 2026-10-08T00:09:46Z.
const EXTENDED_UNIX_S: u64 = 1_791_421_786;

fn vector(name: &str) -> Option<Vec<u8>> {
    crate::common::vector(&format!("quotes/dcap-qvl/{name}"))
}

/// A policy made from what the quote itself says, as a verifier who rebuilt that image would have.
fn case(name: &str, now_unix_s: u64) -> Option<Case> {
    let quote = vector(name)?;
    let collateral = vector(&format!("{name}_collateral.json"))?;
    let parsed = Quote::parse(&quote).unwrap();
    Some(Case {
        collateral: Collateral::from_json(&collateral).unwrap(),
        report_data: parsed.td.report_data,
        policy: Policy::exact(parsed.td.registers),
        root: Root::intel(),
        now_unix_s,
        quote,
    })
}

#[test]
fn a_real_intel_quote_is_accepted_by_the_same_function() {
    let Some(case) = case("tdx_quote", TDX_QUOTE_UNIX_S) else {
        return;
    };
    let peer = case.verify().unwrap();
    assert_eq!(peer.root, RootClass::Intel);
    assert_eq!(peer.root.to_string(), "intel");
    assert_eq!(peer.tcb_status, TcbStatus::UpToDate);
    assert_eq!(hex::encode(peer.fmspc), "b0c06f000000");
    assert_eq!(
        peer.registers.mrtd.to_string(),
        "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7"
    );
}

#[test]
fn everything_beside_a_real_quote_is_refused() {
    let Some(good) = case("tdx_quote", TDX_QUOTE_UNIX_S) else {
        return;
    };
    let with = |edit: fn(&mut Case)| {
        let mut case = case("tdx_quote", TDX_QUOTE_UNIX_S).expect("read a line above");
        edit(&mut case);
        case.refusal()
    };
    let got = Quote::parse(&good.quote).unwrap().td;

    let refusal = with(|case| {
        let stranger = SimulatedModule::new(NOW_UNIX_S, &mut random("stranger")).unwrap();
        case.root = Root::insecure_test(stranger.root_der().to_vec()).unwrap();
    });
    assert!(matches!(refusal, Refusal::Root { .. }), "{refusal:?}");

    let refusal = with(|case| case.policy.registers[0].rtmr[1].0[0] ^= 1);
    assert!(
        matches!(
            refusal,
            Refusal::RegisterMismatch {
                register: Register::Rtmr1,
                ..
            }
        ),
        "{refusal:?}"
    );

    let refusal = with(|case| case.report_data = ReportData([0; 64]));
    let (got, expected) = (Box::new(got.report_data), Box::new(ReportData([0; 64])));
    assert_eq!(refusal, Refusal::ReportDataMismatch { got, expected });

    // The signature begins after header, report and length: 48 + 584 + 4.
    let refusal = with(|case| case.quote[636] ^= 1);
    assert!(
        matches!(refusal, Refusal::QuoteSignature { .. }),
        "{refusal:?}"
    );

    let refusal = with(|case| case.now_unix_s += 365 * 86_400);
    assert!(
        matches!(refusal, Refusal::CollateralExpired { .. }),
        "{refusal:?}"
    );
    let refusal = with(|case| case.now_unix_s += 10 * 365 * 86_400);
    assert!(
        matches!(refusal, Refusal::QuoteCertificateExpired { .. }),
        "{refusal:?}"
    );

    let refusal = with(|case| case.now_unix_s -= 30 * 86_400);
    assert!(
        matches!(refusal, Refusal::CollateralNotYetValid { .. }),
        "{refusal:?}"
    );

    let refusal = with(|case| case.policy.registers.clear());
    assert_eq!(refusal, Refusal::EmptyPolicy);

    let refusal = with(|case| case.policy.tcb_evaluation_number_min = 18);
    assert_eq!(refusal, Refusal::EvaluationNumber { got: 17, min: 18 });

    let refusal = with(|case| {
        let other = vector("tdx_quote_outdated_collateral.json").expect("it lies beside the first");
        case.collateral = Collateral::from_json(&other).unwrap();
        case.now_unix_s = OUTDATED_UNIX_S;
    });
    assert!(
        matches!(refusal, Refusal::CollateralForAnotherPlatform { .. }),
        "{refusal:?}"
    );
}

#[test]
fn an_outdated_real_platform_is_refused() {
    let Some(case) = case("tdx_quote_outdated", OUTDATED_UNIX_S) else {
        return;
    };
    let refusal = case.refusal();
    assert!(
        matches!(refusal, Refusal::BelowEveryTcbLevel { .. }),
        "{refusal:?}"
    );
}

#[test]
fn collateral_from_before_or_after_a_real_quote_is_refused() {
    let Some(mut case) = case("tdx_quote_outdated", OUTDATED_UNIX_S) else {
        return;
    };
    // The platform was certified later than that.
    case.now_unix_s = TDX_QUOTE_UNIX_S;
    let Refusal::QuoteCertificateNotYetValid { from_unix_s, .. } = case.refusal() else {
        panic!("{}", case.refusal());
    };
    case.now_unix_s = from_unix_s;
    assert!(matches!(
        case.refusal(),
        Refusal::CollateralNotYetValid { .. }
    ));
}

#[test]
fn real_quotes_of_both_versions_are_read() {
    let Some(version_4) = vector("tdx_quote") else {
        return;
    };
    assert_eq!(Quote::parse(&version_4).unwrap().version, 4);
    let version_5 = vector("tdx_quote_outdated").expect("it lies beside the first");
    assert_eq!(Quote::parse(&version_5).unwrap().version, 5);
    for name in ["tdx-quote.hex", "quote-from-tappd.hex"] {
        let text = String::from_utf8(vector(name).expect("it lies beside the first")).unwrap();
        let bytes = hex::decode(text.trim().trim_start_matches("0x")).unwrap();
        let td = Quote::parse(&bytes).unwrap().td;
        assert_eq!(
            (td.mr_signer_seam, td.td_attributes),
            (Digest48::ZERO, 1 << 28),
            "{name}"
        );
    }
}

#[test]
fn an_sgx_quote_is_called_one() {
    let Some(quote) = vector("sgx_quote") else {
        return;
    };
    assert_eq!(Quote::parse(&quote), Err(QuoteError::Sgx));
    let Some(mut case) = case("tdx_quote", TDX_QUOTE_UNIX_S) else {
        return;
    };
    let collateral = vector("sgx_quote_collateral.json").expect("it lies beside the first");
    case.collateral = Collateral::from_json(&collateral).unwrap();
    assert!(matches!(
        case.refusal(),
        Refusal::CollateralForAnotherPlatform { .. }
            | Refusal::CollateralNotYetValid { .. }
            | Refusal::CollateralExpired { .. }
    ));
    case.quote = quote;
    assert_eq!(case.refusal(), Refusal::QuoteMalformed(QuoteError::Sgx));
}

/// Quotes of other people's machines; no collateral of theirs is here. Expected values: the bytes at offset 184 (version 4) and
/// 190 (version 5), read by another program.
#[test]
fn quotes_of_other_clouds_are_read() {
    for (name, version, report, mrtd) in [
        ("cos-113-tdx-quote.dat", 4, ReportType::Td10, "dae67181"),
        ("quote_v5_sample.dat", 5, ReportType::Td15, "7348651a"),
        ("tdx_prod_quote_SPR_E4.dat", 4, ReportType::Td10, "6363b804"),
    ] {
        let Some(mut bytes) = crate::common::vector(&format!("ccel/gcp-cos-113/{name}")) else {
            return;
        };
        // Its makers put a line of text behind this one, for their own test.
        if name == "tdx_prod_quote_SPR_E4.dat" {
            assert_eq!(Quote::parse(&bytes), Err(QuoteError::Padding));
            bytes.truncate(bytes.len() - b"\nextra bytes(only for testing purpose)\n".len());
        }
        let quote = Quote::parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((quote.version, quote.report), (version, report), "{name}");
        let got = quote.td.registers.mrtd.to_string();
        assert_eq!(&got[..8], mrtd, "{name}");
    }
}

/// A version 5 quote with the extended report, which the verification library brings among its samples.
fn extended_case() -> Option<Case> {
    let quote = vector("tdx_quote_td15ex")?;
    let collateral = vector("tdx_quote_td15ex_collateral.json")?;
    let td = Quote::parse(&quote).unwrap().td;
    let mut policy = Policy::exact(td.registers);
    policy.mr_config_id = td.mr_config_id;
    policy.mr_owner = td.mr_owner;
    policy.mr_owner_config = td.mr_owner_config;
    Some(Case {
        collateral: Collateral::from_json(&collateral).unwrap(),
        report_data: td.report_data,
        policy,
        root: Root::intel(),
        now_unix_s: EXTENDED_UNIX_S,
        quote,
    })
}

#[test]
fn a_real_extended_report_is_accepted() {
    let Some(case) = extended_case() else {
        return;
    };
    let peer = case.verify().unwrap();
    assert_eq!(
        (peer.report, peer.tcb_status, peer.root),
        (ReportType::Td15Ex, TcbStatus::UpToDate, RootClass::Intel)
    );
    let extended = Quote::parse(&case.quote).unwrap().td.extended.unwrap();
    assert_ne!(extended.td_id, [0; 32]);
    assert_eq!(extended.vm_id, 0);
}

#[test]
fn a_real_quote_alone_is_inspected_and_nobody_is_verified() {
    let Some(case) = case("tdx_quote", TDX_QUOTE_UNIX_S) else {
        return;
    };
    let look = |now_unix_s| {
        inspect(
            &case.quote,
            &case.collateral,
            None,
            None,
            &case.root,
            now_unix_s,
        )
    };
    let inspected = look(TDX_QUOTE_UNIX_S).unwrap();
    assert_eq!(
        (inspected.guest, inspected.report_data),
        (Comparison::NotCompared, Comparison::NotCompared)
    );
    assert_eq!(inspected.peer, *case.verify().unwrap());
    assert!(matches!(
        look(TDX_QUOTE_UNIX_S + 365 * 86_400),
        Err(Refusal::CollateralExpired { .. })
    ));
}

#[test]
fn no_flipped_byte_of_a_real_quote_is_believed() {
    for case in [case("tdx_quote", TDX_QUOTE_UNIX_S), extended_case()] {
        let Some(mut case) = case else { continue };
        let step = case.quote.len() / 40;
        for at in (0..case.quote.len()).step_by(step) {
            check_quote_flip(&mut case, at, 1);
        }
        assert!(case.verify().is_ok());
    }
}

/// All bytes, each with one bit flipped. Minutes.
#[test]
#[ignore = "long tier: five thousand verifications a quote"]
fn no_flipped_byte_at_all_of_a_real_quote_is_believed() {
    for case in [case("tdx_quote", TDX_QUOTE_UNIX_S), extended_case()] {
        let Some(mut case) = case else { continue };
        for at in 0..case.quote.len() {
            check_quote_flip(&mut case, at, 1 << (at % 8));
        }
    }
}

/// The long tier over the collateral of the same two quotes.
#[test]
#[ignore = "long tier: forty thousand verifications"]
fn no_flipped_byte_at_all_of_real_collateral_changes_anything_but_slack() {
    for (name, case) in [
        (
            vector("tdx_quote_collateral.json"),
            case("tdx_quote", TDX_QUOTE_UNIX_S),
        ),
        (vector("tdx_quote_td15ex_collateral.json"), extended_case()),
    ] {
        let (Some(json), Some(mut case)) = (name, case) else {
            continue;
        };
        check_collateral_flips(&mut case, &json, 1);
    }
}

#[test]
fn a_flipped_byte_of_real_collateral_is_refused_or_changes_nothing() {
    let (Some(mut case), Some(json)) = (
        case("tdx_quote", TDX_QUOTE_UNIX_S),
        vector("tdx_quote_collateral.json"),
    ) else {
        return;
    };
    check_collateral_flips(&mut case, &json, 401);
}

fn check_quote_flip(case: &mut Case, at: usize, bit: u8) {
    case.quote[at] ^= bit;
    assert!(case.verify().is_err(), "byte {at} of {}", case.quote.len());
    case.quote[at] ^= bit;
}

/// What `docs/measurements.md` lists as covered by nothing may change, and then nothing that is believed does.
fn check_collateral_flips(case: &mut Case, json: &[u8], step: usize) {
    let believed = case.verify().unwrap();
    for at in (0..json.len()).step_by(step) {
        let mut flipped = json.to_vec();
        flipped[at] ^= 1;
        let Ok(collateral) = Collateral::from_json(&flipped) else {
            continue;
        };
        case.collateral = collateral;
        if let Ok(peer) = case.verify() {
            assert_eq!(peer, believed, "byte {at}");
        }
    }
}

#[test]
fn collateral_says_for_whom_it_is_and_until_when_each_part_holds() {
    for (name, fmspc, number, dates) in [
        (
            "tdx_quote",
            "b0c06f000000",
            17,
            // From `openssl crl -noout -lastupdate -nextupdate` and the JSON itself.
            [
                (1_750_328_163, 1_752_920_163),
                (1_750_329_147, 1_752_921_147),
                (1_750_327_235, 1_752_919_235),
                (1_742_469_717, 1_775_215_317),
            ],
        ),
        (
            "tdx_quote_outdated",
            "90c06f000000",
            18,
            [
                (1_771_412_331, 1_774_004_331),
                (1_771_411_335, 1_774_003_335),
                (1_771_411_275, 1_774_003_275),
                (1_742_469_717, 1_775_215_317),
            ],
        ),
    ] {
        let (Some(quote), Some(collateral)) =
            (vector(name), vector(&format!("{name}_collateral.json")))
        else {
            return;
        };
        let collateral = Collateral::from_json(&collateral).unwrap();
        let claims = collateral.claims().unwrap();
        let platform = Platform::of(&Quote::parse(&quote).unwrap()).unwrap();
        assert_eq!(claims.platform, platform, "{name}");
        assert_eq!(hex::encode(platform.fmspc), fmspc);
        assert_eq!(platform.ca, PckCa::Platform);
        assert_eq!(claims.tcb_evaluation_number, number);
        let got = claims
            .dates
            .map(|part| (part.issued_unix_s, part.expires_unix_s));
        assert_eq!(got, dates, "{name}");
        assert_eq!(claims.first_to_expire().part, CollateralPart::PckCrl);
        assert_eq!(
            claims.last_issued(),
            claims.dates[usize::from(name == "tdx_quote")]
        );
    }
}

#[test]
fn collateral_of_sgx_or_with_a_broken_part_says_nothing() {
    let check = |json: &[u8], part: CollateralPart, words: &str| {
        let error = Collateral::from_json(json).unwrap().claims().unwrap_err();
        assert_eq!(error.part, part, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    let (Some(good), Some(sgx)) = (
        vector("tdx_quote_collateral.json"),
        vector("sgx_quote_collateral.json"),
    ) else {
        return;
    };
    check(&sgx, CollateralPart::TcbInfo, "`SGX`");
    let good: serde_json::Value = serde_json::from_slice(&good).unwrap();
    for (field, from, to, part, words) in [
        (
            "tcb_info",
            "B0C06F000000",
            "B0C06F",
            CollateralPart::TcbInfo,
            "FMSPC",
        ),
        (
            "tcb_info",
            "10:16:03Z",
            "10:16:03+00:00",
            CollateralPart::TcbInfo,
            "date",
        ),
        (
            "qe_identity",
            "TD_QE",
            "QE",
            CollateralPart::QeIdentity,
            "`QE`",
        ),
        (
            "pck_crl",
            "3082",
            "3081",
            CollateralPart::PckCrl,
            "not understood",
        ),
        (
            "root_ca_crl",
            "3082",
            "3083",
            CollateralPart::RootCrl,
            "not understood",
        ),
        // "Platform" becomes "Qlatform": an authority that is neither.
        (
            "pck_crl",
            "506c6174",
            "516c6174",
            CollateralPart::PckCrl,
            "neither",
        ),
    ] {
        let mut changed = good.clone();
        let text = changed[field].as_str().unwrap();
        assert!(text.contains(from), "{field} has {from}");
        changed[field] = text.replacen(from, to, 1).into();
        check(&serde_json::to_vec(&changed).unwrap(), part, words);
    }
}

#[test]
fn no_flipped_bit_or_cut_of_a_list_makes_reading_it_panic() {
    let Some(good) = vector("tdx_quote_collateral.json") else {
        return;
    };
    let good: serde_json::Value = serde_json::from_slice(&good).unwrap();
    let read = |changed: serde_json::Value| {
        Collateral::from_json(&serde_json::to_vec(&changed).unwrap()).map(|c| c.claims().is_ok())
    };
    let crl = hex::decode(good["root_ca_crl"].as_str().unwrap()).unwrap();
    for at in 0..crl.len() {
        for bit in 0..8 {
            let mut bytes = crl.clone();
            bytes[at] ^= 1 << bit;
            let mut changed = good.clone();
            changed["root_ca_crl"] = hex::encode(bytes).into();
            read(changed).unwrap();
        }
        let mut changed = good.clone();
        changed["root_ca_crl"] = hex::encode(&crl[..at]).into();
        assert_eq!(read(changed), Ok(false), "cut at {at}");
    }
}
