//! Signatures that were found good in this appraisal, so that each is checked once.
//!
//! The two RIMs of a GPU come with the same authorities, and each of their certificates with the same word on revocation; GPUs of one
//! machine share most of their chains. A signature of P-384 takes most of a millisecond, and all else of an appraisal together no more.
//!
//! What is remembered is the digest of key, message and signature: the check is a function of these three. Only what was good is
//! remembered, and only as long as one appraisal.

use std::{cell::RefCell, collections::BTreeSet};

use pki::{Certificate, verifies};
use sha2::{Digest, Sha256};

#[derive(Debug, Default)]
pub(super) struct Signatures(RefCell<BTreeSet<[u8; 32]>>);

impl Signatures {
    /// Whether `issuer`'s key signed the certificate.
    pub fn issued(&self, certificate: &Certificate, issuer: &Certificate) -> bool {
        // Message and signature are parts of its DER, which has one reading.
        let judged = [b"certificate", &issuer.key_info[..], certificate.der()];
        self.once(&judged, || certificate.is_signed_by(&issuer.key))
    }

    /// Whether the key of `by` signed the message.
    pub fn signed(&self, by: &Certificate, message: &[u8], signature: &[u8; 96]) -> bool {
        let judged = [b"message", &by.key_info[..], message, signature];
        self.once(&judged, || verifies(&by.key, message, signature))
    }

    fn once(&self, judged: &[&[u8]], check: impl FnOnce() -> bool) -> bool {
        let mut hasher = Sha256::new();
        for part in judged {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let digest = hasher.finalize().into();
        let good = self.0.borrow().contains(&digest) || check();
        if good {
            self.0.borrow_mut().insert(digest);
        }
        good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_good_is_checked_once_and_everything_else_each_time() {
        let signatures = Signatures::default();
        let checked = |judged: &[&[u8]], good| {
            let mut times = 0;
            let first = signatures.once(judged, || {
                times += 1;
                good
            });
            let second = signatures.once(judged, || {
                times += 1;
                good
            });
            assert_eq!((first, second), (good, good));
            times
        };
        assert_eq!(checked(&[b"key", b"message"], true), 1);
        assert_eq!(checked(&[b"key", b"other"], false), 2);
        // Parts that are cut elsewhere are others.
        assert_eq!(checked(&[b"keym", b"essage"], true), 1);
        assert_eq!(checked(&[b"key", b"message", b""], false), 2);
    }
}
