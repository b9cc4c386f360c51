//! Why a peer was not believed. One variant per reason, so that a test can compare and a person can act.

use std::fmt;

use crate::{QuoteError, TcbStatus};
use registers::{Digest48, Register, ReportData};

/// Why [`verify`](crate::verify) refused. The text says whose fault it is and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The policy lists no registers.
    #[error(
        "the policy lists no registers, so it accepts nobody: add the registers of a manifest you trust"
    )]
    EmptyPolicy,
    /// The bytes are not a TDX quote.
    #[error("the peer sent something that is not a TDX quote: {0}; do not send it anything")]
    QuoteMalformed(#[from] QuoteError),
    /// A signature in the quote is wrong.
    #[error(
        "the peer's quote was changed or forged: a signature inside it does not hold ({detail}); do not send it anything"
    )]
    QuoteSignature {
        /// The verifier's words.
        detail: String,
    },
    /// The quote or the collateral leads to another root.
    #[error(
        "the evidence does not lead to the root this verifier trusts ({detail}); a simulated peer needs its own root named as a test root, \
         a real one needs Intel's"
    )]
    Root {
        /// The verifier's words.
        detail: String,
    },
    /// A certificate chain is broken.
    #[error(
        "a certificate chain in the evidence does not hold ({detail}); the peer or the source of its collateral is at fault"
    )]
    Chain {
        /// The verifier's words.
        detail: String,
    },
    /// A certificate in the chain was revoked.
    #[error(
        "a certificate of the peer's platform was revoked by its issuer ({detail}): no update and no policy helps; use another platform"
    )]
    CertificateRevoked {
        /// The verifier's words.
        detail: String,
    },
    /// Collateral or a certificate is too old at the given time.
    #[error(
        "the collateral has expired ({detail}); fetch fresh collateral, or set this machine's clock"
    )]
    CollateralExpired {
        /// The verifier's words.
        detail: String,
    },
    /// Collateral or a certificate is from the future at the given time.
    #[error("the collateral is not valid yet ({detail}); set this machine's clock")]
    CollateralNotYetValid {
        /// The verifier's words.
        detail: String,
    },
    /// Collateral whose signature does not hold.
    #[error(
        "the collateral was changed or forged ({detail}); fetch it again from Intel's service or a cache of it"
    )]
    CollateralSignature {
        /// The verifier's words.
        detail: String,
    },
    /// Collateral for another kind of platform.
    #[error(
        "the collateral is for another platform ({detail}); fetch the collateral of the peer's own platform family"
    )]
    CollateralForAnotherPlatform {
        /// The verifier's words.
        detail: String,
    },
    /// Collateral that cannot be read.
    #[error(
        "the collateral cannot be read ({detail}); fetch it again from Intel's service or a cache of it"
    )]
    CollateralMalformed {
        /// The verifier's words.
        detail: String,
    },
    /// The quoting enclave is not the one Intel lists.
    #[error(
        "the peer's quoting enclave is not the one its vendor lists ({detail}); its operator must update it"
    )]
    QuotingEnclave {
        /// The verifier's words.
        detail: String,
    },
    /// The platform's state is on the list of none the policy accepts.
    #[error(
        "the peer's platform is {status}, which the policy does not accept: {} (advisories: {})",
        status.remedy(),
        list(advisories)
    )]
    TcbRefused {
        /// The platform's state.
        status: TcbStatus,
        /// What is known against it.
        advisories: Vec<String>,
    },
    /// The platform's state is accepted; an advisory against it is not.
    #[error(
        "the peer's platform is {status}, and the policy does not name these advisories against it: {}; read them, and name in the \
         policy those that do not matter to you, or have its operator update it",
        list(advisories)
    )]
    AdvisoriesRefused {
        /// The platform's state.
        status: TcbStatus,
        /// Those that the policy does not name.
        advisories: Vec<String>,
    },
    /// The platform is out of date for longer than the policy's days of grace.
    #[error(
        "the peer's platform is {status}: its level is {days} days old, and the policy's grace ends after {grace_days}; {} (advisories: {})",
        status.remedy(),
        list(advisories)
    )]
    GraceOver {
        /// The platform's state.
        status: TcbStatus,
        /// The policy's.
        grace_days: u32,
        /// Whole days since the date of the level.
        days: u64,
        /// What is known against it.
        advisories: Vec<String>,
    },
    /// The platform is older than every level Intel lists.
    #[error(
        "the peer's platform is below every level in the collateral, which its vendor lists as the least ({detail}): its operator must update \
         firmware with microcode and TDX module, and register the platform again; no grace covers this"
    )]
    BelowEveryTcbLevel {
        /// The verifier's words.
        detail: String,
    },
    /// Collateral older than some already seen.
    #[error(
        "the collateral has evaluation number {got}, below the {min} already seen: somebody offers old collateral; fetch fresh collateral"
    )]
    EvaluationNumber {
        /// In the collateral.
        got: u32,
        /// The policy's minimum.
        min: u32,
    },
    /// The guest is not one the policy lists.
    #[error(
        "the peer runs something else than the manifest says: {register} is {got}, accepted: {}; rebuild, or do not send it anything",
        list(allowed)
    )]
    RegisterMismatch {
        /// The first register that differs.
        register: Register,
        /// In the quote.
        got: Digest48,
        /// What the policy lists there.
        allowed: Vec<Digest48>,
    },
    /// The quote was made for somebody or something else.
    #[error(
        "the peer's quote binds other data ({got}) than this keyset and nonce ({expected}): it is old, or meant for another verifier; ask for a fresh one"
    )]
    ReportDataMismatch {
        /// In the quote.
        got: Box<ReportData>,
        /// What the caller wanted bound.
        expected: Box<ReportData>,
    },
    /// The host may read the guest.
    #[error(
        "the peer's guest is under debug or profiling (attributes {td_attributes:#018x}): its host can read it; do not send it anything"
    )]
    Debug {
        /// In the quote.
        td_attributes: u64,
    },
    /// SEPT_VE_DISABLE is off.
    #[error(
        "the peer's guest was started without SEPT_VE_DISABLE (attributes {td_attributes:#018x}): its host can steer its exceptions; \
         its operator must start it with that attribute"
    )]
    SeptVeDisable {
        /// In the quote.
        td_attributes: u64,
    },
    /// The guest may be moved to another machine.
    #[error(
        "the peer's guest is migratable (attributes {td_attributes:#018x}): a migration service could move it; its operator must start it without"
    )]
    Migratable {
        /// In the quote.
        td_attributes: u64,
    },
    /// Another guest is bound to this one.
    #[error(
        "a service TD is bound to the peer's guest ({mr_service_td}, attributes {td_attributes:#018x}); its operator must start it without"
    )]
    ServiceTd {
        /// In the quote.
        mr_service_td: Digest48,
        /// In the quote.
        td_attributes: u64,
    },
    /// The report is about a guest inside a guest.
    #[error(
        "the peer's quote was made for VM {vm_id} inside a partitioned guest, whose outer part can read it; its operator must start it \
         without partitioning"
    )]
    Partitioned {
        /// In the quote.
        vm_id: u8,
    },
    /// Intel did not sign the TDX module.
    #[error(
        "the peer's TDX module was not signed by Intel (signer {got}); its operator must load Intel's module"
    )]
    SeamSigner {
        /// In the quote.
        got: Digest48,
    },
    /// The TDX module is not a production one.
    #[error(
        "the peer's TDX module has attributes {got:#018x}, a production module has none; its operator must load a production module"
    )]
    SeamAttributes {
        /// In the quote.
        got: u64,
    },
    /// CPU state the policy does not accept.
    #[error(
        "the peer's guest has XFAM {got:#x}; the policy requires {required:#x} and allows {allowed:#x}; its operator must change its CPU model"
    )]
    Xfam {
        /// In the quote.
        got: u64,
        /// The policy's minimum.
        required: u64,
        /// The policy's maximum.
        allowed: u64,
    },
    /// Performance counters are on.
    #[error(
        "the peer's guest was started with PERFMON (attributes {td_attributes:#018x}), a clock for side channels; its operator must start it without"
    )]
    Perfmon {
        /// In the quote.
        td_attributes: u64,
    },
    /// Another attribute the policy does not list.
    #[error(
        "the peer's guest has attributes {got:#018x}, the policy allows {allowed:#018x}; its operator must start it without the others"
    )]
    TdAttributes {
        /// In the quote.
        got: u64,
        /// The policy's list.
        allowed: u64,
    },
    /// MRCONFIGID differs.
    #[error(
        "the peer's guest was started with MRCONFIGID {got}, the policy wants {allowed}; its operator must change the launch"
    )]
    MrConfigId {
        /// In the quote.
        got: Digest48,
        /// The policy's value.
        allowed: Digest48,
    },
    /// MROWNER differs.
    #[error(
        "the peer's guest was started with MROWNER {got}, the policy wants {allowed}; its operator must change the launch"
    )]
    MrOwner {
        /// In the quote.
        got: Digest48,
        /// The policy's value.
        allowed: Digest48,
    },
    /// MROWNERCONFIG differs.
    #[error(
        "the peer's guest was started with MROWNERCONFIG {got}, the policy wants {allowed}; its operator must change the launch"
    )]
    MrOwnerConfig {
        /// In the quote.
        got: Digest48,
        /// The policy's value.
        allowed: Digest48,
    },
    /// A refusal of the verification library that this program has no name for.
    #[error(
        "the evidence was refused for a reason this program has no name for: {detail}; treat the peer as untrusted"
    )]
    Unnamed {
        /// The verifier's words.
        detail: String,
    },
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
