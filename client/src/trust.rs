//! What this machine has learned about platforms, whoever is paid: in one file, outside the budgets of single channels.
//!
//! A host picks the collateral that it shows, so the lowest evaluation number that is accepted must not come from that
//! host alone: it is the highest of one compiled in, one configured, and all that were ever seen under a root. The
//! identity of each provider's platforms is remembered, so that another machine behind the same address is announced.

mod targets;

pub use targets::{Change, Recall, Seen};

use crate::config::ConfigError;
use crate::files::make_private;
use crate::limits::{INTEL_TCB_EVALUATION_NUMBER_MIN, INTEL_TCB_UNIX_S_MIN};
use attest::{Peer, RootClass};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use settlement::Address;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The open file.
pub struct TrustStore {
    connection: Mutex<Connection>,
    path: PathBuf,
}

/// The oldest platform state that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Minimum {
    /// The lowest evaluation number of the collateral.
    pub tcb_evaluation_number: u32,
    /// The day up to which the platform must have all fixes, in seconds since 1970.
    pub tcb_unix_s: u64,
}

/// Whether a provider's platform was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// No platform of this provider was known.
    First,
    /// It was.
    Known,
    /// Others were, this one was not.
    Another,
}

impl Platform {
    /// As `--json` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Platform::First => "first",
            Platform::Known => "known",
            Platform::Another => "another",
        }
    }
}

