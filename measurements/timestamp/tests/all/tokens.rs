//! Time-stamps: those that OpenSSL made, those of an authority of our own, and what is wrong with others.

use crate::authority::{Authority, Flaw, der};
use serde_json::Value;
use sha2::{Digest, Sha256};
use timestamp::limits::TIMESTAMP_BYTES_MAX;
use timestamp::{Authorities, TimestampError, request, token};

const DIGEST: [u8; 32] = [7; 32];
const TIME: &str = "20260102030405Z";
const TIME_UNIX_S: u64 = 1_767_323_045;

fn authorities(authority: &Authority) -> Authorities {
    Authorities::new(vec![authority.root.clone()]).unwrap()
}

#[test]
fn a_token_proves_a_digest_and_its_time_under_a_root_that_is_believed() {
    let (ours, other) = (Authority::new(1), Authority::new(2));
    let stamp = ours.token(&DIGEST, TIME, Flaw::None);
    let verified = authorities(&ours).verify(&stamp, &DIGEST).unwrap();
    assert_eq!(verified.time_unix_s, TIME_UNIX_S);
    assert_eq!(verified.root, <[u8; 32]>::from(Sha256::digest(&ours.root)));
    let both = Authorities::new(vec![other.root.clone(), ours.root.clone()]).unwrap();
    assert_eq!(both.verify(&stamp, &DIGEST), Ok(verified));
    let fraction = ours.token(&DIGEST, "20260102030405.678Z", Flaw::None);
    let verified = authorities(&ours).verify(&fraction, &DIGEST).unwrap();
    assert_eq!(verified.time_unix_s, TIME_UNIX_S);

    let chain = |authorities: Authorities, stamp: &[u8]| match authorities.verify(stamp, &DIGEST) {
        Err(TimestampError::Chain(_)) => {}
        other => panic!("{other:?}"),
    };
    chain(authorities(&other), &stamp);
    chain(Authorities::new(Vec::new()).unwrap(), &stamp);
    // The signer did not exist yet, and exists no more.
    for time in ["20191231235959Z", "20400101000001Z"] {
        chain(authorities(&ours), &ours.token(&DIGEST, time, Flaw::None));
    }
    // One that is for servers.
    let server = Authority::for_purpose(3, 1);
    chain(
        authorities(&server),
        &server.token(&DIGEST, TIME, Flaw::None),
    );
}

#[test]
fn each_flaw_has_its_name() {
    let ours = Authority::new(1);
    for (flaw, error) in [
        (Flaw::Signature, TimestampError::Signature),
        (Flaw::Digest, TimestampError::Attributes),
        (Flaw::Kind, TimestampError::Attributes),
        (Flaw::Certificate, TimestampError::NoSigner),
        (Flaw::Alone, TimestampError::NoSigner),
    ] {
        let stamp = ours.token(&DIGEST, TIME, flaw);
        assert_eq!(
            authorities(&ours).verify(&stamp, &DIGEST),
            Err(error),
            "{flaw:?}"
        );
    }
    let stamp = ours.token(&DIGEST, TIME, Flaw::None);
    let other = authorities(&ours).verify(&stamp, &[8; 32]);
    assert_eq!(other, Err(TimestampError::Imprint));
    for malformed in [
        &b""[..],
        b"\x30\x00",
        &stamp[1..],
        &[&stamp[..], &[0]].concat(),
    ] {
        let verified = authorities(&ours).verify(malformed, &DIGEST);
        assert_eq!(verified, Err(TimestampError::Malformed));
    }
    let long = vec![0x30; TIMESTAMP_BYTES_MAX + 1];
    assert!(matches!(token(&long), Err(TimestampError::TooLong { .. })));
    assert!(matches!(
        Authorities::new(vec![vec![1]]),
        Err(TimestampError::Root(_))
    ));
    for time in [
        "20261302030405Z",
        "20260102030405",
        "2026010203040Z",
        "20260102030405+0100",
        ".Z",
        "",
    ] {
        let stamp = ours.token(&DIGEST, time, Flaw::None);
        let verified = authorities(&ours).verify(&stamp, &DIGEST);
        assert_eq!(verified, Err(TimestampError::Malformed), "{time}");
    }
}

#[test]
fn no_flipped_byte_passes_as_another_time() {
    let ours = Authority::new(1);
    let stamp = ours.token(&DIGEST, TIME, Flaw::None);
    let good = authorities(&ours).verify(&stamp, &DIGEST);
    for at in 0..stamp.len() {
        let mut flipped = stamp.clone();
        flipped[at] ^= 1 << (at % 8);
        // What names the signer, and the list of digests, are repeated in what is signed.
        let verified = authorities(&ours).verify(&flipped, &DIGEST);
        assert!(verified.is_err() || verified == good, "{at}");
        assert!(authorities(&ours).verify(&stamp[..at], &DIGEST).is_err());
    }
}

#[test]
fn an_answer_is_granted_or_says_why_not() {
    let ours = Authority::new(1);
    let stamp = ours.token(&DIGEST, TIME, Flaw::None);
    assert_eq!(token(&ours.response(&DIGEST, TIME)), Ok(&stamp[..]));
    let refused = der(
        0x30,
        &[&der(
            0x30,
            &[&[2, 1, 2], &der(0x30, &[&der(0x0c, &[b"no"])])],
        )],
    );
    assert_eq!(token(&refused), Err(TimestampError::Refused(2)));
    let empty = der(0x30, &[&der(0x30, &[&[2, 1, 0]])]);
    assert_eq!(token(&empty), Err(TimestampError::Malformed));
}

/// `vectors/timestamp.json`: made with OpenSSL 3, whose authority got our request.
#[test]
fn openssl_reads_our_request_and_we_read_its_answers() {
    let text = include_str!("../../vectors/timestamp.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    let digest: [u8; 32] = bytes(&vectors["digest"]).try_into().unwrap();
    assert_eq!(request(&digest), bytes(&vectors["request"]));
    let answers = vectors["answers"].as_object().unwrap();
    assert_eq!(answers.len(), 2);
    for (kind, answer) in answers {
        let authorities = Authorities::new(vec![bytes(&answer["root"])]).unwrap();
        let response = bytes(&answer["response"]);
        let verified = authorities.verify(token(&response).unwrap(), &digest);
        let time = verified
            .unwrap_or_else(|error| panic!("{kind}: {error}"))
            .time_unix_s;
        assert_eq!(time, answer["time_unix_s"].as_u64().unwrap(), "{kind}");
    }
}
