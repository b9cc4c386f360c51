//! Evidence becomes a peer: the one door.
//!
//! ```text
//! quote, collateral ─► shape ─► same root ─► dates of the quote's certificates ─► signatures and chains up to it (dcap-qvl)
//!                                                        ─► attributes ─► platform state
//!                                                        ─► owner ─► registers ─► report data ─► Verified<Peer>
//! ```
//! Each step is reached only through the one before, so the first refusal is the gravest one that can be known.
//! [`inspect`] goes the same way and stops earlier; what it returns is no [`Verified`].

mod words;

use std::ops::Deref;

use chrono::DateTime;
use dcap_qvl::{QuoteClaims, verify::QuoteVerifier};
use sha2::{Digest, Sha256};

use crate::{
    Collateral, Policy, Quote, QuoteCertificate, Refusal, ReportType, Root, RootClass, TcbStatus,
    policy::PlatformTcb,
};
use registers::{Registers, ReportData};

/// A value that [`verify`] vouches for. Nothing outside this module can make one:
///
/// ```compile_fail,E0423
/// fn forge(peer: attest::Peer) -> attest::Verified<attest::Peer> {
///     attest::Verified(peer)
/// }
/// ```
/// It can be read and passed on:
/// ```
/// fn registers(peer: &attest::Verified<attest::Peer>) -> registers::Registers {
///     peer.registers
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

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
    /// Which report it sent.
    pub report: ReportType,
    /// The state of its platform.
    pub tcb_status: TcbStatus,
    /// Up to which day the platform has all fixes: the date of its level, in seconds since 1970.
    pub tcb_level_unix_s: u64,
    /// If the state was accepted only by the policy's days of grace: until when.
    pub grace_ends_unix_s: Option<u64>,
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

/// What [`inspect`] found: a quote signed by a TDX module in a good state, about a guest that was not compared with
/// everything a verifier needs. It vouches for nobody. Read it, show it, and send nothing to whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// What the quote and the collateral say.
    pub peer: Peer,
    /// Whether registers, MRCONFIGID and owner are those of a policy.
    pub guest: Comparison,
    /// Whether the report data is what the caller expected. Where not, the quote may be an old one.
    pub report_data: Comparison,
}

/// Whether a value in a quote was held against an expected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It was, and is equal. (A difference is a refusal.)
    Equal,
    /// Nothing was expected.
    NotCompared,
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
    let peer = appraise(quote, collateral, policy, Who::Listed, root, now_unix_s)?;
    check_report_data(&peer, report_data)?;
    Ok(Verified(peer))
}

/// Checks what can be checked of a quote while something is missing: the policy, the expected report data, or both.
///
/// Signatures, chains, revocation, platform state and attributes are checked as [`verify`] does, by the same code; without
/// a policy as strictly as [`Policy::exact`] does. Registers, MRCONFIGID and owner are compared only with a policy, report
/// data only where one is expected, and the result says which. It is no [`Verified`], whatever was given.
pub fn inspect(
    quote: &[u8],
    collateral: &Collateral,
    report_data: Option<&ReportData>,
    policy: Option<&Policy>,
    root: &Root,
    now_unix_s: u64,
) -> Result<Inspected, Refusal> {
    let (peer, guest) = match policy {
        Some(policy) => (
            appraise(quote, collateral, policy, Who::Listed, root, now_unix_s)?,
            Comparison::Equal,
        ),
        None => {
            let strict = Policy::with_registers(Vec::new());
            (
                appraise(quote, collateral, &strict, Who::Anybody, root, now_unix_s)?,
                Comparison::NotCompared,
            )
        }
    };
    let report_data = match report_data {
        Some(expected) => {
            check_report_data(&peer, expected)?;
            Comparison::Equal
        }
        None => Comparison::NotCompared,
    };
    Ok(Inspected {
        peer,
        guest,
        report_data,
    })
}

/// Which guests may go on.
enum Who {
    /// Those whose registers, MRCONFIGID and owner the policy lists.
    Listed,
    /// Any: only for [`inspect`], which says so in its result.
    Anybody,
}

