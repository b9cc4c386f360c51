//! What can be asked for, and the name under which it is kept.

use super::ocsp::OcspQuestion;
use crate::limits::RIM_ID_BYTES_MAX;
use attest::Platform;
use std::fmt;
use std::str::FromStr;

/// One thing to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// Intel's four lists about a platform with TDX.
    Tdx(Platform),
    /// NVIDIA's reference values for a driver or a VBIOS.
    Rim(RimId),
    /// Whether a certificate of NVIDIA's is revoked.
    Ocsp(OcspQuestion),
}

/// NVIDIA's name of a reference integrity manifest, such as `NV_GPU_DRIVER_GH100_550.144.03`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RimId(String);

/// Why a question is not asked. Whoever asks is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WantError {
    /// Not a name that becomes part of a URL and of a file's name.
    #[error(
        "a RIM is named by up to {RIM_ID_BYTES_MAX} letters, digits, `_`, `-` and `.`, and begins with a letter"
    )]
    RimId,
    /// Not an OCSP request.
    #[error("this is not an OCSP request (RFC 6960) about one certificate: {0}")]
    Ocsp(&'static str),
}

impl Want {
    /// The name of the file that holds the answer: one for each question, and of letters that every file system takes.
    pub(super) fn file_name(&self) -> String {
        match self {
            Want::Tdx(platform) => {
                let fmspc = hex::encode_upper(platform.fmspc);
                format!("tdx-{fmspc}-{}", platform.ca)
            }
            Want::Rim(id) => format!("rim-{id}"),
            Want::Ocsp(question) => format!("ocsp-{}", hex::encode(question.key())),
        }
    }

    /// The reverse of [`Want::file_name`]; an OCSP request has to be given, since its name is a digest.
    pub(super) fn from_file_name(name: &str, question: Option<OcspQuestion>) -> Option<Want> {
        let (kind, rest) = name.split_once('-')?;
        let want = match kind {
            "tdx" => {
                let (fmspc, ca) = rest.split_once('-')?;
                Want::Tdx(Platform {
                    fmspc: Platform::fmspc_from_hex(fmspc).ok()?,
                    ca: ca.parse().ok()?,
                })
            }
            "rim" => Want::Rim(rest.parse().ok()?),
            "ocsp" => Want::Ocsp(question?),
            _ => return None,
        };
        (want.file_name() == name).then_some(want)
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Want::Tdx(platform) => write!(f, "Intel's collateral for {platform}"),
            Want::Rim(id) => write!(f, "NVIDIA's RIM {id}"),
            Want::Ocsp(question) => {
                let key = hex::encode(&question.key()[..4]);
                write!(f, "NVIDIA's OCSP answer {key}…")
            }
        }
    }
}

impl FromStr for RimId {
    type Err = WantError;
    fn from_str(text: &str) -> Result<Self, WantError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let fits = text.len() <= RIM_ID_BYTES_MAX
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(allowed);
        if fits {
            Ok(RimId(text.to_owned()))
        } else {
            Err(WantError::RimId)
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
            assert_eq!(wrong.parse::<RimId>(), Err(WantError::RimId), "{wrong}");
        }
    }

    #[test]
    fn a_file_name_leads_back_to_what_was_asked() {
        let tdx = Want::Tdx(Platform {
            fmspc: [0xb0, 0xc0, 0x6f, 0, 0, 0],
            ca: PckCa::Platform,
        });
        assert_eq!(tdx.file_name(), "tdx-B0C06F000000-platform");
        let rim = Want::Rim("NV-1".parse().expect("an id"));
        for want in [tdx, rim] {
            assert_eq!(
                Want::from_file_name(&want.file_name(), None),
                Some(want.clone())
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
            assert_eq!(Want::from_file_name(strange, None), None, "{strange}");
        }
    }
}
