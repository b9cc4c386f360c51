//! Every bound of the proxy, with its reason. Sizes of what crosses a boundary are in [`wire::limits`].

use std::time::Duration;

/// A configuration file; ours are under 2 KiB.
pub const CONFIG_BYTES_MAX: u64 = 64 * 1024;
/// A key file: 64 hex digits and a line end, with room for a careless editor.
pub const KEY_FILE_BYTES_MAX: u64 = 256;
/// Open HTTP connections. One more waits in the listen queue until another ends.
pub const CONNECTIONS_MAX: usize = 256;
/// Jobs held at once. Each may hold one sealed request in memory, so this bounds memory to about 36 MiB.
pub const JOBS_MAX: usize = 32;
/// Attestations at once. Each asks the guest for a quote, which is slow and costs it time.
pub const ATTESTATIONS_MAX: usize = 8;
/// A client's request line and headers.
pub const HEADER_READ: Duration = Duration::from_secs(10);
/// hyper's buffer per connection: headers, and body pieces on their way.
pub const CONNECTION_BUFFER_BYTES: usize = 32 * 1024;
/// The longest a connection may last. A client that never reads its answer would hold one for ever.
pub const CONNECTION_MAX: Duration = Duration::from_secs(900);
/// How long a client may take to send a body.
pub const UPLOAD: Duration = Duration::from_secs(30);
/// How long a guest may take to accept a stream.
pub const GUEST_CONNECT: Duration = Duration::from_secs(5);
/// The line by which vhost-device-vsock says that a guest has accepted: `OK` and a 32-bit number.
pub const HYBRID_REPLY_BYTES_MAX: usize = 32;
/// How long a guest may take to show evidence; a quote takes about a second.
pub const ATTESTATION: Duration = Duration::from_secs(30);
/// Added to the deadlines that a client names, since the guest watches those itself and signs its answer to them.
pub const GUEST_GRACE: Duration = Duration::from_secs(2);
/// The longest a job may hold a stream, whatever its envelope says.
pub const JOB_MAX: Duration = Duration::from_secs(600);
/// Frames that wait for a slow client: at most this many of 16 KiB each.
pub const FRAMES_WAITING: usize = 4;
/// The largest piece written to a guest at once; vhost-device-vsock stalls on larger ones.
pub const WRITE_BYTES_MAX: usize = 16 * 1024;
/// One question to a chain node, from connecting to the last byte.
pub const NODE_CALL: Duration = Duration::from_secs(10);
/// The chain's word about a channel is asked for again when it is older (SECURITY.md 22).
pub const CHANNEL_AGE_MAX: Duration = Duration::from_secs(15);
/// Even to a client who says that a channel has changed, a node is asked about it at most this often.
pub const CHANNEL_AGE_MIN: Duration = Duration::from_millis(500);
/// Channels remembered in memory; the oldest answer is forgotten first.
pub const CHANNELS_MAX: usize = 4096;
/// Keysets remembered: one guest has one at a time.
pub const KEYSETS_MAX: usize = 8;
/// A keyset that an envelope names and nobody knows is looked for at most this often.
pub const KEYSET_SEARCH: Duration = Duration::from_secs(1);
/// No new job on a channel whose claims end sooner than this: the payout must still fit.
pub const CLAIM_MARGIN_S: u64 = 3600;
/// How long SQLite waits for the other process that shares the file.
pub const STORE_BUSY: Duration = Duration::from_secs(10);
/// How long a payout's message stays valid. Short, since no other may be made before it has expired.
pub const PAYOUT_VALID_S: u32 = 120;
/// Added to a message's end before another is made: a node's clock may lag behind.
pub const PAYOUT_MARGIN_S: u32 = 30;
/// How long the running of one payout is watched before the program gives up and leaves it to the next run.
pub const PAYOUT_WATCH: Duration = Duration::from_secs(240);
/// Pause between two questions about a payout.
pub const PAYOUT_POLL: Duration = Duration::from_millis(300);
/// The running jobs may take this long to end after a request to stop.
pub const DRAIN: Duration = Duration::from_secs(20);
/// What a thread that blocks may still take when the program ends: a write to the disk.
pub const BLOCKED: Duration = Duration::from_secs(1);

