//! Sealing: chunked Oblivious HTTP (RFC 9458, draft-ietf-ohai-chunked-ohttp-08) with X-Wing, HKDF-SHA256 and
//! ChaCha20-Poly1305, over the `hpke` crate. No cryptography of our own: this module places bytes.
//!
//! Promises: a job opens only with the key it was sealed to; an answer opens only with the context of its job; a chunk
//! that is lost, repeated, reordered or cut off at the end is an error (trust boundary B3).

mod chunks;
#[cfg(test)]
mod interop;
mod keys;
#[cfg(feature = "client")]
mod opener;
mod request;
mod response;
#[cfg(feature = "client")]
mod sender;

pub use keys::{CANCEL_BYTES, Cancel, CancelSecret, ReceiptKey, SEALED_RECEIPT_BYTES};
pub use request::{Commitments, JobRequest, OpenedJob, SealingKey, open_job};
pub use response::ResponseSealer;
#[cfg(feature = "client")]
pub use {
    opener::ResponseOpener,
    sender::{SealedJob, seal_job},
};

use crate::{EnvelopeDigest, Malformed};

pub(crate) type Kem = hpke::kem::XWing;
pub(crate) type Kdf = hpke::kdf::HkdfSha256;
pub(crate) type Aead = hpke::aead::ChaCha20Poly1305;

pub(crate) const KEM_ID: u16 = 0x647a;
pub(crate) const KDF_ID: u16 = 0x0001;
pub(crate) const AEAD_ID: u16 = 0x0003;
pub(crate) const ENC_BYTES: usize = 1120;
/// Key id, KEM, KDF and AEAD identifiers (RFC 9458 §4.1).
pub(crate) const HEADER_BYTES: usize = 7;
pub(crate) const TAG_BYTES: usize = 16;
/// max(Nn, Nk) of ChaCha20-Poly1305.
pub(crate) const RESPONSE_NONCE_BYTES: usize = 32;

/// Why something does not seal or open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum SealError {
    #[error("the keyset offers no X-Wing key of a known suite")]
    Suite,
    #[error("{got} bytes to seal or open; at most {max} are allowed")]
    TooLong { got: usize, max: usize },
    #[error("the sealed bytes are cut short or malformed")]
    Truncated,
    #[error(
        "the sealed bytes do not open: changed on their way, out of order, or sealed with another key"
    )]
    NotAuthentic,
    #[error("the message inside the seal is not the expected binary HTTP: {0}")]
    Message(&'static str),
    #[error("the sealed request names envelope {got}, it came with {want}")]
    EnvelopeDigest {
        got: EnvelopeDigest,
        want: EnvelopeDigest,
    },
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

#[cfg(test)]
pub(crate) mod tests;
