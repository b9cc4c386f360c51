//! `vectors/`: one job with fixed keys, every byte of it, and inputs that are refused with the reason. The test makes them
//! again and compares. Another implementation, `vectors/second.py`, is held against them and against this one.

use crate::common::{Guest, envelope, guest, rng};
use crate::receipt::{charge, claims, core, payer};
use ed25519_dalek::SigningKey;
use hpke::{Kem as _, Serializable};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use settlement::{Charge, Nano, SignedCharge};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use wire::*;

const USAGE: Usage = Usage {
    prompt: 3,
    cached: 0,
    completion: 3,
};

/// What a guest sends back for one job.
struct Answer {
    records: Vec<RecordBytes>,
    sealed: Vec<u8>,
    frames: Digest,
    events: u32,
    receipt: Receipt,
    sealed_receipt: Vec<u8>,
}

fn sealing_key() -> SealingKey {
    SealingKey::generate(1, &mut rng())
}

fn request(guest: &Guest) -> Request {
    let mut chat = ChatRequest::new(vec![1, 70_000, 5], 16);
    chat.seed = Some(1);
    Request {
        model_root: guest.keyset.models[0].root,
        parent: None,
        ask: Ask::Chat(chat),
    }
}

/// The guest's side: opens the job and answers with the tokens 7, 70,000 and 2.
fn answer(guest: &Guest, signed: &SignedEnvelope, sealed: &[u8]) -> Answer {
    let digest = signed.digest();
    let mut random = ChaCha20Rng::from_seed([6; 32]);
    let opened = open_job(&sealing_key(), sealed, digest, &mut random).unwrap();
    let body = &opened.request.body;
    Request::decode(Endpoint::Chat, body).unwrap();
    let mut writer = AnswerWriter::new(Endpoint::Chat, digest);
    let mut records = vec![
        writer.ids(&[7, 70_000], None),
        writer.empty(),
        writer.ids(&[2], Some(Finish::Stop)),
    ];
    let (frames, events) = (writer.chain(), writer.chained());
    let cap = signed.unverified().cap();
    let core = ReceiptCore {
        job: cap.cap.job,
        envelope: digest,
        request: opened.commitments.request(body),
        response: opened.commitments.response(frames),
        events,
        frames,
        usage: USAGE,
        cost: Nano(100),
        ..core(guest)
    };
    let charge = Charge {
        cap,
        cost: Nano(100),
        cumulative: Nano(100),
        ..charge(guest)
    };
    let receipt = Receipt::sign(core, charge, &guest.receipt);
    records.extend(writer.receipt(receipt.encode()));
    let mut sealer = opened.sealer;
    let mut bytes: Vec<u8> = { records.iter() }.flat_map(|r| sealer.seal(r)).collect();
    bytes.extend(sealer.finish());
    Answer {
        records,
        sealed: bytes,
        frames,
        events,
        sealed_receipt: opened.receipt_key.seal(receipt.encode()).unwrap(),
        receipt,
    }
}

fn sealed_job(guest: &Guest) -> SealedJob {
    let worker = guest.attest(&guest.bundle(&crate::common::NONCE)).unwrap();
    let request = request(guest).job().unwrap();
    let mut random = ChaCha20Rng::from_seed([5; 32]);
    seal_job(&worker, envelope(&payer()), &request, &payer(), &mut random).unwrap()
}

