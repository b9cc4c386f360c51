//! What each channel owes under the keys of this boot, and the chain of receipts.
//!
//! A job first reserves the most it may cost. What a channel owes, plus its reservations, less what its vouchers cover,
//! never exceeds the keyset's `exposure_max` (SECURITY.md 19). A dropped reservation is given back.

use settlement::{Address, Nano};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use wire::{CoreDigest, RefusalCode};

/// Channels remembered at once; beyond that a new channel gets `Busy` and the known ones go on.
const CHANNELS_MAX: usize = 65_536;

/// What all channels owe, and the head of the receipt chain.
#[derive(Clone)]
pub(crate) struct Exposure {
    max: Nano,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    channels: HashMap<Address, Channel>,
    next_sequence: u64,
    previous: CoreDigest,
}

#[derive(Default, Clone, Copy)]
struct Channel {
    /// Sum of the costs charged in this boot.
    charged: u64,
    /// Room given to jobs that run.
    reserved: u64,
    /// The highest voucher seen.
    vouchered: u64,
    /// What the first voucher seen had paid already, for jobs of earlier boots: it covers nothing of this one.
    base: u64,
}

/// Room for one job's cost. Dropping it gives the room back.
pub(crate) struct Reservation {
    exposure: Exposure,
    channel: Address,
    amount: u64,
}

/// The place of the next receipt in the chain.
pub(crate) struct Position {
    /// Its number.
    pub(crate) sequence: u64,
    /// The digest of the core before it.
    pub(crate) previous: CoreDigest,
    /// The channel's sum of charges, this one included.
    pub(crate) cumulative: Nano,
    /// The highest voucher seen.
    pub(crate) voucher_high: Nano,
}

impl Exposure {
    pub(crate) fn new(max: Nano) -> Self {
        Exposure {
            max,
            state: Arc::default(),
        }
    }

    /// Notes a verified voucher's cumulative amount.
    pub(crate) fn voucher(&self, channel: Address, cumulative: Nano) {
        let mut state = self.lock();
        if let Some(known) = state.channels.get_mut(&channel) {
            known.vouchered = known.vouchered.max(cumulative.0);
        } else if state.channels.len() < CHANNELS_MAX {
            let new = Channel {
                vouchered: cumulative.0,
                base: cumulative.0,
                ..Channel::default()
            };
            state.channels.insert(channel, new);
        }
    }

    /// Reserves `amount`, or refuses because the channel would owe too much.
    pub(crate) fn reserve(
        &self,
        channel: Address,
        amount: Nano,
    ) -> Result<Reservation, RefusalCode> {
        let mut state = self.lock();
        if !state.channels.contains_key(&channel) && state.channels.len() >= CHANNELS_MAX {
            return Err(RefusalCode::Busy);
        }
        let owing = state.channels.entry(channel).or_default();
        let owed = owing.charged.saturating_sub(owing.vouchered - owing.base);
        let after = owed.saturating_add(owing.reserved).saturating_add(amount.0);
        if after > self.max.0 {
            return Err(RefusalCode::Exposure {
                owed: Nano(owed),
                max: self.max,
            });
        }
        owing.reserved += amount.0;
        Ok(Reservation {
            exposure: self.clone(),
            channel,
            amount: amount.0,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("its holders add integers and sign, and neither panics")
    }
}

impl Reservation {
    /// Turns the reservation into a charge and gives the next receipt its place. `sign` makes the receipt and returns
    /// its core's digest; it runs under the lock, so that the chain has no fork.
    pub(crate) fn charge<T>(self, cost: Nano, sign: impl FnOnce(Position) -> (CoreDigest, T)) -> T {
        let mut state = self.exposure.lock();
        let owing = state.channels.entry(self.channel).or_default();
        owing.charged = owing.charged.saturating_add(cost.0.min(self.amount));
        let (cumulative, voucher_high) = (Nano(owing.charged), Nano(owing.vouchered));
        let position = Position {
            sequence: state.next_sequence,
            previous: state.previous,
            cumulative,
            voucher_high,
        };
        let (core, signed) = sign(position);
        state.next_sequence += 1;
        state.previous = core;
        drop(state);
        signed
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(owing) = self.exposure.lock().channels.get_mut(&self.channel) {
            owing.reserved = owing.reserved.saturating_sub(self.amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: Address = Address {
        workchain: 0,
        hash: [1; 32],
    };

    fn owes(owed: u64) -> RefusalCode {
        RefusalCode::Exposure {
            owed: Nano(owed),
            max: Nano(100),
        }
    }

    #[test]
    fn a_channel_never_owes_more_than_the_window() {
        let exposure = Exposure::new(Nano(100));
        let first = exposure.reserve(CHANNEL, Nano(60)).unwrap();
        assert_eq!(exposure.reserve(CHANNEL, Nano(60)).err(), Some(owes(0)));
        assert_eq!(
            first.charge(Nano(50), |p| (CoreDigest([1; 32]), p.cumulative)),
            Nano(50)
        );
        assert!(
            exposure.reserve(CHANNEL, Nano(50)).is_ok(),
            "the reservation was given back"
        );
        assert_eq!(exposure.reserve(CHANNEL, Nano(51)).err(), Some(owes(50)));
        exposure.voucher(CHANNEL, Nano(50));
        assert!(exposure.reserve(CHANNEL, Nano(100)).is_ok());
    }

    #[test]
    fn receipts_form_one_chain() {
        let exposure = Exposure::new(Nano(100));
        let place = |digest| {
            let reservation = exposure.reserve(CHANNEL, Nano(1)).unwrap();
            reservation.charge(Nano(1), |p| {
                (CoreDigest([digest; 32]), (p.sequence, p.previous))
            })
        };
        assert_eq!(place(1), (0, CoreDigest::default()));
        assert_eq!(place(2), (1, CoreDigest([1; 32])));
        assert_eq!(place(3), (2, CoreDigest([2; 32])));
    }

    #[test]
    fn a_voucher_from_before_this_boot_buys_nothing_of_it() {
        let exposure = Exposure::new(Nano(100));
        exposure.voucher(CHANNEL, Nano(1_000_000));
        assert_eq!(exposure.reserve(CHANNEL, Nano(101)).err(), Some(owes(0)));
    }
}
