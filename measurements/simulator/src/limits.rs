//! How much anybody may send to the socket.

/// The payload of a request: the largest is report data.
pub const REQUEST_BYTES_MAX: usize = 64;
/// The payload of an answer, for those who read one: a quote.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Connections at once; each has a thread.
pub const CONNECTIONS_MAX: usize = 32;
