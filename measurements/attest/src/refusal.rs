//! Why a peer was not believed. One variant per reason, so that a test can compare and a person can act.

use std::fmt;

use chrono::{DateTime, SecondsFormat};

use crate::{QuoteError, TcbStatus};
use registers::{Digest48, Register, ReportData};

/// Why [`verify`](crate::verify) refused. The text says whose fault it is and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum Refusal {
    #[error(
        "the policy lists no registers, so it accepts nobody: add the registers of a manifest you trust"
    )]
    EmptyPolicy,
    #[error("the peer sent something that is not a TDX quote: {0}; do not send it anything")]
    QuoteMalformed(#[from] QuoteError),
    #[error(
        "the peer's quote was changed or forged: a signature inside it does not hold ({detail}); do not send it anything"
    )]
    QuoteSignature { detail: String },
    #[error(
        "the evidence does not lead to the root this verifier trusts ({detail}); a simulated peer needs its own root named as a test root, \
         a real one needs Intel's"
    )]
    Root { detail: String },
    #[error(
        "a certificate chain in the evidence does not hold ({detail}); the peer or the source of its collateral is at fault"
    )]
    Chain { detail: String },
    #[error(
        "a certificate of the peer's platform was revoked by its issuer ({detail}): no update and no policy helps; use another platform"
    )]
    CertificateRevoked { detail: String },
    #[error(
        "{of}, which came in its quote, is of a later day than the one judged at: it is valid from {}, and was judged at {}; the \
         collateral is not at fault: judge at a later time, or set this machine's clock",
        moment(from_unix_s),
        moment(at_unix_s)
    )]
    QuoteCertificateNotYetValid {
        of: QuoteCertificate,
        from_unix_s: u64,
        at_unix_s: u64,
    },
    #[error(
        "{of}, which came in its quote, has expired: it was valid until {}, and was judged at {}; the collateral is not at fault: \
         ask for a newer quote, whose platform was certified again, or set this machine's clock",
        moment(until_unix_s),
        moment(at_unix_s)
    )]
    QuoteCertificateExpired {
        of: QuoteCertificate,
        until_unix_s: u64,
        at_unix_s: u64,
    },
    #[error(
        "the collateral has expired ({detail}); fetch fresh collateral, or set this machine's clock"
    )]
    CollateralExpired { detail: String },
    #[error("the collateral is not valid yet ({detail}); set this machine's clock")]
    CollateralNotYetValid { detail: String },
    #[error(
        "the collateral was changed or forged ({detail}); fetch it again from Intel's service or a cache of it"
    )]
    CollateralSignature { detail: String },
    #[error(
        "the collateral is for another platform ({detail}); fetch the collateral of the peer's own platform family"
    )]
    CollateralForAnotherPlatform { detail: String },
    #[error(
        "the collateral cannot be read ({detail}); fetch it again from Intel's service or a cache of it"
    )]
    CollateralMalformed { detail: String },
    #[error(
        "the peer's quoting enclave is not the one its vendor lists ({detail}); its operator must update it"
    )]
    QuotingEnclave { detail: String },
    #[error(
        "the peer's platform is {status}, which the policy does not accept: {} (advisories: {})",
        status.remedy(),
        list(advisories)
    )]
    TcbRefused {
        status: TcbStatus,
        advisories: Vec<String>,
    },
    #[error(
        "the peer's platform is {status}, and the policy does not name these advisories against it: {}; read them, and name in the \
         policy those that do not matter to you, or have its operator update it",
        list(advisories)
    )]
    AdvisoriesRefused {
        status: TcbStatus,
        advisories: Vec<String>,
    },
    #[error(
        "the peer's platform is {status}: its level is {days} days old, and the policy's grace ends after {grace_days}; {} (advisories: {})",
        status.remedy(),
        list(advisories)
    )]
    GraceOver {
        status: TcbStatus,
        grace_days: u32,
        days: u64,
        advisories: Vec<String>,
    },
    #[error(
        "the peer's platform is below every level in the collateral, which its vendor lists as the least ({detail}): its operator must update \
         firmware with microcode and TDX module, and register the platform again; no grace covers this"
    )]
    BelowEveryTcbLevel { detail: String },
    #[error(
        "the collateral has evaluation number {got}, below the {min} already seen: somebody offers old collateral; fetch fresh collateral"
    )]
    EvaluationNumber { got: u32, min: u32 },
    #[error(
        "the peer runs something else than the manifest says: {register} is {got}, accepted: {}; rebuild, or do not send it anything",
        list(allowed)
    )]
    RegisterMismatch {
        register: Register,
        got: Digest48,
        allowed: Vec<Digest48>,
    },
    #[error(
        "the peer's quote binds other data ({got}) than this keyset and nonce ({expected}): it is old, or meant for another verifier; ask for a fresh one"
    )]
    ReportDataMismatch {
        got: Box<ReportData>,
        expected: Box<ReportData>,
    },
    #[error(
        "the peer's guest is under debug or profiling (attributes {td_attributes:#018x}): its host can read it; do not send it anything"
    )]
    Debug { td_attributes: u64 },
    #[error(
        "the peer's guest was started without SEPT_VE_DISABLE (attributes {td_attributes:#018x}): its host can steer its exceptions; \
         its operator must start it with that attribute"
    )]
    SeptVeDisable { td_attributes: u64 },
    #[error(
        "the peer's guest is migratable (attributes {td_attributes:#018x}): a migration service could move it; its operator must start it without"
    )]
    Migratable { td_attributes: u64 },
    #[error(
        "a service TD is bound to the peer's guest ({mr_service_td}, attributes {td_attributes:#018x}); its operator must start it without"
    )]
    ServiceTd {
        mr_service_td: Digest48,
        td_attributes: u64,
    },
    #[error(
        "the peer's quote was made for VM {vm_id} inside a partitioned guest, whose outer part can read it; its operator must start it \
         without partitioning"
    )]
    Partitioned { vm_id: u8 },
    #[error(
        "the peer's TDX module was not signed by Intel (signer {got}); its operator must load Intel's module"
    )]
    SeamSigner { got: Digest48 },
    #[error(
        "the peer's TDX module has attributes {got:#018x}, a production module has none; its operator must load a production module"
    )]
    SeamAttributes { got: u64 },
    #[error(
        "the peer's guest has XFAM {got:#x}; the policy requires {required:#x} and allows {allowed:#x}; its operator must change its CPU model"
    )]
    Xfam {
        got: u64,
        required: u64,
        allowed: u64,
    },
    #[error(
        "the peer's guest was started with PERFMON (attributes {td_attributes:#018x}), a clock for side channels; its operator must start it without"
    )]
    Perfmon { td_attributes: u64 },
    #[error(
        "the peer's guest has attributes {got:#018x}, the policy allows {allowed:#018x}; its operator must start it without the others"
    )]
    TdAttributes { got: u64, allowed: u64 },
    #[error(
        "the peer's guest was started with MRCONFIGID {got}, the policy wants {allowed}; its operator must change the launch"
    )]
    MrConfigId { got: Digest48, allowed: Digest48 },
    #[error(
        "the peer's guest was started with MROWNER {got}, the policy wants {allowed}; its operator must change the launch"
    )]
    MrOwner { got: Digest48, allowed: Digest48 },
    #[error(
        "the peer's guest was started with MROWNERCONFIG {got}, the policy wants {allowed}; its operator must change the launch"
    )]
    MrOwnerConfig { got: Digest48, allowed: Digest48 },
    #[error(
        "the evidence was refused for a reason this program has no name for: {detail}; treat the peer as untrusted"
    )]
    Unnamed { detail: String },
}

