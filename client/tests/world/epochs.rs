//! Keysets follow each other, with the same keys under other numbers.

use super::{Fault, Guest};
use wire::{Keyset, KeysetDigest};

impl Guest {
    /// The number of the keyset that is shown now: the next one comes after half of a lifetime, or never.
    pub(super) fn number(&self) -> u32 {
        let half = u64::from(self.keyset.lifetime_s) * 500;
        let passed = self.begun.elapsed().as_millis() as u64 / half;
        if self.fault() == Fault::ClockHeld {
            0
        } else {
            passed as u32
        }
    }

    pub(super) fn epoch(&self, epoch: u32) -> Keyset {
        Keyset {
            epoch,
            ..self.keyset.clone()
        }
    }

    /// Whether jobs may be sealed to a keyset: the one that is shown, and the two before.
    pub(super) fn is_alive(&self, keyset: KeysetDigest) -> bool {
        let newest = self.number();
        let mut alive = newest.saturating_sub(2)..=newest;
        alive.any(|number| self.epoch(number).digest() == keyset)
    }
}
