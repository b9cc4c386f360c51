//! Which platform a quote comes from, in the two words under which Intel files its collateral.

use std::{fmt, str::FromStr};

use pki::CertificateOutline;

use crate::Quote;

/// A family of platforms and who certifies it. Intel's services are asked with these two (PCS API version 4, `fmspc` and `ca`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// Family, model, stepping, platform type and custom SKU.
    pub fmspc: [u8; 6],
    /// Who issued the platform's certificate.
    pub ca: PckCa,
}

/// Intel's two certification authorities for platforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PckCa {
    /// For machines of one processor that were never registered as a platform.
    Processor,
    /// For registered platforms; every server with TDX is one.
    Platform,
}

/// Why a platform is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum PlatformError {
    #[error("the quote's platform certificate is not understood: {0}")]
    Certificate(String),
    #[error("`{0}` is neither Intel's processor CA nor its platform CA")]
    Ca(String),
    #[error("`{0}` is no FMSPC: it has twelve hexadecimal digits")]
    Fmspc(String),
}

impl Platform {
    /// Reads the platform's certificate inside a quote. Nothing is believed: it only says which collateral to fetch.
    pub fn of(quote: &Quote) -> Result<Platform, PlatformError> {
        let [leaf, ..] = &quote.chain;
        let extension = dcap_qvl::intel::parse_pck_extension(leaf)
            .map_err(|error| PlatformError::Certificate(format!("{error:#}")))?;
        let certificate = CertificateOutline::parse(leaf)
            .ok_or_else(|| PlatformError::Certificate("it is not X.509 of version 3".into()))?;
        Ok(Platform {
            fmspc: extension.fmspc,
            ca: PckCa::named_in(&certificate.issuer_name)?,
        })
    }

    /// Takes the twelve digits of an FMSPC.
    pub fn fmspc_from_hex(text: &str) -> Result<[u8; 6], PlatformError> {
        let mut fmspc = [0; 6];
        hex::decode_to_slice(text, &mut fmspc)
            .map_err(|_| PlatformError::Fmspc(text.chars().take(WORD_CHARACTERS_MAX).collect()))?;
        Ok(fmspc)
    }
}

impl PckCa {
    /// Finds the authority in a certificate's name, as it stands in `Intel SGX PCK Platform CA`.
    pub(crate) fn named_in(name: &str) -> Result<PckCa, PlatformError> {
        let lower = name.to_ascii_lowercase();
        match (lower.contains("platform"), lower.contains("processor")) {
            (true, false) => Ok(PckCa::Platform),
            (false, true) => Ok(PckCa::Processor),
            _ => Err(PlatformError::Ca(
                name.chars().take(WORD_CHARACTERS_MAX).collect(),
            )),
        }
    }
}

impl FromStr for PckCa {
    type Err = PlatformError;
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        match text {
            "processor" => Ok(PckCa::Processor),
            "platform" => Ok(PckCa::Platform),
            other => Err(PlatformError::Ca(
                other.chars().take(WORD_CHARACTERS_MAX).collect(),
            )),
        }
    }
}

impl fmt::Display for PckCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PckCa::Processor => "processor",
            PckCa::Platform => "platform",
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of the {} CA", hex::encode_upper(self.fmspc), self.ca)
    }
}

/// How much of a stranger's word an error repeats.
const WORD_CHARACTERS_MAX: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_one_of_two_words() {
        for ca in [PckCa::Processor, PckCa::Platform] {
            assert_eq!(ca.to_string().parse(), Ok(ca));
        }
        for other in ["", "Platform", "platform ", "root"] {
            assert_eq!(
                other.parse::<PckCa>(),
                Err(PlatformError::Ca(other.to_owned()))
            );
        }
        assert_eq!(
            PckCa::named_in("CN=Intel SGX PCK Processor CA"),
            Ok(PckCa::Processor)
        );
        for both_or_none in ["CN=Processor Platform CA", "CN=Root CA"] {
            assert!(PckCa::named_in(both_or_none).is_err(), "{both_or_none}");
        }
    }

    #[test]
    fn an_fmspc_has_twelve_digits() {
        assert_eq!(
            Platform::fmspc_from_hex("B0C06F000000"),
            Ok([0xb0, 0xc0, 0x6f, 0, 0, 0])
        );
        for wrong in ["", "B0C06F00000", "B0C06F0000000", "B0C06F00000g"] {
            assert!(Platform::fmspc_from_hex(wrong).is_err(), "{wrong}");
        }
    }
}
