//! The messages are built here, since no recorded answer of NVIDIA's is to be had; `openssl ocsp` reads and writes the same
//! form, and one request of its making is among them.

use super::check_ocsp;
use crate::collateral::{
    Clock, CollateralCache, CollateralKey, KeyError, OcspRequest, SourceError,
};
use crate::limits::{CLOCK_SLACK_S, OCSP_REQUEST_BYTES_MAX};
use axum::http::header::CONTENT_TYPE;
use pki::der::tag::{
    ENUMERATED, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, SEQUENCE, constructed,
};
use pki::ocsp::Request;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let header = match content.len() {
        short @ 0..=0x7f => vec![tag, short as u8],
        middle @ 0x80..=0xff => vec![tag, 0x81, middle as u8],
        long => vec![tag, 0x82, (long >> 8) as u8, long as u8],
    };
    [header, content].concat()
}

fn certificate(serial: &[u8]) -> Vec<u8> {
    // SHA-1, as OCSP clients still use to name issuers.
    let algorithm = tlv(
        SEQUENCE,
        &[&tlv(OID, &[&[0x2b, 0x0e, 3, 2, 0x1a]]), &[5, 0]],
    );
    tlv(
        SEQUENCE,
        &[
            &algorithm,
            &tlv(OCTET_STRING, &[&[1; 20]]),
            &tlv(OCTET_STRING, &[&[2; 20]]),
            &tlv(INTEGER, &[serial]),
        ],
    )
}

fn nonce_extensions(tag: u8, nonce: Option<&[u8]>) -> Vec<u8> {
    let Some(nonce) = nonce else {
        return Vec::new();
    };
    let value = tlv(OCTET_STRING, &[&tlv(OCTET_STRING, &[nonce])]);
    let extension = tlv(SEQUENCE, &[&tlv(OID, &[NONCE]), &value]);
    tlv(tag, &[&tlv(SEQUENCE, &[&extension])])
}

fn request_der(serials: &[&[u8]], nonce: Option<&[u8]>) -> Vec<u8> {
    let list: Vec<_> = serials
        .iter()
        .map(|serial| tlv(SEQUENCE, &[&certificate(serial)]))
        .collect();
    let list = tlv(SEQUENCE, &[&list.concat()]);
    let tbs = tlv(SEQUENCE, &[&list, &nonce_extensions(constructed(2), nonce)]);
    tlv(SEQUENCE, &[&tbs])
}

struct Answer<'a> {
    serial: &'a [u8],
    nonce: Option<&'a [u8]>,
    this: &'a [u8],
    next: Option<&'a [u8]>,
}

const ANSWER: Answer<'_> = Answer {
    serial: &[7],
    nonce: None,
    this: b"20260101000000Z",
    next: Some(b"20260102000000Z"),
};
const THIS: u64 = 1_767_225_600;
const NEXT: u64 = THIS + 86_400;

fn answer_der(answer: &Answer<'_>) -> Vec<u8> {
    let time = |text| tlv(GENERALIZED_TIME, &[text]);
    let next = answer.next.map(|next| tlv(constructed(0), &[&time(next)]));
    let single = tlv(
        SEQUENCE,
        &[
            &certificate(answer.serial),
            // Good.
            &[0x80, 0],
            &time(answer.this),
            &next.unwrap_or_default(),
        ],
    );
    let data = tlv(
        SEQUENCE,
        &[
            &tlv(constructed(2), &[&tlv(OCTET_STRING, &[&[3; 20]])]),
            &time(answer.this),
            &tlv(SEQUENCE, &[&single]),
            &nonce_extensions(constructed(1), answer.nonce),
        ],
    );
    // The client checks the signature, so any will do.
    let basic = tlv(
        SEQUENCE,
        &[&data, &tlv(SEQUENCE, &[]), &tlv(3, &[&[0; 97]])],
    );
    let bytes = tlv(
        SEQUENCE,
        &[&tlv(OID, &[BASIC_RESPONSE]), &tlv(OCTET_STRING, &[&basic])],
    );
    tlv(
        SEQUENCE,
        &[&[ENUMERATED, 1, 0], &tlv(constructed(0), &[&bytes])],
    )
}

fn request_with(nonce: Option<&[u8]>) -> OcspRequest {
    key(&request_der(&[&[7]], nonce))
}

fn key(der: &[u8]) -> OcspRequest {
    let CollateralKey::Ocsp(request) = CollateralKey::ocsp(der).expect("a request") else {
        panic!("another kind of key");
    };
    request
}

#[test]
fn a_request_of_openssl_is_read() {
    // openssl ocsp -issuer ca.pem -serial 0x1234 -reqout request.der -no_nonce
    let der = hex::decode(OPENSSL_REQUEST).expect("hexadecimal");
    let question = key(&der);
    assert_eq!(question.parsed().certificate.serial, [0x12, 0x34]);
    assert_eq!(question.parsed().nonce, None);
    assert_eq!(question.der(), der);
}

