//! What goes wrong, and whose fault it is.

use settlement::{Address, ChainId};

/// Why an external message, or a question, was turned down. The fault is the asker's, and nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a bag of cells within the limits, or not an external message in it.
    #[error("not an external message: {0}")]
    Malformed(&'static str),
    /// The account ran its code and did not accept.
    #[error("{account} did not accept the message: exitcode={exit_code}")]
    NotAccepted {
        /// Who refused.
        account: Address,
        /// The TVM's exit code.
        exit_code: i32,
    },
    /// There was no code to run: no such account, no money for gas, or a state that does not fit the address.
    #[error("{account} cannot run: no code, no balance, or a wrong initial state")]
    CannotRun {
        /// Who could not.
        account: Address,
    },
    /// It causes more messages than one external message may.
    #[error("the message causes more than {max} others")]
    TooManyMessages {
        /// The limit.
        max: usize,
    },
    /// A get method asked of an account without code.
    #[error("{account} has no code")]
    NoCode {
        /// Who has none.
        account: Address,
    },
    /// A get method's stack or name is outside the limits or malformed.
    #[error("not a get method call: {0}")]
    Call(&'static str),
}

/// Why the ledger itself does not answer.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The asker's fault.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database cannot be opened, read or written.
    #[error("the ledger's database: {0}")]
    Database(#[from] rusqlite::Error),
    /// Another ledger has the database open.
    #[error("another ledger has this database open")]
    InUse,
    /// The database is another program's, version's or network's.
    #[error("the database is not a ledger of network {expected}: {found}")]
    Foreign {
        /// The network expected.
        expected: ChainId,
        /// What was found.
        found: String,
    },
    /// What the database holds cannot be read back.
    #[error("the database holds something that is not {0}")]
    Corrupt(&'static str),
    /// The executor failed on a message it should have handled.
    #[error("the transaction executor failed: {0}")]
    Machine(String),
    /// More money than an amount can say.
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
