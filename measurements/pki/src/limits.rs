//! How much of each thing an untrusted party may send before it is refused unread.

/// One certificate. Those of GPUs and RIMs have up to 900 bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 4 * 1024;
/// Extensions of one certificate.
pub const CERTIFICATE_EXTENSIONS_MAX: usize = 24;
/// A common name or serial number in a subject.
pub const CERTIFICATE_NAME_BYTES_MAX: usize = 128;
/// A time-stamp, or an authority's answer with one. Those of public authorities have 2,000 to 7,000 bytes.
pub const TIMESTAMP_BYTES_MAX: usize = 8 * 1024;
/// Certificates that come with a time-stamp.
pub const TIMESTAMP_CERTIFICATES_MAX: usize = 8;
