//! What collateral says of itself: whom it is for, and until when each part of it holds.
//!
//! For caches, which want to know what they hold and when to ask again. No signature is checked here, so nothing here
//! is evidence; `verify` reads the same fields again, after the signatures.

use std::fmt;

use chrono::NaiveDateTime;
use dcap_qvl::QuoteCollateralV3;
use pki::RevocationListOutline;
use serde::Deserialize;

use crate::{Collateral, PckCa, Platform};

/// Whom a collateral is for and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollateralClaims {
    /// The platforms it judges: family from the TCB info, authority from the revocation list.
    pub platform: Platform,
    /// The lower of the evaluation numbers of TCB info and QE identity.
    pub tcb_evaluation_number: u32,
    /// The dates of the four lists, in the order of [`CollateralPart`].
    pub dates: [CollateralDates; 4],
}

/// From when and until when one list holds, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollateralDates {
    /// Which list.
    pub part: CollateralPart,
    /// When it was issued.
    pub issued_unix_s: u64,
    /// Its next update; it holds until then.
    pub expires_unix_s: u64,
}

/// The four lists that Intel signs anew every few weeks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollateralPart {
    /// TCB levels of a family of platforms.
    TcbInfo,
    /// Identity of the quoting enclave.
    QeIdentity,
    /// Revoked platform certificates.
    PckCrl,
    /// Revoked authorities.
    RootCrl,
}

/// Why a collateral does not say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the collateral's {part} {reason}")]
pub struct ClaimError {
    /// The part that is not understood.
    pub part: CollateralPart,
    /// What is wrong with it.
    pub reason: String,
}

impl Collateral {
    /// What it says of itself: for which platform it is, and until when each part holds. No signature is checked.
    pub fn claims(&self) -> Result<CollateralClaims, ClaimError> {
        CollateralClaims::of(self.as_qvl())
    }
}

impl CollateralClaims {
    /// Reads the four lists.
    fn of(collateral: &QuoteCollateralV3) -> Result<Self, ClaimError> {
        let part = CollateralPart::TcbInfo;
        let tcb: SignedList = list(part, "TDX", &collateral.tcb_info)?;
        let fmspc = Platform::fmspc_from_hex(tcb.fmspc.as_deref().unwrap_or_default())
            .map_err(|error| part.says(error.to_string()))?;
        let qe = list(CollateralPart::QeIdentity, "TD_QE", &collateral.qe_identity)?;
        let (pck_crl, issuer) = revocations(CollateralPart::PckCrl, &collateral.pck_crl)?;
        let ca = PckCa::named_in(&issuer)
            .map_err(|error| CollateralPart::PckCrl.says(error.to_string()))?;
        let (root_crl, _) = revocations(CollateralPart::RootCrl, &collateral.root_ca_crl)?;
        Ok(CollateralClaims {
            platform: Platform { fmspc, ca },
            tcb_evaluation_number: tcb
                .tcb_evaluation_data_number
                .min(qe.tcb_evaluation_data_number),
            dates: [
                dates(part, &tcb)?,
                dates(CollateralPart::QeIdentity, &qe)?,
                pck_crl,
                root_crl,
            ],
        })
    }

    /// The part that expires first.
    pub fn first_to_expire(&self) -> CollateralDates {
        let [first, rest @ ..] = self.dates;
        rest.into_iter().fold(first, |first, other| {
            if other.expires_unix_s < first.expires_unix_s {
                other
            } else {
                first
            }
        })
    }

    /// The part that was issued last.
    pub fn last_issued(&self) -> CollateralDates {
        let [first, rest @ ..] = self.dates;
        rest.into_iter().fold(first, |last, other| {
            if other.issued_unix_s > last.issued_unix_s {
                other
            } else {
                last
            }
        })
    }
}

impl CollateralPart {
    fn says(self, reason: impl Into<String>) -> ClaimError {
        ClaimError {
            part: self,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for CollateralPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CollateralPart::TcbInfo => "TCB info",
            CollateralPart::QeIdentity => "QE identity",
            CollateralPart::PckCrl => "PCK revocation list",
            CollateralPart::RootCrl => "root revocation list",
        })
    }
}

fn list(part: CollateralPart, id: &str, json: &str) -> Result<SignedList, ClaimError> {
    let list: SignedList = serde_json::from_str(json)
        .map_err(|error| part.says(format!("is not understood: {error}")))?;
    if list.id != id {
        let got: String = list.id.chars().take(ID_CHARACTERS_MAX).collect();
        return Err(part.says(format!("has the id `{got}`, not `{id}`")));
    }
    Ok(list)
}

fn dates(part: CollateralPart, list: &SignedList) -> Result<CollateralDates, ClaimError> {
    // `2025-06-19T10:16:03Z`, and no other form: Intel PCS API version 4, TCB info and enclave identity.
    let date = |text: &str| {
        let read = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%SZ").ok();
        let unix_s = read.and_then(|date| u64::try_from(date.and_utc().timestamp()).ok());
        let date = unix_s.filter(|_| text.len() == "2025-06-19T10:16:03Z".len());
        date.ok_or_else(|| part.says("has a date that is not of the form 2025-06-19T10:16:03Z"))
    };
    Ok(CollateralDates {
        part,
        issued_unix_s: date(&list.issue_date)?,
        expires_unix_s: date(&list.next_update)?,
    })
}

/// The dates of a revocation list and the name of its issuer.
fn revocations(part: CollateralPart, der: &[u8]) -> Result<(CollateralDates, String), ClaimError> {
    let list = RevocationListOutline::parse(der).ok_or_else(|| {
        part.says("is not understood: it is not a revocation list of version 2 in DER")
    })?;
    let Some(expires_unix_s) = list.next_update_unix_s else {
        // RFC 5280, section 5.1.2.5, requires it of every issuer.
        return Err(part.says("does not say until when it holds"));
    };
    let dates = CollateralDates {
        part,
        issued_unix_s: list.this_update_unix_s,
        expires_unix_s,
    };
    Ok((dates, list.issuer_name))
}

/// What TCB info and QE identity have in common.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignedList {
    id: String,
    issue_date: String,
    next_update: String,
    tcb_evaluation_data_number: u32,
    /// Only in TCB info.
    #[serde(default)]
    fmspc: Option<String>,
}

/// How much of an untrusted identifier an error repeats.
const ID_CHARACTERS_MAX: usize = 16;