impl Minimum {
    /// At least as new as what is compiled in. A test root's platforms are as old as the test wants.
    pub fn under(self, root: RootClass) -> Minimum {
        match root {
            RootClass::InsecureTest => self,
            RootClass::Intel => Minimum {
                tcb_evaluation_number: self
                    .tcb_evaluation_number
                    .max(INTEL_TCB_EVALUATION_NUMBER_MIN),
                tcb_unix_s: self.tcb_unix_s.max(INTEL_TCB_UNIX_S_MIN),
            },
        }
    }
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS floors (root TEXT PRIMARY KEY, tcb_evaluation_number INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS platforms (
        provider TEXT NOT NULL, root TEXT NOT NULL, ppid BLOB NOT NULL, PRIMARY KEY (provider, root, ppid)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS registries (address TEXT PRIMARY KEY, version TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS targets (target TEXT PRIMARY KEY, seen TEXT NOT NULL, at_unix_s INTEGER NOT NULL) STRICT;
";

impl TrustStore {
    /// Where it is unless the configuration says otherwise: with the user's other state, for all channels together.
    pub fn default_path() -> Result<PathBuf, ConfigError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let state = variable("XDG_STATE_HOME").map(PathBuf::from);
        let home = || variable("HOME").map(|home| Path::new(&home).join(".local/state"));
        let state = state.or_else(home);
        let state = state.ok_or_else(|| {
            ConfigError("neither XDG_STATE_HOME nor HOME is set; name the trust store with `trust` or --trust".into())
        })?;
        Ok(state.join("chrysalis/trust.sqlite"))
    }

    /// Opens the file, or makes it readable for this user alone.
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        make_private(path)?;
        let refuse = |e: rusqlite::Error| ConfigError(format!("{}: {e}", path.display()));
        let connection = Connection::open(path).map_err(refuse)?;
        connection
            .busy_timeout(Duration::from_secs(5))
            .map_err(refuse)?;
        connection.execute_batch(SCHEMA).map_err(refuse)?;
        Ok(TrustStore {
            connection: Mutex::new(connection),
            path: path.to_owned(),
        })
    }

    /// The highest evaluation number seen under a root; 0 before the first.
    pub fn tcb_evaluation_number(&self, root: RootClass) -> Result<u32, ConfigError> {
        let query = "SELECT tcb_evaluation_number FROM floors WHERE root = ?1";
        self.lock()
            .query_row(query, [root.to_string()], |row| row.get(0))
            .optional()
            .map(Option::unwrap_or_default)
            .map_err(|e| self.failed(&e))
    }

    /// Remembers a verified peer of a provider: its evaluation number, if it is the highest, and its platform.
    pub fn remember(&self, provider: &str, peer: &Peer) -> Result<Platform, ConfigError> {
        let root = peer.root.to_string();
        let remember = |connection: &Connection| {
            connection.execute(
                "INSERT INTO floors VALUES (?1, ?2) ON CONFLICT (root) DO UPDATE
                 SET tcb_evaluation_number = max(tcb_evaluation_number, excluded.tcb_evaluation_number)",
                params![root, peer.tcb_evaluation_number],
            )?;
            let count = "SELECT count(*) FROM platforms WHERE provider = ?1 AND root = ?2";
            let known: i64 = connection.query_row(count, [provider, &root], |row| row.get(0))?;
            let new = connection.execute(
                "INSERT OR IGNORE INTO platforms VALUES (?1, ?2, ?3)",
                params![provider, root, peer.ppid],
            )?;
            Ok(match (new, known) {
                (0, _) => Platform::Known,
                (_, 0) => Platform::First,
                _ => Platform::Another,
            })
        };
        remember(&self.lock()).map_err(|e: rusqlite::Error| self.failed(&e))
    }

    /// The highest version of a registry that was seen; 0 before the first.
    pub fn registry_version(&self, registry: &Address) -> Result<u64, ConfigError> {
        let read = registry_version(&self.lock(), registry);
        read.map_err(|e| self.failed(&e))
    }

    /// Remembers a version of a registry, if it is the highest.
    pub fn remember_registry(&self, registry: &Address, version: u64) -> Result<(), ConfigError> {
        let remember = |connection: &mut Connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if registry_version(&transaction, registry)? < version {
                let row = params![registry.to_string(), version.to_string()];
                transaction.execute("INSERT OR REPLACE INTO registries VALUES (?1, ?2)", row)?;
            }
            transaction.commit()
        };
        remember(&mut self.lock()).map_err(|e| self.failed(&e))
    }

    /// Forgets the version of a registry, for an owner who knows that a node lied about it. What the configuration demands still holds.
    pub fn forget_registry(&self, registry: &Address) -> Result<(), ConfigError> {
        let delete = "DELETE FROM registries WHERE address = ?1";
        let deleted = self.lock().execute(delete, [registry.to_string()]);
        deleted.map(drop).map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &rusqlite::Error) -> ConfigError {
        ConfigError(format!("{}: {error}", self.path.display()))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // Each statement is whole, whoever panicked between two.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// All 64 bits of a version, which the database's integers do not hold. What is no number is no version that was seen.
fn registry_version(connection: &Connection, registry: &Address) -> rusqlite::Result<u64> {
    let query = "SELECT version FROM registries WHERE address = ?1";
    let row: Option<String> = { connection }
        .query_row(query, [registry.to_string()], |row| row.get(0))
        .optional()?;
    Ok(row.and_then(|text| text.parse().ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_of_each_registry_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trust");
        let [one, other] = [1, 2].map(|n| Address {
            workchain: 0,
            hash: [n; 32],
        });
        let store = TrustStore::open(&path).unwrap();
        assert_eq!(store.registry_version(&one), Ok(0));
        for (version, kept) in [(7, 7), (6, 7), (u64::MAX, u64::MAX)] {
            store.remember_registry(&one, version).unwrap();
            let again = TrustStore::open(&path).unwrap();
            assert_eq!(again.registry_version(&one), Ok(kept));
        }
        assert_eq!(store.registry_version(&other), Ok(0));
        store.remember_registry(&other, 3).unwrap();
        store.forget_registry(&one).unwrap();
        let kept = [one, other].map(|registry| store.registry_version(&registry));
        assert_eq!(kept, [Ok(0), Ok(3)]);
    }

    #[test]
    fn what_is_compiled_in_holds_for_intel_and_only_rises_by_configuration() {
        let none = Minimum::default();
        assert_eq!(none.under(RootClass::InsecureTest), none);
        let intel = none.under(RootClass::Intel);
        assert_eq!(intel.tcb_evaluation_number, INTEL_TCB_EVALUATION_NUMBER_MIN);
        assert_eq!(intel.tcb_unix_s, INTEL_TCB_UNIX_S_MIN);
        let higher = Minimum {
            tcb_evaluation_number: INTEL_TCB_EVALUATION_NUMBER_MIN + 1,
            tcb_unix_s: INTEL_TCB_UNIX_S_MIN + 1,
        };
        assert_eq!(higher.under(RootClass::Intel), higher);
    }
}
