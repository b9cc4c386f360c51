//! The replay cache: which jobs were seen under the keys of this boot. It never evicts; when it is full the keys are
//! worn and every further job is refused (SECURITY.md 14).

use std::collections::HashSet;
use wire::{Digest, RefusalCode};

/// Seen jobs, by encapsulated key and by id.
pub(crate) struct ReplayCache {
    jobs_max: u64,
    encapsulated: HashSet<Digest>,
    jobs: HashSet<[u8; 16]>,
}

impl ReplayCache {
    pub(crate) fn new(jobs_max: u64) -> Self {
        ReplayCache {
            jobs_max,
            encapsulated: HashSet::new(),
            jobs: HashSet::new(),
        }
    }

    /// Records a job whose envelope's signature was checked. Whatever happens to it later, it cannot come again.
    pub(crate) fn admit(&mut self, encapsulated: &[u8], job: [u8; 16]) -> Result<(), RefusalCode> {
        let encapsulated = Digest::of(encapsulated);
        if self.encapsulated.contains(&encapsulated) || self.jobs.contains(&job) {
            return Err(RefusalCode::Replay);
        }
        if self.jobs.len() as u64 >= self.jobs_max {
            return Err(RefusalCode::KeysWorn);
        }
        self.encapsulated.insert(encapsulated);
        self.jobs.insert(job);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_twice_and_nothing_is_evicted() {
        let mut cache = ReplayCache::new(2);
        assert_eq!(cache.admit(b"one", [1; 16]), Ok(()));
        assert_eq!(
            cache.admit(b"one", [2; 16]),
            Err(RefusalCode::Replay),
            "same key, other id"
        );
        assert_eq!(
            cache.admit(b"two", [1; 16]),
            Err(RefusalCode::Replay),
            "same id, other key"
        );
        assert_eq!(cache.admit(b"two", [2; 16]), Ok(()));
        assert_eq!(cache.admit(b"three", [3; 16]), Err(RefusalCode::KeysWorn));
        assert_eq!(
            cache.admit(b"one", [1; 16]),
            Err(RefusalCode::Replay),
            "still remembered"
        );
    }
}
