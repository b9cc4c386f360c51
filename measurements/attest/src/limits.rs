//! How much of each thing an untrusted party may send before it is refused unread.

/// A quote. Real TDX quotes of versions 4 and 5 are about 5 KiB.
pub const QUOTE_BYTES_MAX: usize = 16 * 1024;
/// A file with a quote in it: text takes two characters a byte, and JSON of tools has an event log beside it.
pub const QUOTE_FILE_BYTES_MAX: usize = 1024 * 1024;
/// Zero padding after the signature data; the kernel hands out a fixed buffer and real quotes carry about 70 bytes.
pub const QUOTE_PADDING_BYTES_MAX: usize = 8 * 1024;
/// A manifest as JSON.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;
/// Events in the RTMR3 list of a manifest.
pub const MANIFEST_EVENTS_MAX: usize = 64;
/// The name of one event.
pub const EVENT_NAME_BYTES_MAX: usize = 64;
/// The note of a manifest.
pub const MANIFEST_NOTE_BYTES_MAX: usize = 1024;
/// Collateral as JSON. Intel's is about 20 KiB; revocation lists may grow.
pub const COLLATERAL_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A policy as JSON.
pub const POLICY_BYTES_MAX: usize = 256 * 1024;
/// Guests that one policy lists.
pub const POLICY_REGISTERS_MAX: usize = 256;
/// Advisories that one policy names.
pub const POLICY_ADVISORIES_MAX: usize = 256;
/// The name of an advisory. Intel's have 14.
pub const ADVISORY_BYTES_MAX: usize = 64;
/// Days of grace that a policy file may grant: ten years, which is no grace any more.
pub const POLICY_GRACE_DAYS_MAX: usize = 3653;
/// A root certificate, PEM or DER.
pub const ROOT_BYTES_MAX: usize = 4 * 1024;
