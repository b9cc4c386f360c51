//! Every bound of this crate, with its reason. A length is compared with its limit before memory is asked for.

use std::time::Duration;

/// The configuration file.
pub const CONFIG_BYTES_MAX: u64 = 64 * 1024;
/// A key file: 64 hexadecimal characters and a line end.
pub const KEY_FILE_BYTES_MAX: u64 = 128;
/// A proof file, or a receipt in an object of JSON.
pub const PROOF_FILE_BYTES_MAX: u64 = wire::limits::PROOF_BYTES_MAX as u64;
/// Roots of time-stamping authorities in one file.
pub const TIME_ROOTS_MAX: usize = 16;
/// A test root certificate or a manifest is far below this.
pub const SMALL_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// An answer that is not streamed, from proxy or chain: JSON of a few fields, or a bundle.
pub const REPLY_BYTES_MAX: usize = 1024 * 1024;
/// Text of a proxy that is shown.
pub const FOREIGN_TEXT_CHARS_MAX: usize = 200;
/// Head of an HTTP answer.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header lines of an HTTP answer.
pub const HEADERS_MAX: usize = 64;

/// To reach a proxy or a node.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one answer that is not streamed.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// What the network may add to a deadline that the guest keeps.
pub const DEADLINE_GRACE: Duration = Duration::from_secs(5);

/// A request of an application to the sidecar: JSON of what may be sealed, with room for its escapes.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a stream that the sidecar holds for an application that does not read: minutes of text, so that only one
/// that stopped reading reaches it.
pub const READER_LAG_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Vectors that a full cache of embeddings loses at once.
pub const VECTORS_FORGOTTEN_AT_ONCE: u32 = 64;
/// Completion tokens when the application names no limit: a long paragraph, so that a forgotten limit costs little.
pub const COMPLETION_TOKENS_DEFAULT: u32 = 256;
/// Answers to one request: each is a job that is sealed, run and paid by itself.
pub const CHOICES_MAX: u32 = 8;
/// A regular expression or a schema that an answer must satisfy.
pub const FORM_BYTES_MAX: usize = 64 * 1024;
/// Stop sequences of one request: the OpenAI API's limit.
pub const STOPS_MAX: usize = 4;
/// One stop sequence.
pub const STOP_BYTES_MAX: usize = 256;

/// How long a program that ends waits for the receipts of jobs that it cancelled: what is paid now need not stay set aside.
pub const CANCEL_GRACE: Duration = Duration::from_secs(10);
/// For one attestation: a channel read, a challenge and the payee's record at the same time.
pub const ATTEST_TIME_MAX: Duration = Duration::from_secs(35);
/// Between two attempts to have the worker's next keys.
pub const RENEW_PAUSE: Duration = Duration::from_millis(500);
/// Between two deliveries of vouchers beside the answers, at least.
pub const DELIVERY_PAUSE: Duration = Duration::from_millis(200);
/// The same after failures, at most.
pub const DELIVERY_PAUSE_MAX: Duration = Duration::from_secs(60);
/// For the last delivery, when a sidecar ends.
pub const LAST_DELIVERY_TIME: Duration = Duration::from_secs(5);
/// How old a check may be that the health of this sidecar is told by.
pub const HEALTH_TIME: Duration = Duration::from_secs(10);
/// Between two attempts, at first.
pub const QUEUE_PAUSE_MIN: Duration = Duration::from_millis(50);
/// Between two attempts, later.
pub const QUEUE_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Unknown fields of one request that are left out where its owner wants that; one more is refused by name.
pub const IGNORED_FIELDS_MAX: usize = 32;

/// Keys of applications, each with a name.
pub const KEYS_MAX: usize = 64;
/// The key that applications show.
pub const API_KEY_BYTES_MAX: u64 = 256;

/// The lowest evaluation number of Intel's collateral that is accepted, whatever a host shows, from November 2024. It
/// rises with releases.
pub const INTEL_TCB_EVALUATION_NUMBER_MIN: u32 = 17;
/// The date of the oldest platform level that is accepted: 2024-03-13.
pub const INTEL_TCB_UNIX_S_MIN: u64 = 1_710_288_000;

/// Responses that are kept for whoever continues them.
pub const RESPONSES_MAX: usize = 1024;
/// Bytes of all of them with their conversations; the oldest go first. An agent's of 50 kB fits a thousand times.
pub const RESPONSES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a response is kept: a day of work.
pub const RESPONSES_TIME: Duration = Duration::from_secs(24 * 3600);

/// Records of an answer that a transcript has room for, beside the longest request.
pub const KEPT_RECORDS_BYTES_MAX: usize =
    wire::limits::TRANSCRIPT_BYTES_MAX - wire::limits::REQUEST_BYTES_MAX - 1024;
/// A check: two proofs and two transcripts, in hexadecimal digits.
pub const CHECK_FILE_BYTES_MAX: u64 =
    4 * (wire::limits::TRANSCRIPT_BYTES_MAX + wire::limits::PROOF_BYTES_MAX) as u64 + 4096;

/// How old the block may be from which a stake or a registry is read: SECURITY.md 22. Public nodes are some 10 s behind.
pub const CHAIN_AGE_S_MAX: u64 = 120;

/// Days of the books that one answer may have.
pub const USAGE_DAYS_MAX: u64 = 366;

/// Keys of requests whose answers are kept.
pub const IDEMPOTENCY_KEYS_MAX: usize = 1024;
/// Bytes of all answers that are kept; the oldest go first.
pub const IDEMPOTENCY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long an answer is kept: longer than any application goes on to repeat a request.
pub const IDEMPOTENCY_TIME: Duration = Duration::from_secs(3600);
/// The OpenAI SDKs' keys have 50 characters.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;
