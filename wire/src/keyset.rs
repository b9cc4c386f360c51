//! The keyset: what an attested guest says it is, in the bytes that its quote's report data names.
//!
//! Promises: whoever holds an `AttestedWorker` knows that code with the attested registers made these keys
//! and asks these prices. A keyset lives for one boot at most (SECURITY.md, "Keys live one boot").

use crate::cbor::{self, Malformed};
use crate::limits::{
    INTERVAL_MS, KEM_KEYS_MAX, KEYSET_BYTES_MAX, LIFETIME_S, MODELS_MAX, NAME_BYTES_MAX,
    PRICE_STEP_TOKENS,
};
use crate::{Digest, Endpoint, KeysetDigest, sha256};
use minicbor::{Decode, Encode};
use settlement::{Address, ChainId, Nano};

const WHAT: &str = "keyset";

/// Version 1 of the keyset. A new field means a new version.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Keyset {
    /// Always 1.
    #[n(0)]
    pub version: u64,
    /// The measured profile: `cpu`, `h100`, or `sim` for anything simulated.
    #[n(1)]
    pub profile: String,
    /// Counts the keysets of one boot.
    #[n(2)]
    pub epoch: u32,
    /// How long a client may use this keyset, in seconds on the client's clock since its own nonce.
    #[n(3)]
    pub lifetime_s: u32,
    /// The keys also die after this many jobs, since the host owns the guest's clock.
    #[n(4)]
    pub jobs_max: u64,
    /// Keys to seal to, the preferred one first.
    #[n(5)]
    pub kem_keys: Vec<KemKey>,
    /// Ed25519 key that signs receipts, charges and refusals.
    #[n(6)]
    #[cbor(with = "minicbor::bytes")]
    pub receipt_key: [u8; 32],
    /// Models on offer, with prices.
    #[n(7)]
    pub models: Vec<ModelOffer>,
    /// Costs are rounded up to a multiple of this, so that a cost tells little about an answer's length.
    #[n(8)]
    #[cbor(with = "crate::cbor::nano")]
    pub price_step: Nano,
    /// The most that one channel may owe before the guest stops (SECURITY.md 19, "W").
    #[n(9)]
    #[cbor(with = "crate::cbor::nano")]
    pub exposure_max: Nano,
    /// TON global id of the chain that settles.
    #[n(10)]
    #[cbor(with = "crate::cbor::chain")]
    pub chain: ChainId,
    /// Who is paid.
    #[n(11)]
    #[cbor(with = "crate::cbor::address")]
    pub payee: Address,
    /// The payee's Ed25519 key; it endorses this keyset, and a client's channel names it.
    #[n(12)]
    #[cbor(with = "minicbor::bytes")]
    pub payee_key: [u8; 32],
    /// The stake contract that answers for charges; the payee's own address where there is none.
    #[n(13)]
    #[cbor(with = "crate::cbor::address")]
    pub stake: Address,
    /// [`registers_digest`] of MRTD and RTMR0 to RTMR3 when the keys were made.
    #[n(14)]
    pub registers: Digest,
    /// One digest for each attested GPU; empty on a CPU profile.
    #[n(15)]
    pub gpus: Vec<Digest>,
    /// How answers are padded.
    #[n(16)]
    pub padding: Padding,
}

/// A key to seal to, with its suite (RFC 9180 registry numbers).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KemKey {
    /// The key id of the OHTTP header.
    #[n(0)]
    pub id: u8,
    /// 0x647a, X-Wing.
    #[n(1)]
    pub kem: u16,
    /// 0x0001, HKDF-SHA256.
    #[n(2)]
    pub kdf: u16,
    /// 0x0003, ChaCha20-Poly1305.
    #[n(3)]
    pub aead: u16,
    /// The public key, 1,216 bytes for X-Wing.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub public: Vec<u8>,
}

/// One model and what it costs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ModelOffer {
    /// The name that requests use.
    #[n(0)]
    pub id: String,
    /// What it answers.
    #[n(1)]
    pub endpoint: Endpoint,
    /// Which model, in one digest. Over its files (weights, configuration, tokenizer) where they are in the image; the dm-verity
    /// root hash of its volume where they are on one. The guest's measured configuration says which.
    #[n(2)]
    pub root: Digest,
    /// SHA-256 of its `tokenizer.json`, by which a client recounts.
    #[n(3)]
    pub tokenizer: Digest,
    /// Tokens of prompt and completion together, at most.
    #[n(4)]
    pub context_tokens: u32,
    /// Numeric format of the weights as they run, for example `f32`.
    #[n(5)]
    pub quantisation: String,
    /// Its prices.
    #[n(6)]
    pub prices: Prices,
    /// SHA-256 of its `config.json`: a client that has the file can see that it is the worker's.
    #[n(7)]
    pub config: Digest,
    /// The digest of its chat template's files, likewise (`model::root::template_digest`): SHA-256 of `tokenizer_config.json`, if it
    /// has no file of its own for the template; absent where the model has none of them.
    #[n(8)]
    pub template: Option<Digest>,
    /// Where a job on this model gives the same bits: instructions, kind of weights, version of the engine. Its receipts repeat it.
    #[n(9)]
    pub determinism: String,
}

