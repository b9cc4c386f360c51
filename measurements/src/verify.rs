//! Evidence becomes a peer: the one door.
//!
//! ```text
//! quote, collateral ─► shape ─► signatures and chains up to the root (dcap-qvl) ─► attributes ─► platform state
//!                                                        ─► owner ─► registers ─► report data ─► Verified<Peer>
//! ```
//! Each step is reached only through the one before, so the first refusal is the gravest one that can be known.

use std::ops::Deref;

use dcap_qvl::{QuoteClaims, verify::QuoteVerifier};
use sha2::{Digest, Sha256};

use crate::{
    Collateral, Policy, Quote, Refusal, Registers, ReportData, Root, RootClass, TcbStatus,
};

/// A value that [`verify`] or [`gpu::verify`](crate::gpu::verify) vouches for. It has no maker outside this crate:
///
/// ```compile_fail,E0423
/// fn forge(peer: measurements::Peer) -> measurements::Verified<measurements::Peer> {
///     measurements::Verified(peer)
/// }
/// ```
/// It can be read and passed on:
/// ```
/// fn registers(peer: &measurements::Verified<measurements::Peer>) -> measurements::Registers {
///     peer.registers
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// For the verifiers of this crate, as their last step.
    pub(crate) fn vouch(value: T) -> Verified<T> {
        Verified(value)
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// What is known about a guest whose quote was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it measured to.
    pub registers: Registers,
    /// Whose root stands behind it. Say so to people: a peer of a test root is not confidential.
    pub root: RootClass,
    /// The state of its platform.
    pub tcb_status: TcbStatus,
    /// Intel's advisories against its platform.
    pub advisories: Vec<String>,
    /// The evaluation number of the collateral; keep the highest one seen as the policy's minimum.
    pub tcb_evaluation_number: u32,
    /// When the first part of the collateral expires.
    pub collateral_expires_unix_s: u64,
    /// What the guest bound.
    pub report_data: ReportData,
    /// SHA-256 of the quote's bytes, as given.
    pub quote_digest: [u8; 32],
    /// The family of the platform.
    pub fmspc: [u8; 6],
    /// The identity of the platform, stable over its life.
    pub ppid: Vec<u8>,
}

/// Turns evidence into a peer, or says why not.
///
/// `Ok` claims: at `now_unix_s`, under `root`, a TDX module in an accepted state signed that a guest with accepted
/// attributes and exactly the listed registers asked for `report_data`. It claims nothing about who holds the
/// platform's attestation key, and nothing about a GPU.
pub fn verify(
    quote: &[u8],
    collateral: &Collateral,
    report_data: &ReportData,
    policy: &Policy,
    root: &Root,
    now_unix_s: u64,
) -> Result<Verified<Peer>, Refusal> {
    if policy.registers.is_empty() {
        return Err(Refusal::EmptyPolicy);
    }
    let parsed = Quote::parse(quote)?;
    // dcap-qvl takes the trust anchor as the root and never looks at the last certificate of the quote. Were it
    // not compared here, it would be the one part of a quote that anybody can change.
    let [_, _, top] = &parsed.chain;
    if top != root.der() {
        let detail = format!(
            "the quote's chain ends in another root than the {} one",
            root.class()
        );
        return Err(Refusal::Root { detail });
    }
    let claims = QuoteVerifier::new(root.der().to_vec())
        .verify_with_policy(quote, collateral.as_qvl(), now_unix_s, &LeaveJudgementToUs)
        .map_err(|error| refusal(&format!("{error:#}"), &parsed, policy))?;

    policy.check_attributes(&parsed.td)?;
    let tcb_status = TcbStatus::from(claims.tcb.status);
    if tcb_status == TcbStatus::Revoked || !policy.tcb_statuses.contains(&tcb_status) {
        return Err(Refusal::TcbRefused {
            status: tcb_status,
            advisories: claims.tcb.advisory_ids,
        });
    }
    if claims.tcb.eval_data_number < policy.tcb_evaluation_number_min {
        return Err(Refusal::EvaluationNumber {
            got: claims.tcb.eval_data_number,
            min: policy.tcb_evaluation_number_min,
        });
    }
    policy.check_owner(&parsed.td)?;
    policy.check_registers(&parsed.td.registers)?;
    if parsed.td.report_data != *report_data {
        return Err(Refusal::ReportDataMismatch {
            got: Box::new(parsed.td.report_data),
            expected: Box::new(*report_data),
        });
    }

    Ok(Verified::vouch(Peer {
        registers: parsed.td.registers,
        root: root.class(),
        tcb_status,
        advisories: claims.tcb.advisory_ids,
        tcb_evaluation_number: claims.tcb.eval_data_number,
        collateral_expires_unix_s: claims.earliest_expiration_date,
        report_data: parsed.td.report_data,
        quote_digest: Sha256::digest(quote).into(),
        fmspc: claims.platform.pck.fmspc,
        ppid: claims.platform.pck.ppid,
    }))
}

/// The library's policy hook accepts everything: the judgement is above, with our types, after the signatures.
/// Its unconditional checks (debug, migration, service TDs, revoked platforms) stay on beneath ours.
struct LeaveJudgementToUs;

impl dcap_qvl::Policy for LeaveJudgementToUs {
    fn validate(&self, _claims: &QuoteClaims) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Names a refusal of dcap-qvl 0.7.1, which speaks in sentences. First match wins; what no line knows stays
/// [`Refusal::Unnamed`], never an acceptance.
fn refusal(text: &str, quote: &Quote, policy: &Policy) -> Refusal {
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
