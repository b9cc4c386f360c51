//! What client and guest export from the seal besides the answer's key: the key of the receipt, and the secret that cancels.

use super::SealError;
use crate::limits::RECEIPT_BYTES_MAX;
use crate::{EnvelopeDigest, Malformed, sha256};
use chacha20poly1305::aead::{Aead as _, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use zeroize::Zeroizing;

/// Bytes of a sealed receipt, always: a length of two bytes, the receipt, zeros, a tag.
pub const SEALED_RECEIPT_BYTES: usize = 2 + RECEIPT_BYTES_MAX + super::TAG_BYTES;
/// Bytes of a [`Cancel`].
pub const CANCEL_BYTES: usize = 64;

/// The key of one job's receipt. It is sealed apart from the answer, so that a payer can fetch it after a stream broke, and from whoever
/// kept it after the guest's keys are gone.
#[derive(Clone)]
pub struct ReceiptKey(Zeroizing<[u8; 32]>);

/// The secret by which a client cancels one job. The proxy learns it with the cancel that it carries, and not before.
#[derive(Clone)]
pub struct CancelSecret(Zeroizing<[u8; 32]>);

/// "End this job now, and bill what was made."
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cancel {
    /// The job's envelope.
    pub envelope: EnvelopeDigest,
    secret: [u8; 32],
}

impl ReceiptKey {
    pub(super) fn export(export: impl Fn(&[u8], &mut [u8])) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        export(b"chrysalis/receipt-key/v1", &mut key[..]);
        ReceiptKey(key)
    }

    /// For a client that keeps the key of a job whose receipt it still lacks.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        ReceiptKey(Zeroizing::new(bytes))
    }

    /// The key, to be kept as a secret.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Seals the one receipt of the job. `None` if it is longer than a receipt may be.
    pub fn seal(self, receipt: &[u8]) -> Option<Vec<u8>> {
        let length = u16::try_from(receipt.len()).ok()?;
        if receipt.len() > RECEIPT_BYTES_MAX {
            return None;
        }
        let mut padded = length.to_be_bytes().to_vec();
        padded.extend_from_slice(receipt);
        padded.resize(2 + RECEIPT_BYTES_MAX, 0);
        // The key seals one message, so one nonce will do.
        let sealed = self.aead().encrypt(&Nonce::default(), &padded[..]);
        Some(sealed.expect("a receipt is far below ChaCha20-Poly1305's limit of 256 GiB"))
    }

    /// Opens a sealed receipt: the bytes that [`crate::Receipt::decode`] takes.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        if sealed.len() != SEALED_RECEIPT_BYTES {
            return Err(SealError::Truncated);
        }
        let padded = self.aead().decrypt(&Nonce::default(), sealed);
        let padded = padded.map_err(|_| SealError::NotAuthentic)?;
        let padding = SealError::Message("the receipt's padding is not zero");
        let (length, rest) = padded.split_first_chunk().ok_or(SealError::Truncated)?;
        let length = usize::from(u16::from_be_bytes(*length));
        match rest.split_at_checked(length) {
            Some((receipt, zeros)) if zeros.iter().all(|zero| *zero == 0) => Ok(receipt.to_vec()),
            _ => Err(padding),
        }
    }

    fn aead(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&Key::from(*self.0))
    }
}

impl CancelSecret {
    pub(super) fn export(export: impl Fn(&[u8], &mut [u8])) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        export(b"chrysalis/cancel/v1", &mut secret[..]);
        CancelSecret(secret)
    }

    /// Cancels the job of this envelope.
    pub fn cancel(&self, envelope: EnvelopeDigest) -> Cancel {
        Cancel {
            envelope,
            secret: *self.0,
        }
    }

    /// Whether the client of this job made `cancel`. It compares hashes, so that time tells nothing of the secret.
    pub fn made(&self, cancel: &Cancel) -> bool {
        let hash = |secret: &[u8]| sha256("chrysalis/cancel-compare/v1", &[secret]);
        hash(&cancel.secret) == hash(&self.0[..])
    }
}

impl Cancel {
    /// The bytes that travel: the envelope's digest and the secret.
    pub fn encode(&self) -> [u8; CANCEL_BYTES] {
        let mut bytes = [0; CANCEL_BYTES];
        let (envelope, secret) = bytes.split_at_mut(32);
        envelope.copy_from_slice(&self.envelope.0);
        secret.copy_from_slice(&self.secret);
        bytes
    }

    /// Decodes; whether it is the client's only the guest can say.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "cancel";
        let (envelope, secret) = bytes
            .split_first_chunk()
            .ok_or(Malformed::NotDecodable { what: WHAT })?;
        let secret = secret
            .try_into()
            .map_err(|_| Malformed::NotDecodable { what: WHAT })?;
        Ok(Cancel {
            envelope: EnvelopeDigest(*envelope),
            secret,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_receipt_has_one_length_and_every_flipped_byte_shows() {
        let key = || ReceiptKey::from_bytes([7; 32]);
        for receipt in [&b""[..], b"receipt", &[1; RECEIPT_BYTES_MAX]] {
            let sealed = key().seal(receipt).unwrap();
            assert_eq!(sealed.len(), SEALED_RECEIPT_BYTES);
            assert_eq!(key().open(&sealed), Ok(receipt.to_vec()));
            for at in (0..sealed.len()).step_by(61) {
                let mut flipped = sealed.clone();
                flipped[at] ^= 1;
                assert!(key().open(&flipped).is_err(), "byte {at}");
                assert!(key().open(&sealed[..at]).is_err(), "length {at}");
            }
            assert!(ReceiptKey::from_bytes([8; 32]).open(&sealed).is_err());
        }
        assert!(key().seal(&[1; RECEIPT_BYTES_MAX + 1]).is_none());
    }

    #[test]
    fn only_the_jobs_own_secret_cancels_it() {
        let secret = CancelSecret(Zeroizing::new([7; 32]));
        let cancel = secret.cancel(EnvelopeDigest([1; 32]));
        let bytes = cancel.encode();
        let verdict = |bytes: &[u8]| {
            let read = Cancel::decode(bytes).ok()?;
            Some((read.envelope == cancel.envelope, secret.made(&read)))
        };
        assert_eq!(verdict(&bytes), Some((true, true)));
        for at in 0..bytes.len() {
            let mut flipped = bytes;
            flipped[at] ^= 1;
            assert_eq!(verdict(&flipped), Some((at >= 32, at < 32)), "byte {at}");
            assert_eq!(verdict(&bytes[..at]), None);
        }
        assert_eq!(verdict(&[0; 65]), None);
    }
}
