//! The receipt: what a guest signs about one job (COSE_Sign1 over deterministic CBOR, Ed25519).
//!
//! Its payload is the core, which says what was done, and the charge, a TL-B cell that names the core by hash and that
//! the TVM can judge alone (SECURITY.md 20). The core of each receipt names the core before it: a gap or a fork in the
//! sequence of one receipt key shows.
//!
//! It proves what attested code said. It does not prove wall time, place, or that no attestation key was extracted.

use crate::cbor::{self, Malformed};
use crate::limits::{NAME_BYTES_MAX, RECEIPT_BYTES_MAX};
use crate::{
    CoreDigest, Digest, Endpoint, EnvelopeDigest, Keyset, KeysetDigest, Prices, ReceiptDigest,
    Usage,
};
use coset::{CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable, iana};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use minicbor::{Decode, Encode};
use settlement::{Address, ChainId, Charge, Nano, SignedCap, SignedCharge, VerifiedCharge};

const WHAT: &str = "receipt";
const CONTENT_TYPE: &str = "application/vnd.chrysalis.receipt.v1+cbor";
const AAD: &[u8] = b"chrysalis/receipt/v1";

/// Version 1 of what a receipt says. A new field means a new version.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ReceiptCore {
    /// Always 1.
    #[n(0)]
    pub version: u64,
    /// Counts the receipts of one receipt key, from 0.
    #[n(1)]
    pub sequence: u64,
    /// [`core_digest`] of the receipt before, zeros for the first.
    #[n(2)]
    pub previous: CoreDigest,
    /// The keyset whose receipt key signs.
    #[n(3)]
    pub keyset: KeysetDigest,
    /// The registers under which the keys were made.
    #[n(4)]
    pub registers: Digest,
    /// The attested GPUs that took part.
    #[n(5)]
    pub gpus: Vec<Digest>,
    /// The program that answered: name and version.
    #[n(6)]
    pub engine: String,
    /// The job's id, from the envelope.
    #[n(7)]
    #[cbor(with = "minicbor::bytes")]
    pub job: [u8; 16],
    /// The job that this one retries.
    #[n(8)]
    #[cbor(with = "minicbor::bytes")]
    pub parent: Option<[u8; 16]>,
    /// Digest of the envelope.
    #[n(9)]
    pub envelope: EnvelopeDigest,
    /// What was asked for.
    #[n(10)]
    pub endpoint: Endpoint,
    /// The model's name.
    #[n(11)]
    pub model: String,
    /// The model's root, as the keyset offers it.
    #[n(12)]
    pub model_root: Digest,
    /// SHA-256 of the tokenizer.
    #[n(13)]
    pub tokenizer: Digest,
    /// Numeric format of the weights.
    #[n(14)]
    pub quantisation: String,
    /// Salted commitment to the request's body, which holds every parameter.
    #[n(15)]
    pub request: Digest,
    /// Salted commitment to the answer.
    #[n(16)]
    pub response: Digest,
    /// Events in the answer.
    #[n(17)]
    pub events: u32,
    /// The last link of the chain over the answer's events; the `usageRoot` of the voucher that pays.
    #[n(18)]
    pub frames: Digest,
    /// Why the answer ended.
    #[n(19)]
    pub finish: Finish,
    /// Tokens used.
    #[n(20)]
    pub usage: Usage,
    /// The prices that apply, per million tokens.
    #[n(21)]
    pub prices: Prices,
    /// What the job costs.
    #[n(22)]
    #[cbor(with = "crate::cbor::nano")]
    pub cost: Nano,
    /// The most the envelope allowed.
    #[n(23)]
    #[cbor(with = "crate::cbor::nano")]
    pub cost_max: Nano,
    /// The chain that settles.
    #[n(24)]
    #[cbor(with = "crate::cbor::chain")]
    pub chain: ChainId,
    /// The channel that pays.
    #[n(25)]
    #[cbor(with = "crate::cbor::address")]
    pub channel: Address,
    /// The highest cumulative amount of a voucher that the guest has seen on this channel.
    #[n(26)]
    #[cbor(with = "crate::cbor::nano")]
    pub voucher_high: Nano,
    /// Durations by the guest's monotonic clock, which its host may slow.
    #[n(27)]
    pub timings: Timings,
    /// Unix seconds by the guest's wall clock: a claim, since the host owns that clock.
    #[n(28)]
    pub claimed_at_unix_s: u64,
    /// The service class.
    #[n(29)]
    pub class: String,
    /// The sampling seed; absent where nothing was sampled.
    #[n(30)]
    pub seed: Option<u64>,
    /// Where the same job gives the same bits, as the keyset offers it.
    #[n(31)]
    pub determinism: String,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Finish {
    /// The model ended it, or there was nothing to generate.
    #[n(0)]
    Stop,
    /// The token limit ended it.
    #[n(1)]
    Length,
    /// The deadline ended it.
    #[n(2)]
    Deadline,
    /// Its client cancelled it.
    #[n(3)]
    Cancelled,
    /// The proxy did not take the answer any more.
    #[n(4)]
    Stalled,
}

