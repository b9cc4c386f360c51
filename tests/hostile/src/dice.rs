//! What a seed decides.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use wire::Random;

/// A source of decisions that are the same for the same seed.
pub struct Dice(ChaCha20Rng);

impl Dice {
    /// One of several independent sources of a seed.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&purpose.to_le_bytes());
        Dice(ChaCha20Rng::from_seed(key))
    }

    /// What a party draws from that has this seed.
    pub fn random(seed: u64) -> Random {
        let seeds = Mutex::new(Dice::new(seed, 4));
        Random::new(move || {
            let mut seeds = seeds.lock().unwrap_or_else(PoisonError::into_inner);
            Dice::new(seeds.0.next_u64(), 5).0
        })
    }

    /// The generator itself, for keys.
    pub fn rng(&mut self) -> &mut ChaCha20Rng {
        &mut self.0
    }

    /// A number in a range that is not empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.0.next_u64() % (range.end - range.start)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    /// One of several.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.within(0..of.len() as u64) as usize]
    }

    /// A time between two numbers of milliseconds, to the nanosecond: no two are alike, so nothing happens at the same moment by chance.
    pub fn time(&mut self, ms: Range<u64>) -> Duration {
        Duration::from_nanos(self.within(ms.start * 1_000_000..ms.end * 1_000_000))
    }

    /// So many small letters.
    pub fn letters(&mut self, count: u64) -> String {
        let letter = |_| char::from(b'a' + self.within(0..26) as u8);
        (0..count).map(letter).collect()
    }
}
