//! The proxy over loopback: HTTP in, a guest on a Unix socket, a ledger for the channel.

mod any_byte;
mod bench;
mod leaving;
mod service;

use super::*;
use crate::config::BundleCollateral;
use crate::fixtures::{
    self, channel_terms, charge, config, directory, envelope, guest, http, http_as, node,
    open_channel, payee, sealed, voucher,
};
use crate::guest::GuestAddress;
use std::future::pending;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use wire::{
    Bundle, EnvelopeDigest, Evidence, Frame, FrameDecoder, FrameKind, KeysetDigest, PayerRead,
    RefusalCode, SignedRefusal, Subject,
};

struct RunningProxy {
    _directory: TempDir,
    config: Config,
    listen: SocketAddr,
    _served: JoinHandle<()>,
}

async fn proxy() -> RunningProxy {
    proxy_with(|_| ()).await
}

/// With something else in its configuration.
async fn proxy_with(change: impl FnOnce(&mut Config)) -> RunningProxy {
    let directory = directory();
    let (ledger, url) = node().await;
    open_channel(&ledger);
    let mut config = config(directory.path(), url);
    change(&mut config);
    let Serving { listen, served, .. } = serve(config.clone(), pending()).await.expect("serves");
    RunningProxy {
        _directory: directory,
        config,
        listen,
        _served: served,
    }
}

fn job(cost_max: u64) -> Vec<u8> {
    [envelope(cost_max, None).encode(), sealed()].concat()
}

/// A payer's leave to read, for the header `authorization`.
fn leave(receipt: Option<EnvelopeDigest>, key: &ed25519_dalek::SigningKey) -> String {
    let (chain, channel) = (settlement::ChainId::EMBEDDED, channel_terms().address());
    let read = PayerRead {
        chain,
        channel,
        receipt,
    };
    read.sign(crate::clock::now_unix_s(), key)
}

/// What the payer reads of its channel.
async fn read_channel(listen: SocketAddr) -> Value {
    let path = format!("/v1/channels/{}", channel_terms().address());
    let leave = leave(None, &fixtures::payer_key());
    let (status, body, _) = http_as(listen, "GET", &path, b"", &leave).await;
    let value: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(status, 200, "{value}");
    value
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
    decoder.push(bytes);
    while let Some(frame) = decoder.next_frame().expect("frames") {
        frames.push(frame);
    }
    decoder.finish().expect("whole frames");
    frames
}

fn kinds(bytes: &[u8]) -> Vec<FrameKind> {
    frames(bytes).iter().map(|frame| frame.kind).collect()
}

