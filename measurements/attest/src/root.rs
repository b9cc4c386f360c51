//! The certificate at the top: Intel's, or one that a person named on the command line for a test.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};

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

/// Why bytes are no root certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum RootError {
    #[error("the test root has {got} bytes, more than the {max} allowed")]
    TooLong { got: usize, max: usize },
    #[error("the test root is no certificate: neither one in PEM nor one in DER fills it")]
    NotACertificate,
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

    /// A test root, PEM or DER, which replaces Intel's and never joins it.
    pub fn insecure_test(certificate: Vec<u8>) -> Result<Root, RootError> {
        if certificate.len() > limits::ROOT_BYTES_MAX {
            return Err(RootError::TooLong {
                got: certificate.len(),
                max: limits::ROOT_BYTES_MAX,
            });
        }
        let der = match certificate.strip_prefix(PEM_BEGIN) {
            Some(armoured) => from_pem(armoured)?,
            None => certificate,
        };
        // X.690 8.1.3.5: a SEQUENCE whose two length bytes cover the rest. A certificate is never shorter.
        let [0x30, 0x82, high, low, body @ ..] = &der[..] else {
            return Err(RootError::NotACertificate);
        };
        if body.len() != usize::from(u16::from_be_bytes([*high, *low])) {
            return Err(RootError::NotACertificate);
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

/// One certificate between its lines, and white space after. Its bytes are compared with others only once decoded, so
/// that how the lines are broken does not matter.
fn from_pem(armoured: &[u8]) -> Result<Vec<u8>, RootError> {
    let text = std::str::from_utf8(armoured).map_err(|_| RootError::NotACertificate)?;
    let body = text
        .trim_end()
        .strip_suffix(PEM_END)
        .ok_or(RootError::NotACertificate)?;
    let digits: String = body
        .chars()
        .filter(|letter| !letter.is_ascii_whitespace())
        .collect();
    STANDARD
        .decode(digits)
        .map_err(|_| RootError::NotACertificate)
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

const PEM_BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";
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
    fn a_test_root_is_the_same_in_pem_and_der() {
        let mut der = INTEL_DER.to_vec();
        *der.last_mut().unwrap() ^= 1;
        let pem = |end: &str| {
            let body = STANDARD.encode(&der).replace('a', "a\n");
            format!("-----BEGIN CERTIFICATE-----\n{body}\n{end}").into_bytes()
        };
        let good = pem("-----END CERTIFICATE-----\n");
        assert_eq!(
            Root::insecure_test(good.clone()),
            Root::insecure_test(der.clone())
        );
        for bad in [
            pem(""),
            pem("-----END CERTIFICATE-----\nmore"),
            [&good[..], &good].concat(),
            good[1..].to_vec(),
        ] {
            assert_eq!(Root::insecure_test(bad), Err(RootError::NotACertificate));
        }
        let intel = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            STANDARD.encode(INTEL_DER)
        );
        assert_eq!(
            Root::insecure_test(intel.into_bytes()),
            Err(RootError::IsIntel)
        );
    }

    #[test]
    fn a_test_root_is_a_certificate_and_not_intels() {
        assert_eq!(
            Root::insecure_test(INTEL_DER.to_vec()),
            Err(RootError::IsIntel)
        );
        assert_eq!(
            Root::insecure_test(b"-----BEGIN CERTIFICATE-----".to_vec()),
            Err(RootError::NotACertificate)
        );
        assert_eq!(
            Root::insecure_test(Vec::new()),
            Err(RootError::NotACertificate)
        );
        let max = limits::ROOT_BYTES_MAX;
        assert_eq!(
            Root::insecure_test(vec![0x30; max + 1]),
            Err(RootError::TooLong { got: max + 1, max })
        );
    }

    const INTEL_SHA256: &str = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3";
}
