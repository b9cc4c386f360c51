//! The keys of a boot, epoch by epoch. They are made in this memory, leave it never, and are erased at their end.
//!
//! ```text
//!  made ──── half a lifetime ────► the next epoch is made ──── a whole lifetime ────► erased
//!            evidence shows it                        clients that were shown it may use it
//! ```
//! A client counts a keyset's lifetime from the first nonce with which it saw it, by its own clock; so the last one that was shown an
//! epoch has done with it one and a half lifetimes after it was made. Since the host can slow this clock, an epoch also ends by count:
//! the next one is made when three quarters of its jobs are used up, more than those who pay nothing can use up alone.
//! A job that runs holds its epoch, so that its receipt is signed by the keys that its client knows.

use crate::boot::Keys;
use crate::log;
use crate::replay::ReplayCache;
use rand_core::CryptoRng;
use settlement::{Address, Nano};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;
use wire::{CoreDigest, GpuReport, Keyset, KeysetDigest};

/// Epochs alive at once: three by time, and one for a time in which jobs use them up. Beyond that the oldest ends early, and whoever
/// sealed to it is told to attest again.
const LIVE_MAX: usize = 4;

/// One keyset with its keys, and what is counted under them.
pub(crate) struct Epoch {
    pub(crate) keyset: Keyset,
    pub(crate) digest: KeysetDigest,
    pub(crate) keys: Keys,
    /// What the GPU signed for this keyset, where there is one.
    pub(crate) report: Option<GpuReport>,
    replay: Mutex<ReplayCache>,
    receipts: Mutex<Receipts>,
    begun: Instant,
}

/// The chain of the receipts of one key, and what each channel was charged under it.
#[derive(Default)]
struct Receipts {
    next: u64,
    previous: CoreDigest,
    charged: HashMap<Address, u64>,
}

/// The place of a receipt among those of its key.
pub(crate) struct Place {
    /// Its number.
    pub(crate) number: u64,
    /// The digest of the core before it.
    pub(crate) previous: CoreDigest,
    /// What its channel was charged under this key, this time included.
    pub(crate) cumulative: Nano,
}

/// The epochs that are alive, the newest first. There is always one.
pub(crate) struct Epochs(Mutex<VecDeque<Arc<Epoch>>>);

impl Epoch {
    /// The keyset names the public halves of the keys, which are made at `now`.
    pub(crate) fn new(keyset: Keyset, keys: Keys, now: Instant) -> Self {
        Epoch {
            digest: keyset.digest(),
            replay: Mutex::new(ReplayCache::new(keyset.jobs_max)),
            receipts: Mutex::default(),
            begun: now,
            report: None,
            keyset,
            keys,
        }
    }

    /// The same offers and terms under fresh keys.
    pub(crate) fn next(&self, now: Instant, rng: &mut impl CryptoRng) -> Self {
        let keys = Keys::make(rng);
        let keyset = Keyset {
            epoch: self.keyset.epoch.wrapping_add(1),
            kem_keys: vec![keys.sealing.public()],
            receipt_key: keys.receipt.verifying_key().to_bytes(),
            ..self.keyset.clone()
        };
        Epoch::new(keyset, keys, now)
    }

    /// Jobs that were seen under these keys.
    pub(crate) fn replay(&self) -> MutexGuard<'_, ReplayCache> {
        let replay = self.replay.lock();
        replay.expect("no holder of this lock can panic: it only inserts")
    }

    /// Gives a receipt its place among those of this key. `sign` makes it and returns its core's digest; it runs under the lock, so
    /// that the chain has no fork.
    pub(crate) fn place<T>(
        &self,
        channel: Address,
        cost: Nano,
        sign: impl FnOnce(Place) -> (CoreDigest, T),
    ) -> T {
        let receipts = self.receipts.lock();
        let mut receipts = receipts.expect("its holders count and sign, and neither panics");
        let charged = receipts.charged.entry(channel).or_default();
        *charged = charged.saturating_add(cost.0);
        let cumulative = Nano(*charged);
        let (core, signed) = sign(Place {
            number: receipts.next,
            previous: receipts.previous,
            cumulative,
        });
        receipts.next += 1;
        receipts.previous = core;
        signed
    }

    /// How long ago it was made.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }

    fn lifetime(&self) -> Duration {
        Duration::from_secs(self.keyset.lifetime_s.into())
    }

    fn is_shown_enough(&self, now: Instant) -> bool {
        let used = self.replay().seen();
        self.age(now) >= self.lifetime() / 2 || used >= self.keyset.jobs_max.div_ceil(4) * 3
    }

    fn is_over(&self, now: Instant) -> bool {
        self.age(now) >= self.lifetime() * 3 / 2
    }
}

impl Epochs {
    pub(crate) fn new(first: Epoch) -> Self {
        Epochs(Mutex::new([Arc::new(first)].into()))
    }

    /// The epoch that evidence shows now.
    pub(crate) fn newest(&self) -> Arc<Epoch> {
        let live = self.live();
        Arc::clone(live.front().expect("there is always one"))
    }

    /// The epoch of a keyset, if it is alive.
    pub(crate) fn of(&self, keyset: &KeysetDigest) -> Option<Arc<Epoch>> {
        let live = self.live();
        live.iter().find(|epoch| epoch.digest == *keyset).cloned()
    }

    /// All that are alive, the newest first.
    pub(crate) fn all(&self) -> Vec<Arc<Epoch>> {
        self.live().iter().cloned().collect()
    }

    /// Makes the next epoch if it is due, and lets go of those whose time is over.
    pub(crate) fn turn(&self, now: Instant, rng: &mut impl CryptoRng) {
        self.turn_to(now, self.due(now).map(|newest| newest.next(now, rng)));
    }

    /// The newest epoch, if the next one is due.
    pub(crate) fn due(&self, now: Instant) -> Option<Arc<Epoch>> {
        Some(self.newest()).filter(|newest| newest.is_shown_enough(now))
    }

    /// Begins this epoch, unless another one has begun since it was made, and lets go of those whose time is over.
    pub(crate) fn turn_to(&self, now: Instant, next: Option<Epoch>) {
        let mut live = self.live();
        let after = live
            .front()
            .map(|newest| newest.keyset.epoch.wrapping_add(1));
        if let Some(next) = next.filter(|next| Some(next.keyset.epoch) == after) {
            log::keep(format_args!("epoch {} begins", next.keyset.epoch));
            live.push_front(Arc::new(next));
        }
        live.truncate(LIVE_MAX);
        // One stays: without its GPU a guest makes no next one, and refuses jobs under the last.
        while live.len() > 1 && live.back().is_some_and(|oldest| oldest.is_over(now)) {
            live.pop_back();
        }
    }

    /// How often to look whether an epoch is due, so that keys end on time though nobody asks.
    pub(crate) fn period(&self) -> Duration {
        self.newest().lifetime() / 8
    }

    fn live(&self) -> MutexGuard<'_, VecDeque<Arc<Epoch>>> {
        self.0.lock().expect("its holders make keys and compare")
    }
}

#[cfg(test)]
mod tests;
