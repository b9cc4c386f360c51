//! Every limit of the proxy, with its reason. Sizes of what crosses a boundary are in [`wire::limits`].

use settlement::Nano;
use std::time::Duration;

/// A configuration file; ours are under 2 KiB.
pub const CONFIG_BYTES_MAX: u64 = 64 * 1024;
/// A passphrase and its line end.
pub const PASSPHRASE_BYTES_MAX: u64 = 1024;
/// A key file: 64 hex digits, or a sealed key's 188 characters, and a line end, with room for stray white space.
pub const KEY_FILE_BYTES_MAX: u64 = 256;
/// Guests behind one proxy.
pub const GUESTS_MAX: usize = 64;
/// Open HTTP connections, unless the configuration says otherwise. One more waits in the listen queue until another ends.
pub const CONNECTIONS: usize = 256;
/// The most it may say: a connection costs some 40 KiB and a file descriptor.
pub const CONNECTIONS_MAX: usize = 16 * 1024;
/// Concurrent jobs at one guest, unless the configuration says otherwise. Each may have one sealed request in memory, together
/// about 68 MiB.
pub const JOBS_PER_GUEST: usize = 32;
/// The most it may say.
pub const JOBS_PER_GUEST_MAX: usize = 8 * 1024;
/// Jobs that wait for a place at a guest, each with its request in memory, unless the configuration says otherwise.
pub const JOBS_WAITING: usize = 32;
/// The most it may say.
pub const JOBS_WAITING_MAX: usize = 1024;
/// How long a job waits for a place, and no longer than its first token may take.
pub const JOB_WAIT: Duration = Duration::from_secs(5);
/// The most jobs a minute, and at once, that the configuration may allow one payer.
pub const RATE_JOBS_MAX: u32 = 1_000_000;
/// Payers whose rate is remembered; whoever is idle is forgotten first.
pub const RATES_MAX: usize = 4096;
/// What a client is told to wait that came when everything was taken.
pub const BUSY_S: u32 = 1;
/// How long a guest that could not be reached is asked last.
pub const GUEST_SHUNNED: Duration = Duration::from_secs(5);
/// A guest that nobody attested for so long is attested by this proxy, so that the status page says how it is.
pub const GUEST_LOOK: Duration = Duration::from_secs(60);
/// Of a guest whose answer was cut, how often its receipt is asked for,
pub const RECEIPT_ATTEMPTS: u32 = 9;
/// and how long before the first time; before each further one twice as long, 26 s in all.
pub const RECEIPT_PAUSE: Duration = Duration::from_millis(50);
/// Or when it has so many entries: its path is computed from all of them, a tenth of a second's work.
pub const LOG_TREE_ENTRIES_MAX: i64 = 1 << 20;
/// How long the entries of a closed tree can be asked for; roots stay.
pub const LOG_ENTRIES_KEPT_S: u64 = 30 * 24 * 3600;
/// How long the evidence of a keyset that signed charges is kept,
pub const EVIDENCE_KEPT_S: u64 = 90 * 24 * 3600;
/// and that of one that signed none: longer than any job of it runs.
pub const EVIDENCE_UNUSED_S: u64 = 24 * 3600;
/// Keysets whose evidence is kept: some 60 KiB each, 240 MiB in all, which is 85 days of one guest with two an hour.
pub const EVIDENCE_MAX: u32 = 4096;
/// For an authority to put its time on a tree.
pub const TIME_AUTHORITY_TIME_MS: u64 = 15_000;
/// Pause after an authority failed, the first and the longest.
pub const TIME_AUTHORITY_PAUSE: (Duration, Duration) =
    (Duration::from_secs(10), Duration::from_secs(3600));
