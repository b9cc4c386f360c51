//! Every limit of this crate, with its reason. A length is compared with its limit before memory is asked for.

/// A keyset: one X-Wing key is 1,216 bytes and a model entry about 200; 32 models fit.
pub const KEYSET_BYTES_MAX: usize = 16 * 1024;
/// How long clients may use a keyset: an hour at most, so that what was revoked comes to its end and a stolen key opens little.
pub const LIFETIME_S: std::ops::RangeInclusive<u32> = 1..=3_600;
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
/// A whole sealed request: the largest request, binary HTTP around it, and chunks.
pub const SEALED_REQUEST_BYTES_MAX: usize = REQUEST_BYTES_MAX + 64 * 1024;
/// The header of a request inside the seal; a third of it is reserved.
pub const REQUEST_HEADER_BYTES: usize = 256;
/// A request inside the seal: its header and its words.
pub const REQUEST_BYTES_MAX: usize = REQUEST_HEADER_BYTES + 4 * REQUEST_WORDS_MAX;
/// Words of a request, token ids most of them: the longest context on offer anywhere with room for four of it, or 2,048
/// texts of 255 tokens. A guest holds 2 MiB for each request that waits.
pub const REQUEST_WORDS_MAX: usize = 1 << 19;
/// The smallest bucket of words: a short question and one of a page look alike.
pub const REQUEST_WORDS_MIN: usize = 512;
/// Texts of one embeddings request: as many as the OpenAI API takes, so that indexers need no other batch size.
pub const INPUTS_MAX: usize = 2048;
/// Token sequences that end a completion.
pub const STOPS_MAX: usize = 16;
/// Tokens of one such sequence.
pub const STOP_TOKENS_MAX: usize = 32;
/// Tokens with a bias: the OpenAI API's limit.
pub const BIAS_MAX: usize = 300;
/// The largest bias, up or down: the OpenAI API's.
pub const BIAS_VALUE_MAX: f32 = 100.0;
/// Alternatives that come with log probabilities, where they are asked for: a record's layout has these.
pub const LOGPROBS: [usize; 3] = [0, 5, 20];
/// Words of a grammar: two, a class of 16 bits for each of 2^18 tokens, and 256 states by 512 classes of 16 bits.
pub const GRAMMAR_WORDS_MAX: usize = 2 + (1 << 18) / 2 + 256 * 512 / 2;
/// Completion tokens of one request; the model's context is the tighter limit.
pub const COMPLETION_TOKENS_MAX: u32 = 1 << 17;
/// The highest temperature, the OpenAI API's.
pub const TEMPERATURE_MAX: f32 = 2.0;
/// The highest share of probability that is sampled from: all of it.
pub const TOP_P_MAX: f32 = 1.0;
/// The largest penalty, up or down, the OpenAI API's.
pub const PENALTY_MAX: f32 = 2.0;
/// An answer as it travels. A record leaves in each interval whether or not it holds something: some 120,000 of them,
/// which is 100 minutes at 50 ms. A client holds the ids and the vectors, not the records.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Numbers of all vectors of one answer: 2,048 texts and vectors of 2,048 numbers, 16 MiB.
pub const VECTOR_NUMBERS_MAX: usize = 1 << 22;
/// A record of an answer.
pub const RECORD_BYTES: usize = 512;
/// Token ids or numbers that a record holds.
pub const RECORD_SLOTS: usize = 120;
/// A receipt: COSE headers, about forty fields and the charge.
pub const RECEIPT_BYTES_MAX: usize = 4096;
/// A TDX quote with its certificate chain is about 5 KiB.
pub const QUOTE_BYTES_MAX: usize = 32 * 1024;
/// Runtime events in RTMR3.
pub const EVENTS_MAX: usize = 64;
/// A report of a GPU: what the driver's library has room for. Real ones have up to 4,274 bytes.
pub const GPU_REPORT_BYTES_MAX: usize = 8 * 1024;
/// Certificates of a GPU. It has five.
pub const GPU_CERTIFICATES_MAX: usize = 8;
/// One of them. Real ones have less than 800 bytes.
pub const GPU_CERTIFICATE_BYTES_MAX: usize = 2 * 1024;
/// Reference integrity manifests of one GPU: of its driver and its VBIOS.
pub const GPU_RIMS_MAX: usize = 2;
/// One of them. Real ones have 21 KiB.
pub const GPU_RIM_BYTES_MAX: usize = 64 * 1024;
/// OCSP responses about one GPU: three certificates of the device, three of each RIM, and some to spare.
pub const GPU_OCSP_MAX: usize = 16;
/// One of them.
pub const GPU_OCSP_BYTES_MAX: usize = 4 * 1024;
/// A message between an agent and its GPU gate: a report with its certificates is the largest.
pub const GATE_BYTES_MAX: usize = 32 * 1024;
/// A message between an agent and the process that computes on a GPU: what one packet of the kernel's default buffers takes.
pub const WORKER_BYTES_MAX: usize = 96 * 1024;
/// A chunk of a request on its way there, so that the chunk's message fits.
pub const WORKER_CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Tokens of one message: those of a step of the most sequences, with twenty log probabilities each.
pub const WORKER_TOKENS_MAX: usize = 256;
/// What the guest answers to an attestation request: keyset, quote, events, and what a GPU signed.
pub const EVIDENCE_BYTES_MAX: usize = 96 * 1024;
/// What a proxy hands to a client: evidence, endorsement, collateral.
pub const BUNDLE_BYTES_MAX: usize = 512 * 1024;
/// Intel's collateral for one platform is about 20 KiB of JSON.
pub const COLLATERAL_BYTES_MAX: usize = 256 * 1024;
/// The hashes of one path in a tree of the log: a tree has fewer than 2^40 entries.
pub const LOG_PATH_MAX: u64 = 40;
/// A time-stamp of an authority, as `timestamp` reads it.
pub const TIMESTAMP_BYTES_MAX: usize = 8 * 1024;
/// A receipt of the log: that path, some 270 bytes around it, and a time-stamp.
pub const LOG_RECEIPT_BYTES_MAX: usize = 2048 + TIMESTAMP_BYTES_MAX;
/// An EAT beside a bundle: our own have some 2 KiB and 150 bytes for each model.
pub const CMW_RESULT_BYTES_MAX: usize = 16 * 1024;
/// A wrapper around both, in JSON, where base64 has four bytes for three, and media types.
pub const CMW_BYTES_MAX: usize = (BUNDLE_BYTES_MAX + CMW_RESULT_BYTES_MAX) / 3 * 4 + 1024;
/// A proof of one job: a bundle, a receipt, a voucher, a receipt of the log and fields of fixed size.
pub const PROOF_BYTES_MAX: usize =
    BUNDLE_BYTES_MAX + RECEIPT_BYTES_MAX + STATEMENT_BYTES_MAX + LOG_RECEIPT_BYTES_MAX + 256;
