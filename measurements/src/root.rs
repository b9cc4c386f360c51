//! The certificate at the top: Intel's, or one that a person named on the command line for a test.

use std::fmt;

use crate::limits;

/// The root of trust a quote must lead to.
#[derive(Clone, PartialEq, Eq)]
pub struct Root {
    der: Vec<u8>,
    class: RootClass,
}

/// Whose signature stands behind a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RootClass {
    /// Intel's: a real platform.
    Intel,
    /// A root named for a test: nothing behind it is confidential.
    InsecureTest,
}

/// Why bytes are no root certificate. Whoever named the file is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// Longer than any root certificate.
    #[error("the test root has {got} bytes, more than the {max} allowed")]
    TooLong {
        /// Bytes offered.
        got: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not one DER sequence that fills the file.
    #[error("the test root is not a DER certificate; give the DER file, not PEM")]
    NotDer,
    /// Intel's own root under the name of a test root.
    #[error("this is Intel's root, not a test root; leave the option out to trust Intel")]
    IsIntel,
}

impl Root {
    /// Intel's SGX and TDX provisioning root.
    pub fn intel() -> Root {
        Root {
            der: INTEL_DER.to_vec(),
            class: RootClass::Intel,
        }
    }

    /// A test root, which replaces Intel's and never joins it.
    pub fn insecure_test(der: Vec<u8>) -> Result<Root, RootError> {
        if der.len() > limits::ROOT_BYTES_MAX {
            return Err(RootError::TooLong {
                got: der.len(),
                max: limits::ROOT_BYTES_MAX,
            });
        }
        // X.690 8.1.3.5: a SEQUENCE whose two length bytes cover the rest. A certificate is never shorter.
        let [0x30, 0x82, high, low, body @ ..] = &der[..] else {
            return Err(RootError::NotDer);
        };
        if body.len() != usize::from(u16::from_be_bytes([*high, *low])) {
            return Err(RootError::NotDer);
        }
        // Otherwise a real peer would carry the class of a simulated one.
        if der == INTEL_DER {
            return Err(RootError::IsIntel);
        }
        Ok(Root {
            der,
            class: RootClass::InsecureTest,
        })
    }

    /// Whose root this is.
    pub fn class(&self) -> RootClass {
        self.class
    }

    /// The certificate.
    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }
}

impl fmt::Display for RootClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RootClass::Intel => "intel",
            RootClass::InsecureTest => "insecure-test",
        })
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root({})", self.class)
    }
}

/// Intel SGX Provisioning Certification Root CA, as published at certificates.trustedservices.intel.com and equal to the
/// one inside `dcap-qvl`. A test pins its digest.
const INTEL_DER: &[u8] = include_bytes!("intel-sgx-root-ca.der");

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn intels_root_is_the_pinned_certificate() {
        let digest: [u8; 32] = Sha256::digest(Root::intel().der()).into();
        assert_eq!(hex::encode(digest), INTEL_SHA256);
    }

    #[test]
    fn a_test_root_is_der_and_not_intels() {
        assert_eq!(
            Root::insecure_test(INTEL_DER.to_vec()),
            Err(RootError::IsIntel)
        );
        assert_eq!(
            Root::insecure_test(b"-----BEGIN CERTIFICATE-----".to_vec()),
            Err(RootError::NotDer)
        );
        assert_eq!(Root::insecure_test(Vec::new()), Err(RootError::NotDer));
        let max = limits::ROOT_BYTES_MAX;
        assert_eq!(
            Root::insecure_test(vec![0x30; max + 1]),
            Err(RootError::TooLong { got: max + 1, max })
        );
    }

    const INTEL_SHA256: &str = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3";
}