/// Roots of a time-stamping authority.
pub const TIME_ROOTS_MAX: usize = 16;
/// Pause between two looks for a tree whose time is over.
pub const LOG_POLL: Duration = Duration::from_secs(2);
/// Channels with unpaid vouchers that the status page names; the sum is of all.
pub const STATUS_PAYOUTS_SHOWN: usize = 50;
/// A file of certificates, or of a key, in PEM.
pub const CERTIFICATE_BYTES_MAX: u64 = 64 * 1024;
/// Spans that wait for the collector, each of about a kilobyte,
pub const SPANS_WAITING: usize = 2048;
/// those that are sent together,
pub const SPANS_PER_BATCH_MAX: usize = 512;
/// how long it may take,
pub const OTLP_CALL: Duration = Duration::from_secs(10);
/// and the pause between two batches.
pub const OTLP_PAUSE: Duration = Duration::from_secs(2);
/// A tree of the log of receipts is closed after so many seconds, unless the configuration says otherwise.
pub const LOG_PERIOD_S: u64 = 3600;
/// The shortest period, for tests and for demonstrations.
pub const LOG_PERIOD_S_MIN: u64 = 10;
/// The longest: a day.
pub const LOG_PERIOD_S_MAX: u64 = 24 * 3600;
/// Of these and of those that are still being read, how many one channel may have.
pub const JOBS_PER_CHANNEL_MAX: usize = 16;
/// Of the jobs, how many may name a keyset that the guest was not seen to have: it only refuses them, with its signature.
pub const STRANGE_KEYSETS_MAX: usize = 4;
/// Cancels and look-ups of receipts at the guest at once.
pub const QUESTIONS_MAX: usize = 8;
/// How long each may take.
pub const GUEST_REPLY: Duration = Duration::from_secs(5);
/// Sealed requests that are being read, together about 136 MiB.
pub const UPLOADS_MAX: usize = 64;
/// Concurrent attestations. Each asks the guest for a quote, which is slow and costs it time.
pub const ATTESTATIONS_MAX: usize = 8;
/// Of these, how many one peer may have.
pub const ATTESTATIONS_PER_PEER_MAX: usize = 2;
/// A client's request line and headers.
pub const HEADER_READ: Duration = Duration::from_secs(10);
/// hyper's buffer per connection: headers, and body pieces on their way.
pub const CONNECTION_BUFFER_BYTES: usize = 32 * 1024;
/// The longest a connection may last, since a client may never read its answer.
pub const CONNECTION_MAX: Duration = Duration::from_secs(900);
/// How long a client may take to send a job's envelope, before anything is reserved for it.
pub const UPLOAD_HEAD: Duration = Duration::from_secs(10);
/// How long a client may take to send a body.
pub const UPLOAD: Duration = Duration::from_secs(30);
/// How long a guest may take to accept a stream.
pub const GUEST_CONNECT: Duration = Duration::from_secs(5);
/// The line by which vhost-device-vsock reports that a guest has accepted: `OK` and a 32-bit number.
pub const HYBRID_REPLY_BYTES_MAX: usize = 32;
/// How long a guest may take to say how it is.
pub const GUEST_STATUS: Duration = Duration::from_secs(5);
/// How long a guest may take to show evidence; a quote takes about a second.
pub const ATTESTATION: Duration = Duration::from_secs(30);
/// Added to the deadlines in an envelope, since the guest enforces them itself and signs its answer.
pub const GUEST_GRACE: Duration = Duration::from_secs(2);
/// Pause before an answer is cut, in which its last frames are written.
pub const CUT_PAUSE: Duration = Duration::from_millis(50);
/// The longest a job may use a stream, whatever its envelope allows.
pub const JOB_MAX: Duration = Duration::from_secs(600);
/// What is read at once of a guest that sends faster than it is read, and passed on at once: four frames with their heads, since to copy
/// one costs less than a read and a write of its own.
pub const PASSED_BYTES_MAX: usize = 4 * (wire::limits::FRAME_BYTES_MAX + 5);
/// Passes that wait for a slow client, 128 KiB for a job. Then the guest waits, too.
pub const PASSES_WAITING: usize = 2;
/// How many seconds all waiting for a slow client may take in one job, unless the configuration says otherwise. Then the job is ended.
/// A guest that waits for this proxy for 10 s at a stretch ends it by itself.
pub const CLIENT_WAIT_S: u64 = 30;
/// The most it may say: a waiting job holds a place at its guest.
pub const CLIENT_WAIT_S_MAX: u64 = 600;
/// Sealed receipts kept for one channel,
pub const RECEIPTS_PER_CHANNEL_MAX: u32 = 256;
/// and for all together, some 80 MiB at most.
pub const RECEIPTS_MAX: u32 = 16 * 1024;
/// Charges kept of one receipt key beside each channel's highest. An honest guest's come within its running jobs of their order.
pub const CHARGES_KEPT: i64 = 4096;
/// Charges are pruned once in so many.
pub const CHARGES_PRUNED_EVERY: i64 = 256;
/// The largest write to a guest; vhost-device-vsock stalls on larger ones.
pub const WRITE_BYTES_MAX: usize = 16 * 1024;
/// One call of a TON node, from connecting to the last byte.
pub const NODE_CALL: Duration = Duration::from_secs(10);
/// How old the block may be that a node's answer is from. Public nodes are some 10 s behind.
pub const BLOCK_AGE_MAX_S: u64 = 60;
/// How long a block's time serves as a lower bound for younger ones, before another is asked for.
pub const BLOCK_REMEMBERED_S: u64 = 20;
/// How many blocks an answer may lie before that one: a node has several servers behind it, which differ by a few.
pub const BLOCKS_BEHIND_MAX: u32 = 8;
/// Pages of 100 transactions that are read back to find one. To fill them a stranger pays some 3 TON.
pub const HISTORY_PAGES_MAX: usize = 32;
/// Channels above this need two nodes' word, where the configuration names a second node and no amount.
pub const TWO_NODES_ABOVE: Nano = Nano::TON;
/// Two nodes see a change some blocks apart: how long before they are asked again, once.
pub const TWO_NODES_PAUSE: Duration = Duration::from_secs(2);
/// A channel's state is asked for again when it is older (SECURITY.md 22). The age of its block comes on top.
pub const CHANNEL_AGE_MAX: Duration = Duration::from_secs(15);
/// A channel's state is not asked for again when it is younger, even where a client's voucher suggests a change.
pub const CHANNEL_AGE_MIN: Duration = Duration::from_millis(500);
/// How long the refusal of a channel that was never proved is remembered.
pub const UNKNOWN_AGE_MAX: Duration = Duration::from_secs(3);
/// Channels never proved before that are looked up
pub const UNKNOWN_LOOKUPS_MAX: usize = 16;
/// in this time. Each costs the node up to three calls; public nodes take 1 to 25 a second.
pub const UNKNOWN_LOOKUPS: Duration = Duration::from_secs(10);
/// Channels remembered in memory; the oldest answer is forgotten first.
pub const CHANNELS_MAX: usize = 4096;
/// Keysets remembered of one guest, here and in the state file: it has up to four alive, and receipts of earlier ones can still be
/// fetched from it. Two days of two an hour.
pub const KEYSETS_MAX: usize = 96;
/// The guest is asked about unknown keysets at most this often.
pub const KEYSET_SEARCH: Duration = Duration::from_secs(1);
/// What a claim by the wallet costs, the first one's with the wallet itself, rounded up (measured). Less is claimed by command only.
pub const CLAIM_COST: Nano = Nano(13_000_000);
/// What a claim without the wallet costs, rounded up (measured).
pub const EXTERNAL_CLAIM_COST: Nano = Nano(4_500_000);
/// What makes a claim worth its cost: the least that the contract takes without a wallet, more than five times what that costs. Less
/// waits until it would soon be void.
pub const CLAIM_WORTH: Nano = settlement::limits::EXTERNAL_GROWTH_MIN;
/// How long claims without the wallet are repeated before the wallet makes them.
pub const EXTERNAL_PATIENCE: Duration = Duration::from_secs(120);
/// What a channel costs its payer at least, who leaves a deposit of next to nothing and takes the rest back in the end (measured).
pub const CHANNEL_COST: Nano = Nano(27_000_000);
/// What a channel is lent that has paid nothing, where the configuration does not say: less than it cost its payer.
pub const CREDIT_START: Nano = Nano(25_000_000);
/// The part of what a channel has promised by which its credit grows: one in so many.
pub const CREDIT_GROWTH: u64 = 10;
/// A channel whose claims end sooner than this is claimed whatever it has reached.
pub const CLAIMS_END_SOON_S: u64 = 24 * 3600;
/// The longest pause between two looks at all channels with unpaid vouchers: several fit into the shortest close delay.
pub const SWEEP_S_MAX: u64 = settlement::limits::CLOSE_DELAY_S_MIN as u64 / 4;
/// Seconds between two looks where the configuration has no `settle`: then only what would soon be void is claimed.
pub const SWEEP_S: u64 = 300;
/// The shortest, while what would soon be void could not be claimed.
pub const SWEEP_S_MIN: u64 = 5;
/// How long SQLite waits for the other process that shares the file, and PostgreSQL for the other proxy's transaction.
pub const STORE_BUSY: Duration = Duration::from_secs(10);
/// How long to wait for a connection to PostgreSQL.
#[cfg(feature = "postgres")]
pub const DATABASE_CONNECT: Duration = Duration::from_secs(5);
/// How long one of its statements may take.
#[cfg(feature = "postgres")]
pub const DATABASE_STATEMENT: Duration = Duration::from_secs(30);
/// How long a payout's message stays valid. Short, since no other may be made before it has expired.
pub const PAYOUT_VALID_S: u32 = 120;
/// Added to a message's end before another is made: a node's clock may lag behind.
pub const PAYOUT_MARGIN_S: u32 = 30;
/// How long one payout is watched before it is left to the next run.
pub const PAYOUT_WATCH: Duration = Duration::from_secs(240);
/// Pause between two checks of a payout.
pub const PAYOUT_POLL: Duration = Duration::from_millis(300);
/// Claims in one message of the wallet. It could carry 255; a hundred are some 30 KiB, half of what the network takes.
pub const CLAIMS_PER_MESSAGE_MAX: usize = 100;
/// How long the lease to sign is taken for in books that hosts share, renewed three times within it. A host whose signer was killed
/// is followed after it; below [`SIGNER_WAIT`], so that a command waits for it.
pub const SIGNER_LEASE: Duration = Duration::from_secs(30);
/// How long a process waits until it may sign, while another one does.
pub const SIGNER_WAIT: Duration = Duration::from_secs(60);
/// Pause between two attempts.
pub const SIGNER_POLL: Duration = Duration::from_millis(100);
/// How long settling waits for a node that is behind what it has shown before.
pub const NODE_PATIENCE: Duration = Duration::from_secs(60);
/// How often a call is repeated that the node refused for there being too many,
pub const NODE_REFUSALS_MAX: u32 = 5;
/// and the pause before the first repetition; each further one is twice as long.
pub const NODE_REFUSED_PAUSE: Duration = Duration::from_millis(250);
/// How long before the end of the endorsing key's delegation it is said.
pub const DELEGATION_ENDS_SOON_S: u64 = 30 * 24 * 3600;
/// The most calls a second that the configuration may allow.
pub const CALLS_PER_S_MAX: u32 = 1_000;
/// How many seconds running jobs may take to end after a request to stop, unless the configuration says otherwise.
pub const DRAIN_S: u64 = 20;
/// The most it may say; no job lasts longer.
pub const DRAIN_S_MAX: u64 = 900;
/// After the last job, how long clients have to hand in their vouchers before connections are closed.
pub const DRAIN_VOUCHERS: Duration = Duration::from_secs(1);
/// Pause between two looks for jobs that still run.
pub const DRAIN_POLL: Duration = Duration::from_millis(20);
/// How long idle connections may take to close.
pub const CLOSE: Duration = Duration::from_secs(2);
/// How long a blocked thread may take when the program ends: enough for a write to the disk.
pub const BLOCKED: Duration = Duration::from_secs(1);

