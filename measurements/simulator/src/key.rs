//! P-256 keys made from the caller's randomness.

use p256::ecdsa::{Signature, SigningKey, signature::Signer};
use zeroize::Zeroizing;

/// A signing key. It has no `Debug` and no way out of memory; p256 clears it when dropped.
pub(crate) struct Key {
    secret: SigningKey,
    /// The public point, uncompressed: 0x04, x, y.
    point: Vec<u8>,
}

impl Key {
    pub(crate) fn generate(random: &mut impl FnMut(&mut [u8])) -> Key {
        let mut seed = Zeroizing::new([0u8; 32]);
        loop {
            random(&mut seed[..]);
            // Refused only if the number is zero or above the group order: once in 2^32.
            if let Ok(secret) = SigningKey::from_slice(&seed[..]) {
                let point = secret
                    .verifying_key()
                    .to_sec1_point(false)
                    .as_bytes()
                    .to_vec();
                return Key { secret, point };
            }
        }
    }

    /// `r || s`, the form quotes and collateral use.
    pub(crate) fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        let signature: Signature = self.secret.sign(message);
        signature.to_bytes().into()
    }

    /// `x || y`, the form quotes use.
    pub(crate) fn public_raw(&self) -> &[u8] {
        &self.point[1..]
    }
}

impl rcgen::PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: Signature = self.secret.sign(message);
        Ok(signature.to_der().as_bytes().to_vec())
    }
}
