//! Collateral from sources that work, fail and lie; all of them on loopback.
//!
//! The proxy keeps what cannot be right out of its cache and asks the next source. What only a signature tells, it passes
//! on, and `measurements::verify` refuses it: nobody believes the proxy.

mod origin;
mod program;
mod replay;

use host_proxy::collateral::{Fault, Want, rim_document};
use measurements::{Collateral, Policy, Quote, Refusal, ReportData, Root, verify};
use origin::{Origin, Says, body, status};
use replay::{
    NOW_UNIX_S, World, module, pcs, platform, replay, replay_pccs, simulated, text, vector,
};
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
    let want = Want::Tdx(platform(&recorded));
    let intel = Origin::start();
    replay(&intel, &recorded);
    let pccs = Origin::start();
    replay_pccs(&pccs, &recorded);
    let sources = [
        pcs(&intel),
        format!("  - kind: pccs\n    url: {}/\n", pccs.url()),
    ];
    for source in sources {
        let world = World::tdx(&[source]);
        world.set_clock(TDX_QUOTE_UNIX_S);
        let held = world.depot.get(&want).await.expect("an answer");
        let mut expected = recorded.clone();
        expected
            .as_object_mut()
            .expect("an object")
            .remove("pck_certificate_chain");
        assert_eq!(json_of(&held.body), expected);
        // The PCK revocation list ends first: `openssl crl -nextupdate`, Jul 19 10:00:35 2025 GMT.
        assert_eq!(held.expires_unix_s, 1_752_919_235);

        let collateral = Collateral::from_json(&held.body).expect("collateral");
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

/// Makes a source bad in one way, and says what must be said of it.
type Way = (&'static str, fn(&Origin, &Value), fn(&Fault) -> bool);

const TCB: &str = "/tdx/certification/v4/tcb";

/// The TCB info with other words in it. Its signature is then wrong, which is not the proxy's to notice.
fn reworded(origin: &Origin, good: &Value, from: &str, to: &str) {
    let mut changed = good.clone();
    let list = text(good, "tcb_info");
    assert!(list.contains(from), "the TCB info has {from}");
    changed["tcb_info"] = list.replace(from, to).into();
    replay(origin, &changed);
}

const WAYS: &[Way] = &[
    (
        "closes every connection",
        |o, _| o.is_down(true),
        |f| matches!(f, Fault::Network(_)),
    ),
    (
        "speaks another protocol",
        |o, _| o.says(TCB, Says::NotHttp),
        |f| matches!(f, Fault::Network(_)),
    ),
    (
        "has a server error",
        |o, _| o.says(TCB, status(500)),
        |f| *f == Fault::Status(500),
    ),
    (
        "does not know the platform",
        |o, _| o.says(TCB, status(404)),
        |f| *f == Fault::Status(404),
    ),
    (
        "hangs",
        |o, _| o.says(TCB, Says::Nothing),
        |f| *f == Fault::Slow { after_ms: 400 },
    ),
    (
        "drips",
        |o, _| o.says(TCB, Says::Drip),
        |f| *f == Fault::Slow { after_ms: 400 },
    ),
    (
        "is cut off",
        |o, _| o.says(TCB, Says::Cut(vec![b'{'; 4000])),
        |f| matches!(f, Fault::Cut(_)),
    ),
    (
        "never ends",
        |o, _| o.says(TCB, Says::Endless),
        |f| matches!(f, Fault::TooLong { .. }),
    ),
    (
        "promises more than there can be",
        |o, _| o.says(TCB, body("application/json", vec![b' '; 200_000])),
        |f| matches!(f, Fault::TooLong { .. }),
    ),
    (
        "is a portal",
        |o, _| o.says(TCB, body("text/html", "<html>Please log in</html>")),
        |f| *f == Fault::ContentType("text/html".into()),
    ),
    (
        "is a portal that lies about it",
        |o, _| o.says(TCB, body("application/json", "<html>Please log in</html>")),
        |f| {
            matches!(
                f,
                Fault::Malformed {
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
            o.says(TCB, Says::Whole(302, to, Vec::new()));
        },
        |f| *f == Fault::Redirect("http://127.0.0.1:9/evil".into()),
    ),
    (
        "leaves the chain out",
        |o, _| {
            o.says(
                TCB,
                body("application/json", "{\"tcbInfo\":{},\"signature\":\"00\"}"),
            )
        },
        |f| {
            matches!(
                f,
                Fault::Malformed {
                    what: "TCB-Info-Issuer-Chain",
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
        |f| matches!(f, Fault::Other { .. }),
    ),
    (
        "has a list for another kind of enclave",
        |o, good| reworded(o, good, "\"TDX\"", "\"SGX\""),
        |f| {
            matches!(
                f,
                Fault::Malformed {
                    what: "collateral",
                    ..
                }
            )
        },
    ),
    (
        "has a root revocation list that is none",
        |o, _| o.says("/root.crl", body("application/pkix-crl", "<html>")),
        |f| matches!(f, Fault::ContentType(_)),
    ),
    (
        "serves what has expired",
        |o, _| {
            replay(
                o,
                &json_of(module(NOW_UNIX_S - 60 * DAY_S).collateral_json()),
            )
        },
        |f| matches!(f, Fault::Expired { .. }),
    ),
    (
        "serves what is to come",
        |o, _| {
            replay(
                o,
                &json_of(module(NOW_UNIX_S + 60 * DAY_S).collateral_json()),
            )
        },
        |f| matches!(f, Fault::FromTheFuture { .. }),
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_outage_and_each_lie_is_named_and_the_next_source_is_asked() {
    let good = simulated();
    let want = Want::Tdx(platform(&good));
    let second = Origin::start();
    replay(&second, &good);
    let mut all = tokio::task::JoinSet::new();
    for (way, break_it, is_named) in WAYS {
        let (good, want, second) = (good.clone(), want.clone(), second.clone());
        all.spawn(async move {
            let first = Origin::start();
            replay(&first, &good);
            break_it(&first, &good);

            let alone = World::tdx(&[pcs(&first)]);
            let fault = alone.fault(&want).await;
            assert!(is_named(&fault), "{way}: {fault:?}");

            let both = World::tdx(&[pcs(&first), pcs(&second)]);
            let held = both.depot.get(&want).await;
            let held = held.unwrap_or_else(|e| panic!("{way}: {e}"));
            assert_eq!(held.source, format!("pcs {}", second.url()), "{way}");
            assert_eq!(json_of(&held.body), good, "{way}");
        });
    }
    all.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_names_every_source_and_what_was_wrong_with_it() {
    let good = simulated();
    let [down, behind] = [Origin::start(), Origin::start()];
    down.is_down(true);
    replay(
        &behind,
        &json_of(module(NOW_UNIX_S - 60 * DAY_S).collateral_json()),
    );
    let missing = "  - kind: file\n    path: missing.json\n".to_owned();
    let world = World::tdx(&[pcs(&down), pcs(&behind), missing]);
    let want = Want::Tdx(platform(&good));
    let unavailable = world.depot.get(&want).await.expect_err("no answer");
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
    // For a moment it is repeated without another question.
    let asked = behind.seen().len();
    assert_eq!(world.depot.get(&want).await, Err(unavailable));
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
    let want = Want::Tdx(platform(&good));
    let origin = Origin::start();
    replay(&origin, &good);
    let world = World::tdx(&[pcs(&origin)]);
    let held = world.depot.get(&want).await.expect("an answer");
    assert_eq!(judge(&held.body), Ok(()));

    // A revoked level is called up to date.
    reworded(&origin, &good, "Revoked", "UpToDate");
    let held = world
        .depot
        .get_anew(&want)
        .await
        .expect("it has the right shape");
    let refused = judge(&held.body).expect_err("forged");
    assert!(
        matches!(refused, Refusal::CollateralSignature { .. }),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_question_makes_one_fetch_however_many_ask() {
    let good = simulated();
    let want = Want::Tdx(platform(&good));
    let origin = Origin::start();
    replay(&origin, &good);
    let world = World::tdx(&[pcs(&origin)]);
    let asking = (0..50).map(|_| {
        let (depot, want) = (world.depot.clone(), want.clone());
        tokio::spawn(async move { depot.get(&want).await })
    });
    for asked in asking.collect::<Vec<_>>() {
        let held = asked.await.expect("no panic").expect("an answer");
        assert_eq!(json_of(&held.body), good);
    }
    assert_eq!(origin.seen().len(), 4, "{:?}", origin.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_outlasts_an_outage_and_a_restart_until_its_own_next_update_and_never_after() {
    let good = simulated();
    let want = Want::Tdx(platform(&good));
    let origin = Origin::start();
    replay(&origin, &good);
    let mut world = World::tdx(&[pcs(&origin)]);
    let fetched = world.depot.get(&want).await.expect("an answer");
    origin.is_down(true);
    for (after, restart) in [
        (0, true),
        (3 * DAY_S, false),
        (3 * DAY_S, true),
        (fetched.expires_unix_s - NOW_UNIX_S - 1, true),
    ] {
        world.set_clock(NOW_UNIX_S + after);
        if restart {
            world.restart();
        }
        let held = world.depot.get(&want).await;
        assert_eq!(held.as_ref(), Ok(&fetched), "after {after} s");
    }
    world.set_clock(fetched.expires_unix_s);
    world.restart();
    let refused = world.depot.get(&want).await.expect_err("expired");
    assert_eq!(refused.expired_at_unix_s, Some(fetched.expires_unix_s));
    assert!(matches!(refused.faults[0].fault, Fault::Network(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_fetched_again_before_it_ends() {
    let good = simulated();
    let want = Want::Tdx(platform(&good));
    let origin = Origin::start();
    replay(&origin, &good);
    let world = World::tdx(&[pcs(&origin)]);
    let first = world.depot.get(&want).await.expect("an answer");
    world.depot.refresh_due().await;
    assert_eq!(origin.seen().len(), 4, "not due yet");
    // A day later it is, and it still holds.
    world.set_clock(NOW_UNIX_S + DAY_S);
    world.depot.refresh_due().await;
    assert_eq!(origin.seen().len(), 8);
    let second = world.depot.get(&want).await.expect("an answer");
    assert_eq!(second.fetched_unix_s, first.fetched_unix_s + DAY_S);
    // What nobody asks for is left to end.
    world.set_clock(NOW_UNIX_S + 20 * DAY_S);
    world.depot.refresh_due().await;
    assert_eq!(origin.seen().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_behind_never_takes_the_cache_back() {
    let good = simulated();
    let want = Want::Tdx(platform(&good));
    let origin = Origin::start();
    replay(&origin, &good);
    let world = World::tdx(&[pcs(&origin)]);
    let held = world.depot.get(&want).await.expect("an answer");

    let tcb_info: Value = serde_json::from_str(text(&good, "tcb_info")).expect("JSON");
    let number = tcb_info["tcbEvaluationDataNumber"]
        .as_u64()
        .expect("a number");
    let key = "\"tcbEvaluationDataNumber\":";
    let (from, to) = (format!("{key}{number}"), format!("{key}{}", number - 1));
    reworded(&origin, &good, &from, &to);
    let refused = world.depot.get_anew(&want).await.expect_err("older");
    let fault = &refused.faults[0].fault;
    assert!(matches!(fault, Fault::Older { .. }), "{fault:?}");
    assert_eq!(world.depot.get(&want).await, Ok(held));
}

const DRIVER: &str = "NV_GPU_DRIVER_GH100_550.144.03";
const VBIOS: &str = "NV_GPU_VBIOS_1010_0200_882_96005E0001";

fn rim_answer(id: &str, xml: &[u8]) -> Says {
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
    let origin = Origin::start();
    let world = World::with(&format!(
        "rim:\n  - kind: rim\n    url: {}\n  - kind: directory\n    path: rims\n",
        origin.url()
    ));
    let want = |id: &str| Want::Rim(id.parse().expect("an id"));
    for (id, xml) in [(DRIVER, &driver), (VBIOS, &vbios)] {
        let path = format!("/v1/rim/{id}");
        origin.says(&path, rim_answer(id, xml));
        let held = world.depot.get(&want(id)).await.expect("an answer");
        assert_eq!(rim_document(&held.body).as_ref(), Ok(xml));
        assert_eq!(held.expires_unix_s, NOW_UNIX_S + 30 * DAY_S);
    }
    // The other's content under this name, and this content under the other's name.
    for lie in [rim_answer(DRIVER, &vbios), rim_answer(VBIOS, &driver)] {
        origin.says(&format!("/v1/rim/{DRIVER}"), lie);
        let refused = world
            .depot
            .get_anew(&want(DRIVER))
            .await
            .expect_err("a lie");
        let fault = &refused.faults[0].fault;
        assert!(matches!(fault, Fault::Other { .. }), "{fault:?}");
    }
    // A host without a way out has them in a directory.
    let rims = world.directory.path().join("rims");
    std::fs::create_dir(&rims).expect("a directory");
    std::fs::write(rims.join(format!("{DRIVER}.xml")), &driver).expect("written");
    let held = world
        .depot
        .get_anew(&want(DRIVER))
        .await
        .expect("the directory has it");
    assert!(held.source.starts_with("directory "), "{}", held.source);
    assert_eq!(rim_document(&held.body), Ok(driver));
}
