//! The verification library speaks in sentences; this is what each of them means.

use crate::{Policy, Quote, Refusal, TcbStatus};

/// Names a refusal of dcap-qvl 0.7.1, which speaks in sentences. First match wins; what no line knows stays
/// [`Refusal::Unnamed`], never an acceptance.
pub(super) fn refusal(text: &str, quote: &Quote, policy: &Policy) -> Refusal {
    // Its checks of the guest's attributes come after all signatures, so ours may name them.
    if ATTRIBUTE_WORDS.iter().any(|words| text.contains(words))
        && let Err(named) = policy.check_attributes(&quote.td)
    {
        return named;
    }
    if text.contains("TCB status is invalid: Revoked") {
        return Refusal::TcbRefused {
            status: TcbStatus::Revoked,
            advisories: Vec::new(),
        };
    }
    let detail = text.to_owned();
    for (words, make) in SENTENCES {
        if words.iter().any(|words| text.contains(words)) {
            return make(detail);
        }
    }
    Refusal::Unnamed { detail }
}

type Make = fn(String) -> Refusal;

const ATTRIBUTE_WORDS: &[&str] = &[
    "Debug mode is enabled",
    "TD profiling is enabled",
    "Reserved bits in TD attributes",
    "TD migration is enabled",
    "SERVTD_EXT is enabled",
    "SEPT_VE_DISABLE is not enabled",
    "Invalid MR service TD",
    "TDX module MRSIGNER mismatch",
    "TDX module SEAMATTRIBUTES",
];

/// What dcap-qvl and the webpki beneath it say, and what we call it. Time before chains: an expired certificate
/// is reported inside "Failed to verify certificate chain".
const SENTENCES: &[(&[&str], Make)] = &[
    (
        &[
            "CrlExpired",
            "CertExpired",
            "TCBInfo expired",
            "QE Identity expired",
        ],
        |detail| Refusal::CollateralExpired { detail },
    ),
    (
        &["CertNotValidYet", "issue date is in the future"],
        |detail| Refusal::CollateralNotYetValid { detail },
    ),
    (&["CertRevoked"], |detail| Refusal::CertificateRevoked {
        detail,
    }),
    (
        &[
            "InvalidCrlSignatureForPublicKey",
            "UnknownIssuer",
            "Failed to load root ca",
        ],
        |detail| Refusal::Root { detail },
    ),
    (
        &[
            "ISV enclave report signature",
            "Signature is invalid for qe_report",
            "QE report hash mismatch",
        ],
        |detail| Refusal::QuoteSignature { detail },
    ),
    (
        &[
            "Signature is invalid for tcb_info",
            "Signature is invalid for qe_identity",
        ],
        |detail| Refusal::CollateralSignature { detail },
    ),
    (
        &[
            "No matching TCB level",
            "below minimum required from TDX module TCB levels",
        ],
        |detail| Refusal::BelowEveryTcbLevel { detail },
    ),
    (
        &[
            "Fmspc mismatch",
            "non-TDX TCB info",
            "No TDX module identity",
            "Unsupported QE Identity id/version",
        ],
        |detail| Refusal::CollateralForAnotherPlatform { detail },
    ),
    (
        &[
            "QE MRSIGNER",
            "QE ISVPRODID",
            "QE ISVSVN",
            "QE MISCSELECT",
            "QE ATTRIBUTES",
            "Unknown QE vendor ID",
        ],
        |detail| Refusal::QuotingEnclave { detail },
    ),
    (
        &[
            "Failed to decode TcbInfo",
            "Failed to decode QeIdentity",
            "Failed to parse root CA CRL",
            "Failed to parse PCK CRL",
            "Failed to parse certs",
            "Failed to parse TCB Info",
            "Failed to parse QE Identity",
            "Certificate chain is too short for",
            "No TCB levels found in QE Identity",
            "Unrecognized TCB status",
            "component count mismatch",
        ],
        |detail| Refusal::CollateralMalformed { detail },
    ),
    (
        &[
            "certificate",
            "Certificate",
            "CRL",
            "Intel extension",
            "must be issued directly by the root",
        ],
        |detail| Refusal::Chain { detail },
    ),
];
