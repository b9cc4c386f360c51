//! Jobs that can still be cancelled, and receipts that can still be fetched.
//!
//! A client cancels with a secret from inside the seal, so its proxy can neither forge a cancel nor know it before. A receipt is kept in
//! the form in which it travels, sealed: whoever fetches it learns no more than the stream told.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;
use wire::{Cancel, CancelSecret, EnvelopeDigest};

/// Receipts kept, the newest: 4.4 MiB. A proxy stores what it gets; this is for streams that broke.
const KEPT_MAX: usize = 1_024;

/// All jobs of this boot that are not forgotten.
#[derive(Clone, Default)]
pub(crate) struct Jobs(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    open: HashMap<EnvelopeDigest, (CancelSecret, watch::Sender<bool>)>,
    kept: VecDeque<(EnvelopeDigest, Vec<u8>)>,
}

/// A job that can be cancelled, until this is dropped.
pub(crate) struct Open {
    jobs: Jobs,
    envelope: EnvelopeDigest,
    cancelled: watch::Receiver<bool>,
}

impl Jobs {
    /// From now on a job can be cancelled.
    pub(crate) fn open(&self, envelope: EnvelopeDigest, secret: CancelSecret) -> Open {
        let (sender, cancelled) = watch::channel(false);
        self.lock().open.insert(envelope, (secret, sender));
        Open {
            jobs: self.clone(),
            envelope,
            cancelled,
        }
    }

    /// Cancels the job if its client asks for it. Nothing says whether that was so.
    pub(crate) fn cancel(&self, cancel: &Cancel) {
        if let Some((secret, sender)) = self.lock().open.get(&cancel.envelope)
            && secret.made(cancel)
        {
            sender.send_replace(true);
        }
    }

    /// Keeps the frames with which a job ended.
    pub(crate) fn keep(&self, envelope: EnvelopeDigest, frames: &[u8]) {
        let mut state = self.lock();
        if state.kept.len() >= KEPT_MAX {
            state.kept.pop_front();
        }
        state.kept.push_back((envelope, frames.to_vec()));
    }

    /// The frames with which a job ended.
    pub(crate) fn kept(&self, envelope: &EnvelopeDigest) -> Option<Vec<u8>> {
        let state = self.lock();
        let kept = state.kept.iter().rev().find(|(of, _)| of == envelope);
        kept.map(|(_, frames)| frames.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("its holders insert and compare")
    }
}

impl Open {
    pub(crate) fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// Returns when the job is cancelled.
    pub(crate) async fn cancelled(&self) {
        // The sender lives in the registry for as long as this does.
        let _ = { self.cancelled.clone() }
            .wait_for(|cancelled| *cancelled)
            .await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.jobs.lock().open.remove(&self.envelope);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_receipts_are_kept() {
        let jobs = Jobs::default();
        let name = |number: usize| {
            let mut name = EnvelopeDigest::default();
            name.0[..8].copy_from_slice(&number.to_le_bytes());
            name
        };
        for number in 0..KEPT_MAX + 2 {
            jobs.keep(name(number), &number.to_le_bytes());
        }
        assert_eq!(jobs.kept(&name(0)), None);
        assert_eq!(jobs.kept(&name(1)), None);
        for number in [2, KEPT_MAX + 1] {
            assert_eq!(jobs.kept(&name(number)), Some(number.to_le_bytes().into()));
        }
    }
}
