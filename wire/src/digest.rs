//! SHA-256 digests that print as hexadecimal, each of one kind of object, and the one way this crate hashes.
//!
//! Every kind has a domain that goes into its hash, and a type of its own: no two kinds of object can have the same digest, and none
//! can be taken for another (SECURITY.md 17b).

use minicbor::{Decode, Encode, bytes::ByteArray};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// SHA-256 over a domain string, a zero byte and the parts, each preceded by its length (u64, big endian).
///
/// The domain keeps a signature over one kind of statement from meaning another; the lengths keep two lists of
/// parts from having one hash.
pub fn sha256(domain: &str, parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(domain.as_bytes());
    hasher.update([0]);
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    Digest(hasher.finalize().into())
}

macro_rules! digest {
    ($name:ident, $of:literal) => {
        #[doc = concat!("The digest of ", $of, ".")]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                ctx: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                ByteArray::from(self.0).encode(e, ctx)
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                ctx: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                Ok($name(ByteArray::<32>::decode(d, ctx)?.into()))
            }
        }
    };
    ($name:ident, $of:literal, $domain:literal) => {
        digest!($name, $of);

        impl $name {
            #[doc = concat!("Of ", $of, ", in the bytes that travel.")]
            pub fn of(bytes: &[u8]) -> Self {
                $name(sha256($domain, &[bytes]).0)
            }
        }
    };
}

digest!(
    Digest,
    "a file, or a value that is hashed with a domain of its own"
);
digest!(KeysetDigest, "a keyset", "chrysalis/keyset-digest/v1");
digest!(
    EnvelopeDigest,
    "an envelope",
    "chrysalis/envelope-digest/v1"
);
digest!(
    UnreadDigest,
    "bytes that came where an envelope should",
    "chrysalis/unread-digest/v1"
);
digest!(
    CoreDigest,
    "a receipt's core",
    "chrysalis/receipt-core-digest/v1"
);
digest!(ReceiptDigest, "a receipt", "chrysalis/receipt-digest/v1");

impl Digest {
    /// Plain SHA-256 of a file.
    pub fn of(file: &[u8]) -> Self {
        Digest(Sha256::digest(file).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_same_bytes_have_another_digest_as_another_kind_of_object() {
        for bytes in [&b""[..], b"chrysalis/envelope-digest/v1\0", &[0; 1000]] {
            let digests = HashSet::from([
                Digest::of(bytes).0,
                KeysetDigest::of(bytes).0,
                EnvelopeDigest::of(bytes).0,
                UnreadDigest::of(bytes).0,
                CoreDigest::of(bytes).0,
                ReceiptDigest::of(bytes).0,
            ]);
            assert_eq!(digests.len(), 6);
        }
    }
}
