//! What can go wrong, whose fault it is, and whether the job may have been executed.

use crate::budget::BudgetError;
use crate::config::ConfigError;
use crate::limits::FOREIGN_TEXT_CHARS_MAX;
use crate::tokens::TokensError;
use settlement::ChargeError;
use wire::{JobFailure, NotTrusted, ReceiptRefused, RefusalCode, SealError};

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
    #[error("the request is refused: {message}")]
    ContextLength { param: String, message: String },
    #[error("the model `{model}` is refused: {message}")]
    Model { model: String, message: String },
    #[error(transparent)]
    Budget(#[from] BudgetError),
    #[error("{}", not_trusted(.0))]
    NotTrusted(#[from] NotTrusted),
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
            Config(_) | Budget(_) | Sealing(_) | Internal(_) => Fault::Ourselves,
            Request { .. } | ContextLength { .. } | Model { .. } | ReaderTooSlow => Fault::Caller,
            NotTrusted(_) => Fault::Guest,
            Unreachable(_) | ProxyRefused { .. } | ProxyMisbehaved { .. } => Fault::Proxy,
            UnknownSigner | Cut(_) | Deadline(_) | RefusedAnother(_) | ChargeMismatch => {
                Fault::Proxy
            }
            GuestRefused(_) | GuestFailed(_) | Answer(_) => Fault::Guest,
            Seal(_) | Charge(_) => Fault::Proxy,
            Tokens(_) | Receipt(_) => Fault::Guest,
            Chain(_) => Fault::Chain,
        }
    }

    /// Whether the job ran.
    pub fn executed(&self) -> Executed {
        use ClientError::*;
        match self {
            ProxyRefused { executed, .. } | ProxyMisbehaved { executed, .. } => *executed,
            UnknownSigner | Cut(_) | Deadline(_) | RefusedAnother(_) | Seal(_) | Answer(_)
            | Internal(_) => Executed::Maybe,
            GuestFailed(_) | Receipt(_) | Charge(_) | ChargeMismatch | Tokens(_) => Executed::Yes,
            Budget(BudgetError::AfterTheAnswer { .. }) | ReaderTooSlow => Executed::Yes,
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
            ProxyRefused { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    /// The code of the OpenAI error object.
    pub fn code(&self) -> &'static str {
        use ClientError::*;
        match self {
            Config(_) => "configuration",
            Request { .. } => "invalid_request",
            ContextLength { .. } => "context_length_exceeded",
            Model { .. } => "model_not_found",
            Budget(_) => "budget_exceeded",
            NotTrusted(_) => "attestation_failed",
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
            Internal(_) => "internal",
        }
    }

    /// The HTTP status that an application sees.
    pub fn status(&self) -> u16 {
        use ClientError::*;
        match self {
            Request { .. } | ContextLength { .. } => 400,
            Model { .. } => 404,
            ReaderTooSlow => 408,
            Budget(_) => 402,
            NotTrusted(_) => 424,
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
            ClientError::ContextLength { param, .. } => Some(param),
            ClientError::Model { .. } => Some("model"),
            _ => None,
        }
    }
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
    fn text_from_a_peer_cannot_steer_a_terminal() {
        assert_eq!(shown("a\x1b[31mb\n"), "a [31mb ");
        assert_eq!(shown(&"x".repeat(1000)).len(), FOREIGN_TEXT_CHARS_MAX);
    }
}
