//! What a target was when it was verified last, so that a change is announced even where the new one verifies, too.

use super::TrustStore;
use crate::config::ConfigError;
use crate::session::unix_s;
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wire::AttestedWorker;

/// Targets that are remembered; the ones verified longest ago go first.
const TARGETS_MAX: u32 = 4096;

/// What is remembered of a verified target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Digest over the registers.
    pub image: String,
    /// The platform's PPID, in hexadecimal.
    pub machine: String,
    /// Who is paid, and the key that endorses keysets.
    pub payee: String,
    /// The roots of its models, by name.
    pub models: BTreeMap<String, String>,
}

/// One thing that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `image`, `machine`, `payee` or `model NAME`.
    pub what: String,
    /// What it was; absent where a model is new.
    pub before: Option<String>,
    /// What it is; absent where a model is gone.
    pub now: Option<String>,
}

/// A target beside what it was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recall {
    /// It was never verified on this machine.
    First,
    /// It was, then, and this is what differs: nothing, if the list is empty.
    Before {
        /// When it was verified last, by this machine's clock.
        at_unix_s: u64,
        /// What differs.
        changes: Vec<Change>,
    },
}

impl Seen {
    /// What is remembered of a worker.
    pub fn of(worker: &AttestedWorker) -> Seen {
        let (peer, keyset) = (worker.peer(), worker.keyset());
        let payee_key = hex::encode(keyset.payee_key);
        Seen {
            image: wire::registers_digest(&peer.registers).to_string(),
            machine: hex::encode(&peer.ppid),
            payee: format!("{} with key {payee_key}", keyset.payee),
            models: { keyset.models.iter() }
                .map(|model| (model.id.clone(), model.root.to_string()))
                .collect(),
        }
    }

    fn changes_since(&self, before: &Seen) -> Vec<Change> {
        let change = |what: &str, before: Option<&String>, now: Option<&String>| {
            (before != now).then(|| Change {
                what: what.into(),
                before: before.cloned(),
                now: now.cloned(),
            })
        };
        let fixed = [
            change("image", Some(&before.image), Some(&self.image)),
            change("machine", Some(&before.machine), Some(&self.machine)),
            change("payee", Some(&before.payee), Some(&self.payee)),
        ];
        let mut names: Vec<&String> = before.models.keys().chain(self.models.keys()).collect();
        names.sort();
        names.dedup();
        let models = names.into_iter().map(|name| {
            let (before, now) = (before.models.get(name), self.models.get(name));
            change(&format!("model {name}"), before, now)
        });
        fixed.into_iter().chain(models).flatten().collect()
    }
}

impl TrustStore {
    /// Compares a verified target with what it was the last time, and remembers what it is now.
    pub fn recall(&self, target: &str, seen: &Seen) -> Result<Recall, ConfigError> {
        let now = unix_s().map_err(|e| ConfigError(e.to_string()))?;
        let text = serde_json::to_string(seen).map_err(|e| ConfigError(e.to_string()))?;
        let query = "SELECT seen, at_unix_s FROM targets WHERE target = ?1";
        let exchange = |connection: &mut rusqlite::Connection| {
            let transaction = connection.transaction()?;
            let before: Option<(String, i64)> = transaction
                .query_row(query, [target], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let at = i64::try_from(now).unwrap_or(i64::MAX);
            transaction.execute(
                "INSERT OR REPLACE INTO targets VALUES (?1, ?2, ?3)",
                params![target, text, at],
            )?;
            transaction.execute(
                "DELETE FROM targets WHERE target NOT IN
                 (SELECT target FROM targets ORDER BY at_unix_s DESC, rowid DESC LIMIT ?1)",
                [TARGETS_MAX],
            )?;
            transaction.commit()?;
            Ok(before)
        };
        let before = exchange(&mut self.lock()).map_err(|e: rusqlite::Error| self.failed(&e))?;
        let Some((before, at)) = before else {
            return Ok(Recall::First);
        };
        let before: Seen = serde_json::from_str(&before)
            .map_err(|e| ConfigError(format!("{}: {target}: {e}", self.path.display())))?;
        Ok(Recall::Before {
            at_unix_s: at.unsigned_abs(),
            changes: seen.changes_since(&before),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(image: &str, models: &[(&str, &str)]) -> Seen {
        let models = models
            .iter()
            .map(|(id, root)| ((*id).into(), (*root).into()));
        Seen {
            image: image.into(),
            machine: "m".into(),
            payee: "p".into(),
            models: models.collect(),
        }
    }

    #[test]
    fn what_changed_since_the_last_time_is_named_once() {
        let directory = tempfile::tempdir().unwrap();
        let store = TrustStore::open(&directory.path().join("trust")).unwrap();
        let first = seen("a", &[("chat", "1"), ("old", "2")]);
        assert_eq!(store.recall("x", &first), Ok(Recall::First));
        let changed = |image: &str, models: &[(&str, &str)]| match store
            .recall("x", &seen(image, models))
            .unwrap()
        {
            Recall::First => panic!("it was seen before"),
            Recall::Before { changes, .. } => changes
                .into_iter()
                .map(|change| change.what)
                .collect::<Vec<_>>(),
        };
        assert!(changed("a", &[("chat", "1"), ("old", "2")]).is_empty());
        let expected = ["image", "model chat", "model new", "model old"];
        assert_eq!(changed("b", &[("chat", "9"), ("new", "3")]), expected);
        assert!(
            changed("b", &[("chat", "9"), ("new", "3")]).is_empty(),
            "now known"
        );
        assert_eq!(
            store.recall("y", &first),
            Ok(Recall::First),
            "another target"
        );
    }
}