/// A description of tools; ours are under 2 KiB.
pub const TOOLS_BYTES_MAX: u64 = 64 * 1024;
/// Words in front of a tool's program.
pub const TOOL_ARGUMENTS_MAX: usize = 64;
/// The guest's measured configuration; the agent reads no more.
pub const GUEST_CONFIG_BYTES_MAX: u64 = 64 * 1024;
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
pub const SERIAL_POLL: Duration = Duration::from_millis(100);
/// Bytes read of the serial port at one look. A guest that prints faster is read later.
pub const SERIAL_CHUNK_BYTES: usize = 64 * 1024;
/// What the file of the serial port may occupy on the disk. Beyond it, what was printed so far is given up.
pub const SERIAL_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Characters kept of one line that a guest printed.
pub const SERIAL_LINE_CHARS_MAX: usize = 200;
/// Lines that are shown when a guest stops.
pub const SERIAL_LINES_SHOWN: usize = 12;
/// Bytes of a program's own words that are shown when it ends.
pub const PROGRAM_OUTPUT_BYTES: u64 = 600;
/// Under KVM a guest has this long until its first program speaks. TCG needs about 20 s on two slow cores.
pub const KVM_TRIAL: Duration = Duration::from_secs(45);
/// Pause between two attempts to reach the guest.
pub const GUEST_PROBE: Duration = Duration::from_millis(200);
/// How long one reader of the measured configuration may take.
pub const CONFIG_READ: Duration = Duration::from_secs(20);
/// Readers of the measured configuration at once; a guest is one.
pub const CONFIG_READERS_MAX: usize = 4;
/// Programs remembered as unable to use KVM.
pub const KVM_FAILURES_MAX: usize = 16;
/// One read while a file of an image is digested.
pub const DIGEST_CHUNK_BYTES: usize = 1 << 20;
/// A file of the host that says what it is; `/proc/cpuinfo` of a large machine has a megabyte.
pub const HOST_FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// What a QEMU may say about itself.
pub const QEMU_OUTPUT_BYTES_MAX: u64 = 256 * 1024;
/// How long a QEMU may take to say it; the first start of one in a sandbox reads it from a cold disk.
pub const QEMU_OUTPUT: Duration = Duration::from_secs(20);
/// Memory of the host beside its guest's: QEMU itself, and the TDX module's tables (1/256 of all memory).
pub const HOST_MEMORY_MIB: u64 = 1024;

/// Sources of one kind of collateral.
pub const SOURCES_MAX: usize = 8;
/// The longest that one source may be given for all its answers.
pub const SOURCE_MS_MAX: u64 = 120_000;
/// How often a source is asked when a moment may have been bad.
pub const ATTEMPTS_MAX: u32 = 2;
/// Pause before it is asked again.
pub const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);
/// One answer of Intel's. A revocation list has some 3 KiB now, and may grow. All together must fit into a bundle
/// ([`wire::limits::COLLATERAL_BYTES_MAX`]).
pub const INTEL_ANSWER_BYTES_MAX: u64 = 128 * 1024;
/// A RIM as JSON; NVIDIA's have 28 KiB.
pub const RIM_ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// NVIDIA's name of a RIM; the longest known has 41 bytes.
pub const RIM_ID_BYTES_MAX: usize = 128;
/// A request about one certificate; with a nonce it has some 120 bytes.
pub const OCSP_REQUEST_BYTES_MAX: usize = 4 * 1024;
/// An answer with the responder's certificates.
pub const OCSP_ANSWER_BYTES_MAX: u64 = 32 * 1024;
/// How far a date may lie in the future, since clocks differ.
pub const CLOCK_SLACK_S: u64 = 300;
/// One file of the cache: the longest answer, Intel's four with their chains as JSON.
pub const CACHE_ENTRY_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// The smallest cache: one answer fits, and the one that replaces it.
pub const CACHE_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// Answers kept, and questions remembered.
pub const CACHE_ENTRIES_MAX: usize = 4096;
/// After this, a file that was never renamed is what a killed program left.
pub const UNFINISHED_AGE: Duration = Duration::from_secs(600);
/// Questions to sources at once. Each holds a thread.
pub const FETCHES_MAX: usize = 4;
/// Questions under way or waiting for that, each different. Beyond it the asker is told to come back.
pub const FETCHES_WAITING_MAX: usize = 64;
/// How long a failure is repeated without asking anew.
pub const FAILURE_REMEMBERED: Duration = Duration::from_secs(10);
/// Pause between two looks for what is due.
pub const REFRESH_PAUSE: Duration = Duration::from_secs(60);
/// What nobody asked for in this time is not refreshed.
pub const REFRESH_ASKED_S: u64 = 7 * 24 * 3600;
/// Intel's lists are asked for again after a day, since a new evaluation number should not wait for their end.
pub const TDX_REFRESH_S: u64 = 24 * 3600;
/// A RIM does not change under its name. It is kept for 30 days,
pub const RIM_KEPT_S: u64 = 30 * 24 * 3600;
/// and asked for again in the middle of them.
pub const RIM_REFRESH_S: u64 = 15 * 24 * 3600;
