//! Signatures that were found good, so that each is checked once.
//!
//! The two RIMs of a GPU come with the same authorities, and each of their certificates with the same word on revocation; GPUs of one
//! machine share most of their chains, and reports of one GPU all but their own signature. A signature of P-384 takes most of a
//! millisecond, and all else of an appraisal together no more.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::limits::GPU_SIGNATURES_MAX;
use pki::{Certificate, verifies};
use sha2::{Digest, Sha256};

/// Signatures that were found good, for whoever appraises more than once.
///
/// What is remembered is the digest of key, message and signature: the check is a function of these three and of nothing else. Dates,
/// roots, revocation and what a certificate is for are judged each time. What was bad is not remembered.
#[derive(Debug, Default)]
pub struct Signatures(Mutex<BTreeSet<[u8; 32]>>);

impl Signatures {
    /// How many are remembered.
    pub fn count(&self) -> usize {
        self.known(|known| known.len())
    }

    /// Whether `issuer`'s key signed the certificate.
    pub(super) fn issued(&self, certificate: &Certificate, issuer: &Certificate) -> bool {
        // Message and signature are parts of its DER, which has one reading.
        let judged = [b"certificate", &issuer.key_info[..], certificate.der()];
        self.once(&judged, || certificate.is_signed_by(&issuer.key))
    }

    /// Whether the key of `by` signed the message.
    pub(super) fn signed(&self, by: &Certificate, message: &[u8], signature: &[u8; 96]) -> bool {
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
        if self.known(|known| known.contains(&digest)) {
            return true;
        }
        let good = check();
        if good {
            self.known(|known| {
                if known.len() >= GPU_SIGNATURES_MAX {
                    known.clear();
                }
                known.insert(digest);
            });
        }
        good
    }

    fn known<T>(&self, with: impl FnOnce(&mut BTreeSet<[u8; 32]>) -> T) -> T {
        // Whoever panicked left a set of good signatures: nothing else is ever put in.
        with(&mut self.0.lock().unwrap_or_else(|broken| broken.into_inner()))
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

    #[test]
    fn a_full_memory_begins_anew() {
        let signatures = Signatures::default();
        for number in 0..GPU_SIGNATURES_MAX as u64 {
            assert!(signatures.once(&[&number.to_be_bytes()], || true));
        }
        assert_eq!(signatures.count(), GPU_SIGNATURES_MAX);
        assert!(!signatures.once(&[b"bad"], || false));
        assert!(signatures.once(&[&[0; 8]], || unreachable!("it is known")));
        assert!(signatures.once(&[b"one more"], || true));
        assert_eq!(signatures.count(), 1);
    }
}
