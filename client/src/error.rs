//! What can go wrong, whose fault it is, and whether the job may have been executed.

use crate::budget::BudgetError;
use crate::check::CheckError;
use crate::config::ConfigError;
use crate::limits::FOREIGN_TEXT_CHARS_MAX;
use crate::tokens::TokensError;
use settlement::{Address, ChargeError, RegistryRefused, StakeRefused};
use wire::{JobFailure, NotProven, NotTrusted, ReceiptRefused, RefusalCode, SealError};

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The untrusted proxy: it is dead, or its bytes are not what they should be.
    Proxy,
    /// The worker inside the confidential machine, or whoever put its bytes in place.
    Guest,
    /// The TON node.
    Chain,
    /// This program or its configuration.
    Ourselves,
    /// The application that asked.
    Caller,
}

impl Fault {
    /// As errors under `--json` name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Proxy => "proxy",
            Fault::Guest => "guest",
            Fault::Chain => "chain",
            Fault::Ourselves => "ourselves",
            Fault::Caller => "caller",
        }
    }
}

/// Whether the guest ran the job. Only its own signature makes it `No` after the job was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executed {
    /// Certainly not: nothing was sent, or the guest signed so.
    No,
    /// Nobody signed anything.
    Maybe,
    /// It ran.
    Yes,
}

impl Executed {
    /// As `x_job.executed` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Executed::No => "no",
            Executed::Maybe => "maybe",
            Executed::Yes => "yes",
        }
    }
}

/// Why a job, an attestation or a payment did not come to its end. Each prints as one sentence.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs)]
pub enum ClientError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the request is refused: {message}")]
    Request {
        param: Option<String>,
        message: String,
    },
    #[error("the request is refused: the field `{param}` is not supported in this version")]
    UnknownField { param: String },
    #[error("the request is refused: {message}")]
    ContextLength { param: String, message: String },
    #[error("the model `{model}` is refused: {message}")]
    Model { model: String, message: String },
    #[error(transparent)]
    Budget(#[from] BudgetError),
    #[error("{}", not_trusted(.0))]
    NotTrusted(#[from] NotTrusted),
    #[error(
        "the platform's level is of {}, and {} is the oldest accepted", day(*level_unix_s), day(*min_unix_s)
    )]
    PlatformTooOld { level_unix_s: u64, min_unix_s: u64 },
    #[error(
        "the worker shows keys that are known here for {known_s} s, and they may be used for {lifetime_s} s: it makes no new \
         ones, so its clock may be held"
    )]
    OldKeys { known_s: u64, lifetime_s: u32 },
    #[error("the provider's stake is refused: {0}")]
    Stake(#[from] StakeRefused),
    #[error("registry {registry}: {why}")]
    Registry {
        registry: Address,
        why: RegistryRefused,
    },
    #[error(transparent)]
    Proof(#[from] NotProven),
    #[error("the check is refused: {0}")]
    Check(#[from] CheckError),
    #[error("host-proxy cannot be reached: {0}")]
    Unreachable(String),
    #[error("host-proxy refused the {what}: {message} ({code})")]
    ProxyRefused {
        what: &'static str,
        status: u16,
        code: String,
        message: String,
        executed: Executed,
    },
    #[error("the {what} that host-proxy sent is not valid: {detail}")]
    ProxyMisbehaved {
        what: &'static str,
        detail: String,
        executed: Executed,
    },
    #[error(
        "the worker restarted with new keys, or the refusal is forged; attesting again before the next job"
    )]
    UnknownSigner,
    #[error("host-proxy cut the answer: {0}")]
    Cut(String),
    #[error("the answer missed its deadline: {0}")]
    Deadline(String),
    #[error("guest-agent refused the envelope: {0}")]
    GuestRefused(RefusalCode),
    #[error(
        "guest-agent refused the envelope: {0}; it names another envelope than the one this client signed, so that \
         was changed on its way"
    )]
    RefusedAnother(RefusalCode),
    #[error("guest-agent failed after it accepted the job: {0}")]
    GuestFailed(JobFailure),
    #[error("the answer is refused: {0}")]
    Answer(String),
    #[error("wire::seal refused the request: {0}")]
    Sealing(SealError),
    #[error("wire::seal refused the answer: {0}")]
    Seal(SealError),
    #[error("the answer is refused: {0}")]
    Tokens(#[from] TokensError),
    #[error("wire::receipt refused the receipt: {0}")]
    Receipt(#[from] ReceiptRefused),
    #[error("settlement::charge refused the charge: {0}")]
    Charge(#[from] ChargeError),
    #[error(
        "settlement::charge refused the charge: the one in the clear is not the one inside the receipt"
    )]
    ChargeMismatch,
    #[error("the chain cannot be used: {0}")]
    Chain(String),
    #[error(
        "the application read too slowly, so that a part of the stream was lost; the answer was paid for"
    )]
    ReaderTooSlow,
    #[error("{0}; other answers to this request may have been made, and are paid")]
    OneOfSeveral(Box<ClientError>),
    #[error("this client failed: {0}")]
    Internal(String),
}

