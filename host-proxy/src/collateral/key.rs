//! What collateral is asked for by, and the file name of the answer in the cache.

use crate::limits::{OCSP_REQUEST_BYTES_MAX, RIM_ID_BYTES_MAX};
use attest::Platform;
use pki::ocsp;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// What one answer is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollateralKey {
    /// Intel's collateral for a TDX platform.
    Tdx(Platform),
    /// NVIDIA's reference integrity manifest for a driver or a VBIOS.
    Rim(RimId),
    /// The revocation status of one of NVIDIA's certificates.
    Ocsp(OcspRequest),
}

/// NVIDIA's name of a reference integrity manifest, such as `NV_GPU_DRIVER_GH100_550.144.03`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RimId(String);

/// A client's OCSP request for one certificate.
///
/// Nonce and signature are for the client to judge. A cached answer has the nonce of an earlier request; a client that does
/// not accept that in exchange for the signed dates asks with `Cache-Control: no-cache`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OcspRequest {
    der: Vec<u8>,
    request: ocsp::Request,
}

/// A key that cannot be asked for. The caller is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum KeyError {
    #[error(
        "a RIM id is a letter followed by letters, digits, `_`, `-` and `.`, at most {RIM_ID_BYTES_MAX} in all"
    )]
    RimId,
    #[error("not an OCSP request (RFC 6960) for one certificate: {0}")]
    Ocsp(&'static str),
}

impl CollateralKey {
    /// Reads an OCSP request.
    pub fn ocsp(der: &[u8]) -> Result<CollateralKey, KeyError> {
        if der.len() > OCSP_REQUEST_BYTES_MAX {
            return Err(KeyError::Ocsp("it is longer than 4096 bytes"));
        }
        let request = ocsp::Request::parse(der).ok_or(KeyError::Ocsp("malformed DER"))?;
        let der = der.to_owned();
        Ok(CollateralKey::Ocsp(OcspRequest { der, request }))
    }

    /// The name of the file that holds the answer: one for each request, and of letters that every file system takes.
    pub(super) fn file_name(&self) -> String {
        match self {
            CollateralKey::Tdx(platform) => {
                let fmspc = hex::encode_upper(platform.fmspc);
                format!("tdx-{fmspc}-{}", platform.ca)
            }
            CollateralKey::Rim(id) => format!("rim-{id}"),
            CollateralKey::Ocsp(request) => format!("ocsp-{}", hex::encode(request.digest())),
        }
    }

    /// The reverse of [`CollateralKey::file_name`]; an OCSP key has to be given, since its name is a digest.
    pub(super) fn from_file_name(name: &str, ocsp: Option<CollateralKey>) -> Option<CollateralKey> {
        let (kind, rest) = name.split_once('-')?;
        let key = match kind {
            "tdx" => {
                let (fmspc, ca) = rest.split_once('-')?;
                CollateralKey::Tdx(Platform {
                    fmspc: Platform::fmspc_from_hex(fmspc).ok()?,
                    ca: ca.parse().ok()?,
                })
            }
            "rim" => CollateralKey::Rim(rest.parse().ok()?),
            "ocsp" => ocsp?,
            _ => return None,
        };
        (key.file_name() == name).then_some(key)
    }
}

impl OcspRequest {
    /// The request as it came.
    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    pub(super) fn parsed(&self) -> &ocsp::Request {
        &self.request
    }

    /// A digest of the certificate's name: the same for every request about it.
    fn digest(&self) -> [u8; 32] {
        let name = &self.request.certificate;
        let mut hash = Sha256::new();
        for part in [
            &name.hash,
            &name.issuer_name,
            &name.issuer_key,
            &name.serial,
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

impl fmt::Display for CollateralKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CollateralKey::Tdx(platform) => write!(f, "Intel's collateral for {platform}"),
            CollateralKey::Rim(id) => write!(f, "NVIDIA's RIM {id}"),
            CollateralKey::Ocsp(request) => {
                let key = hex::encode(&request.digest()[..4]);
                write!(f, "NVIDIA's OCSP answer {key}…")
            }
        }
    }
}

impl FromStr for RimId {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let fits = text.len() <= RIM_ID_BYTES_MAX
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(allowed);
        if fits {
            Ok(RimId(text.to_owned()))
        } else {
            Err(KeyError::RimId)
        }
    }
}

impl RimId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attest::PckCa;

    #[test]
    fn a_rim_id_is_no_path_and_no_url() {
        let driver = "NV_GPU_DRIVER_GH100_550.144.03";
        assert_eq!(driver.parse::<RimId>().expect("an id").as_str(), driver);
        let long = "a".repeat(RIM_ID_BYTES_MAX + 1);
        for wrong in [
            "", ".", "..", "../x", "a/b", "a?b", "a%2f", "a b", "a\n", "é", &long,
        ] {
            assert_eq!(wrong.parse::<RimId>(), Err(KeyError::RimId), "{wrong}");
        }
    }

    #[test]
    fn a_file_name_leads_back_to_what_was_asked() {
        let tdx = CollateralKey::Tdx(Platform {
            fmspc: [0xb0, 0xc0, 0x6f, 0, 0, 0],
            ca: PckCa::Platform,
        });
        assert_eq!(tdx.file_name(), "tdx-B0C06F000000-platform");
        let rim = CollateralKey::Rim("NV-1".parse().expect("an id"));
        for key in [tdx, rim] {
            assert_eq!(
                CollateralKey::from_file_name(&key.file_name(), None),
                Some(key.clone())
            );
        }
        for strange in [
            "",
            "tdx",
            "tdx-b0c06f000000-platform",
            "tdx-B0C06F000000-root",
            "ocsp-00",
            "x-y",
        ] {
            assert_eq!(
                CollateralKey::from_file_name(strange, None),
                None,
                "{strange}"
            );
        }
    }
}
