//! Bytes that cross a boundary: keyset, envelope, sealing, frames, receipts.
