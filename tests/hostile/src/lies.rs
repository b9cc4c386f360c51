//! What a host can say in place of what it should pass on. It has what it has seen, keys of its own, the key that endorses keysets, and
//! other guests on the same machine.

use crate::dice::Dice;
use crate::faults::{Fault, Planned};
use crate::site::{Site, site};
use attest::Manifest;
use ed25519_dalek::SigningKey;
use registers::{Digest48, GpuBinding, ReportData};
use settlement::{ChainId, Charge, Nano, SignedCharge, Voucher};
use wire::{
    Bundle, Endorsement, EnvelopeDigest, Evidence, Frame, FrameDecoder, FrameKind, Keyset,
    KeysetDigest, RefusalCode, SealingKey, SignedEnvelope, SignedRefusal, Subject,
    registers_digest,
};

/// What passed between proxy and guest before.
#[derive(Default)]
pub struct Memory {
    /// Frames of jobs: to the guest, and from it.
    pub jobs: Vec<(Vec<Frame>, Vec<Frame>)>,
    /// Evidence.
    pub evidence: Vec<Vec<u8>>,
}

/// A key of the host.
fn own_key() -> SigningKey {
    SigningKey::from_bytes(&[66; 32])
}

/// The frames in bytes, as many as are whole.
pub fn frames(bytes: &[u8]) -> Vec<Frame> {
    let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
    decoder.push(bytes);
    while let Ok(Some(frame)) = decoder.next_frame() {
        frames.push(frame);
    }
    frames
}

/// Their bytes.
pub fn encode(frames: &[Frame]) -> Vec<u8> {
    let encode = |frame: &Frame| Frame::encode(frame.kind, &frame.payload);
    frames.iter().flat_map(encode).collect()
}

/// Another answer to a client, or `None` where the host has nothing to lie with. `job` is the envelope that the client sent.
pub fn answer(
    fault: Fault,
    memory: &Memory,
    job: EnvelopeDigest,
    body: &[u8],
    dice: &mut Dice,
) -> Option<Vec<u8>> {
    let mut said = frames(body);
    let earlier = |dice: &mut Dice| {
        let of_another = |(up, down): &&(Vec<Frame>, Vec<Frame>)| {
            !down.is_empty() && *down != said && envelope(up) != Some(job)
        };
        let others = memory.jobs.iter().filter(of_another);
        let others: Vec<&Vec<Frame>> = others.map(|(_, down)| down).collect();
        (!others.is_empty()).then(|| dice.one(&others).clone())
    };
    match fault {
        Fault::ReplayAnswer => Some(encode(&earlier(dice)?)),
        Fault::ForgeMeter => {
            let kind = FrameKind::Data;
            let others = earlier(dice)?;
            let mut others = others.into_iter().filter(|frame| frame.kind == kind);
            let from = dice.within(0..3) as usize;
            let places = said.iter_mut().filter(|frame| frame.kind == kind);
            for frame in places.skip(from).take(1) {
                *frame = others.next()?;
            }
            Some(encode(&said))
        }
        Fault::ForgeCharge => {
            let other = earlier(dice);
            let place = said
                .iter_mut()
                .find(|frame| frame.kind == FrameKind::Charge)?;
            let signed = SignedCharge::decode(&place.payload).ok()?;
            let other = other.filter(|_| dice.percent(30)).and_then(charge_of);
            place.payload = other.unwrap_or_else(|| {
                let cost = Nano(signed.charge.cost.0 + 32_000 * dice.within(0..3));
                Charge {
                    cost,
                    ..signed.charge
                }
                .sign(&own_key())
                .encode()
            });
            Some(encode(&said))
        }
        Fault::ForgeReceipt => {
            let other = earlier(dice)?;
            let kinds = [FrameKind::Receipt, FrameKind::Charge];
            for frame in said.iter_mut().filter(|frame| kinds.contains(&frame.kind)) {
                *frame = other.iter().find(|other| other.kind == frame.kind)?.clone();
            }
            Some(encode(&said))
        }
        Fault::ForgeRefusal => {
            let code = dice.one(&[
                RefusalCode::Busy,
                RefusalCode::StaleKeyset,
                RefusalCode::Request,
            ]);
            let refusal = SignedRefusal::sign(Subject::Envelope(job), code, &own_key());
            let others = memory.jobs.iter().flat_map(|(_, down)| down);
            let mut others = others.filter(|frame| frame.kind == FrameKind::Refused);
            let other = others.next_back().filter(|_| dice.percent(50)).cloned();
            let forged = Frame {
                kind: FrameKind::Refused,
                payload: refusal.encode(),
            };
            let end = Frame {
                kind: FrameKind::End,
                payload: Vec::new(),
            };
            Some(encode(&[other.unwrap_or(forged), end]))
        }
        _ => None,
    }
}