fn job(guest: &Guest) -> Value {
    let sealed = sealed_job(guest);
    let digest = sealed.envelope.digest();
    let answer = answer(guest, &sealed.envelope, &sealed.request);
    let body = request(guest).encode().unwrap();
    // The vectors are what a client accepts.
    let claims = RequestClaims {
        envelope: digest,
        request: sealed.commitments.request(&body),
        answer: AnswerClaims::Whole {
            response: sealed.commitments.response(answer.frames),
            frames: answer.frames,
            events: answer.events,
            usage: USAGE,
        },
        ..claims()
    };
    answer.receipt.verify(&guest.keyset, &claims).unwrap();
    let mut ikm = [0; 32];
    rng().fill_bytes(&mut ikm);
    let (secret, public) = hpke::kem::XWing::derive_keypair(&ikm);
    assert_eq!(public.to_bytes().to_vec(), sealing_key().public().public);
    let refusal = SignedRefusal::sign(
        Subject::Envelope(digest),
        RefusalCode::StaleKeyset,
        &guest.receipt,
    );
    let to_guest = [
        Frame::encode(FrameKind::OpenJob, &sealed.envelope.encode()),
        Frame::data(&sealed.request),
        Frame::encode(FrameKind::End, b""),
    ];
    let charge = answer.receipt.charge();
    let from_guest = [
        Frame::data(&answer.sealed),
        Frame::encode(FrameKind::Receipt, &answer.sealed_receipt),
        Frame::encode(FrameKind::Charge, &charge.encode()),
        Frame::encode(FrameKind::End, b""),
    ];
    let channel = sealed.envelope.unverified().channel();
    let channel = [&channel.workchain.to_be_bytes()[..], &channel.hash].concat();
    json!({
        "kem_seed": hex::encode(secret.to_bytes()),
        "keyset": hex::encode(guest.keyset.encode()),
        "keyset_digest": guest.keyset.digest().to_string(),
        "payer_seed": hex::encode(payer().to_bytes()),
        "channel": hex::encode(channel),
        "request": hex::encode(&body[..]),
        "envelope": hex::encode(sealed.envelope.encode()),
        "envelope_digest": digest.to_string(),
        "sealed_request": hex::encode(&sealed.request),
        "records": answer.records.iter().map(hex::encode).collect::<Vec<_>>(),
        "sealed_answer": hex::encode(&answer.sealed),
        "frames": answer.frames.to_string(),
        "receipt": hex::encode(answer.receipt.encode()),
        "receipt_digest": answer.receipt.digest().to_string(),
        "core_digest": core_digest(answer.receipt.unverified()).to_string(),
        "sealed_receipt": hex::encode(&answer.sealed_receipt),
        "charge": hex::encode(charge.encode()),
        "log": logged(charge),
        "charge_cell": hex::encode(charge.charge.cell_hash()),
        "cancel": hex::encode(sealed.cancel.cancel(digest).encode()),
        "refusal": hex::encode(refusal.encode()),
        "stream_to_guest": hex::encode(to_guest.concat()),
        "stream_from_guest": hex::encode(from_guest.concat()),
    })
}

fn field(job: &Value, name: &str) -> Vec<u8> {
    hex::decode(job[name].as_str().expect("a string")).expect("hexadecimal")
}

/// The charge as the third entry of five in a tree of the provider's log.
fn logged(charge: &SignedCharge) -> Value {
    let endorsing = SigningKey::from_bytes(&[9; 32]);
    let other = |n: u8| LogLeaf([n; 32]);
    let head = LogLeaf::head(7, &[0; 32]);
    let leaves = [head, other(1), LogLeaf::of(charge), other(3), other(4)];
    let of = LogTree {
        payee: charge.charge.stake,
        tree: 7,
        size: leaves.len() as u64,
        closed_unix_s: 1_800_000_000,
    };
    let root = log_root(&leaves);
    let receipt = LogReceipt {
        of,
        index: 2,
        path: log_path(&leaves, 2).unwrap(),
        signature: of.sign(&root, &endorsing),
        timestamp: None,
    };
    let key = endorsing.verifying_key();
    assert_eq!(
        receipt
            .verify(charge, &charge.charge.stake, key.as_bytes())
            .unwrap()
            .root(),
        &root
    );
    json!({
        "endorsing_key": hex::encode(key.as_bytes()),
        "head": hex::encode(head.0),
        "leaf": hex::encode(leaves[2].0),
        "root": hex::encode(root),
        "receipt": hex::encode(receipt.encode()),
    })
}

/// A wrapper around a few bytes in the place of a bundle, with the verdict on this guest beside it.
fn attestation(guest: &Guest) -> Value {
    let worker = guest.attest(&guest.bundle(&crate::common::NONCE)).unwrap();
    let eat = Eat::of(
        &worker,
        &crate::common::NONCE,
        &[0x22; 32],
        crate::common::NOW,
    );
    let wrapped = |result: Vec<u8>| Cmw {
        bundle: b"a bundle".to_vec(),
        nonce: crate::common::NONCE,
        result: Some(result),
    };
    let (cbor, text) = (
        wrapped(eat.to_cbor()),
        wrapped(eat.to_json().to_string().into()),
    );
    assert_eq!(Cmw::decode(&cbor.encode()), Ok(cbor.clone()));
    assert_eq!(Cmw::decode(text.to_json().as_bytes()), Ok(text.clone()));
    json!({
        "nonce": hex::encode(cbor.nonce),
        "bundle": hex::encode(&cbor.bundle),
        "eat_cbor": hex::encode(eat.to_cbor()),
        "eat_json": eat.to_json(),
        "cmw_cbor": hex::encode(cbor.encode()),
        "cmw_json": text.to_json(),
    })
}