#[test]
fn one_certificate_has_one_key_whatever_the_nonce() {
    let (bare, one) = (request_with(None), request_with(Some(&[1; 32])));
    let name = |request: &OcspRequest| CollateralKey::Ocsp(request.clone()).file_name();
    assert_eq!(name(&bare), name(&one));
    assert_ne!(bare.parsed().nonce, one.parsed().nonce);
    let other = key(&request_der(&[&[8]], None));
    assert_ne!(name(&bare), name(&other));
}

#[test]
fn an_answer_holds_until_its_signed_next_update() {
    let question = request_with(None);
    let der = answer_der(&ANSWER);
    assert_eq!(check_ocsp(&der, &question, THIS), Ok(Some(NEXT)));
    assert_eq!(check_ocsp(&der, &question, NEXT - 1), Ok(Some(NEXT)));
    let expired = SourceError::Expired {
        what: "OCSP answer",
        at_unix_s: NEXT,
    };
    assert_eq!(check_ocsp(&der, &question, NEXT), Err(expired));
    let early = check_ocsp(&der, &question, THIS - CLOCK_SLACK_S - 1);
    assert!(
        matches!(early, Err(SourceError::NotYetValid { .. })),
        "{early:?}"
    );
    let der = answer_der(&Answer {
        next: None,
        ..ANSWER
    });
    assert_eq!(check_ocsp(&der, &question, NEXT), Ok(None));
}

#[test]
fn an_answer_about_another_certificate_or_to_another_nonce_is_refused() {
    let other = answer_der(&Answer {
        serial: &[8],
        ..ANSWER
    });
    let refused = check_ocsp(&other, &request_with(None), THIS);
    assert!(
        matches!(refused, Err(SourceError::Mismatch { .. })),
        "{refused:?}"
    );

    let nonce: &[u8] = &[1; 32];
    let answered = answer_der(&Answer {
        nonce: Some(nonce),
        ..ANSWER
    });
    assert_eq!(
        check_ocsp(&answered, &request_with(Some(nonce)), THIS),
        Ok(Some(NEXT))
    );
    assert_eq!(
        check_ocsp(&answered, &request_with(None), THIS),
        Ok(Some(NEXT))
    );
    // A responder may leave it out; whether that is enough is the client's to say.
    assert_eq!(
        check_ocsp(&answer_der(&ANSWER), &request_with(Some(nonce)), THIS),
        Ok(Some(NEXT))
    );
    let replayed = check_ocsp(&answered, &request_with(Some(&[2; 32])), THIS);
    assert_eq!(replayed, Err(SourceError::Replay));
}

#[test]
fn a_refusal_of_the_responder_is_named() {
    // tryLater, section 4.2.1.
    let der = tlv(SEQUENCE, &[&[ENUMERATED, 1, 3]]);
    assert_eq!(
        check_ocsp(&der, &request_with(None), THIS),
        Err(SourceError::OcspStatus(3))
    );
}

#[test]
fn two_certificates_trailing_bytes_and_long_requests_are_refused() {
    for der in [
        request_der(&[], None),
        request_der(&[&[7], &[8]], None),
        [request_der(&[&[7]], None), vec![0]].concat(),
        vec![0; OCSP_REQUEST_BYTES_MAX + 1],
    ] {
        assert!(matches!(CollateralKey::ocsp(&der), Err(KeyError::Ocsp(_))));
    }
}

#[test]
fn no_cut_is_accepted_and_no_flipped_bit_panics() {
    let nonce: &[u8] = &[1; 32];
    let request = request_der(&[&[7]], Some(nonce));
    let answer = answer_der(&Answer {
        nonce: Some(nonce),
        ..ANSWER
    });
    let question = request_with(Some(nonce));
    for cut in 0..request.len() {
        assert!(Request::parse(&request[..cut]).is_none(), "{cut}");
    }
    for cut in 0..answer.len() {
        assert!(
            check_ocsp(&answer[..cut], &question, THIS).is_err(),
            "{cut}"
        );
    }
    for bit in 0..8 {
        for at in 0..request.len() {
            let mut flipped = request.clone();
            flipped[at] ^= 1 << bit;
            // Some remain requests, about another certificate or with another nonce.
            if let Some(other) = Request::parse(&flipped) {
                assert!(other != *question.parsed(), "{at}");
            }
        }
        for at in 0..answer.len() {
            let mut flipped = answer.clone();
            flipped[at] ^= 1 << bit;
            let _ = check_ocsp(&flipped, &question, THIS);
        }
    }
}

/// How the responder below answers.
#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    /// With the nonce of the request.
    Echoes,
    /// With the nonce of the first request it ever saw.
    Replays,
    Fails,
}

