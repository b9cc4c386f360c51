//! Vectors of texts that were embedded before: an exact-match cache on this disk, where its owner wants one.
//!
//! A vector is found by who asked, the model's root and the whole text: other weights are another model. It comes with the
//! receipt that it was verified and paid by. Trusted: the disk that holds the file. A vector tells much of its text, so the
//! file is for this user alone. What cannot be read, or is of an unexpected shape, is asked for again.

use crate::budget::Spender;
use crate::config::ConfigError;
use crate::files::make_private;
use crate::limits::VECTORS_FORGOTTEN_AT_ONCE;
use crate::session::unix_s;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wire::{Digest, ReceiptDigest};

/// A cache of embeddings. What is kept tells much of the texts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorsConfig {
    /// A file that only its owner may read, made if it is absent.
    pub file: PathBuf,
    /// MiB of it; what was not used longest goes first.
    #[serde(default = "crate::config::keep_mib_default")]
    pub mib: u32,
}

/// The open cache.
pub(crate) struct Vectors {
    connection: Mutex<Connection>,
    path: PathBuf,
    bytes_max: u64,
}

/// A vector of an earlier answer, and the receipt that answer was paid by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    pub(crate) vector: Vec<f32>,
    pub(crate) receipt: ReceiptDigest,
}

/// The texts of one request: those whose vectors are kept, and where those to ask for belong.
pub(crate) struct Looked {
    vectors: Arc<Vectors>,
    keys: Vec<Digest>,
    pub(crate) found: Vec<Option<Kept>>,
}

// `used` is the hour, so that looking writes seldom.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS vectors (
        key BLOB PRIMARY KEY, receipt BLOB NOT NULL, vector BLOB NOT NULL, used INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS vectors_by_use ON vectors (used);
";

impl Vectors {
    /// Opens the file, or makes it.
    pub(crate) fn open(config: VectorsConfig) -> Result<Self, ConfigError> {
        make_private(&config.file)?;
        let opened = Connection::open(&config.file).and_then(|connection| {
            // What a crash loses is asked for again.
            connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
            connection.execute_batch(SCHEMA)?;
            Ok(connection)
        });
        let connection = opened.map_err(|error| {
            let path = config.file.display();
            ConfigError(format!(
                "{path}: {error}; it is the cache of embeddings and may be deleted"
            ))
        })?;
        Ok(Vectors {
            connection: Mutex::new(connection),
            path: config.file,
            bytes_max: u64::from(config.mib) << 20,
        })
    }

    /// Looks each text up.
    pub(crate) fn look(
        self: &Arc<Self>,
        spender: &Spender,
        root: &Digest,
        texts: &[String],
    ) -> Looked {
        let key = |text: &String| {
            // A name has no line end.
            let of = [spender.name().as_bytes(), b"\n", &root.0, text.as_bytes()];
            Digest::of(&of.concat())
        };
        let keys: Vec<Digest> = texts.iter().map(key).collect();
        let found = self.find(&keys).unwrap_or_else(|error| {
            self.warn(&error);
            vec![None; keys.len()]
        });
        Looked {
            vectors: Arc::clone(self),
            keys,
            found,
        }
    }

    fn find(&self, keys: &[Digest]) -> rusqlite::Result<Vec<Option<Kept>>> {
        let hour = hour();
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let found = {
            let mut one = change
                .prepare_cached("SELECT receipt, vector, used FROM vectors WHERE key = ?1")?;
            let mut touch = change.prepare_cached("UPDATE vectors SET used = ?2 WHERE key = ?1")?;
            let mut find = |key: &Digest| -> rusqlite::Result<Option<Kept>> {
                let row = one.query_row([key.0], |row| {
                    Ok((
                        row.get(0)?,
                        row.get::<_, Vec<u8>>(1)?,
                        row.get::<_, i64>(2)?,
                    ))
                });
                let Some((receipt, bytes, used)) = row.optional()? else {
                    return Ok(None);
                };
                if used != hour {
                    touch.execute(params![key.0, hour])?;
                }
                let (numbers, rest) = bytes.as_chunks::<4>();
                let kept = Kept {
                    vector: numbers
                        .iter()
                        .map(|four| f32::from_le_bytes(*four))
                        .collect(),
                    receipt: ReceiptDigest(receipt),
                };
                Ok((rest.is_empty() && !kept.vector.is_empty()).then_some(kept))
            };
            keys.iter().map(&mut find).collect::<Result<_, _>>()?
        };
        change.commit()?;
        Ok(found)
    }

    fn keep<'a>(
        &self,
        receipt: &ReceiptDigest,
        vectors: impl Iterator<Item = (&'a Digest, Vec<u8>)>,
    ) -> rusqlite::Result<()> {
        let hour = hour();
        let mut connection = self.lock();
        let change = connection.transaction()?;
        for (key, vector) in vectors {
            let values = params![key.0, receipt.0, vector, hour];
            change.execute(
                "INSERT OR REPLACE INTO vectors VALUES (?1, ?2, ?3, ?4)",
                values,
            )?;
        }
        change.commit()?;
        // The file does not shrink; what it has free is used again.
        while bytes(&connection)? > self.bytes_max {
            let gone = connection.execute(
                "DELETE FROM vectors WHERE key IN (SELECT key FROM vectors ORDER BY used LIMIT ?1)",
                [VECTORS_FORGOTTEN_AT_ONCE],
            )?;
            if gone == 0 {
                break;
            }
        }
        Ok(())
    }