/// Durations in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Timings {
    /// From the first byte to the start of the computation.
    #[n(0)]
    pub queue_ms: u32,
    /// From the start to the first token.
    #[n(1)]
    pub first_token_ms: u32,
    /// From the start to the end.
    #[n(2)]
    pub total_ms: u32,
}

#[derive(Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Payload {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    core: Vec<u8>,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    charge: Vec<u8>,
}

/// A receipt as it travels, decoded; who signed it is not known yet.
#[derive(Debug, Clone)]
pub struct Receipt {
    bytes: Vec<u8>,
    sign1: CoseSign1,
    core: ReceiptCore,
    charge: SignedCharge,
}

/// A receipt that its keyset's key signed and that answers one's own request. Only [`Receipt::verify`] makes it.
#[derive(Debug, Clone)]
pub struct VerifiedReceipt {
    core: ReceiptCore,
    charge: VerifiedCharge,
    digest: ReceiptDigest,
}

/// What the client knows of its own job, to hold the receipt against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestClaims {
    /// Digest of the envelope it signed.
    pub envelope: EnvelopeDigest,
    /// The cap it signed: channel, job, and the most it allowed.
    pub cap: SignedCap,
    /// The key it signed with, which the channel's terms name.
    pub payer_key: [u8; 32],
    /// Its own salted commitment to the request.
    pub request: Digest,
    /// What it received.
    pub answer: AnswerClaims,
}

/// What arrived of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerClaims {
    /// All of it.
    Whole {
        /// The client's own salted commitment to it.
        response: Digest,
        /// The chain over its events.
        frames: Digest,
        /// How many events it has.
        events: u32,
        /// Tokens as the client counted them itself.
        usage: Usage,
    },
    /// Its end is missing, so that the client cannot hold the receipt against the answer, only against its request.
    Cut {
        /// The most it can have used: exactly these prompt tokens, and at most these completion tokens.
        most: Usage,
    },
}

/// Why a receipt is refused. The guest is at fault, or the proxy that put the receipt in its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum ReceiptRefused {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the receipt's signature is not that of the attested receipt key")]
    Signature,
    #[error("the charge is refused: {0}")]
    Charge(String),
    #[error("the receipt's {0} differs from what the client knows")]
    Field(&'static str),
    #[error("the receipt counts {claimed:?}, the client counts {counted:?}")]
    Usage { claimed: Usage, counted: Usage },
    #[error(
        "the receipt asks {claimed} nanoTON, its usage at the attested prices costs {computed}"
    )]
    Cost { claimed: Nano, computed: Nano },
    #[error("the receipt asks {cost} nanoTON, the envelope allowed {max}")]
    CostMax { cost: Nano, max: Nano },
}

/// The digest of a core's encoding: what the charge and the next receipt name.
pub fn core_digest(core: &ReceiptCore) -> CoreDigest {
    CoreDigest::of(&cbor::to_vec(core))
}