/// A responder on loopback: its address, how it answers, how often it did.
async fn responder() -> (String, Arc<Mutex<Behaviour>>, Arc<AtomicUsize>) {
    let (behaviour, count) = (Arc::new(Mutex::new(Behaviour::Echoes)), Arc::default());
    let (asked, counted): (_, Arc<AtomicUsize>) = (behaviour.clone(), Arc::clone(&count));
    let first: Mutex<Option<Vec<u8>>> = Mutex::default();
    let first = Arc::new(first);
    let router = axum::Router::new().route(
        "/",
        axum::routing::post(async move |body: axum::body::Bytes| {
            counted.fetch_add(1, Ordering::SeqCst);
            let question = Request::parse(&body).expect("the request as it was sent");
            let mut first = first.lock().expect("whole");
            let first = first.get_or_insert_with(|| question.nonce.clone().expect("a nonce"));
            let nonce = match *asked.lock().expect("whole") {
                Behaviour::Echoes => question.nonce.expect("a nonce"),
                Behaviour::Replays => first.clone(),
                Behaviour::Fails => {
                    return (
                        axum::http::StatusCode::BAD_GATEWAY,
                        [(CONTENT_TYPE, "text/plain")],
                        vec![],
                    );
                }
            };
            let answer = answer_der(&Answer {
                nonce: Some(&nonce),
                ..ANSWER
            });
            (
                axum::http::StatusCode::OK,
                [(CONTENT_TYPE, "application/ocsp-response")],
                answer,
            )
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(crate::server::serve(
        listener,
        router,
        Default::default(),
        std::future::pending(),
    ));
    (url, behaviour, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_answer_is_for_all_and_a_fresh_one_for_whoever_insists() {
    let (url, behaviour, count) = responder().await;
    let directory = tempfile::tempdir().expect("a directory");
    let text =
        format!("cache: cache\nocsp:\n  - kind: ocsp\n    url: {url}\n    timeout_ms: 2000\n");
    let config = crate::config::CollateralConfig::from_yaml(&text, directory.path())
        .expect("a configuration");
    let now = Arc::new(AtomicU64::new(THIS + 60));
    let clock = now.clone();
    let clock: Clock = Arc::new(move || clock.load(Ordering::SeqCst));
    let cache = CollateralCache::open(&config, clock).expect("a cache");
    let key_with = |nonce: u8| CollateralKey::Ocsp(request_with(Some(&[nonce; 32])));
    let with = |nonce: u8| {
        answer_der(&Answer {
            nonce: Some(&[nonce; 32]),
            ..ANSWER
        })
    };

    let first = cache.get(&key_with(1)).await.expect("an answer");
    assert_eq!(
        (&first.body[..], first.expires_unix_s),
        (&with(1)[..], NEXT)
    );
    let kept = cache.get(&key_with(2)).await.expect("an answer");
    assert_eq!((&kept, count.load(Ordering::SeqCst)), (&first, 1));
    let own = cache.get_fresh(&key_with(3)).await.expect("an answer");
    assert_eq!(
        (&own.body[..], count.load(Ordering::SeqCst)),
        (&with(3)[..], 2)
    );

    *behaviour.lock().expect("whole") = Behaviour::Replays;
    let refused = cache.get_fresh(&key_with(4)).await.expect_err("a replay");
    assert_eq!(refused.failures[0].error, SourceError::Replay);

    // Through an outage it is served to its last second, over HTTP too.
    *behaviour.lock().expect("whole") = Behaviour::Fails;
    now.store(NEXT - 1, Ordering::SeqCst);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback");
    let listen = listener.local_addr().expect("bound");
    let router = crate::collateral::router(cache.clone());
    tokio::spawn(crate::server::serve(
        listener,
        router,
        Default::default(),
        std::future::pending(),
    ));
    let post = async |body: &[u8]| {
        let (status, body, _) = crate::fixtures::http(listen, "POST", "/v1/ocsp", body).await;
        (status, body)
    };
    let request = request_der(&[&[7]], Some(&[5; 32]));
    assert_eq!(post(&request).await, (200, own.body.to_vec()));
    assert_eq!(post(b"no request").await.0, 400);
    assert_eq!(post(&vec![0; OCSP_REQUEST_BYTES_MAX + 1]).await.0, 400);
    now.store(NEXT, Ordering::SeqCst);
    assert_eq!(post(&request).await.0, 503);
}

/// 1.3.6.1.5.5.7.48.1.1, id-pkix-ocsp-basic.
const BASIC_RESPONSE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
/// 1.3.6.1.5.5.7.48.1.2, id-pkix-ocsp-nonce.
const NONCE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];
const OPENSSL_REQUEST: &str = "30433041303f303d303b300906052b0e03021a0500041476b3b6f408e4a7f0006b430211595e17ad61ad0f04140c929cbb6ed715c43bbe3e6f4d3d1e938a0b35f802021234";
