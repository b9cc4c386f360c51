//! How much of each thing an untrusted party may send before it is refused unread.

/// One certificate. Those of GPUs and RIMs have up to 900 bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 4 * 1024;
/// Extensions of one certificate.
pub const CERTIFICATE_EXTENSIONS_MAX: usize = 24;
/// A common name or serial number in a subject.
pub const CERTIFICATE_NAME_BYTES_MAX: usize = 128;