fn not_trusted(reason: &NotTrusted) -> String {
    match reason {
        // This one already names what refused.
        NotTrusted::Quote(_) => reason.to_string(),
        _ => format!("wire::attest refused the worker: {reason}"),
    }
}

impl ClientError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        use ClientError::*;
        match self {
            Budget(BudgetError::Forked { .. }) => Fault::Guest,
            Config(_) | Budget(_) | Sealing(_) | Internal(_) => Fault::Ourselves,
            Request { .. } | UnknownField { .. } | ContextLength { .. } => Fault::Caller,
            Model { .. } | ReaderTooSlow | Check(_) => Fault::Caller,
            NotTrusted(_) | Proof(_) | PlatformTooOld { .. } | OldKeys { .. } => Fault::Guest,
            Stake(_) | Registry { .. } => Fault::Guest,
            Unreachable(_) | ProxyRefused { .. } | ProxyMisbehaved { .. } => Fault::Proxy,
            UnknownSigner | Cut(_) | Deadline(_) | RefusedAnother(_) | ChargeMismatch => {
                Fault::Proxy
            }
            GuestRefused(_) | GuestFailed(_) | Answer(_) => Fault::Guest,
            Seal(_) | Charge(_) => Fault::Proxy,
            Tokens(_) | Receipt(_) => Fault::Guest,
            Chain(_) => Fault::Chain,
            OneOfSeveral(error) => error.fault(),
        }
    }

    /// Whether the job ran.
    pub fn executed(&self) -> Executed {
        use ClientError::*;
        match self {
            ProxyRefused { executed, .. } | ProxyMisbehaved { executed, .. } => *executed,
            UnknownSigner | Cut(_) | Deadline(_) | RefusedAnother(_) | Seal(_) | Answer(_)
            | Internal(_) | OneOfSeveral(_) => Executed::Maybe,
            GuestFailed(_) | Receipt(_) | Charge(_) | ChargeMismatch | Tokens(_) => Executed::Yes,
            Budget(BudgetError::AfterTheAnswer { .. } | BudgetError::Forked { .. })
            | ReaderTooSlow => Executed::Yes,
            GuestRefused(code) if !code.proves_not_started() => Executed::Maybe,
            _ => Executed::No,
        }
    }

    /// Whether asking again may help unchanged. A job that may have run may then run twice.
    pub fn retryable(&self) -> bool {
        use ClientError::*;
        match self {
            Unreachable(_) | Cut(_) | Deadline(_) | Chain(_) | Seal(_) => true,
            UnknownSigner | RefusedAnother(_) | ProxyMisbehaved { .. } => true,
            GuestRefused(code) => matches!(
                code,
                RefusalCode::StaleKeyset | RefusalCode::KeysWorn | RefusalCode::Busy
            ),
            Budget(BudgetError::InFlight { .. } | BudgetError::DayInFlight { .. }) => true,
            ProxyRefused { status, .. } => *status >= 500 || *status == 429,
            OneOfSeveral(error) => error.retryable(),
            _ => false,
        }
    }

    /// Whether other jobs are in the way of this one, which did not start: it may wait for its turn.
    pub(crate) fn is_queued(&self) -> bool {
        use ClientError::*;
        matches!(
            self,
            Budget(BudgetError::InFlight { .. } | BudgetError::DayInFlight { .. })
                | GuestRefused(RefusalCode::Busy | RefusalCode::Exposure { .. })
        )
    }

    /// Whether the worker may be gone, or another one: the next job asks for its evidence first.
    pub(crate) fn doubts_the_worker(&self) -> bool {
        use ClientError::*;
        match self {
            UnknownSigner | RefusedAnother(_) | Seal(_) | Cut(_) | Unreachable(_) => true,
            ProxyMisbehaved { .. } | Receipt(_) | Charge(_) | Deadline(_) => true,
            Budget(BudgetError::Forked { .. }) => true,
            ProxyRefused { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// The code of the OpenAI error object.
    pub fn code(&self) -> &'static str {
        use ClientError::*;
        match self {
            Config(_) => "configuration",
            Request { .. } => "invalid_request",
            UnknownField { .. } => "unknown_parameter",
            ContextLength { .. } => "context_length_exceeded",
            Model { .. } => "model_not_found",
            Budget(BudgetError::InFlight { .. } | BudgetError::DayInFlight { .. }) => {
                "rate_limited"
            }
            Budget(BudgetError::DayLimit { .. }) => "day_limit_reached",
            Budget(BudgetError::Forked { .. }) => "bad_receipt",
            Budget(_) => "budget_exceeded",
            NotTrusted(_) | PlatformTooOld { .. } | OldKeys { .. } | Stake(_) | Registry { .. } => {
                "attestation_failed"
            }
            Proof(_) => "bad_proof",
            Check(_) => "bad_check",
            Unreachable(_) => "proxy_unreachable",
            ProxyRefused { .. } => "proxy_refused",
            ProxyMisbehaved { .. } | UnknownSigner => "proxy_misbehaved",
            Cut(_) => "truncated_stream",
            Deadline(_) => "deadline",
            GuestRefused(RefusalCode::StaleKeyset | RefusalCode::KeysWorn) => "key_epoch_stale",
            GuestRefused(RefusalCode::Replay) => "replay",
            GuestRefused(RefusalCode::Busy) => "no_capacity",
            GuestRefused(RefusalCode::Exposure { .. } | RefusalCode::CostMax) => "budget_exceeded",
            GuestRefused(_) | RefusedAnother(_) => "worker_refused",
            GuestFailed(_) => "worker_failed",
            Answer(_) | Seal(_) => "bad_answer",
            Sealing(_) => "sealing_failed",
            Tokens(_) => "bad_token_count",
            Receipt(_) => "bad_receipt",
            Charge(_) | ChargeMismatch => "bad_charge",
            Chain(_) => "chain_unavailable",
            ReaderTooSlow => "reader_too_slow",
            OneOfSeveral(error) => error.code(),
            Internal(_) => "internal",
        }
    }

    /// The HTTP status that an application sees.
    pub fn status(&self) -> u16 {
        use ClientError::*;
        match self {
            Request { .. } | UnknownField { .. } | ContextLength { .. } => 400,
            Model { .. } => 404,
            ReaderTooSlow => 408,
            OneOfSeveral(error) => error.status(),
            Budget(
                BudgetError::InFlight { .. }
                | BudgetError::DayInFlight { .. }
                | BudgetError::DayLimit { .. },
            ) => 429,
            Budget(BudgetError::Forked { .. }) => 502,
            Budget(_) => 402,
            NotTrusted(_)
            | Proof(_)
            | PlatformTooOld { .. }
            | OldKeys { .. }
            | Stake(_)
            | Registry { .. } => 424,
            Deadline(_) => 504,
            GuestRefused(RefusalCode::Exposure { .. } | RefusalCode::CostMax) => 402,
            GuestRefused(RefusalCode::Replay) => 409,
            GuestRefused(RefusalCode::StaleKeyset | RefusalCode::KeysWorn) => 422,
            GuestRefused(RefusalCode::Busy) => 429,
            ProxyRefused { status: 402, .. } => 402,
            ProxyRefused { status: 429, .. } => 429,
            Unreachable(_) | Chain(_) => 503,
            Config(_) | Sealing(_) | Internal(_) => 500,
            _ => 502,
        }
    }

    /// The field of the request at fault.
    pub fn param(&self) -> Option<&str> {
        match self {
            ClientError::Request { param, .. } => param.as_deref(),
            ClientError::ContextLength { param, .. } | ClientError::UnknownField { param } => {
                Some(param)
            }
            ClientError::Model { .. } => Some("model"),
            ClientError::OneOfSeveral(error) => error.param(),
            _ => None,
        }
    }
}

/// A day as people write it.
pub(crate) fn day(unix_s: u64) -> String {
    // Howard Hinnant's days_from_civil, backwards; 719468 days lie between 0000-03-01 and 1970-01-01.
    let days = unix_s / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The first second of a day written as `2024-11-13`.
pub(crate) fn day_unix_s(text: &str) -> Option<u64> {
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, of_month) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    let (shifted, year) = if month > 2 {
        (month - 3, year)
    } else {
        (month + 9, year - 1)
    };
    let of_year = (153 * shifted + 2) / 5 + of_month.checked_sub(1)?;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + of_year;
    let unix_s = days.checked_sub(719_468)? * 86_400;
    // A day that no month has comes back as another one.
    (day(unix_s) == text).then_some(unix_s)
}

/// Text from a peer, made fit for a terminal: bounded, and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(FOREIGN_TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_guests_signature_makes_a_sent_job_not_executed() {
        assert_eq!(
            ClientError::GuestRefused(RefusalCode::Replay).executed(),
            Executed::Maybe
        );
        assert_eq!(
            ClientError::GuestRefused(RefusalCode::Busy).executed(),
            Executed::No
        );
        assert_eq!(ClientError::Cut("x".into()).executed(), Executed::Maybe);
        assert_eq!(
            ClientError::RefusedAnother(RefusalCode::Busy).executed(),
            Executed::Maybe
        );
    }

    #[test]
    fn a_day_is_read_as_it_is_written_and_others_are_none() {
        for (text, unix_s) in [
            ("1970-01-01", 0),
            ("2024-02-29", 1_709_164_800),
            ("2024-03-13", crate::limits::INTEL_TCB_UNIX_S_MIN),
            ("2026-12-31", 1_798_675_200),
        ] {
            assert_eq!(day_unix_s(text), Some(unix_s), "{text}");
            assert_eq!(day(unix_s), text);
        }
        for bad in [
            "2023-02-29",
            "2024-13-01",
            "2024-1-1",
            "1969-12-31",
            "",
            "2024-03-00",
        ] {
            assert_eq!(day_unix_s(bad), None, "{bad}");
        }
    }

    #[test]
    fn text_from_a_peer_cannot_steer_a_terminal() {
        assert_eq!(shown("a\x1b[31mb\n"), "a [31mb ");
        assert_eq!(shown(&"x".repeat(1000)).len(), FOREIGN_TEXT_CHARS_MAX);
    }
}
