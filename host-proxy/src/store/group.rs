//! Changes of several threads in one transaction, so that they share the disk's one flush: a flush takes as long as a thousand inserts.
//!
//! Whoever gets the connection next commits for all that wait behind it. Each change is a savepoint of its own: one that fails takes back
//! itself alone. Nobody is answered before the commit.

use super::Store;
use crate::error::{Error, Fault};
use rusqlite::{Connection, TransactionBehavior};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

/// Those that wait.
#[derive(Default)]
pub(super) struct Group(Mutex<Vec<Box<dyn Member>>>);

/// One change, whatever it gives.
trait Member: Send {
    /// Makes the change. `false`: it is to be taken back.
    fn make(&mut self, change: &Connection) -> bool;
    /// Answers, once the transaction has ended: why it failed, if it did.
    fn end(self: Box<Self>, failed: Option<&str>);
}

struct One<T, W> {
    work: Option<W>,
    made: Option<Result<T, Error>>,
    tell: SyncSender<Result<T, Error>>,
}

impl<T, W> Member for One<T, W>
where
    T: Send,
    W: FnOnce(&Connection) -> Result<T, Error> + Send,
{
    fn make(&mut self, change: &Connection) -> bool {
        self.made = self.work.take().map(|work| work(change));
        matches!(self.made, Some(Ok(_)))
    }

    fn end(self: Box<Self>, failed: Option<&str>) {
        let lost = |words: &str| Err(Error::new(Fault::Host, words));
        let answer = match (self.made, failed) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(words)) => lost(words),
            (Some(made), None) => made,
            (None, None) => lost("a change was not made"),
        };
        // Whoever asked may be gone.
        let _ = self.tell.send(answer);
    }
}

impl Store {
    /// Makes a change together with those of other threads. When this returns `Ok`, it is on the disk.
    pub(super) fn change_together<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (tell, told) = sync_channel(1);
        let one = One {
            work: Some(work),
            made: None,
            tell,
        };
        self.group.waiting().push(Box::new(one));
        let mut connection = self.lock();
        if let Some(answer) = answered(&told) {
            return answer;
        }
        let mut members = std::mem::take(&mut *self.group.waiting());
        let committed = commit(&mut connection, &mut members);
        self.note(committed.is_ok());
        let failed = committed.err().map(|error| error.to_string());
        for member in members {
            member.end(failed.as_deref());
        }
        drop(connection);
        let lost = || Err(Error::new(Fault::Host, "a change was not made"));
        answered(&told).unwrap_or_else(lost)
    }
}

/// Whoever had the connection before may have made this change, too.
fn answered<T>(told: &Receiver<Result<T, Error>>) -> Option<Result<T, Error>> {
    told.try_recv().ok()
}

fn commit(connection: &mut Connection, members: &mut [Box<dyn Member>]) -> Result<(), Error> {
    #[cfg(test)]
    crate::kill::step();
    let mut change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for member in members {
        let own = change.savepoint()?;
        if member.make(&own) {
            own.commit()?;
        }
        // Else it is rolled back as it is dropped.
    }
    change.commit()?;
    #[cfg(test)]
    crate::kill::step();
    Ok(())
}

impl Group {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn Member>>> {
        // A list of boxes: whole, whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{directory, payee};
    use settlement::ChainId;
    use std::sync::Barrier;

    fn store(directory: &std::path::Path) -> Store {
        let opened = Store::open(
            &directory.join("state"),
            &payee().address(),
            ChainId::EMBEDDED,
        );
        opened.expect("opens")
    }

    fn keys(store: &Store) -> i64 {
        let count = "SELECT COUNT(*) FROM first_keys";
        let count = store.lock().query_row(count, [], |row| row.get(0));
        count.expect("counted")
    }

    #[test]
    fn changes_of_many_threads_are_all_made_and_each_is_answered_for_itself() {
        let directory = directory();
        let store = store(directory.path());
        let barrier = Barrier::new(16);
        std::thread::scope(|threads| {
            for thread in 0..16 {
                let (store, barrier) = (&store, &barrier);
                threads.spawn(move || {
                    barrier.wait();
                    for at in 0..20 {
                        let name = format!("{thread} {at}");
                        let made = store.change_together(move |change| {
                            change.execute("INSERT INTO first_keys VALUES (?1, x'00')", [&name])?;
                            match at % 5 {
                                0 => Err(Error::new(Fault::Payer, name)),
                                _ => Ok(name),
                            }
                        });
                        let expected = format!("{thread} {at}");
                        match made {
                            Ok(name) => assert_eq!(name, expected),
                            Err(error) => assert!(error.to_string().contains(&expected)),
                        }
                    }
                });
            }
        });
        assert_eq!(
            keys(&store),
            16 * 16,
            "what failed is taken back, and nothing else"
        );
    }

    #[test]
    fn a_disk_that_fails_is_told_to_all() {
        let directory = directory();
        let store = store(directory.path());
        store.writable(false);
        let insert = |change: &Connection| {
            Ok(change.execute("INSERT INTO first_keys VALUES ('a', x'00')", [])?)
        };
        store.change_together(insert).expect_err("read only");
        assert!(store.can_write().is_err());
        store.writable(true);
        assert_eq!(store.change_together(insert).expect("made"), 1);
        assert!(store.can_write().is_ok());
        assert_eq!(keys(&store), 1);
    }
}