impl Receipt {
    /// Signs a core and the charge that belongs to it: `charge.receipt_hash` is filled in here.
    pub fn sign(core: ReceiptCore, mut charge: Charge, receipt_key: &SigningKey) -> Receipt {
        charge.receipt_hash = core_digest(&core).0;
        let charge = charge.sign(receipt_key);
        let payload = Payload {
            core: cbor::to_vec(&core),
            charge: charge.encode(),
        };
        let protected = HeaderBuilder::new()
            .algorithm(iana::Algorithm::EdDSA)
            .content_type(CONTENT_TYPE.to_owned())
            .build();
        let sign1 = CoseSign1Builder::new()
            .protected(protected)
            .payload(cbor::to_vec(&payload))
            .create_signature(AAD, |message| receipt_key.sign(message).to_bytes().to_vec())
            .build();
        let bytes = sign1
            .clone()
            .to_tagged_vec()
            .expect("a COSE_Sign1 we built has an encoding");
        Receipt {
            bytes,
            sign1,
            core,
            charge,
        }
    }

    /// The bytes that travel: a tagged COSE_Sign1.
    pub fn encode(&self) -> &[u8] {
        &self.bytes
    }

    /// The receipt's name.
    pub fn digest(&self) -> ReceiptDigest {
        ReceiptDigest::of(&self.bytes)
    }

    /// The charge as it travels in the clear, too.
    pub fn charge(&self) -> &SignedCharge {
        &self.charge
    }

    /// Decodes a receipt; the signature is not checked here.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptRefused> {
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(Malformed::TooLong {
                what: WHAT,
                got: bytes.len(),
                max: RECEIPT_BYTES_MAX,
            }
            .into());
        }
        let sign1 = CoseSign1::from_tagged_slice(bytes)
            .map_err(|_| Malformed::NotDecodable { what: WHAT })?;
        // The protected header keeps the bytes it came in; building it anew shows whether they are the canonical ones.
        let mut canonical = sign1.clone();
        canonical.protected.original_data = None;
        match canonical.to_tagged_vec() {
            Ok(again) if again == bytes => {}
            _ => return Err(Malformed::NotCanonical { what: WHAT }.into()),
        }
        let payload = sign1.payload.as_deref().unwrap_or_default();
        let payload: Payload = cbor::from_slice(WHAT, payload, RECEIPT_BYTES_MAX)?;
        let core: ReceiptCore = cbor::from_slice("receipt core", &payload.core, RECEIPT_BYTES_MAX)?;
        core.check()?;
        let charge = SignedCharge::decode(&payload.charge)
            .map_err(|e| ReceiptRefused::Charge(e.to_string()))?;
        Ok(Receipt {
            bytes: bytes.to_vec(),
            sign1,
            core,
            charge,
        })
    }

    /// What it says, unverified.
    pub fn unverified(&self) -> &ReceiptCore {
        &self.core
    }

    /// Checks the receipt against the attested keyset and against what the client knows of its own job.
    pub fn verify(
        &self,
        keyset: &Keyset,
        claims: &RequestClaims,
    ) -> Result<VerifiedReceipt, ReceiptRefused> {
        self.verify_signature(&keyset.receipt_key)?;
        let charge = self
            .charge
            .verify(&keyset.receipt_key, &claims.payer_key)
            .map_err(|e| ReceiptRefused::Charge(e.to_string()))?;
        self.core.verify_job(keyset, claims)?;
        self.core.verify_charge(keyset, claims, &charge)?;
        Ok(VerifiedReceipt {
            core: self.core.clone(),
            charge,
            digest: self.digest(),
        })
    }

    fn verify_signature(&self, receipt_key: &[u8; 32]) -> Result<(), ReceiptRefused> {
        let key = VerifyingKey::from_bytes(receipt_key).map_err(|_| ReceiptRefused::Signature)?;
        let header = &self.sign1.protected.header;
        if header.alg != Some(coset::Algorithm::Assigned(iana::Algorithm::EdDSA)) {
            return Err(ReceiptRefused::Signature);
        }
        self.sign1
            .verify_signature(AAD, |signature, message| {
                Signature::from_slice(signature)
                    .and_then(|signature| key.verify_strict(message, &signature))
            })
            .map_err(|_| ReceiptRefused::Signature)
    }
}

