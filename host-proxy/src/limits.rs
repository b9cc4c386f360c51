//! Every bound of the courier, with its reason. Sizes of what crosses a boundary are in [`wire::limits`].

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
pub const HYBRID_ANSWER_BYTES_MAX: usize = 32;
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
pub const CHAIN_CALL: Duration = Duration::from_secs(10);
/// The chain's word about a channel is asked for again when it is older (SECURITY.md 22).
pub const CHAIN_WORD_AGE_MAX: Duration = Duration::from_secs(15);
/// Even to a client who says that a channel has changed, a node is asked about it at most this often.
pub const CHAIN_WORD_AGE_MIN: Duration = Duration::from_millis(500);
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
