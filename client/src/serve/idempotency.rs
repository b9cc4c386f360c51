//! Answers kept under an application's `Idempotency-Key`: asking again with the same key and body gives the same answer,
//! paid once, also while the first is still being made. Another body under a key is a conflict.

use crate::limits::{IDEMPOTENCY_BYTES_MAX, IDEMPOTENCY_KEYS_MAX, IDEMPOTENCY_TIME};
use axum::body::Bytes;
use axum::http::StatusCode;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::watch;
use wire::Digest;

/// A whole answer as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
}

/// What a key is good for.
pub(super) enum Claim {
    /// Nobody used it: this request makes the answer.
    New(Making),
    /// Its answer is there, or on its way.
    Known(watch::Receiver<Option<Kept>>),
    /// It belongs to another request.
    Conflict,
    /// As many keys as are kept are in use by answers on their way.
    Full,
}

/// The keys in use.
#[derive(Default)]
pub(super) struct Keys(Arc<Mutex<HashMap<String, Entry>>>);

struct Entry {
    request: Digest,
    at: Instant,
    answer: watch::Receiver<Option<Kept>>,
}

/// The duty to give an answer under a key. Dropped without one, the key is free again.
pub(super) struct Making {
    keys: Arc<Mutex<HashMap<String, Entry>>>,
    key: String,
    answer: watch::Sender<Option<Kept>>,
}

impl Keys {
    /// Looks a key up for a request, and takes it where it is free.
    pub(super) fn claim(&self, key: &str, request: Digest) -> Claim {
        let mut keys = lock(&self.0);
        keys.retain(|_, entry| entry.is_on_its_way() || entry.at.elapsed() < IDEMPOTENCY_TIME);
        if let Some(entry) = keys.get(key) {
            return match entry.request == request {
                true => Claim::Known(entry.answer.clone()),
                false => Claim::Conflict,
            };
        }
        if !make_space(&mut keys) {
            return Claim::Full;
        }
        let (answer, receiver) = watch::channel(None);
        let entry = Entry {
            request,
            at: Instant::now(),
            answer: receiver,
        };
        keys.insert(key.to_owned(), entry);
        Claim::New(Making {
            keys: Arc::clone(&self.0),
            key: key.to_owned(),
            answer,
        })
    }
}

impl Making {
    /// Keeps the answer.
    pub(super) fn keep(self, kept: Kept) {
        self.answer.send_replace(Some(kept));
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if self.answer.borrow().is_none() {
            lock(&self.keys).remove(&self.key);
        }
    }
}

impl Entry {
    fn is_on_its_way(&self) -> bool {
        self.answer.borrow().is_none()
    }

    fn bytes(&self) -> usize {
        self.answer
            .borrow()
            .as_ref()
            .map_or(0, |kept| kept.body.len())
    }
}

/// Drops the oldest answers until one more fits.
fn make_space(keys: &mut HashMap<String, Entry>) -> bool {
    loop {
        let bytes: usize = keys.values().map(Entry::bytes).sum();
        if keys.len() < IDEMPOTENCY_KEYS_MAX && bytes <= IDEMPOTENCY_BYTES_MAX {
            return true;
        }
        let whole = keys.iter().filter(|(_, entry)| !entry.is_on_its_way());
        let oldest = whole.min_by_key(|(_, entry)| entry.at);
        let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
            return false;
        };
        keys.remove(&oldest);
    }
}

fn lock(keys: &Mutex<HashMap<String, Entry>>) -> MutexGuard<'_, HashMap<String, Entry>> {
    // Each change is one call: the map is whole, whoever panicked.
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(bytes: usize) -> Kept {
        Kept {
            status: StatusCode::OK,
            content_type: "application/json",
            body: vec![b'x'; bytes].into(),
        }
    }

    fn make(keys: &Keys, key: &str) -> Option<Making> {
        match keys.claim(key, Digest::of(b"a")) {
            Claim::New(making) => Some(making),
            _ => None,
        }
    }

    #[test]
    fn a_key_has_one_request_and_one_answer() {
        let keys = Keys::default();
        let making = make(&keys, "k").unwrap();
        let Claim::Known(receiver) = keys.claim("k", Digest::of(b"a")) else {
            panic!("it is on its way")
        };
        assert!(matches!(keys.claim("k", Digest::of(b"b")), Claim::Conflict));
        making.keep(kept(1));
        assert_eq!(*receiver.borrow(), Some(kept(1)));
        assert!(matches!(keys.claim("k", Digest::of(b"b")), Claim::Conflict));
        // One that was given up is free again.
        drop(make(&keys, "other").unwrap());
        assert!(make(&keys, "other").is_some());
    }

    #[test]
    fn keys_and_bytes_are_bounded() {
        let keys = Keys::default();
        let running: Vec<_> = (0..IDEMPOTENCY_KEYS_MAX)
            .map(|n| make(&keys, &n.to_string()).unwrap())
            .collect();
        assert!(matches!(keys.claim("k", Digest::of(b"a")), Claim::Full));
        running.into_iter().for_each(|making| making.keep(kept(1)));
        assert!(make(&keys, "k").is_some());

        let keys = Keys::default();
        for key in ["1", "2", "3"] {
            make(&keys, key)
                .unwrap()
                .keep(kept(IDEMPOTENCY_BYTES_MAX / 2 + 1));
        }
        drop(make(&keys, "4"));
        assert!(make(&keys, "1").is_some(), "the oldest went");
        assert!(make(&keys, "3").is_none(), "the youngest stays");
    }
}