/// Which job these frames open.
fn envelope(up: &[Frame]) -> Option<EnvelopeDigest> {
    let opens = up.iter().find(|frame| frame.kind == FrameKind::OpenJob)?;
    Some(SignedEnvelope::decode(&opens.payload).ok()?.digest())
}

fn charge_of(frames: Vec<Frame>) -> Option<Vec<u8>> {
    let charge = frames
        .into_iter()
        .find(|frame| frame.kind == FrameKind::Charge);
    charge.map(|frame| frame.payload)
}

/// Another bundle than the one that `body` is, for this nonce.
pub fn evidence(
    fault: Fault,
    memory: &Memory,
    nonce: &[u8; 32],
    body: &[u8],
    dice: &mut Dice,
) -> Option<Vec<u8>> {
    let genuine = Evidence::decode(&Bundle::decode(body).ok()?.evidence).ok()?;
    let keyset = Keyset::decode(&genuine.keyset).ok()?;
    let other = Manifest::process(Digest48([66; 48]), Digest48::of(&site().config));
    let mut own = || Keyset {
        receipt_key: own_key().verifying_key().to_bytes(),
        kem_keys: vec![SealingKey::generate(1, dice.rng()).public()],
        ..keyset.clone()
    };
    let elsewhere = |own: Keyset| {
        let registers = *other.registers();
        let keyset = Keyset {
            registers: registers_digest(&registers),
            ..own
        };
        let bound = ReportData::bind(&keyset.digest().0, nonce, GpuBinding::None);
        let quote = site().quote(&registers, &bound.0);
        Evidence::new(keyset.encode(), quote, Site::events(&other), None)
    };
    let lie = match fault {
        Fault::StaleKeyset => {
            let mut others = memory.evidence.iter();
            Evidence::decode(others.find(|bytes| **bytes != genuine.encode())?).ok()?
        }
        Fault::OtherGuest => elsewhere(own()),
        Fault::DevProfile => elsewhere(Keyset {
            profile: "dev".into(),
            ..own()
        }),
        Fault::OtherKeyset => Evidence {
            keyset: own().encode(),
            ..genuine
        },
        _ => return None,
    };
    Some(endorsed(lie))
}

fn endorsed(evidence: Evidence) -> Vec<u8> {
    let site = site();
    let digest = KeysetDigest::of(&evidence.keyset);
    let endorsement = Endorsement::sign_delegated(digest, site.delegation, &site.endorsing);
    Bundle::new(evidence.encode(), endorsement, site.collateral(), None).encode()
}

/// A voucher for all that the channel holds, which the payer did not sign.
pub fn voucher() -> Frame {
    let voucher = Voucher {
        chain: ChainId::EMBEDDED,
        channel: site().terms.address(),
        cumulative: crate::site::DEPOSIT,
        usage_root: [0; 32],
    };
    Frame {
        kind: FrameKind::Voucher,
        payload: voucher.sign(&own_key()).encode(),
    }
}

/// A client's job with a changed bit in its request, for the guest to refuse: nobody signed it.
pub fn spoilt(body: &[u8]) -> Option<Vec<u8>> {
    let (envelope, sealed) = SignedEnvelope::decode_prefix(body).ok()?;
    let mut sealed = sealed.to_vec();
    *sealed.get_mut(100)? ^= 1;
    let envelope = Frame::encode(FrameKind::OpenJob, &envelope.encode());
    let end = Frame::encode(FrameKind::End, b"");
    Some([envelope, Frame::data(&sealed), end].concat())
}

/// The frame of this kind of a job that passed before, another one than `frame`.
fn earlier(memory: &Memory, frame: &Frame) -> Option<Frame> {
    let others = memory.jobs.iter().flat_map(|(up, _)| up);
    let mut others = others.filter(|other| other.kind == frame.kind && *other != frame);
    others.next().cloned()
}

/// This job with the sealed request of another one.
pub fn with_another_request(memory: &Memory, mut job: Vec<Frame>) -> Option<Vec<Frame>> {
    let request = job.iter_mut().find(|frame| frame.kind == FrameKind::Data)?;
    *request = earlier(memory, request)?;
    Some(job)
}

/// What an edit of single frames does to the next one. `count` frames passed before.
pub fn edit(planned: &Planned, memory: &Memory, frame: Frame, count: u64) -> Option<Vec<Frame>> {
    let is_here = planned.is_at(frame.kind, count);
    match planned.fault {
        Fault::LoseFrame if is_here => Some(Vec::new()),
        Fault::DoubleFrame if is_here => Some(vec![frame.clone(), frame]),
        Fault::SwapEnvelope if frame.kind == FrameKind::OpenJob => {
            Some(vec![earlier(memory, &frame)?])
        }
        Fault::ForgeVoucher if frame.kind == FrameKind::Voucher => Some(Vec::new()),
        Fault::ForgeVoucher if frame.kind == FrameKind::OpenJob => Some(vec![voucher(), frame]),
        _ => None,
    }
}
