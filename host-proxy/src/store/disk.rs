//! The disk under the state file: whether what is about to be earned could be written down, and a copy of all of it.

use super::Store;
use super::sql::values;
use crate::error::{Context, Error, Fault};
use crate::limits::{DISK_LOOK, STATE_FREE_BYTES_MIN};
use nix::sys::statvfs::statvfs;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

impl Store {
    /// Whether the last change was made and [`can_write`](Self::can_write) said yes so lately that nobody could have filled the disk since.
    pub(crate) fn could_write(&self) -> bool {
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        !self.failed.load(Ordering::Relaxed)
            && looked.is_some_and(|looked| looked.elapsed() < DISK_LOOK)
    }

    /// Refuses when the disk is nearly full, or when the last change failed and a trial fails too. A job that is taken
    /// in spite of that could not be charged for.
    pub(crate) fn can_write(&self) -> Result<(), Error> {
        if let Some(path) = self.place.file() {
            let shown = || format!("the disk of {}", path.display());
            let free = statvfs(directory_of(path)).context(Fault::Host, shown)?;
            has_room(free.blocks_available() * free.fragment_size(), shown)?;
        }
        if self.failed.load(Ordering::Relaxed) {
            // It changes nothing, and still has to write a page.
            self.change(|change| change.execute("UPDATE owner SET chain = chain", &[]))
                .context(Fault::Host, || {
                    let place = &self.place;
                    format!("{place} cannot be written; jobs are refused until it can")
                })?;
        }
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        *looked = Some(Instant::now());
        Ok(())
    }

    /// Writes everything to a new file at `to`, from one moment, while others go on writing. A plain copy of the state
    /// file lacks what is still in its write-ahead log.
    pub(crate) fn back_up(&self, to: &Path) -> Result<(), Error> {
        if self.place.file().is_none() {
            let words = "the state is in PostgreSQL, whose own pg_dump makes a copy of one moment; what to do after it was restored \
                is in docs/operations.md";
            return Err(Error::new(Fault::Configuration, words));
        }
        let shown = || format!("the backup {}", to.display());
        // SQLite fills an empty file; nobody else may read it, and none is overwritten.
        let new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(to);
        drop(new.context(Fault::Configuration, shown)?);
        let written = self.fill(to);
        if written.is_err() {
            // Half a backup is none.
            let _ = std::fs::remove_file(to);
        }
        written.context(Fault::Host, shown)
    }

    /// As a disk that is full, or read-only, or well again.
    #[cfg(test)]
    pub(crate) fn writable(&self, writable: bool) {
        let set = match self.place.file() {
            Some(_) => format!("PRAGMA query_only = {}", !writable),
            None => format!("SET default_transaction_read_only = {}", !writable),
        };
        self.lock().batch(&set).expect("set");
    }

    fn fill(&self, to: &Path) -> Result<(), Error> {
        let name = to.to_str().ok_or_else(|| {
            let words = "its path must be UTF-8";
            Error::new(Fault::Configuration, words)
        })?;
        self.lock().execute("VACUUM INTO ?1", values![name])?;
        let on_disk = || -> io::Result<()> {
            File::open(to)?.sync_all()?;
            File::open(directory_of(to))?.sync_all()
        };
        on_disk().context(Fault::Host, || "writing it to the disk")
    }
}

fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new("."))
}

fn has_room(free: u64, disk: impl Fn() -> String) -> Result<(), Error> {
    if free >= STATE_FREE_BYTES_MIN {
        return Ok(());
    }
    let words = format!(
        "{} has {free} bytes left and vouchers need {STATE_FREE_BYTES_MIN}; jobs are refused until there is room",
        disk()
    );
    Err(Error::new(Fault::Host, words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{DEPOSIT, channel_state, channel_terms, directory, payee, voucher};
    use crate::store::engines::on_each;
    use settlement::{ChainId, Nano};

    fn open(path: &Path) -> Store {
        Store::open(path, &payee().address(), ChainId::EMBEDDED).expect("opens")
    }

    fn take(store: &Store, cumulative: u64) -> Result<(), Error> {
        let channel = channel_terms().address();
        let voucher = voucher(cumulative);
        let verified = crate::voucher::verify(&voucher, &channel, &channel_state(DEPOSIT));
        store.take_now(&verified.expect("good")).map(drop)
    }

    #[test]
    fn a_disk_that_is_nearly_full_takes_no_jobs() {
        let disk = || "the disk of state.sqlite".to_owned();
        has_room(STATE_FREE_BYTES_MIN, disk).expect("room");
        let refused = has_room(STATE_FREE_BYTES_MIN - 1, disk).expect_err("none");
        let words = "the disk of state.sqlite has 67108863 bytes left";
        assert!(refused.to_string().starts_with(words), "{refused}");
    }

    #[test]
    fn a_store_that_cannot_be_written_says_so_until_it_can() {
        on_each(|place| {
            let store = crate::store::engines::open(place);
            take(&store, 1).expect("stored");
            assert!(store.can_write().is_ok());
            store.writable(false);
            take(&store, 2).expect_err("nothing can be written");
            let refused = store.can_write().expect_err("nothing can be written");
            assert!(
                refused.to_string().contains("jobs are refused"),
                "{refused}"
            );
            store.writable(true);
            assert!(store.can_write().is_ok());
            take(&store, 3).expect("stored");
        });
    }

    #[test]
    fn a_backup_has_what_a_copy_of_the_file_lacks() {
        let directory = directory();
        let path = directory.path().join("state.sqlite");
        let store = open(&path);
        take(&store, 7).expect("stored");
        let channel = channel_terms().address();
        // The fault: the newest voucher is in the log beside the file.
        let copied = directory.path().join("copied.sqlite");
        std::fs::copy(&path, &copied).expect("copied");
        let lost = open(&copied).highest(&channel).expect("read");
        assert_eq!(lost, None);

        let saved = directory.path().join("saved.sqlite");
        store.back_up(&saved).expect("saved");
        let again = store.back_up(&saved).expect_err("it is there already");
        assert!(again.to_string().contains("saved.sqlite"), "{again}");
        // Restored: the file is put in the place of the lost one.
        drop(store);
        for name in ["state.sqlite", "state.sqlite-wal", "state.sqlite-shm"] {
            let _ = std::fs::remove_file(directory.path().join(name));
        }
        std::fs::rename(&saved, &path).expect("restored");
        let restored = open(&path);
        assert_eq!(restored.highest(&channel).expect("read"), Some(voucher(7)));
        assert_eq!(
            restored.figures(&channel).expect("read").vouchered(),
            Nano(7)
        );
    }
}
