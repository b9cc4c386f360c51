//! Keys of Ed25519 (RFC 8032) in the files that OpenSSL writes: PEM (RFC 7468) around PKCS#8 and SubjectPublicKeyInfo (RFC 8410).
//!
//! Both structures have one length and one prefix each for this algorithm, so they are compared and not parsed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::limits::KEY_BYTES_MAX;

/// A key that signs. It cannot be printed or copied, and is wiped when dropped.
pub struct SecretKey(SigningKey);

/// A key that signatures are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// Why a file is not a key. Whoever chose it is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum KeyError {
    #[error("it is longer than {KEY_BYTES_MAX} bytes")]
    TooLong,
    #[error("it has no line `-----BEGIN {0}-----` with base64 and an end after it")]
    Pem(&'static str),
    #[error("it holds no Ed25519 key in the form of RFC 8410")]
    Kind,
    #[error("it is no point of Ed25519, or one of small order")]
    Weak,
}

impl SecretKey {
    /// The key of a seed; whoever makes one takes the seed from the system.
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads `PRIVATE KEY`, as `openssl genpkey -algorithm ed25519` writes it.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let der = Zeroizing::new(read_pem(text, SECRET_LABEL)?);
        let seed = der.strip_prefix(&SECRET_PREFIX).ok_or(KeyError::Kind)?;
        let seed: &[u8; 32] = seed.try_into().map_err(|_| KeyError::Kind)?;
        Ok(Self(SigningKey::from_bytes(seed)))
    }

    /// The same file.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let mut der = Zeroizing::new(SECRET_PREFIX.to_vec());
        // Reserved at once, so that no copy is left behind by growing.
        der.reserve_exact(32);
        der.extend_from_slice(self.0.as_bytes());
        Zeroizing::new(write_pem(&der, SECRET_LABEL))
    }

    /// The other half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs; the same bytes give the same signature.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl PublicKey {
    /// Reads `PUBLIC KEY`, as `openssl pkey -pubout` writes it.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let der = read_pem(text, PUBLIC_LABEL)?;
        let point = der.strip_prefix(&PUBLIC_PREFIX).ok_or(KeyError::Kind)?;
        let point: &[u8; 32] = point.try_into().map_err(|_| KeyError::Kind)?;
        let key = VerifyingKey::from_bytes(point).map_err(|_| KeyError::Weak)?;
        match key.is_weak() {
            true => Err(KeyError::Weak),
            false => Ok(Self(key)),
        }
    }

    /// The same file.
    pub fn to_pem(&self) -> String {
        write_pem(&self.der(), PUBLIC_LABEL)
    }

    /// A name for it: SHA-256 of its SubjectPublicKeyInfo, in hex. Names help to find a key and prove nothing.
    pub fn id(&self) -> String {
        hex::encode(Sha256::digest(self.der()))
    }

    /// Whether this key signed `message`. Signatures that only some verifiers accept are refused.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }

    fn der(&self) -> Vec<u8> {
        [&PUBLIC_PREFIX[..], self.0.as_bytes()].concat()
    }
}

fn read_pem(text: &[u8], label: &'static str) -> Result<Vec<u8>, KeyError> {
    if text.len() > KEY_BYTES_MAX {
        return Err(KeyError::TooLong);
    }
    let inside = || {
        let text = std::str::from_utf8(text).ok()?;
        let (_, after) = text.split_once(&format!("-----BEGIN {label}-----"))?;
        let (inside, _) = after.split_once(&format!("-----END {label}-----"))?;
        let mut packed = Zeroizing::new(String::with_capacity(inside.len()));
        packed.extend(inside.split_ascii_whitespace());
        STANDARD.decode(packed.as_bytes()).ok()
    };
    inside().ok_or(KeyError::Pem(label))
}

/// The keys of this algorithm fit into one line.
fn write_pem(der: &[u8], label: &str) -> String {
    let line = Zeroizing::new(STANDARD.encode(der));
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        *line
    )
}

const SECRET_LABEL: &str = "PRIVATE KEY";
const PUBLIC_LABEL: &str = "PUBLIC KEY";
/// RFC 8410, section 7: version 0, id-Ed25519, an octet string in an octet string.
const SECRET_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// RFC 8410, section 4: id-Ed25519 and a bit string without unused bits.
const PUBLIC_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8410, section 10.3 and 10.1.
    const SECRET: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";

    #[test]
    fn the_key_of_rfc_8410_is_read_and_written_as_it_stands_there() {
        let secret = SecretKey::from_pem(SECRET.as_bytes()).expect("the RFC's key");
        assert_eq!(secret.to_pem().as_str(), SECRET);
        let public = PublicKey::from_pem(PUBLIC.as_bytes()).expect("the RFC's key");
        assert_eq!(secret.public(), public);
        assert_eq!(public.to_pem(), PUBLIC);
        let signature = secret.sign(b"message");
        assert!(public.verifies(b"message", &signature));
        assert!(!public.verifies(b"massage", &signature));
        assert!(!public.verifies(b"message", &signature[..63]));
    }

    #[test]
    fn no_changed_key_file_is_read_as_the_same_key() {
        let secret = SecretKey::from_pem(SECRET.as_bytes()).expect("the RFC's key");
        for at in 0..PUBLIC.len() {
            for bit in [1, 0x20, 0x80] {
                let mut bytes = PUBLIC.as_bytes().to_vec();
                bytes[at] ^= bit;
                if let Ok(other) = PublicKey::from_pem(&bytes) {
                    // A line end that became another blank, or the text around the key.
                    assert!(other.to_pem() != PUBLIC || other == secret.public());
                }
                let _ = PublicKey::from_pem(&bytes[..at]);
                let _ = SecretKey::from_pem(&bytes);
            }
        }
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        let check = |text: &str| PublicKey::from_pem(text.as_bytes()).expect_err(text);
        assert_eq!(check(""), KeyError::Pem("PUBLIC KEY"));
        assert_eq!(check(SECRET), KeyError::Pem("PUBLIC KEY"));
        assert_eq!(
            check(&PUBLIC.replace("-----END", "-----")),
            KeyError::Pem("PUBLIC KEY")
        );
        assert_eq!(check(&PUBLIC.replace("MCow", "MCox")), KeyError::Kind);
        assert_eq!(check(&PUBLIC.replace("MCow", "AAAAMCow")), KeyError::Kind);
        assert_eq!(check(&"a".repeat(KEY_BYTES_MAX + 1)), KeyError::TooLong);
        // The neutral point: everything would be signed by everybody.
        let mut der = PUBLIC_PREFIX.to_vec();
        der.extend([1].into_iter().chain([0; 31]));
        assert_eq!(check(&write_pem(&der, PUBLIC_LABEL)), KeyError::Weak);
    }
}
