//! The replay cache: which jobs were seen under the keys of one epoch. It never evicts; when it is full the keys are
//! worn and every further job is refused (SECURITY.md 14).
//!
//! What fills it belongs to everyone, so nobody gets all of it for nothing: a channel whose jobs are refused after they were
//! recorded may have some of them and then no more until it pays what it owes, and channels that have paid nothing under these keys share a half.

use settlement::Address;
use std::collections::{HashMap, HashSet};
use wire::{Digest, RefusalCode};

/// Refused jobs of one channel, at most, and at most a sixteenth of all jobs: as many as an honest client makes by mistake.
const IN_VAIN_MAX: u64 = 64;

/// Seen jobs, by encapsulated key and by id.
pub(crate) struct ReplayCache {
    jobs_max: u64,
    encapsulated: HashSet<Digest>,
    jobs: HashSet<[u8; 16]>,
    /// How many of them were of channels that had paid nothing.
    unpaid: u64,
    /// Jobs of a channel that were recorded and did not run, since one ran or was paid.
    in_vain: HashMap<Address, u64>,
}

impl ReplayCache {
    pub(crate) fn new(jobs_max: u64) -> Self {
        ReplayCache {
            jobs_max,
            encapsulated: HashSet::new(),
            jobs: HashSet::new(),
            unpaid: 0,
            in_vain: HashMap::new(),
        }
    }

    /// Records a job whose envelope's signature was checked. Whatever happens to it later, it cannot come again. `pays` says whether its
    /// channel has paid something under these keys.
    pub(crate) fn admit(
        &mut self,
        encapsulated: &[u8],
        job: [u8; 16],
        channel: &Address,
        pays: bool,
    ) -> Result<(), RefusalCode> {
        let encapsulated = Digest::of(encapsulated);
        if self.encapsulated.contains(&encapsulated) || self.jobs.contains(&job) {
            return Err(RefusalCode::Replay);
        }
        if self.jobs.len() as u64 >= self.jobs_max {
            return Err(RefusalCode::KeysWorn);
        }
        let max = IN_VAIN_MAX.min(self.jobs_max / 16).max(1);
        if self.in_vain.get(channel).is_some_and(|count| *count >= max) {
            return Err(RefusalCode::Quota { max });
        }
        if !pays && self.unpaid >= self.jobs_max.div_ceil(2) {
            return Err(RefusalCode::Unpaid);
        }
        self.unpaid += u64::from(!pays);
        self.encapsulated.insert(encapsulated);
        self.jobs.insert(job);
        Ok(())
    }

    /// Jobs that were recorded.
    pub(crate) fn seen(&self) -> u64 {
        self.jobs.len() as u64
    }

    /// A recorded job of this channel did not run.
    pub(crate) fn ran_not(&mut self, channel: Address) {
        *self.in_vain.entry(channel).or_default() += 1;
    }

    /// A job of this channel runs, or it has paid for one.
    pub(crate) fn ran(&mut self, channel: &Address) {
        self.in_vain.remove(channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(byte: u8) -> Address {
        Address {
            workchain: 0,
            hash: [byte; 32],
        }
    }

    #[test]
    fn nothing_comes_twice_and_nothing_is_evicted() {
        let mut cache = ReplayCache::new(2);
        let mut admit = |enc: &[u8], job| cache.admit(enc, [job; 16], &channel(1), true);
        assert_eq!(admit(b"one", 1), Ok(()));
        assert_eq!(admit(b"one", 2), Err(RefusalCode::Replay), "same key");
        assert_eq!(admit(b"two", 1), Err(RefusalCode::Replay), "same id");
        assert_eq!(admit(b"two", 2), Ok(()));
        assert_eq!(admit(b"three", 3), Err(RefusalCode::KeysWorn));
        assert_eq!(admit(b"one", 1), Err(RefusalCode::Replay), "still there");
    }

    #[test]
    fn who_pays_nothing_cannot_use_up_the_keys_of_those_who_do() {
        let mut cache = ReplayCache::new(64);
        let mut number = 0u8;
        let mut admit = |cache: &mut ReplayCache, of: u8, pays| {
            number += 1;
            cache.admit(&[number], [number; 16], &channel(of), pays)
        };
        // One channel's garbage.
        for _ in 0..4 {
            assert_eq!(admit(&mut cache, 1, false), Ok(()));
            cache.ran_not(channel(1));
        }
        let quota = RefusalCode::Quota { max: 4 };
        assert_eq!(admit(&mut cache, 1, false), Err(quota));
        // Many channels', each below its quota.
        for of in 2..30 {
            assert_eq!(admit(&mut cache, of, false), Ok(()));
            cache.ran_not(channel(of));
        }
        assert_eq!(admit(&mut cache, 30, false), Err(RefusalCode::Unpaid));
        for _ in 0..32 {
            assert_eq!(admit(&mut cache, 31, true), Ok(()));
        }
        assert_eq!(admit(&mut cache, 31, true), Err(RefusalCode::KeysWorn));
        // Whoever runs a job begins anew.
        let mut cache = ReplayCache::new(64);
        for _ in 0..8 {
            cache.ran_not(channel(1));
        }
        assert_eq!(admit(&mut cache, 1, true), Err(quota));
        cache.ran(&channel(1));
        assert_eq!(admit(&mut cache, 1, true), Ok(()));
    }
}
