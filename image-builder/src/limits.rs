//! Limits of the fetcher, each with the reason for its value.

use std::time::Duration;

/// A lock is written by hand and reviewed; 64 KiB holds some two hundred models.
pub const LOCK_BYTES_MAX: u64 = 64 * 1024;
/// Models in one lock.
pub const MODELS_MAX: usize = 256;
/// Files taken from one archive. A sharded 70B model has about forty.
pub const FILES_PER_MODEL_MAX: usize = 256;
/// One archive or file: 64 GiB, above any single shard in use and far below a disk.
pub const FILE_BYTES_MAX: u64 = 64 << 30;
/// A name in the lock: the shortest limit among common file systems, less room for our suffixes.
pub const NAME_BYTES_MAX: usize = 200;
/// A path in the lock, of an archive on a mirror or a member in an archive.
pub const PATH_BYTES_MAX: usize = 1024;
/// How often a download that makes progress is resumed after the connection breaks.
pub const RESUMES_MAX: u32 = 4;
/// Bytes read and written at a time.
pub const CHUNK_BYTES: usize = 128 * 1024;
/// To reach the mirror.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For the mirror's first byte. A caching mirror may fetch a whole file itself before it answers.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(180);
/// Between two reads of a body.
pub const READ_TIMEOUT: Duration = Duration::from_secs(60);