impl ReceiptCore {
    fn check(&self) -> Result<(), Malformed> {
        let names = [
            ("engine", &self.engine),
            ("model", &self.model),
            ("quantisation", &self.quantisation),
            ("class", &self.class),
            ("determinism", &self.determinism),
        ];
        let within = |(field, name): (&'static str, &String)| (field, name.len() <= NAME_BYTES_MAX);
        cbor::check(WHAT, self.version, &names.map(within))
    }

    fn verify_job(&self, keyset: &Keyset, claims: &RequestClaims) -> Result<(), ReceiptRefused> {
        let offer = keyset
            .model(&self.model)
            .ok_or(ReceiptRefused::Field("model"))?;
        let cap = &claims.cap.cap;
        let same = [
            ("keyset", self.keyset == keyset.digest()),
            ("registers", self.registers == keyset.registers),
            ("gpus", self.gpus == keyset.gpus),
            ("model root", self.model_root == offer.root),
            ("tokenizer", self.tokenizer == offer.tokenizer),
            ("quantisation", self.quantisation == offer.quantisation),
            ("determinism", self.determinism == offer.determinism),
            ("prices", self.prices == offer.prices),
            ("endpoint", self.endpoint == offer.endpoint),
            ("chain", self.chain == keyset.chain),
            ("channel", self.channel == cap.channel),
            ("job", self.job == cap.job),
            ("envelope", self.envelope == claims.envelope),
            ("cost_max", self.cost_max == cap.most),
            ("request", self.request == claims.request),
        ];
        if let Some((field, _)) = same.iter().find(|(_, same)| !same) {
            return Err(ReceiptRefused::Field(field));
        }
        self.verify_answer(&claims.answer)?;
        let computed = self
            .prices
            .cost(&self.usage, keyset.price_step)
            .ok_or(ReceiptRefused::Field("cost"))?;
        if self.cost != computed {
            return Err(ReceiptRefused::Cost {
                claimed: self.cost,
                computed,
            });
        }
        if self.cost > self.cost_max {
            return Err(ReceiptRefused::CostMax {
                cost: self.cost,
                max: self.cost_max,
            });
        }
        Ok(())
    }

    fn verify_answer(&self, answer: &AnswerClaims) -> Result<(), ReceiptRefused> {
        let claimed = self.usage;
        let (counted, agree) = match answer {
            AnswerClaims::Whole {
                response,
                frames,
                events,
                usage,
            } => {
                let same = [
                    ("response", self.response == *response),
                    ("frames", self.frames == *frames),
                    ("events", self.events == *events),
                ];
                if let Some((field, _)) = same.iter().find(|(_, same)| !same) {
                    return Err(ReceiptRefused::Field(field));
                }
                (*usage, claimed == *usage)
            }
            AnswerClaims::Cut { most } => {
                let prompt = (claimed.prompt, claimed.cached) == (most.prompt, most.cached);
                (*most, prompt && claimed.completion <= most.completion)
            }
        };
        match agree {
            true => Ok(()),
            false => Err(ReceiptRefused::Usage { claimed, counted }),
        }
    }

    fn verify_charge(
        &self,
        keyset: &Keyset,
        claims: &RequestClaims,
        charge: &Charge,
    ) -> Result<(), ReceiptRefused> {
        let same = [
            (
                "charge's receipt",
                charge.receipt_hash == core_digest(self).0,
            ),
            ("charge's sequence", charge.seq == self.sequence),
            ("charge's cost", charge.cost == self.cost),
            ("charge's cap", charge.cap == claims.cap),
            ("charge's stake", charge.stake == keyset.stake),
        ];
        match same.iter().find(|(_, same)| !same) {
            Some((field, _)) => Err(ReceiptRefused::Field(field)),
            None => Ok(()),
        }
    }
}

impl VerifiedReceipt {
    /// What was done.
    pub fn core(&self) -> &ReceiptCore {
        &self.core
    }

    /// The charge, verified.
    pub fn charge(&self) -> &VerifiedCharge {
        &self.charge
    }

    /// The receipt's name.
    pub fn digest(&self) -> ReceiptDigest {
        self.digest
    }
}
