//! Collateral from sources that work, fail and lie; all of them on loopback.
//!
//! The proxy keeps what cannot be right out of its cache and asks the next source. What only a signature tells it passes on,
//! and `attest::verify` refuses it: clients do not trust the proxy.

mod command;
mod fake_source;
mod recorded;

use attest::{Collateral, Policy, Quote, Refusal, Root, verify};
use fake_source::{FakeSource, Reply, body, status};
use host_proxy::{CollateralKey, SourceError, rim_document};
use recorded::{
    NOW_UNIX_S, TestCache, module, pcs, platform, serve_as_pccs, serve_as_pcs, simulated, text,
    vector,
};
use registers::ReportData;
use serde_json::{Value, json};

/// One hour after the youngest part of `tdx_quote_collateral.json` was issued.
const TDX_QUOTE_UNIX_S: u64 = 1_750_332_747;
const DAY_S: u64 = 86_400;

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_lists_of_intel_become_the_collateral_that_a_real_quote_is_verified_with() {
    let (Some(quote), Some(recorded)) = (
        vector("quotes/dcap-qvl/tdx_quote"),
        vector("quotes/dcap-qvl/tdx_quote_collateral.json"),
    ) else {
        return;
    };
    let recorded = json_of(&recorded);
    let key = CollateralKey::Tdx(platform(&recorded));
    let intel = FakeSource::start();
    serve_as_pcs(&intel, &recorded);
    let pccs = FakeSource::start();
    serve_as_pccs(&pccs, &recorded);
    let sources = [
        pcs(&intel),
        format!("  - kind: pccs\n    url: {}/\n", pccs.url()),
    ];
    for source in sources {
        let test = TestCache::tdx(&[source]);
        test.set_clock(TDX_QUOTE_UNIX_S);
        let document = test.cache.get(&key).await.expect("an answer");
        let mut expected = recorded.clone();
        expected
            .as_object_mut()
            .expect("an object")
            .remove("pck_certificate_chain");
        assert_eq!(json_of(&document.body), expected);
        // The PCK revocation list expires first: `openssl crl -nextupdate`, Jul 19 10:00:35 2025 GMT.
        assert_eq!(document.expires_unix_s, 1_752_919_235);

        let collateral = Collateral::from_json(&document.body).expect("collateral");
        let parsed = Quote::parse(&quote).expect("a quote");
        let policy = Policy::exact(parsed.td.registers);
        let report_data = parsed.td.report_data;
        let now = TDX_QUOTE_UNIX_S;
        let peer = verify(
            &quote,
            &collateral,
            &report_data,
            &policy,
            &Root::intel(),
            now,
        );
        assert!(peer.is_ok(), "{peer:?}");
    }
    assert_eq!(
        intel.seen(),
        [
            "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
            "/tdx/certification/v4/tcb?fmspc=B0C06F000000&update=standard",
            "/tdx/certification/v4/qe/identity?update=standard",
            "/root.crl",
        ]
    );
}

/// How a source fails, how to make it fail, and the error expected.
type Failure = (
    &'static str,
    fn(&FakeSource, &Value),
    fn(&SourceError) -> bool,
);

const TCB: &str = "/tdx/certification/v4/tcb";

/// The TCB info with other words in it. Its signature is then wrong, which is not the proxy's to notice.
fn reworded(source: &FakeSource, good: &Value, from: &str, to: &str) {
    let mut changed = good.clone();
    let list = text(good, "tcb_info");
    assert!(list.contains(from), "the TCB info has {from}");
    changed["tcb_info"] = list.replace(from, to).into();
    serve_as_pcs(source, &changed);
}

