//! How much of each thing an untrusted party may send before it is refused unread.

/// A time-stamp, or an authority's answer with one. Those of public authorities have 2,000 to 7,000 bytes.
pub const TIMESTAMP_BYTES_MAX: usize = 8 * 1024;
/// Certificates that come with a time-stamp.
pub const TIMESTAMP_CERTIFICATES_MAX: usize = 8;