/// What was said in one job: a request of 2 MiB, and 6 MiB of records, which is ten minutes at 50 ms. One that is longer is not kept.
pub const TRANSCRIPT_BYTES_MAX: usize = 8 * 1024 * 1024;
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
/// Threads that compute: what the engine's pool takes.
pub const THREADS_MAX: u16 = 256;
/// Memory of all models of a guest, in MiB: 16 TiB.
pub const MEMORY_MIB_MAX: u32 = 1 << 24;
/// Memory for keys and values of one model, in MiB: 1 TiB.
pub const KV_MIB_MAX: u32 = 1 << 20;
/// What a guest tells its host of itself: 128 lines of its log and 64 events are its largest parts.
pub const STATUS_BYTES_MAX: usize = 64 * 1024;
/// Lines of its log.
pub const LOG_LINES_MAX: usize = 128;
/// One line.
pub const LOG_LINE_BYTES_MAX: usize = 240;
/// Stages of a boot, keysets that are alive, GPUs.
pub const STATUS_LIST_MAX: usize = 16;
/// A payer's leave to read: 8 bytes of time and a signature.
pub const READ_TEXT_BYTES: usize = 8 + 64;
/// How far the time in it may be from the reader's, since clocks differ.
pub const READ_AGE_MAX_S: u64 = 300;