/// A certificate that comes in a quote, not with the collateral.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum QuoteCertificate {
    Leaf,
    Ca,
    Root,
}

/// Who has to do something about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Who sent the quote: it is no quote, was changed, is an old one, or comes from a guest that the verifier does not accept.
    Quote,
    /// A certificate that came in the quote: of another time, or revoked.
    QuoteCertificate,
    /// Who gave the collateral.
    Collateral,
    /// The platform's operator: firmware, microcode and quoting enclave.
    Operator,
    /// The verifier: its policy accepts nobody.
    Policy,
    /// The chain does not say whose: the quote's, the collateral's, or the root that the verifier named.
    Unknown,
}

impl Refusal {
    /// Who has to do something about it.
    pub fn fault(&self) -> Fault {
        match self {
            Refusal::EmptyPolicy => Fault::Policy,
            Refusal::QuoteMalformed(_)
            | Refusal::QuoteSignature { .. }
            | Refusal::RegisterMismatch { .. }
            | Refusal::ReportDataMismatch { .. }
            | Refusal::Debug { .. }
            | Refusal::SeptVeDisable { .. }
            | Refusal::Migratable { .. }
            | Refusal::ServiceTd { .. }
            | Refusal::Partitioned { .. }
            | Refusal::Xfam { .. }
            | Refusal::Perfmon { .. }
            | Refusal::TdAttributes { .. }
            | Refusal::MrConfigId { .. }
            | Refusal::MrOwner { .. }
            | Refusal::MrOwnerConfig { .. } => Fault::Quote,
            Refusal::QuoteCertificateNotYetValid { .. }
            | Refusal::QuoteCertificateExpired { .. }
            | Refusal::CertificateRevoked { .. } => Fault::QuoteCertificate,
            Refusal::CollateralExpired { .. }
            | Refusal::CollateralNotYetValid { .. }
            | Refusal::CollateralSignature { .. }
            | Refusal::CollateralForAnotherPlatform { .. }
            | Refusal::CollateralMalformed { .. }
            | Refusal::EvaluationNumber { .. } => Fault::Collateral,
            Refusal::QuotingEnclave { .. }
            | Refusal::TcbRefused { .. }
            | Refusal::AdvisoriesRefused { .. }
            | Refusal::GraceOver { .. }
            | Refusal::BelowEveryTcbLevel { .. }
            | Refusal::SeamSigner { .. }
            | Refusal::SeamAttributes { .. } => Fault::Operator,
            Refusal::Root { .. } | Refusal::Chain { .. } | Refusal::Unnamed { .. } => {
                Fault::Unknown
            }
        }
    }
}

impl fmt::Display for QuoteCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            QuoteCertificate::Leaf => "the certificate of the peer's platform",
            QuoteCertificate::Ca => "the certificate of the CA of the peer's platform",
            QuoteCertificate::Root => "the root certificate of the peer's platform",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Quote => "quote",
            Fault::QuoteCertificate => "quote-certificate",
            Fault::Collateral => "collateral",
            Fault::Operator => "operator",
            Fault::Policy => "policy",
            Fault::Unknown => "unknown",
        })
    }
}

/// RFC 3339 in UTC, or a number where no calendar has it.
fn moment(unix_s: &u64) -> String {
    let date = i64::try_from(*unix_s).ok();
    let date = date.and_then(|unix_s| DateTime::from_timestamp(unix_s, 0));
    match date {
        Some(date) => date.to_rfc3339_opts(SecondsFormat::Secs, true),
        None => format!("Unix second {unix_s}"),
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    match items {
        [] => "none".into(),
        items => items
            .iter()
            .map(T::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}