/// What a decoder says of bytes of one format; `None` where it takes them.
fn verdict(format: &str, bytes: &[u8], digest: EnvelopeDigest) -> Option<String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    match format {
        "keyset" => Keyset::decode(bytes).err().map(|e| text(&e)),
        "envelope" => SignedEnvelope::decode(bytes).err().map(|e| text(&e)),
        "request" => Request::decode(Endpoint::Chat, bytes)
            .err()
            .map(|e| text(&e)),
        "sealed_request" => open_job(&sealing_key(), bytes, digest, &mut rng())
            .err()
            .map(|e| text(&e)),
        "record" => Record::decode(bytes).err().map(|e| text(&e)),
        "receipt" => Receipt::decode(bytes).err().map(|e| text(&e)),
        "charge" => SignedCharge::decode(bytes).err().map(|e| text(&e)),
        "log_receipt" => LogReceipt::decode(bytes).err().map(|e| text(&e)),
        "cancel" => Cancel::decode(bytes).err().map(|e| text(&e)),
        "cmw_cbor" | "cmw_json" => Cmw::decode(bytes).err().map(|e| text(&e)),
        "refusal" => SignedRefusal::decode(bytes).err().map(|e| text(&e)),
        "stream" => {
            let mut decoder = FrameDecoder::default();
            decoder.push(bytes);
            loop {
                match decoder.next_frame() {
                    Ok(Some(_)) => (),
                    Ok(None) => return decoder.finish().err().map(|e| text(&e)),
                    Err(error) => return Some(text(&error)),
                }
            }
        }
        other => panic!("{other} is no format"),
    }
}

fn refused(job: &Value, attestation: &Value) -> Value {
    let digest = field(job, "envelope_digest").try_into().expect("32 bytes");
    let mut cases = Vec::new();
    let mut case = |format: &str, why: &str, bytes: Vec<u8>| {
        let error = verdict(format, &bytes, EnvelopeDigest(digest));
        let error = error.unwrap_or_else(|| panic!("{format} is taken: {why}"));
        cases.push(json!({
            "format": format, "why": why, "bytes": hex::encode(bytes), "error": error,
        }));
    };
    let record = hex::decode(job["records"][0].as_str().unwrap()).unwrap();
    let good = |format: &str| match format {
        "record" => record.clone(),
        "log_receipt" => field(&job["log"], "receipt"),
        "stream" => field(job, "stream_to_guest"),
        "cmw_cbor" => field(attestation, format),
        "cmw_json" => attestation[format].as_str().unwrap().into(),
        _ => field(job, format),
    };
    for format in [
        "keyset",
        "envelope",
        "request",
        "sealed_request",
        "record",
        "receipt",
        "charge",
        "log_receipt",
        "cancel",
        "refusal",
        "cmw_cbor",
        "cmw_json",
        "stream",
    ] {
        let bytes = good(format);
        assert_eq!(verdict(format, &bytes, EnvelopeDigest(digest)), None);
        case(
            format,
            "the last byte is missing",
            bytes[..bytes.len() - 1].to_vec(),
        );
        if format != "stream" {
            case(format, "one byte too many", [&bytes[..], &[0]].concat());
        }
    }
    let with = |format: &str, at: usize, byte: u8| {
        let mut bytes = good(format);
        bytes[at] = byte;
        bytes
    };
    // A map of 17 fields begins with b1, the key 0 and the version.
    case("keyset", "version 2", with("keyset", 2, 2));
    case("envelope", "version 2", with("envelope", 4, 2));
    let mut long = with("keyset", 2, 0x18);
    long.insert(3, 1);
    case("keyset", "the version in two bytes instead of one", long);
    case("request", "version 2", with("request", 0, 2));
    case("request", "a reserved byte", with("request", 200, 1));
    case("request", "an unknown flag", with("request", 8, 9));
    case(
        "request",
        "a temperature below zero",
        with("request", 47, 0xff),
    );
    case("record", "kind 9", with("record", 0, 9));
    case("record", "121 slots", with("record", 4, 121));
    case("record", "padding that is not zero", with("record", 511, 1));
    case(
        "sealed_request",
        "another key's id",
        with("sealed_request", 0, 2),
    );
    case(
        "sealed_request",
        "another suite",
        with("sealed_request", 6, 1),
    );
    case(
        "sealed_request",
        "a changed encapsulated key",
        with("sealed_request", 20, 0),
    );
    case("charge", "another tag", with("charge", 0, 0));
    // Tag, array of four, the protected header's length in two bytes, a map of three, the algorithm.
    case(
        "log_receipt",
        "an array of three",
        with("log_receipt", 1, 0x83),
    );
    case(
        "log_receipt",
        "another algorithm",
        with("log_receipt", 6, 0x26),
    );
    case("cmw_cbor", "a map of two", with("cmw_cbor", 0, 0xa2));
    case("cmw_json", "a name twice", good_twice(&good("cmw_json")));
    case("stream", "kind 99", vec![99, 0, 0, 0, 0]);
    case("stream", "16,385 bytes", vec![3, 0, 0, 0x40, 1]);
    Value::Array(cases)
}