/// Everything but the report data. The one call of the verification library is in here.
fn appraise(
    quote: &[u8],
    collateral: &Collateral,
    policy: &Policy,
    who: Who,
    root: &Root,
    now_unix_s: u64,
) -> Result<Peer, Refusal> {
    if matches!(who, Who::Listed) && policy.registers.is_empty() {
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
    // The library says "not valid yet" of any certificate; whose it is decides what its owner must do.
    check_dates(&parsed, now_unix_s)?;
    let claims = QuoteVerifier::new(root.der().to_vec())
        .verify_with_policy(quote, collateral.as_qvl(), now_unix_s, &LeaveJudgementToUs)
        .map_err(|error| words::refusal(&format!("{error:#}"), &parsed, policy))?;

    policy.check_attributes(&parsed.td)?;
    let tcb = platform_tcb(&claims)?;
    let grace_ends_unix_s = policy.check_tcb(&tcb, now_unix_s)?;
    if claims.tcb.eval_data_number < policy.tcb_evaluation_number_min {
        return Err(Refusal::EvaluationNumber {
            got: claims.tcb.eval_data_number,
            min: policy.tcb_evaluation_number_min,
        });
    }
    if matches!(who, Who::Listed) {
        policy.check_owner(&parsed.td)?;
        policy.check_registers(&parsed.td.registers)?;
    }

    Ok(Peer {
        registers: parsed.td.registers,
        root: root.class(),
        report: parsed.report,
        tcb_status: tcb.status,
        tcb_level_unix_s: claims.platform.tcb_date_tag,
        grace_ends_unix_s,
        advisories: tcb.advisories,
        tcb_evaluation_number: claims.tcb.eval_data_number,
        collateral_expires_unix_s: claims.earliest_expiration_date,
        report_data: parsed.td.report_data,
        quote_digest: Sha256::digest(quote).into(),
        fmspc: claims.platform.pck.fmspc,
        ppid: claims.platform.pck.ppid,
    })
}

/// Whether what the quote's chain is made of holds at this time.
fn check_dates(quote: &Quote, at_unix_s: u64) -> Result<(), Refusal> {
    use QuoteCertificate::{Ca, Leaf, Root};
    for (of, der) in [Leaf, Ca, Root].into_iter().zip(&quote.chain) {
        let outline = pki::CertificateOutline::parse(der).ok_or_else(|| Refusal::Chain {
            detail: format!("{of} is not X.509 of version 3"),
        })?;
        if at_unix_s < outline.not_before_unix_s {
            return Err(Refusal::QuoteCertificateNotYetValid {
                of,
                from_unix_s: outline.not_before_unix_s,
                at_unix_s,
            });
        }
        if at_unix_s > outline.not_after_unix_s {
            return Err(Refusal::QuoteCertificateExpired {
                of,
                until_unix_s: outline.not_after_unix_s,
                at_unix_s,
            });
        }
    }
    Ok(())
}

fn check_report_data(peer: &Peer, expected: &ReportData) -> Result<(), Refusal> {
    if peer.report_data == *expected {
        return Ok(());
    }
    Err(Refusal::ReportDataMismatch {
        got: Box::new(peer.report_data),
        expected: Box::new(*expected),
    })
}

/// The state of all parts together, and the oldest level among the parts that are out of date: platform (with its TDX
/// module, as launched and as it is now) and quoting enclave.
fn platform_tcb(claims: &QuoteClaims) -> Result<PlatformTcb, Refusal> {
    let platform = &claims.platform;
    let now = platform.current_tcb_level.as_ref();
    let levels = [
        (
            platform.tcb_level.tcb_status,
            platform.tcb_level.tcb_date.as_str(),
        ),
        (
            claims.qe.tcb_level.tcb_status,
            claims.qe.tcb_level.tcb_date.as_str(),
        ),
    ];
    let levels = levels
        .into_iter()
        .chain(now.map(|level| (level.tcb_status, level.tcb_date.as_str())));
    let mut out_of_date_level_unix_s = None::<u64>;
    for (status, date) in levels {
        let old = matches!(
            TcbStatus::from(status),
            TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded
        );
        if !old {
            continue;
        }
        let unix_s = DateTime::parse_from_rfc3339(date)
            .ok()
            .and_then(|date| u64::try_from(date.timestamp()).ok())
            .ok_or_else(|| Refusal::CollateralMalformed {
                detail: format!("a level has the date {date:?}"),
            })?;
        let oldest = out_of_date_level_unix_s.map_or(unix_s, |other| other.min(unix_s));
        out_of_date_level_unix_s = Some(oldest);
    }
    Ok(PlatformTcb {
        status: TcbStatus::from(claims.tcb.status),
        advisories: claims.tcb.advisory_ids.clone(),
        out_of_date_level_unix_s,
    })
}

/// The library's policy hook accepts everything: the judgement is above, with our types, after the signatures.
/// Its unconditional checks (debug, migration, service TDs, revoked platforms) stay on beneath ours.
struct LeaveJudgementToUs;

impl dcap_qvl::Policy for LeaveJudgementToUs {
    fn validate(&self, _claims: &QuoteClaims) -> anyhow::Result<()> {
        Ok(())
    }
}