const FAILURES: &[Failure] = &[
    (
        "closes every connection",
        |o, _| o.is_down(true),
        |f| matches!(f, SourceError::Network(_)),
    ),
    (
        "uses another protocol",
        |o, _| o.replies(TCB, Reply::NotHttp),
        |f| matches!(f, SourceError::Network(_)),
    ),
    (
        "has a server error",
        |o, _| o.replies(TCB, status(500)),
        |f| *f == SourceError::Status(500),
    ),
    (
        "does not know the platform",
        |o, _| o.replies(TCB, status(404)),
        |f| *f == SourceError::Status(404),
    ),
    (
        "hangs",
        |o, _| o.replies(TCB, Reply::Nothing),
        |f| *f == SourceError::Timeout { after_ms: 400 },
    ),
    (
        "drips",
        |o, _| o.replies(TCB, Reply::Drip),
        |f| *f == SourceError::Timeout { after_ms: 400 },
    ),
    (
        "is cut off",
        |o, _| o.replies(TCB, Reply::Cut(vec![b'{'; 4000])),
        |f| matches!(f, SourceError::Truncated(_)),
    ),
    (
        "never ends",
        |o, _| o.replies(TCB, Reply::Endless),
        |f| matches!(f, SourceError::TooLong { .. }),
    ),
    (
        "promises more than there can be",
        |o, _| o.replies(TCB, body("application/json", vec![b' '; 200_000])),
        |f| matches!(f, SourceError::TooLong { .. }),
    ),
    (
        "is a portal",
        |o, _| o.replies(TCB, body("text/html", "<html>Please log in</html>")),
        |f| *f == SourceError::ContentType("text/html".into()),
    ),
    (
        "is a portal that lies about it",
        |o, _| o.replies(TCB, body("application/json", "<html>Please log in</html>")),
        |f| {
            matches!(
                f,
                SourceError::Malformed {
                    what: "TCB info",
                    ..
                }
            )
        },
    ),
    (
        "redirects elsewhere",
        |o, _| {
            let to = vec![("Location".into(), "http://127.0.0.1:9/evil".into())];
            o.replies(TCB, Reply::Whole(302, to, Vec::new()));
        },
        |f| *f == SourceError::Redirect("http://127.0.0.1:9/evil".into()),
    ),
    (
        "leaves the chain out",
        |o, _| {
            o.replies(
                TCB,
                body("application/json", "{\"tcbInfo\":{},\"signature\":\"00\"}"),
            )
        },
        |f| {
            matches!(
                f,
                SourceError::Malformed {
                    what: "TCB-Info-Issuer-Node",
                    ..
                }
            )
        },
    ),
    (
        "answers about another platform",
        |o, good| {
            let fmspc = hex::encode_upper(platform(good).fmspc);
            reworded(o, good, &fmspc, "00A067110000");
        },
        |f| matches!(f, SourceError::Mismatch { .. }),
    ),
    (
        "has a list for another kind of enclave",
        |o, good| reworded(o, good, "\"TDX\"", "\"SGX\""),
        |f| {
            matches!(
                f,
                SourceError::Malformed {
                    what: "collateral",
                    ..
                }
            )
        },
    ),
    (
        "has a root revocation list that is none",
        |o, _| o.replies("/root.crl", body("application/pkix-crl", "<html>")),
        |f| matches!(f, SourceError::ContentType(_)),
    ),
    (
        "serves what has expired",
        |o, _| {
            serve_as_pcs(
                o,
                &json_of(module(NOW_UNIX_S - 60 * DAY_S).collateral_json()),
            )
        },
        |f| matches!(f, SourceError::Expired { .. }),
    ),
    (
        "serves what is to come",
        |o, _| {
            serve_as_pcs(
                o,
                &json_of(module(NOW_UNIX_S + 60 * DAY_S).collateral_json()),
            )
        },
        |f| matches!(f, SourceError::NotYetValid { .. }),
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_outage_and_each_lie_is_named_and_the_next_source_is_asked() {
    let good = simulated();
    let key = CollateralKey::Tdx(platform(&good));
    let second = FakeSource::start();
    serve_as_pcs(&second, &good);
    let mut all = tokio::task::JoinSet::new();
    for (failure, break_it, is_named) in FAILURES {
        let (good, key, second) = (good.clone(), key.clone(), second.clone());
        all.spawn(async move {
            let first = FakeSource::start();
            serve_as_pcs(&first, &good);
            break_it(&first, &good);

            let alone = TestCache::tdx(&[pcs(&first)]);
            let fault = alone.error(&key).await;
            assert!(is_named(&fault), "{failure}: {fault:?}");

            let both = TestCache::tdx(&[pcs(&first), pcs(&second)]);
            let document = both.cache.get(&key).await;
            let document = document.unwrap_or_else(|e| panic!("{failure}: {e}"));
            assert_eq!(
                document.source,
                format!("pcs {}", second.url()),
                "{failure}"
            );
            assert_eq!(json_of(&document.body), good, "{failure}");
        });
    }
    all.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_names_every_source_and_what_was_wrong_with_it() {
    let good = simulated();
    let [down, behind] = [FakeSource::start(), FakeSource::start()];
    down.is_down(true);
    serve_as_pcs(
        &behind,
        &json_of(module(NOW_UNIX_S - 60 * DAY_S).collateral_json()),
    );
    let missing = "  - kind: file\n    path: missing.json\n".to_owned();
    let test = TestCache::tdx(&[pcs(&down), pcs(&behind), missing]);
    let key = CollateralKey::Tdx(platform(&good));
    let unavailable = test.cache.get(&key).await.expect_err("no answer");
    let words = unavailable.to_string();
    for part in [
        "Intel's collateral for FE53494D5444",
        &format!("pcs {} cannot be reached", down.url()),
        &format!("pcs {} sent a", behind.url()),
        "expired at",
        "missing.json cannot be read",
    ] {
        assert!(words.contains(part), "{part} in: {words}");
    }
    // For a moment it is repeated without asking again.
    let asked = behind.seen().len();
    assert_eq!(test.cache.get(&key).await, Err(unavailable));
    assert_eq!(behind.seen().len(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_that_keeps_its_shape_passes_the_proxy_and_is_refused_by_the_verifier() {
    let module = module(NOW_UNIX_S);
    let good = json_of(module.collateral_json());
    let report_data = ReportData([7; 64]);
    let quote = module.quote(&report_data.0);
    let root = Root::insecure_test(module.root_der().to_vec()).expect("a root");
    let policy = Policy::exact(module.registers());
    let judge = |collateral: &[u8]| {
        let collateral = Collateral::from_json(collateral).expect("collateral");
        verify(
            &quote,
            &collateral,
            &report_data,
            &policy,
            &root,
            NOW_UNIX_S,
        )
        .map(|_| ())
    };
    let key = CollateralKey::Tdx(platform(&good));
    let source = FakeSource::start();
    serve_as_pcs(&source, &good);
    let test = TestCache::tdx(&[pcs(&source)]);
    let document = test.cache.get(&key).await.expect("an answer");
    assert_eq!(judge(&document.body), Ok(()));

    // A revoked level is called up to date.
    reworded(&source, &good, "Revoked", "UpToDate");
    let document = test
        .cache
        .get_fresh(&key)
        .await
        .expect("it has the right shape");
    let refused = judge(&document.body).expect_err("forged");
    assert!(
        matches!(refused, Refusal::CollateralSignature { .. }),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_question_makes_one_fetch_however_many_ask() {
    let good = simulated();
    let key = CollateralKey::Tdx(platform(&good));
    let source = FakeSource::start();
    serve_as_pcs(&source, &good);
    let test = TestCache::tdx(&[pcs(&source)]);
    let asking = (0..50).map(|_| {
        let (cache, key) = (test.cache.clone(), key.clone());
        tokio::spawn(async move { cache.get(&key).await })
    });
    for asked in asking.collect::<Vec<_>>() {
        let document = asked.await.expect("no panic").expect("an answer");
        assert_eq!(json_of(&document.body), good);
    }
    assert_eq!(source.seen().len(), 4, "{:?}", source.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_outlasts_an_outage_and_a_restart_until_its_own_next_update_and_never_after() {
    let good = simulated();
    let key = CollateralKey::Tdx(platform(&good));
    let source = FakeSource::start();
    serve_as_pcs(&source, &good);
    let mut test = TestCache::tdx(&[pcs(&source)]);
    let fetched = test.cache.get(&key).await.expect("an answer");
    source.is_down(true);
    for (after, restart) in [
        (0, true),
        (3 * DAY_S, false),
        (3 * DAY_S, true),
        (fetched.expires_unix_s - NOW_UNIX_S - 1, true),
    ] {
        test.set_clock(NOW_UNIX_S + after);
        if restart {
            test.restart();
        }
        let document = test.cache.get(&key).await;
        assert_eq!(document.as_ref(), Ok(&fetched), "after {after} s");
    }
    test.set_clock(fetched.expires_unix_s);
    test.restart();
    let refused = test.cache.get(&key).await.expect_err("expired");
    assert_eq!(refused.expired_at_unix_s, Some(fetched.expires_unix_s));
    assert!(matches!(refused.failures[0].error, SourceError::Network(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_fetched_again_before_it_ends() {
    let good = simulated();
    let key = CollateralKey::Tdx(platform(&good));
    let source = FakeSource::start();
    serve_as_pcs(&source, &good);
    let test = TestCache::tdx(&[pcs(&source)]);
    let first = test.cache.get(&key).await.expect("an answer");
    test.cache.refresh_due().await;
    assert_eq!(source.seen().len(), 4, "not due yet");
    // A day later it is, and it still holds.
    test.set_clock(NOW_UNIX_S + DAY_S);
    test.cache.refresh_due().await;
    assert_eq!(source.seen().len(), 8);
    let second = test.cache.get(&key).await.expect("an answer");
    assert_eq!(second.fetched_unix_s, first.fetched_unix_s + DAY_S);
    // What is not asked for any more is left to expire.
    test.set_clock(NOW_UNIX_S + 20 * DAY_S);
    test.cache.refresh_due().await;
    assert_eq!(source.seen().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_behind_never_takes_the_cache_back() {
    let good = simulated();
    let key = CollateralKey::Tdx(platform(&good));
    let source = FakeSource::start();
    serve_as_pcs(&source, &good);
    let test = TestCache::tdx(&[pcs(&source)]);
    let document = test.cache.get(&key).await.expect("an answer");

    let tcb_info: Value = serde_json::from_str(text(&good, "tcb_info")).expect("JSON");
    let number = tcb_info["tcbEvaluationDataNumber"]
        .as_u64()
        .expect("a number");
    let field = "\"tcbEvaluationDataNumber\":";
    let (from, to) = (format!("{field}{number}"), format!("{field}{}", number - 1));
    reworded(&source, &good, &from, &to);
    let refused = test.cache.get_fresh(&key).await.expect_err("older");
    let fault = &refused.failures[0].error;
    assert!(matches!(fault, SourceError::Older { .. }), "{fault:?}");
    assert_eq!(test.cache.get(&key).await, Ok(document));
}

const DRIVER: &str = "NV_GPU_DRIVER_GH100_550.144.03";
const VBIOS: &str = "NV_GPU_VBIOS_1010_0200_882_96005E0001";

fn rim_answer(id: &str, xml: &[u8]) -> Reply {
    use base64::Engine;
    let rim = base64::engine::general_purpose::STANDARD.encode(xml);
    body(
        "application/json",
        json!({ "id": id, "rim": rim, "rim_format": "TCG_RIM" }).to_string(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn nvidias_reference_values_come_through_whole_and_under_their_own_names() {
    let (Some(driver), Some(vbios)) = (
        vector("nvidia/sdk/testdata/NV_GPU_DRIVER_GH100_550.144.03.xml"),
        vector("nvidia/nvtrust/1010_0200_882_96005E0001_PROD.swidtag"),
    ) else {
        return;
    };
    let source = FakeSource::start();
    let test = TestCache::with(&format!(
        "rim:\n  - kind: rim\n    url: {}\n  - kind: directory\n    path: rims\n",
        source.url()
    ));
    let key = |id: &str| CollateralKey::Rim(id.parse().expect("an id"));
    for (id, xml) in [(DRIVER, &driver), (VBIOS, &vbios)] {
        let path = format!("/v1/rim/{id}");
        source.replies(&path, rim_answer(id, xml));
        let document = test.cache.get(&key(id)).await.expect("an answer");
        assert_eq!(rim_document(&document.body).as_ref(), Ok(xml));
        assert_eq!(document.expires_unix_s, NOW_UNIX_S + 30 * DAY_S);
    }
    // The other's content under this name, and this content under the other's name.
    for lie in [rim_answer(DRIVER, &vbios), rim_answer(VBIOS, &driver)] {
        source.replies(&format!("/v1/rim/{DRIVER}"), lie);
        let refused = test.cache.get_fresh(&key(DRIVER)).await.expect_err("a lie");
        let fault = &refused.failures[0].error;
        assert!(matches!(fault, SourceError::Mismatch { .. }), "{fault:?}");
    }
    // A host without a failure out has them in a directory.
    let rims = test.directory.path().join("rims");
    std::fs::create_dir(&rims).expect("a directory");
    std::fs::write(rims.join(format!("{DRIVER}.xml")), &driver).expect("written");
    let document = test
        .cache
        .get_fresh(&key(DRIVER))
        .await
        .expect("the directory has it");
    assert!(
        document.source.starts_with("directory "),
        "{}",
        document.source
    );
    assert_eq!(rim_document(&document.body), Ok(driver));
}