/// Prices in nanoTON for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Prices {
    /// Prompt tokens.
    #[n(0)]
    #[cbor(with = "crate::cbor::nano")]
    pub prompt: Nano,
    /// Prompt tokens found in a prefix cache.
    #[n(1)]
    #[cbor(with = "crate::cbor::nano")]
    pub cached: Nano,
    /// Completion tokens.
    #[n(2)]
    #[cbor(with = "crate::cbor::nano")]
    pub completion: Nano,
}

/// Tokens that were used, counted alike by guest and client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Usage {
    /// Prompt tokens that were computed.
    #[n(0)]
    pub prompt: u32,
    /// Prompt tokens taken from a prefix cache.
    #[n(1)]
    pub cached: u32,
    /// Completion tokens.
    #[n(2)]
    pub completion: u32,
}

/// How answers are padded and paced.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Padding {
    /// Records are padded to a multiple of this many bytes.
    #[n(0)]
    pub step_bytes: u16,
    /// The shortest time between two records, in milliseconds.
    #[n(1)]
    pub interval_ms: u16,
}

impl Prices {
    /// Whether a step hides the price of [`PRICE_STEP_TOKENS`] tokens of each kind.
    pub fn fit(&self, step: Nano) -> bool {
        let dearest = self.prompt.max(self.cached).max(self.completion);
        u128::from(step.0) * 1_000_000 >= PRICE_STEP_TOKENS * u128::from(dearest.0)
    }

    /// The cost of `usage`, rounded up to a multiple of `step`. `None` when it does not fit 64 bits.
    pub fn cost(&self, usage: &Usage, step: Nano) -> Option<Nano> {
        let parts = [
            (usage.prompt, self.prompt),
            (usage.cached, self.cached),
            (usage.completion, self.completion),
        ];
        // u32 * u64 three times stays below 2^98, so the sum cannot overflow 128 bits.
        let millionths: u128 = parts
            .iter()
            .map(|(tokens, price)| u128::from(*tokens) * u128::from(price.0))
            .sum();
        let step = u128::from(step.0.max(1));
        let cost = millionths.div_ceil(1_000_000 * step).checked_mul(step)?;
        u64::try_from(cost).ok().map(Nano)
    }
}

impl Keyset {
    /// The deterministic encoding.
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Decodes a keyset and checks its ranges. This says nothing about who made it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let keyset: Keyset = cbor::from_slice(WHAT, bytes, KEYSET_BYTES_MAX)?;
        keyset.check()?;
        Ok(keyset)
    }

    /// The digest that the report data names.
    pub fn digest(&self) -> KeysetDigest {
        KeysetDigest::of(&self.encode())
    }

    /// The offer with this id.
    pub fn model(&self, id: &str) -> Option<&ModelOffer> {
        self.models.iter().find(|m| m.id == id)
    }

    fn check(&self) -> Result<(), Malformed> {
        let name = |text: &String| text.len() <= NAME_BYTES_MAX;
        let (keys, models) = (&self.kem_keys, &self.models);
        let mut ids: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let fields = [
            ("profile", name(&self.profile)),
            ("kem_keys", (1..=KEM_KEYS_MAX).contains(&keys.len())),
            ("models", (1..=MODELS_MAX).contains(&models.len())),
            ("model id", models.iter().all(|m| name(&m.id))),
            ("quantisation", models.iter().all(|m| name(&m.quantisation))),
            ("determinism", models.iter().all(|m| name(&m.determinism))),
            ("model id twice", ids.len() == models.len()),
            ("lifetime_s", LIFETIME_S.contains(&self.lifetime_s)),
            (
                "interval_ms",
                INTERVAL_MS.contains(&self.padding.interval_ms),
            ),
            (
                "price_step",
                models.iter().all(|m| m.prices.fit(self.price_step)),
            ),
            ("exposure_max", self.exposure_max >= self.price_step),
        ];
        cbor::check(WHAT, self.version, &fields)
    }
}

/// The digest of MRTD and RTMR0 to RTMR2, by which a registry knows an image on one shape of machine. RTMR3 also has what a provider
/// configured.
pub fn image_digest(registers: &registers::Registers) -> Digest {
    let [r0, r1, r2, _] = &registers.rtmr;
    let four = [registers.mrtd.0, r0.0, r1.0, r2.0].concat();
    sha256("chrysalis/image/v1", &[&four])
}

/// The digest of MRTD and RTMR0 to RTMR3, as [`Keyset::registers`] holds it.
pub fn registers_digest(registers: &registers::Registers) -> Digest {
    let [r0, r1, r2, r3] = &registers.rtmr;
    let five = [registers.mrtd.0, r0.0, r1.0, r2.0, r3.0].concat();
    sha256("chrysalis/registers/v1", &[&five])
}
