//! Every bound this crate puts on what strangers ask of it.

/// Bytes of an external message: what the network's own configuration allows (parameter 43).
pub const EXTERNAL_BYTES_MAX: usize = 65_535;

/// Depth of an external message's cells: likewise.
pub const EXTERNAL_DEPTH_MAX: u16 = 512;

/// Messages that one external message may cause. Gas ends every chain in the long run; this ends it sooner.
pub const MESSAGES_PER_EXTERNAL_MAX: usize = 4_096;

/// Transactions in one answer.
pub const TRANSACTIONS_MAX: usize = 256;

/// Items on a get method's stack, in and out.
pub const STACK_ITEMS_MAX: usize = 64;

/// Bytes of a bag of cells on a get method's stack.
pub const STACK_BOC_BYTES_MAX: usize = 65_535;

/// Bytes of a get method's name.
pub const METHOD_NAME_BYTES_MAX: usize = 128;

/// Bytes of an HTTP request's body: an external message in base64, and its frame.
pub const REQUEST_BYTES_MAX: usize = 128 << 10;