/// A description of tools; ours are under 2 KiB.
pub const TOOLS_BYTES_MAX: u64 = 64 * 1024;
/// Arguments in front of a tool's program.
pub const TOOL_ARGUMENTS_MAX: usize = 64;
/// The path of a Unix socket: the kernel's `sun_path` with its final zero (unix(7)).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// How long a program may take to open the socket that we wait for.
pub const PROGRAM_START: Duration = Duration::from_secs(30);
/// Pause between two looks for such a socket.
pub const PROGRAM_POLL: Duration = Duration::from_millis(50);
/// How long QEMU may take to end after QMP's `quit`, before it is killed.
pub const QEMU_QUIT: Duration = Duration::from_secs(5);
/// One line of QMP. The longest that we ask for has a few hundred bytes.
pub const QMP_LINE_BYTES_MAX: usize = 64 * 1024;
/// Events that may wait while the answer to a command is read.
pub const QMP_EVENTS_MAX: usize = 256;
/// How long QEMU may take to answer a command.
pub const QMP_ANSWER: Duration = Duration::from_secs(10);
/// Pause between two looks at the guest's serial port.
pub const SERIAL_POLL: Duration = Duration::from_millis(50);
/// Bytes read of the serial port at one look. A guest that prints faster is read later.
pub const SERIAL_CHUNK_BYTES: usize = 64 * 1024;
/// The serial port's file on the disk. Beyond it, what was printed so far is discarded.
pub const SERIAL_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Characters kept of one line that a guest printed.
pub const SERIAL_LINE_CHARS_MAX: usize = 200;
/// Lines that are shown when a guest stops.
pub const SERIAL_LINES_SHOWN: usize = 12;
/// Bytes of a program's last output that are shown when it ends.
pub const PROGRAM_OUTPUT_BYTES: u64 = 600;
/// How long a guest may take under KVM until stage0 prints something. TCG needs about 20 s on two slow cores.
pub const KVM_TRIAL: Duration = Duration::from_secs(45);
/// Pause between two attempts to reach the guest.
pub const GUEST_PROBE: Duration = Duration::from_millis(50);
/// How long one reader of the measured configuration may take.
pub const CONFIG_READ: Duration = Duration::from_secs(20);
/// Readers of the measured configuration at once; a guest is one.
pub const CONFIG_READERS_MAX: usize = 4;
/// Programs remembered as unable to use KVM.
pub const KVM_FAILURES_MAX: usize = 16;
/// One read while a file of an image is digested.
pub const DIGEST_CHUNK_BYTES: usize = 1 << 20;
/// A file that describes the host; `/proc/cpuinfo` of a large machine has a megabyte.
pub const HOST_FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The output of `qemu --version` and the like.
pub const QEMU_OUTPUT_BYTES_MAX: u64 = 256 * 1024;
/// How long it may take; the first start in a sandbox reads QEMU from a cold disk.
pub const QEMU_OUTPUT: Duration = Duration::from_secs(20);
/// Memory of the host beside the guest's: QEMU itself, and the TDX module's tables (1/256 of all memory).
pub const HOST_MEMORY_MIB: u64 = 1024;

