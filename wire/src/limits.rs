//! Every limit of this crate, with its reason. A length is compared with its limit before memory is asked for.

/// A keyset: one X-Wing key is 1,216 bytes and a model entry about 200; 32 models fit.
pub const KEYSET_BYTES_MAX: usize = 16 * 1024;
/// How long clients may use a keyset: a day at most, so that what was revoked comes to its end.
pub const LIFETIME_S: std::ops::RangeInclusive<u32> = 1..=86_400;
/// Between two records: the rhythm hides what one token took, and a reader still sees text flow.
pub const INTERVAL_MS: std::ops::RangeInclusive<u16> = 10..=1_000;
/// The price step is at least the price of this many tokens of the dearest kind, so that a cost tells a length no closer.
pub const PRICE_STEP_TOKENS: u128 = 16;
/// Models one keyset may offer.
pub const MODELS_MAX: usize = 32;
/// KEM keys one keyset may hold: the current one, the coming one and room for two more.
pub const KEM_KEYS_MAX: usize = 4;
/// A name: model id, class, build.
pub const NAME_BYTES_MAX: usize = 96;
/// An envelope in the clear. It carries at most one voucher besides fixed fields.
pub const ENVELOPE_BYTES_MAX: usize = 1024;
/// A signed voucher or a signed charge as it travels.
pub const STATEMENT_BYTES_MAX: usize = 512;
/// One frame on the stream between proxy and guest. vhost-device-vsock stalls on larger writes.
pub const FRAME_BYTES_MAX: usize = 16 * 1024;
/// The plaintext of one sealed chunk (draft-ietf-ohai-chunked-ohttp: a receiver may refuse more).
pub const CHUNK_BYTES_MAX: usize = 16 * 1024;
/// A whole sealed request: 1 MiB of job and its overhead.
pub const SEALED_REQUEST_BYTES_MAX: usize = 1024 * 1024 + 64 * 1024;
/// The plaintext of a request before padding.
pub const REQUEST_BYTES_MAX: usize = 900 * 1024;
/// Messages of one conversation: more than an application keeps before it summarises.
pub const MESSAGES_MAX: usize = 64;
/// Texts of one embeddings request. The guest reserves the cost of a whole context for each.
pub const INPUTS_MAX: usize = 64;
/// One text to embed, or the content of one message: some 16,000 tokens, above the context of every model on offer.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// The contents of all messages of one conversation.
pub const CONVERSATION_BYTES_MAX: usize = 256 * 1024;
/// Completion tokens when the application names no limit: a long paragraph, so that a forgotten limit costs little.
pub const COMPLETION_TOKENS_DEFAULT: u32 = 256;
/// Completion tokens of one request.
pub const COMPLETION_TOKENS_MAX: u32 = 4096;
/// The highest temperature, the OpenAI API's.
pub const TEMPERATURE_MAX: f32 = 2.0;
/// The highest share of probability that is sampled from: all of it.
pub const TOP_P_MAX: f32 = 1.0;
/// The smallest padded request: a short question and a long one look alike below this.
pub const REQUEST_BYTES_MIN: usize = 2048;
/// A whole answer, as much as a client holds.
pub const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Records are padded to a multiple of this (the value OpenPCC uses).
pub const RECORD_STEP_BYTES: usize = 512;
/// The payload of one record; a longer one continues in the next.
pub const RECORD_PAYLOAD_BYTES_MAX: usize = 31 * RECORD_STEP_BYTES - 5;
/// A receipt: COSE headers, about forty fields and the charge.
pub const RECEIPT_BYTES_MAX: usize = 4096;
/// A TDX quote with its certificate chain is about 5 KiB.
pub const QUOTE_BYTES_MAX: usize = 32 * 1024;
/// Runtime events in RTMR3.
pub const EVENTS_MAX: usize = 64;
/// What the guest answers to an attestation request.
pub const EVIDENCE_BYTES_MAX: usize = 64 * 1024;
/// What a proxy hands to a client: evidence, endorsement, collateral.
pub const BUNDLE_BYTES_MAX: usize = 512 * 1024;
/// Intel's collateral for one platform is about 20 KiB of JSON.
pub const COLLATERAL_BYTES_MAX: usize = 256 * 1024;
/// A signed refusal.
pub const REFUSAL_BYTES_MAX: usize = 512;
/// A guest's measured configuration: 32 models take about 20 KiB.
pub const CONFIG_BYTES_MAX: usize = 64 * 1024;
/// Jobs of one boot: the replay cache holds some 100 bytes for each.
pub const JOBS_MAX: u64 = 1_000_000;
/// Disks for models: what the list of a guest's devices has (`measurements/predict/src/qemu.rs`).
pub const VOLUMES_MAX: usize = 1;
/// Blocks of 4096 bytes of a model's volume: 1 TiB.
pub const VOLUME_BLOCKS_MAX: u64 = 1 << 28;
