//! What a verified worker vouches for as an Entity Attestation Token (RFC 9711) for readers of other makes: an unprotected claims set in
//! CBOR (UCCS, RFC 9781, tag 601) or in JSON (feature `client`).
//!
//! No key stands behind it, so it is for whoever trusts the program that wrote it and the way that it came. It is written and never read.

use crate::AttestedWorker;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use minicbor::Encoder;
use minicbor::data::Tag;
use serde_json::{Map, Value};

/// Its media types (RFC 9782), with the profile.
pub const EAT_CBOR: &str =
    "application/eat-ucs+cbor; eat_profile=\"urn:chrysalis:attestation-result:v1\"";
/// The same in JSON.
pub const EAT_JSON: &str =
    "application/eat-ucs+json; eat_profile=\"urn:chrysalis:attestation-result:v1\"";
const PROFILE: &str = "urn:chrysalis:attestation-result:v1";
const TAG_UCCS: u64 = 601;

/// What a verified worker vouches for, in either encoding.
pub struct Eat(Vec<(Claim, Item)>);

/// A claim's name in JSON, and its key in CBOR (IANA, "CBOR Web Token Claims"); claims of our own have names in both.
struct Claim(&'static str, Option<i64>);

const ISSUED_AT: Claim = Claim("iat", Some(6));
const NONCE: Claim = Claim("eat_nonce", Some(10));
const UEID: Claim = Claim("ueid", Some(256));
const DEBUG_STATUS: Claim = Claim("dbgstat", Some(263));
const EAT_PROFILE: Claim = Claim("eat_profile", Some(265));
const SUBMODULES: Claim = Claim("submods", Some(266));
const MEASUREMENT_RESULTS: Claim = Claim("measres", Some(274));

enum Item {
    Text(String),
    Number(u64),
    Bytes(Vec<u8>),
    /// A value that has a name in JSON and a number in CBOR.
    Named(&'static str, u64),
    Array(Vec<Item>),
    Claims(Vec<(Claim, Item)>),
}

impl Eat {
    /// `nonce` is the challenge that the evidence answered, `manifest` the digest of the manifest that its registers are, and
    /// `verified_unix_s` when it was verified, by the clock of whoever did.
    pub fn of(
        worker: &AttestedWorker,
        nonce: &[u8; 32],
        manifest: &[u8; 32],
        verified_unix_s: u64,
    ) -> Eat {
        let peer = worker.peer();
        let mut claims = vec![
            (ISSUED_AT, Item::Number(verified_unix_s)),
            (NONCE, Item::Bytes(nonce.to_vec())),
        ];
        // A UEID of type RAND (1) is 16, 24 or 32 bytes (RFC 9711, 4.2.1). Intel's PPID has 16.
        if peer.ppid.len() == 16 {
            claims.push((UEID, Item::Bytes([&[1], &peer.ppid[..]].concat())));
        }
        let registers = ["MRTD", "RTMR0", "RTMR1", "RTMR2", "RTMR3"];
        claims.extend([
            // Every policy refuses a trust domain that can be debugged, and its attributes stay as they are for its life.
            (DEBUG_STATUS, Item::Named("disabled-since-boot", 2)),
            (EAT_PROFILE, text(PROFILE)),
        ]);
        if let Some(gpu) = worker.gpu() {
            let evidence = &gpu.evidence;
            let module = vec![
                (
                    MEASUREMENT_RESULTS,
                    results("NVIDIA RIM", &["driver", "VBIOS"]),
                ),
                (own("vbios"), text(&evidence.fields.vbios_version)),
                (own("device"), text(evidence.device_key.to_string())),
                (own("driver"), text(&evidence.fields.driver_version)),
            ];
            claims.push((
                SUBMODULES,
                Item::Claims(vec![(own("gpu"), Item::Claims(module))]),
            ));
        }
        claims.push((MEASUREMENT_RESULTS, results("Intel TDX", &registers)));
        claims.push((own("chrysalis"), ours(worker, manifest)));
        Eat(claims)
    }

    /// The tagged claims set.
    pub fn to_cbor(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut e = Encoder::new(&mut bytes);
        let written = e
            .tag(Tag::new(TAG_UCCS))
            .and_then(|e| write_claims(e, &self.0));
        written.expect("a Vec takes every write");
        bytes
    }

    /// The JSON object.
    pub fn to_json(&self) -> Value {
        json_claims(&self.0)
    }
}

/// What no registered claim has a place for.
fn ours(worker: &AttestedWorker, manifest: &[u8; 32]) -> Item {
    let (peer, keyset) = (worker.peer(), worker.keyset());
    let models = keyset.models.iter().map(|offer| {
        let (id, root) = (text(&offer.id), text(offer.root.to_string()));
        Item::Claims(vec![(own("id"), id), (own("root"), root)])
    });
    let registers = [peer.registers.mrtd].into_iter().chain(peer.registers.rtmr);
    let registers = registers.map(|digest| text(digest.to_string()));
    let advisories = peer.advisories.iter().map(text);
    // In the order of deterministic encoding, as all that follows: shorter names first.
    Item::Claims(vec![
        (own("root"), text(peer.root.to_string())),
        (own("chain"), text(keyset.chain.to_string())),
        (own("payee"), text(keyset.payee.to_string())),
        (own("keyset"), text(worker.keyset_digest().to_string())),
        (own("models"), Item::Array(models.collect())),
        (own("profile"), text(&keyset.profile)),
        (own("manifest"), text(hex::encode(manifest))),
        (own("registers"), Item::Array(registers.collect())),
        (own("advisories"), Item::Array(advisories.collect())),
        (own("lifetime_s"), Item::Number(keyset.lifetime_s.into())),
        (own("tcb_status"), text(peer.tcb_status.to_string())),
        (own("tcb_level_unix_s"), Item::Number(peer.tcb_level_unix_s)),
        (
            own("tcb_evaluation_number"),
            Item::Number(peer.tcb_evaluation_number.into()),
        ),
    ])
}

fn own(name: &'static str) -> Claim {
    Claim(name, None)
}

fn text(words: impl Into<String>) -> Item {
    Item::Text(words.into())
}

/// All of these were compared and are what they should be (RFC 9711, 4.2.17); a worker of which one is not has no token.
fn results(system: &str, names: &[&str]) -> Item {
    let one = |name: &&str| Item::Array(vec![text(*name), Item::Named("success", 1)]);
    let all = names.iter().map(one).collect();
    Item::Array(vec![Item::Array(vec![text(system), Item::Array(all)])])
}

type Written<T> = Result<T, minicbor::encode::Error<std::convert::Infallible>>;

fn write_claims<'a, 'b>(
    e: &'a mut Encoder<&'b mut Vec<u8>>,
    claims: &[(Claim, Item)],
) -> Written<&'a mut Encoder<&'b mut Vec<u8>>> {
    e.map(claims.len() as u64)?;
    for (Claim(name, key), item) in claims {
        match key {
            Some(key) => e.i64(*key)?,
            None => e.str(name)?,
        };
        write(e, item)?;
    }
    Ok(e)
}

fn write(e: &mut Encoder<&mut Vec<u8>>, item: &Item) -> Written<()> {
    match item {
        Item::Text(words) => e.str(words)?,
        Item::Number(number) | Item::Named(_, number) => e.u64(*number)?,
        Item::Bytes(bytes) => e.bytes(bytes)?,
        Item::Array(items) => {
            e.array(items.len() as u64)?;
            return items.iter().try_for_each(|item| write(e, item));
        }
        Item::Claims(claims) => write_claims(e, claims)?,
    }
    .ok()
}

fn json_claims(claims: &[(Claim, Item)]) -> Value {
    let fields = claims
        .iter()
        .map(|(Claim(name, _), item)| ((*name).to_owned(), json(item)));
    Value::Object(Map::from_iter(fields))
}

fn json(item: &Item) -> Value {
    match item {
        Item::Text(words) => words.as_str().into(),
        Item::Number(number) => (*number).into(),
        Item::Bytes(bytes) => BASE64_URL_SAFE_NO_PAD.encode(bytes).into(),
        Item::Named(name, _) => (*name).into(),
        Item::Array(items) => items.iter().map(json).collect(),
        Item::Claims(claims) => json_claims(claims),
    }
}