/// A guest that answers every job with these bytes and hangs up.
fn answering(proxy: &RunningProxy, answer: Vec<u8>) {
    guest(&proxy.config, move |_, mut stream: UnixStream| {
        let answer = answer.clone();
        async move {
            // The proxy may have hung up already.
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
}

fn whole_answer(cost: u64) -> Vec<u8> {
    let charge = charge(0, cost, cost).encode();
    [
        Frame::data(&vec![1; 40_000]),
        Frame::encode(FrameKind::Charge, &charge),
        Frame::encode(FrameKind::End, b""),
    ]
    .concat()
}

fn said(body: &[u8]) -> (String, String) {
    let value: Value = serde_json::from_slice(body).expect("JSON");
    let text = |name: &str| value["error"][name].as_str().expect("a text").to_owned();
    (text("code"), text("executed"))
}

async fn check_refused(proxy: &RunningProxy, body: &[u8], status: u16, code: &str, executed: &str) {
    let (got, body, _) = http(proxy.listen, "POST", "/v1/sealed", body).await;
    let said = said(&body);
    assert_eq!(
        (got, said.0.as_str(), said.1.as_str()),
        (status, code, executed)
    );
}

#[tokio::test]
async fn a_whole_answer_passes_unchanged_and_its_charge_is_kept() {
    let proxy = proxy().await;
    guest(&proxy.config, |frames, mut stream: UnixStream| async move {
        let sent: Vec<u8> = frames[2..].iter().flat_map(|f| f.payload.clone()).collect();
        assert!(
            frames[0].payload.is_empty(),
            "the payee holds no voucher yet"
        );
        assert_eq!(frames[1].payload, envelope(100, None).encode());
        assert_eq!(sent, sealed());
        stream.write_all(&whole_answer(90)).await.expect("read");
    });
    let (status, body, whole) = http(proxy.listen, "POST", "/v1/sealed", &job(100)).await;
    assert_eq!((status, whole), (200, true));
    assert_eq!(body, whole_answer(90));
    let channel = read_channel(proxy.listen).await;
    assert_eq!(
        (&channel["owed_nano"], &channel["deposit_nano"]),
        (&json!("90"), &json!("1000000000"))
    );
    assert_eq!(channel["voucher"], Value::Null);
}

#[tokio::test]
async fn a_refusal_passes_unchanged() {
    let proxy = proxy().await;
    let refusal = SignedRefusal::sign(
        Subject::Envelope(EnvelopeDigest([0; 32])),
        RefusalCode::Busy,
        &fixtures::receipt_key(),
    )
    .encode();
    let answer = [
        Frame::encode(FrameKind::Refused, &refusal),
        Frame::encode(FrameKind::End, b""),
    ]
    .concat();
    answering(&proxy, answer.clone());
    let (status, body, whole) = http(proxy.listen, "POST", "/v1/sealed", &job(100)).await;
    assert_eq!((status, whole, body), (200, true, answer));
}

#[tokio::test]
async fn an_answer_cut_in_the_middle_ends_without_end() {
    let proxy = proxy().await;
    answering(&proxy, Frame::data(&[1; 5_000]));
    let (status, body, whole) = http(proxy.listen, "POST", "/v1/sealed", &job(100)).await;
    assert_eq!((status, whole), (200, false));
    assert!(!kinds(&body).contains(&FrameKind::End));
}

#[tokio::test]
async fn what_a_guest_may_not_send_is_not_passed_on() {
    let good = whole_answer(90);
    let forged = {
        let mut charge = charge(0, 90, 90).encode();
        let last = charge.len() - 1;
        charge[last] ^= 1;
        charge
    };
    let dear = charge(0, 101, 101).encode();
    let data = Frame::data(&[1; 10]);
    let with_charge = |charge: &[u8]| {
        [
            data.clone(),
            Frame::encode(FrameKind::Charge, charge),
            Frame::encode(FrameKind::End, b""),
        ]
        .concat()
    };
    let cases = [
        ("a forged charge", with_charge(&forged)),
        (
            "a charge above what the envelope allows",
            with_charge(&dear),
        ),
        (
            "two charges",
            [
                &good[..good.len() - 5],
                &with_charge(&charge(1, 1, 91).encode()),
            ]
            .concat(),
        ),
        (
            "a receipt without a charge",
            [
                data.clone(),
                Frame::encode(FrameKind::Receipt, &[7; 4114]),
                Frame::encode(FrameKind::End, b""),
            ]
            .concat(),
        ),
        (
            "a refusal after data",
            [data.clone(), Frame::encode(FrameKind::Refused, b"")].concat(),
        ),
        (
            "a frame above its limit",
            [&data[..], &[3, 0, 1, 0, 0]].concat(),
        ),
    ];
    for (what, answer) in cases {
        let proxy = proxy().await;
        answering(&proxy, answer);
        let (status, body, whole) = http(proxy.listen, "POST", "/v1/sealed", &job(100)).await;
        assert_eq!((status, whole), (200, false), "{what}");
        assert!(!kinds(&body).contains(&FrameKind::End), "{what}");
    }
}

#[tokio::test]
async fn a_guest_that_begins_badly_is_a_bad_gateway() {
    let unknown_kind = vec![9, 0, 0, 0, 0];
    let too_long = vec![3, 255, 255, 255, 255];
    let out_of_place = Frame::encode(FrameKind::OpenJob, b"");
    let no_refusal = Frame::encode(FrameKind::Refused, b"no");
    let empty = Frame::encode(FrameKind::End, b"");
    for answer in [unknown_kind, too_long, out_of_place, no_refusal, empty] {
        let proxy = proxy().await;
        answering(&proxy, answer);
        check_refused(&proxy, &job(100), 502, "guest_protocol", "maybe").await;
    }
}

#[tokio::test]
async fn a_guest_that_hangs_up_a_silent_one_and_none_differ() {
    let proxy = proxy().await;
    check_refused(&proxy, &job(100), 503, "guest_unreachable", "no").await;
    guest(&proxy.config, |frames, stream: UnixStream| async move {
        // Silent: keeps the stream open and sends nothing.
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop((frames, stream));
    });
    check_refused(&proxy, &job(100), 504, "guest_timeout", "maybe").await;
    let GuestAddress::Unix(path) = &proxy.config.guests[0] else {
        unreachable!("the tests' guest is a Unix socket")
    };
    std::fs::remove_file(path).expect("the silent guest's socket");
    answering(&proxy, Vec::new());
    check_refused(&proxy, &job(100), 502, "guest_truncated", "maybe").await;
}

#[tokio::test]
async fn what_is_no_job_never_reaches_the_guest() {
    let proxy = proxy().await;
    guest(&proxy.config, |_, _| async {
        panic!("the guest was asked")
    });
    let good = job(100);
    check_refused(&proxy, b"", 400, "malformed", "no").await;
    check_refused(&proxy, &good[..good.len() - 400], 400, "malformed", "no").await;
    let mut changed = good.clone();
    let at = envelope(100, None).encode().len() + 7;
    changed[at] ^= 1;
    check_refused(&proxy, &changed, 400, "envelope_signature", "no").await;
    let long = [
        envelope(100, None).encode(),
        vec![0; wire::limits::SEALED_REQUEST_BYTES_MAX + 2_000],
    ]
    .concat();
    check_refused(&proxy, &long, 413, "too_long", "no").await;
    check_refused(&proxy, &job(1_001), 402, "exposure", "no").await;
}

#[tokio::test]
async fn nobody_but_its_payer_reads_a_channel() {
    let proxy = proxy().await;
    let good = voucher(500).encode();
    http(proxy.listen, "POST", "/v1/vouchers", &good).await;
    let path = format!("/v1/channels/{}", channel_terms().address());
    let (status, body, _) = http(proxy.listen, "GET", &path, b"").await;
    assert_eq!((status, said(&body).0.as_str()), (401, "unsigned"));
    assert!(!String::from_utf8_lossy(&body).contains(&hex::encode(&good)));
    let strangers = fixtures::receipt_key();
    for leave in [
        leave(None, &strangers),
        leave(Some(EnvelopeDigest([1; 32])), &fixtures::payer_key()),
        "x".into(),
    ] {
        let (status, body, _) = http_as(proxy.listen, "GET", &path, b"", &leave).await;
        assert_eq!(
            (status, said(&body).0.as_str()),
            (403, "not_the_payer"),
            "{leave}"
        );
    }
}

#[tokio::test]
async fn whoever_sends_slowly_or_nothing_holds_no_slot() {
    let proxy = proxy().await;
    answering(&proxy, whole_answer(90));
    let body = job(100);
    let head = format!(
        "POST /v1/sealed HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut silent = Vec::new();
    for sent in [0, 1, body.len() - 500]
        .into_iter()
        .cycle()
        .take(3 * crate::limits::JOBS_PER_GUEST)
    {
        let mut stream = tokio::net::TcpStream::connect(proxy.listen)
            .await
            .expect("connected");
        stream
            .write_all(&[head.as_bytes(), &body[..sent]].concat())
            .await
            .expect("sent");
        silent.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (status, answer, whole) = http(proxy.listen, "POST", "/v1/sealed", &body).await;
    assert_eq!(
        (status, whole),
        (200, true),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    drop(silent);
}

#[tokio::test]
async fn a_bundle_holds_evidence_and_our_endorsement() {
    let proxy = proxy().await;
    answering(&proxy, Vec::new());
    let path = format!("/v1/attestation?nonce={}", "ab".repeat(32));
    let (status, body, _) = http(proxy.listen, "GET", &path, b"").await;
    assert_eq!(status, 200);
    let bundle = Bundle::decode(&body).expect("a bundle");
    let evidence = Evidence::decode(&bundle.evidence).expect("evidence");
    assert!(bundle.endorsement.holds(
        KeysetDigest::of(&evidence.keyset),
        &payee().public_key(),
        payee().chain(),
        crate::clock::now_unix_s()
    ));
    assert_eq!(bundle.collateral, b"{}");
    for nonce in ["", "ab", &"zz".repeat(32), &"ab".repeat(33)] {
        let path = format!("/v1/attestation?nonce={nonce}");
        assert_eq!(
            http(proxy.listen, "GET", &path, b"").await.0,
            400,
            "{nonce}"
        );
    }
}

#[tokio::test]
async fn a_bundle_holds_the_collateral_of_the_platform_in_the_quote() {
    let mut random = |buffer: &mut [u8]| getrandom::fill(buffer).expect("randomness");
    let now = crate::clock::now_unix_s();
    let module = simulator::SimulatedModule::new(now, &mut random).expect("a module");
    for (quote, status) in [(module.quote(&[7; 64]), 200), (vec![5; 100], 502)] {
        let directory = directory();
        let (_, url) = node().await;
        let mut config = config(directory.path(), url);
        std::fs::write(
            directory.path().join("intel.json"),
            module.collateral_json(),
        )
        .expect("written");
        let sources = directory.path().join("sources.yaml");
        let text = "cache: c\ntdx:\n  - kind: file\n    path: intel.json\n";
        std::fs::write(&sources, text).expect("written");
        config.collateral = BundleCollateral::Sources(sources);
        let Serving {
            listen,
            served: _served,
            ..
        } = serve(config.clone(), pending()).await.expect("serves");
        fixtures::guest_with_quote(&config, quote, async |_, _| ());
        let path = format!("/v1/attestation?nonce={}", "ab".repeat(32));
        let (got, body, _) = http(listen, "GET", &path, b"").await;
        assert_eq!(got, status);
        if status != 200 {
            assert_eq!(said(&body).0, "guest_protocol");
            continue;
        }
        let bundle = Bundle::decode(&body).expect("a bundle");
        assert_eq!(bundle.collateral, module.collateral_json());
        // The source is gone; what it gave is still valid. The proxy also serves it to anyone.
        std::fs::remove_file(directory.path().join("intel.json")).expect("removed");
        let (_, body, _) = http(listen, "GET", &path, b"").await;
        let bundle = Bundle::decode(&body).expect("a bundle");
        assert_eq!(bundle.collateral, module.collateral_json());
        let path = "/v1/collateral/tdx/fe53494d5444/platform";
        assert_eq!(http(listen, "GET", path, b"").await.1, bundle.collateral);
    }
}

#[tokio::test]
async fn a_voucher_is_acknowledged_again_and_again_and_outlives_the_proxy() {
    let proxy = proxy().await;
    let good = voucher(500).encode();
    for _ in 0..2 {
        let (status, body, _) = http(proxy.listen, "POST", "/v1/vouchers", &good).await;
        let answer: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(
            (status, &answer["stored"], &answer["cumulative_nano"]),
            (200, &json!(true), &json!("500"))
        );
    }
    let check = async |bytes: Vec<u8>, status: u16, code: &str| {
        let (got, body, _) = http(proxy.listen, "POST", "/v1/vouchers", &bytes).await;
        assert_eq!((got, said(&body).0.as_str()), (status, code));
    };
    check(voucher(499).encode(), 409, "stale").await;
    check(voucher(1_000_000_001).encode(), 402, "deposit").await;
    check(good[1..].to_vec(), 400, "malformed").await;
    check(vec![0; 600], 413, "too_long").await;
    let mut forged = good.clone();
    forged[100] ^= 1;
    check(forged, 403, "signature").await;
    let mut elsewhere = voucher(600).voucher;
    elsewhere.channel = payee().address();
    check(
        elsewhere.sign(&fixtures::payer_key()).encode(),
        404,
        "channel",
    )
    .await;
    let mut live = voucher(600).voucher;
    live.chain = settlement::ChainId::MAINNET;
    check(live.sign(&fixtures::payer_key()).encode(), 400, "chain").await;
    let Serving {
        listen,
        served: _served,
        ..
    } = serve(proxy.config.clone(), pending())
        .await
        .expect("restarted");
    let channel = read_channel(listen).await;
    assert_eq!(channel["voucher"], json!(hex::encode(good)));
}

#[tokio::test]
async fn the_first_evidence_of_a_keyset_is_kept_for_whoever_names_it() {
    let proxy = proxy().await;
    answering(&proxy, Vec::new());
    let read = async |listen: SocketAddr, keyset: KeysetDigest| {
        let path = format!("/v1/evidence/{keyset}");
        let (status, body, _) = http(listen, "GET", &path, b"").await;
        (status, body)
    };
    let digest = fixtures::keyset(&payee()).digest();
    let mut kept = Vec::new();
    for nonce in ["ab", "cd"] {
        let attestation = format!("/v1/attestation?nonce={}", nonce.repeat(32));
        assert_eq!(http(proxy.listen, "GET", &attestation, b"").await.0, 200);
        // By this proxy, and by one that was started later.
        let again = serve(proxy.config.clone(), pending())
            .await
            .expect("starts");
        for listen in [proxy.listen, again.listen] {
            let (status, body) = read(listen, digest).await;
            assert_eq!(status, 200);
            kept.push(wire::Cmw::decode(&body).expect("a wrapper"));
        }
    }
    assert!(
        kept.iter().all(|one| *one == kept[0]),
        "the first one stays"
    );
    let bundle = Bundle::decode(&kept[0].bundle).expect("a bundle");
    assert_eq!(
        bundle.evidence,
        fixtures::evidence(&fixtures::keyset(&payee()))
    );
    let (status, body) = read(proxy.listen, KeysetDigest([7; 32])).await;
    assert_eq!((status, said(&body).0.as_str()), (404, "evidence"));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_errors_with_an_object() {
    let proxy = proxy().await;
    assert_eq!(
        http(proxy.listen, "GET", "/healthz", b"").await.1,
        br#"{"ok":true}"#
    );
    for (method, path, status) in [
        ("GET", "/v2", 404),
        ("GET", "/v1/sealed", 405),
        ("GET", "/v1/channels/x", 400),
        ("GET", "/v1/evidence/x", 400),
    ] {
        let (got, body, _) = http(proxy.listen, method, path, b"").await;
        assert_eq!((got, said(&body).1.as_str()), (status, "no"), "{path}");
    }
}

#[tokio::test]
async fn a_stop_request_ends_the_server() {
    let directory = directory();
    let (_ledger, url) = node().await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let Serving { listen, served, .. } = serve(config(directory.path(), url), shutdown)
        .await
        .expect("serves");
    assert_eq!(http(listen, "GET", "/healthz", b"").await.0, 200);
    stop.send(()).expect("awaited");
    tokio::time::timeout(Duration::from_secs(5), served)
        .await
        .expect("in time")
        .expect("no panic");
    assert!(tokio::net::TcpStream::connect(listen).await.is_err());
}
