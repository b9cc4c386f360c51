//! How much of each thing an untrusted party may send before it is refused unread.

/// A set of machines as JSON, where one machine takes some 220 bytes.
pub const MACHINE_SET_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Machines of one set.
pub const MACHINE_SET_MACHINES_MAX: usize = 4096;
/// An event log as firmware writes it. Areas of real guests have 64 KiB and 256 KiB.
pub const EVENT_LOG_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Hash algorithms of one log. TPMs have up to four.
pub const EVENT_LOG_ALGORITHMS_MAX: u32 = 8;
/// One digest of a log: SHA-512 has 64 bytes.
pub const EVENT_LOG_DIGEST_BYTES_MAX: usize = 64;
/// The data of one event. Lists of revoked programs are the longest, with some 25 KiB.
pub const EVENT_DATA_BYTES_MAX: usize = 256 * 1024;
/// Words about one event.
pub const EVENT_DESCRIPTION_CHARACTERS_MAX: usize = 240;
/// Nodes of a device path, partitions of a disk or tables that are shown.
pub const EVENT_PATH_NODES_MAX: usize = 32;
/// A bundle. One with four GPUs and their RIMs has some 200 KiB.
pub const BUNDLE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Event logs of one bundle. A guest has the firmware's and the application's.
pub const BUNDLE_EVENT_LOGS_MAX: usize = 4;
/// RIMs of one bundle: two for each GPU, and as many again that are passed over.
pub const BUNDLE_RIMS_MAX: usize = 4 * gpu::limits::GPUS_MAX;
/// Registers that are computed again to explain one that differs. With the ACPI tables of a machine, one takes under a
/// millisecond.
pub const EXPLAIN_RECOMPUTATIONS_MAX: u32 = 4096;
/// A measured configuration of an agent. One with a hundred models has some 30 KiB.
pub const EXPLAIN_CONFIG_BYTES_MAX: usize = 1024 * 1024;
/// Fields of two configurations that are named.
pub const EXPLAIN_FIELDS_MAX: usize = 16;
/// Characters of a field's name or value that are shown.
pub const EXPLAIN_FIELD_CHARACTERS_MAX: usize = 80;
/// Manifests that one explanation takes.
pub const EXPLAIN_MANIFESTS_MAX: usize = 8;