/// A JSON object with its first entry once more at its end.
fn good_twice(object: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(object).unwrap();
    let first = text[1..].split_once(',').unwrap().0;
    format!("{},{first}}}", &text[..text.len() - 1]).into()
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

#[test]
fn the_vectors_are_made_again_byte_for_byte() {
    let (job, attestation) = (job(&guest()), attestation(&guest()));
    let made = [
        ("refused.json", refused(&job, &attestation)),
        ("job.json", job),
        ("attestation.json", attestation),
    ];
    let mut differ = Vec::new();
    for (name, value) in made {
        let text = serde_json::to_string_pretty(&value).unwrap() + "\n";
        let committed = std::fs::read_to_string(vectors().join(name)).unwrap_or_default();
        if text != committed {
            let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
            std::fs::write(&new, text).unwrap();
            differ.push(new);
        }
    }
    assert!(
        differ.is_empty(),
        "vectors/ differs from what is made today: {differ:?}"
    );
}

/// The other implementation opens the vectors; then it seals a job of its own, which is answered here, and judges the answer,
/// and an answer with one bit changed.
#[test]
#[ignore = "makes a Python environment with packages from PyPI"]
fn a_second_implementation_seals_a_job_and_verifies_its_receipt() {
    let python = environment();
    let script = |arguments: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(vectors().join("second.py")).args(arguments);
        command.arg(vectors().join("job.json"));
        command
    };
    let checked = script(&["check"]).output().unwrap();
    let text = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{checked:?}");
    assert!(text.contains("receipt verified"), "{text}");
    for spoil in [false, true] {
        let mut talk = script(&["talk"]);
        let talk = talk.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut talk = talk.spawn().unwrap();
        let mut lines = BufReader::new(talk.stdout.take().unwrap()).lines();
        let sealed: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let (envelope, request) = (field(&sealed, "envelope"), field(&sealed, "sealed_request"));
        let signed = SignedEnvelope::decode(&envelope).unwrap();
        signed
            .verify(OpenedJob::encapsulated_key(&request).unwrap())
            .unwrap();
        assert_eq!(signed.unverified().sealed_bytes as usize, request.len());
        let answer = answer(&guest(), &signed, &request);
        let mut sealed_receipt = answer.sealed_receipt;
        sealed_receipt[100] ^= u8::from(spoil);
        let reply = json!({
            "sealed_answer": hex::encode(answer.sealed),
            "sealed_receipt": hex::encode(sealed_receipt),
        });
        let mut stdin = talk.stdin.take().unwrap();
        writeln!(stdin, "{reply}").unwrap();
        drop(stdin);
        let verdict = lines.next().unwrap().unwrap();
        assert_eq!(verdict.starts_with("receipt verified"), !spoil, "{verdict}");
        assert_eq!(talk.wait().unwrap().success(), !spoil);
    }
}

fn environment() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("second");
    let run = |program: &Path, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).status();
        assert!(
            status.is_ok_and(|s| s.success()),
            "{program:?} {arguments:?}"
        );
    };
    let target = home.to_str().expect("a path in UTF-8");
    run(Path::new("python3"), &["-m", "venv", target]);
    let python = home.join("bin/python");
    run(
        &python,
        &["-m", "pip", "install", "--quiet", "cryptography==50.0.2"],
    );
    python
}