/// What must be free on the state file's disk before a job is taken: every running job's charge and voucher, many times.
pub const STATE_FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// How often it is looked for: all jobs of that time write less than a tenth of it.
pub const DISK_LOOK: Duration = Duration::from_secs(1);

/// Sources of one kind of collateral.
pub const SOURCES_MAX: usize = 8;
/// The largest `timeout_ms` of a source.
pub const SOURCE_MS_MAX: u64 = 120_000;
/// Attempts at one request to a source.
pub const ATTEMPTS_MAX: u32 = 2;
/// Pause between them.
pub const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);
/// One of Intel's answers. A revocation list has some 3 KiB now, and may grow. All together must fit into a bundle
/// ([`wire::limits::COLLATERAL_BYTES_MAX`]).
pub const INTEL_ANSWER_BYTES_MAX: u64 = 128 * 1024;
/// A RIM as JSON; NVIDIA's have 28 KiB.
pub const RIM_ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// NVIDIA's id of a RIM; the longest known has 41 bytes.
pub const RIM_ID_BYTES_MAX: usize = 128;
/// A request about one certificate; with a nonce it has some 120 bytes.
pub const OCSP_REQUEST_BYTES_MAX: usize = 4 * 1024;
/// An answer with the responder's certificates.
pub const OCSP_ANSWER_BYTES_MAX: u64 = 32 * 1024;
/// How far a date may be in the future, since clocks differ.
pub const CLOCK_SLACK_S: u64 = 300;
/// One file of the cache: the longest answer, Intel's four with their chains as JSON.
pub const CACHE_ENTRY_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// The smallest cache: one answer fits, and the one that replaces it.
pub const CACHE_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// Cached answers, and keys remembered.
pub const CACHE_ENTRIES_MAX: usize = 4096;
/// An older file that was never renamed was left by a killed program.
pub const UNFINISHED_AGE: Duration = Duration::from_secs(600);
/// Concurrent fetches. Each blocks a thread.
pub const FETCHES_MAX: usize = 4;
/// Fetches running or waiting, each of another key. Beyond it a client is asked to retry.
pub const FETCHES_WAITING_MAX: usize = 64;
/// How long a failure is repeated without asking the sources again.
pub const FAILURE_REMEMBERED: Duration = Duration::from_secs(10);
/// Pause between two checks for what is due.
pub const REFRESH_PAUSE: Duration = Duration::from_secs(60);
/// A key that was not asked for in this time is not refreshed.
pub const REFRESH_ASKED_S: u64 = 7 * 24 * 3600;
/// Intel's collateral is refreshed after a day, since a new evaluation number should not wait for its expiry.
pub const TDX_REFRESH_S: u64 = 24 * 3600;
/// A RIM does not change under its id. It is cached for 30 days,
pub const RIM_KEPT_S: u64 = 30 * 24 * 3600;
/// and refreshed in the middle of them.
pub const RIM_REFRESH_S: u64 = 15 * 24 * 3600;
