//! What goes wrong, and whose fault it is.

use settlement::{Address, ChainId};

/// Why an external message, or a question, was turned down. The fault is the asker's, and nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Refusal {
    #[error("not an external message: {0}")]
    Malformed(&'static str),
    #[error("{account} did not accept the message: exitcode={exit_code}")]
    NotAccepted { account: Address, exit_code: i32 },
    #[error("{account} cannot run: no code, no balance, or a wrong initial state")]
    CannotRun { account: Address },
    #[error("the message causes more than {max} others")]
    TooManyMessages { max: usize },
    #[error("{account} has no code")]
    NoCode { account: Address },
    #[error("not a get method call: {0}")]
    Call(&'static str),
}

/// Why the ledger itself does not answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum LedgerError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the ledger's database: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("another ledger has this database open")]
    InUse,
    #[error("the database is not a ledger of network {expected}: {found}")]
    Foreign { expected: ChainId, found: String },
    #[error("the database holds something that is not {0}")]
    Corrupt(&'static str),
    #[error("the transaction executor failed: {0}")]
    Machine(String),
    #[error("an amount above what 64 bits of nanoTON can say")]
    AmountOverflow,
}

impl LedgerError {
    /// The refusal, if the asker is at fault.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            LedgerError::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

impl From<tycho_types::error::Error> for LedgerError {
    fn from(error: tycho_types::error::Error) -> LedgerError {
        LedgerError::Machine(error.to_string())
    }
}