    fn warn(&self, error: &rusqlite::Error) {
        let path = self.path.display();
        tracing::warn!("{path}: {error}: the cache of embeddings does not help; it may be deleted");
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A transaction that panicked was rolled back.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Looked {
    /// The texts whose vectors are not kept, by their places.
    pub(crate) fn missing(&self) -> Vec<usize> {
        let all = self.found.iter().enumerate();
        all.filter_map(|(place, found)| found.is_none().then_some(place))
            .collect()
    }

    /// Keeps the vectors of a verified answer to [`Looked::missing`], in its order, and puts them in their places.
    pub(crate) fn fill(&mut self, receipt: &ReceiptDigest, answered: Vec<Vec<f32>>) {
        let missing =
            { self.found.iter_mut().zip(&self.keys) }.filter(|(found, _)| found.is_none());
        let mut new = Vec::new();
        for ((found, key), vector) in missing.zip(answered) {
            let bytes = vector.iter().copied().flat_map(f32::to_le_bytes).collect();
            new.push((key, bytes));
            *found = Some(Kept {
                vector,
                receipt: *receipt,
            });
        }
        if let Err(error) = self.vectors.keep(receipt, new.into_iter()) {
            self.vectors.warn(&error);
        }
    }
}

/// Bytes of the file that hold something.
fn bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let figure = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = figure("page_count")? - figure("freelist_count")?;
    Ok((pages * figure("page_size")?).unsigned_abs())
}

fn hour() -> i64 {
    // A clock that says nothing makes all equally old.
    unix_s().map_or(0, |now| (now / 3600).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn open(path: &Path, mib: u32) -> Result<Arc<Vectors>, ConfigError> {
        let file = path.to_owned();
        Vectors::open(VectorsConfig { file, mib }).map(Arc::new)
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    const ROOT: Digest = Digest([1; 32]);
    const RECEIPT: ReceiptDigest = ReceiptDigest([2; 32]);

    #[test]
    fn a_vector_is_found_by_the_same_key_model_and_text_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vectors");
        let (one, two) = (Spender::named("one"), Spender::named("two"));
        let asked = texts(&["a", "b", "c"]);
        let vectors = open(&path, 1).unwrap();
        let mut looked = vectors.look(&one, &ROOT, &asked[..2]);
        assert_eq!(looked.missing(), [0, 1]);
        // An answer that was cut short has fewer.
        looked.fill(&RECEIPT, vec![vec![0.5, -1.0]]);
        drop((looked, vectors));
        let vectors = open(&path, 1).unwrap();
        let looked = vectors.look(&one, &ROOT, &asked);
        let kept = Kept {
            vector: vec![0.5, -1.0],
            receipt: RECEIPT,
        };
        assert_eq!(looked.found, [Some(kept), None, None]);
        assert_eq!(looked.missing(), [1, 2]);
        for (spender, root) in [(&two, ROOT), (&one, Digest([3; 32]))] {
            assert_eq!(
                vectors.look(spender, &root, &asked).found,
                [None, None, None]
            );
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }

    #[test]
    fn the_file_is_bounded_and_what_was_not_used_goes_first() {
        let directory = tempfile::tempdir().unwrap();
        let vectors = open(&directory.path().join("vectors"), 1).unwrap();
        let one = Spender::named("one");
        let fill = |name: &str, texts_of: usize| {
            let asked: Vec<String> = (0..texts_of).map(|n| format!("{name} {n}")).collect();
            let mut looked = vectors.look(&one, &ROOT, &asked);
            looked.fill(&RECEIPT, vec![vec![0.5; 384]; texts_of]);
            asked
        };
        let old = fill("old", 300);
        vectors
            .lock()
            .execute("UPDATE vectors SET used = 1", [])
            .unwrap();
        let used = &old[..10];
        vectors.look(&one, &ROOT, used);
        let new = fill("new", 300);
        let there = |texts: &[String]| {
            let found = vectors.look(&one, &ROOT, texts).found;
            found.iter().filter(|found| found.is_some()).count()
        };
        assert_eq!((there(used), there(&new)), (10, 300));
        assert!(there(&old) < 250, "the oldest went");
        assert!(bytes(&vectors.lock()).unwrap() <= 1 << 20);
        // Room for nothing is no error.
        fill("huge", 2000);
    }

    #[test]
    fn a_file_that_is_none_is_refused_and_a_row_that_is_none_is_not_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vectors");
        fs::write(
            &path,
            "this is no database, and long enough to be seen as such",
        )
        .unwrap();
        let error = open(&path, 1).err().unwrap().to_string();
        assert!(error.contains("may be deleted"), "{error}");
        fs::remove_file(&path).unwrap();
        let vectors = open(&path, 1).unwrap();
        let (one, asked) = (Spender::named("one"), texts(&["a"]));
        vectors
            .look(&one, &ROOT, &asked)
            .fill(&RECEIPT, vec![vec![0.5]]);
        for changed in ["vector = x'000000'", "vector = x''", "receipt = x'00'"] {
            let change = format!("UPDATE vectors SET {changed}");
            vectors.lock().execute(&change, []).unwrap();
            assert_eq!(vectors.look(&one, &ROOT, &asked).found, [None], "{changed}");
        }
        vectors.lock().execute_batch("DROP TABLE vectors").unwrap();
        let mut looked = vectors.look(&one, &ROOT, &asked);
        looked.fill(&RECEIPT, vec![vec![0.5]]);
        assert!(looked.found[0].is_some(), "the answer is whole without it");
    }
}
