//! Changes of several jobs in one transaction, so that they share the disk's one flush: a flush takes as long as a thousand inserts.
//!
//! One thread commits for all that wait, and one more may wait for the next turn: a job needs none of its own. Each change is a savepoint
//! of its own: one that fails takes back itself alone. Nobody is answered before the commit. Questions wait for a thread in the same way.

use super::Store;
use super::sql::{Open, Sql};
use crate::error::{Error, Fault};
use std::sync::{Mutex, PoisonError};
use tokio::sync::oneshot;

/// Those that wait.
#[derive(Default)]
pub(super) struct Group(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    members: Vec<Box<dyn Member>>,
    /// A thread will come for them.
    called: bool,
}

/// One change or question, whatever it gives.
trait Member: Send {
    /// Does it. `false`: it failed, and a change is to be taken back.
    fn make(&mut self, change: &Sql) -> bool;
    /// Answers whoever waits. `failed`: why its transaction was not committed.
    fn end(self: Box<Self>, failed: Option<&str>);
}

struct One<T, W> {
    work: Option<W>,
    made: Option<Result<T, Error>>,
    tell: oneshot::Sender<Result<T, Error>>,
}

impl<T, W> Member for One<T, W>
where
    T: Send,
    W: FnOnce(&Sql) -> Result<T, Error> + Send,
{
    fn make(&mut self, change: &Sql) -> bool {
        self.made = self.work.take().map(|work| work(change));
        matches!(self.made, Some(Ok(_)))
    }

    fn end(self: Box<Self>, failed: Option<&str>) {
        let answer = match (self.made, failed) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(words)) => Err(Error::new(Fault::Host, words)),
            (Some(made), None) => made,
            (None, None) => Err(lost()),
        };
        // Whoever asked may be gone.
        let _ = self.tell.send(answer);
    }
}

impl Store {
    /// Makes a change together with those of others. After `Ok` it is on the disk.
    pub(super) async fn change_together<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sql) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (told, first) = self.changes.enlist(work);
        if first {
            let store = self.clone();
            self.blocking.start(move || store.commit_waiting());
        }
        told.await.unwrap_or_else(|_| Err(lost()))
    }

    /// The same on this thread.
    #[cfg(test)]
    pub(super) fn change_now<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sql) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (mut told, _) = self.changes.enlist(work);
        self.commit_waiting();
        told.try_recv()
            .expect("made, here or by whom had the connection before")
    }

    /// Reads together with others, which costs one change of thread for all of them.
    pub(super) async fn read_together<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sql) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (told, first) = self.questions.enlist(work);
        if first {
            let store = self.clone();
            self.blocking.start(move || {
                let sql = store.read();
                for mut member in store.questions.take() {
                    member.make(&sql);
                    member.end(None);
                }
            });
        }
        told.await.unwrap_or_else(|_| Err(lost()))
    }

    fn commit_waiting(&self) {
        let sql = self.lock();
        let mut members = self.changes.take();
        if members.is_empty() {
            return;
        }
        let committed = commit(&sql, &mut members);
        self.note(committed.is_ok());
        let failed = committed.err().map(|error| error.to_string());
        for member in members {
            member.end(failed.as_deref());
        }
    }
}

fn lost() -> Error {
    Error::new(Fault::Host, "it was not done")
}

fn commit(sql: &Sql, members: &mut [Box<dyn Member>]) -> Result<(), Error> {
    #[cfg(test)]
    crate::kill::step();
    let change = Open::transaction(sql)?;
    for member in members {
        let own = Open::savepoint(sql)?;
        if member.make(sql) {
            own.finish()?;
        }
        // Else it is taken back as it is dropped.
    }
    change.finish()?;
    #[cfg(test)]
    crate::kill::step();
    Ok(())
}

impl Group {
    /// Adds one to those that wait. `true`: nobody was called for them yet.
    fn enlist<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sql) -> Result<T, Error> + Send + 'static,
    ) -> (oneshot::Receiver<Result<T, Error>>, bool) {
        let (tell, told) = oneshot::channel();
        let one = One {
            work: Some(work),
            made: None,
            tell,
        };
        let mut waiting = self.waiting();
        waiting.members.push(Box::new(one));
        (told, !std::mem::replace(&mut waiting.called, true))
    }

    /// All that wait. Who comes after them calls again.
    fn take(&self) -> Vec<Box<dyn Member>> {
        std::mem::take(&mut *self.waiting()).members
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // A list of boxes: whole, whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sql::values;
    use super::*;
    use crate::store::engines::{on_each, open};
    use std::sync::Barrier;

    fn keys(store: &Store) -> i64 {
        let count = "SELECT COUNT(*) FROM first_keys";
        let (count,) = store.lock().one(count, &[]).expect("counted");
        count
    }

    #[test]
    fn changes_of_many_threads_are_all_made_and_each_is_answered_for_itself() {
        on_each(|place| {
            let store = open(place);
            let barrier = Barrier::new(16);
            std::thread::scope(|threads| {
                for thread in 0..16 {
                    let (store, barrier) = (&store, &barrier);
                    threads.spawn(move || {
                        barrier.wait();
                        for at in 0..20 {
                            let name = format!("{thread} {at}");
                            let made = store.change_now(move |change| {
                                let insert = "INSERT INTO first_keys VALUES (?1, ?2)";
                                change.execute(insert, values![&name, &[0; 32]])?;
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
        });
    }

    #[test]
    fn a_disk_that_fails_is_told_to_all() {
        on_each(|place| {
            let store = open(place);
            store.writable(false);
            let insert = |change: &Sql| {
                change.execute("INSERT INTO first_keys VALUES ('a', ?1)", values![&[0; 32]])
            };
            store.change_now(insert).expect_err("read only");
            assert!(store.can_write().is_err());
            store.writable(true);
            assert_eq!(store.change_now(insert).expect("made"), 1);
            assert!(store.can_write().is_ok());
            assert_eq!(keys(&store), 1);
        });
    }
}
