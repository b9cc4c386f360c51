//! What each channel owes in this boot, whatever epoch its jobs were sealed to.
//!
//! ```text
//!  reserve ─► Reservation ─start─► Started ─charge─► the channel owes what the job cost
//!               └─ dropped: the room is given back      └─ dropped: the channel owes what was made
//! ```
//! A job first reserves the most it may cost. What a channel owes, plus its reservations, less what its vouchers cover,
//! never exceeds the keyset's `exposure_max` (SECURITY.md 19). From its start a job is paid for (SECURITY.md 18a).

use settlement::{Address, Nano};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use wire::RefusalCode;

/// Channels remembered at once; beyond that a new channel gets `Busy` and the known ones go on.
const CHANNELS_MAX: usize = 65_536;

/// What all channels owe.
#[derive(Clone)]
pub(crate) struct Exposure {
    max: Nano,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    channels: HashMap<Address, Channel>,
}

#[derive(Default, Clone, Copy)]
struct Channel {
    /// Sum of the costs charged in this boot.
    charged: u64,
    /// Room given to jobs that run.
    reserved: u64,
    /// The highest voucher seen.
    vouchered: u64,
    /// What was promised when the channel was first seen in this boot, for jobs of earlier ones: it pays nothing of this one.
    base: u64,
    /// Whether the payee said at first sight what it holds. Then a higher voucher is new to it.
    told: bool,
}

/// What a job brings along of its channel's vouchers.
#[derive(Clone, Copy)]
pub(crate) struct Promised {
    /// The highest of them; zero if there is none.
    pub(crate) highest: Nano,
    /// Whether the payee said what it holds.
    pub(crate) told: bool,
}

/// Room for one job's cost. Dropping it gives the room back.
pub(crate) struct Reservation {
    exposure: Exposure,
    channel: Address,
    amount: u64,
}

/// A job that has started. However it ends, it is paid for.
pub(crate) struct Started {
    reservation: Option<Reservation>,
    made: Nano,
}

impl Channel {
    fn paid(&self) -> u64 {
        self.vouchered - self.base
    }

    fn see(&mut self, voucher: u64) {
        self.vouchered = self.vouchered.max(voucher);
        // Nobody promises more than it was charged, so the excess is for jobs of an earlier boot. It may be an old promise, and then all
        // of it is. A payee that said what it holds has just been promised that much more, this boot's charges included.
        if self.paid() > self.charged {
            let settled = if self.told { self.charged } else { 0 };
            self.base = self.vouchered - settled;
        }
    }
}

impl Exposure {
    pub(crate) fn new(max: Nano) -> Self {
        Exposure {
            max,
            state: Arc::default(),
        }
    }

    /// Notes a channel with the highest voucher that its payer showed or its payee holds; zero if there is none. On first sight this is
    /// the channel's base.
    pub(crate) fn see(&self, channel: Address, promised: Promised) -> Result<(), RefusalCode> {
        let mut state = self.lock();
        if !state.channels.contains_key(&channel) && state.channels.len() >= CHANNELS_MAX {
            return Err(RefusalCode::Busy);
        }
        let first_sight = Channel {
            told: promised.told,
            ..Channel::default()
        };
        let known = state.channels.entry(channel).or_insert(first_sight);
        known.see(promised.highest.0);
        Ok(())
    }

    /// Notes a voucher of a channel, if that was seen. Says whether it pays something that the channel owes.
    pub(crate) fn pay(&self, channel: &Address, voucher: Nano) -> bool {
        let mut state = self.lock();
        let Some(known) = state.channels.get_mut(channel) else {
            return false;
        };
        let before = known.paid();
        known.see(voucher.0);
        known.paid() > before
    }

    /// Whether a channel has paid something in this boot.
    pub(crate) fn pays(&self, channel: &Address) -> bool {
        let state = self.lock();
        state.channels.get(channel).is_some_and(|c| c.paid() > 0)
    }

    /// Reserves `amount` for a channel that was seen, or refuses because it would owe too much.
    pub(crate) fn reserve(
        &self,
        channel: Address,
        amount: Nano,
    ) -> Result<Reservation, RefusalCode> {
        let mut state = self.lock();
        let owing = state.channels.entry(channel).or_default();
        let owed = owing.charged.saturating_sub(owing.paid());
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
    /// The job starts; reading its prompt is paid for from here on.
    pub(crate) fn start(self, prefill: Nano) -> Started {
        Started {
            reservation: Some(self),
            made: prefill,
        }
    }

    fn owe(&self, state: &mut State, cost: Nano) -> Channel {
        let owing = state.channels.entry(self.channel).or_default();
        owing.charged = owing.charged.saturating_add(cost.0.min(self.amount));
        *owing
    }
}

impl Started {
    /// What was made so far costs this.
    pub(crate) fn made(&mut self, cost: Nano) {
        self.made = cost;
    }

    /// Gives the room back: the engine failed, which is the provider's loss.
    pub(crate) fn forgive(mut self) {
        self.reservation = None;
    }

    /// Charges what was made. `sign` makes the receipt, which says what the highest voucher seen is.
    pub(crate) fn charge<T>(mut self, sign: impl FnOnce(Nano) -> T) -> T {
        let reservation = self.reservation.take();
        let reservation = reservation.expect("it is taken where the value is consumed");
        let mut state = reservation.exposure.lock();
        let owing = reservation.owe(&mut state, self.made);
        drop(state);
        sign(Nano(owing.vouchered))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            reservation.owe(&mut reservation.exposure.lock(), self.made);
        }
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

    fn shown(voucher: u64) -> Promised {
        let (highest, told) = (Nano(voucher), false);
        Promised { highest, told }
    }

    fn seen(voucher: u64) -> Exposure {
        let exposure = Exposure::new(Nano(100));
        exposure.see(CHANNEL, shown(voucher)).unwrap();
        assert!(!exposure.pays(&CHANNEL));
        exposure
    }

    /// The most that the channel may still cost.
    fn room(exposure: &Exposure) -> u64 {
        let fits = |amount: &u64| exposure.reserve(CHANNEL, Nano(*amount)).is_ok();
        (0..=100).rev().find(fits).expect("nothing fits always")
    }

    fn run(exposure: &Exposure, cost: u64) {
        let started = exposure.reserve(CHANNEL, Nano(cost)).unwrap();
        started.start(Nano(cost)).charge(|_| ());
    }

    #[test]
    fn a_channel_never_owes_more_than_the_window() {
        let exposure = seen(0);
        let first = exposure.reserve(CHANNEL, Nano(60)).unwrap();
        let owes = |owed| {
            Some(RefusalCode::Exposure {
                owed: Nano(owed),
                max: Nano(100),
            })
        };
        assert_eq!(exposure.reserve(CHANNEL, Nano(60)).err(), owes(0));
        let mut first = first.start(Nano(10));
        first.made(Nano(50));
        assert_eq!(first.charge(|voucher| voucher), Nano(0));
        assert_eq!(room(&exposure), 50, "the reservation was given back");
        assert_eq!(exposure.reserve(CHANNEL, Nano(51)).err(), owes(50));
        exposure.see(CHANNEL, shown(50)).unwrap();
        assert!(exposure.pays(&CHANNEL));
        assert_eq!(room(&exposure), 100);
    }

    #[test]
    fn what_was_started_is_owed_however_it_ends() {
        let exposure = seen(0);
        drop(exposure.reserve(CHANNEL, Nano(40)).unwrap());
        assert_eq!(room(&exposure), 100, "it never started");
        let mut started = exposure.reserve(CHANNEL, Nano(40)).unwrap().start(Nano(5));
        started.made(Nano(30));
        drop(started);
        assert_eq!(room(&exposure), 70);
        let failed = exposure.reserve(CHANNEL, Nano(40)).unwrap().start(Nano(5));
        failed.forgive();
        assert_eq!(room(&exposure), 70);
    }

    #[test]
    fn a_voucher_from_before_this_boot_buys_nothing_of_it() {
        // Shown with the first job.
        let exposure = seen(1_000_000);
        assert_eq!(room(&exposure), 100);
        // Held back, and shown when something is owed.
        for old in [1_000_000, 61] {
            let exposure = seen(0);
            run(&exposure, 60);
            exposure.see(CHANNEL, shown(old)).unwrap();
            assert_eq!(room(&exposure), 40, "{old}");
            // What is promised from there on counts.
            exposure.see(CHANNEL, shown(old + 60)).unwrap();
            assert_eq!(room(&exposure), 100, "{old}");
        }
    }

    #[test]
    fn a_voucher_that_pays_the_last_boot_too_pays_this_one() {
        // The payee holds 10. The payer owes 40 of the last boot, 60 of this one, and pays both at once or one after the other.
        for vouchers in [&[110][..], &[50, 110], &[70, 110]] {
            let exposure = Exposure::new(Nano(100));
            let (highest, told) = (Nano(10), true);
            exposure.see(CHANNEL, Promised { highest, told }).unwrap();
            run(&exposure, 60);
            for voucher in vouchers {
                exposure.pay(&CHANNEL, Nano(*voucher));
            }
            assert_eq!(room(&exposure), 100, "{vouchers:?}");
            // Nothing is paid in advance, and no voucher pays twice.
            run(&exposure, 60);
            assert!(!exposure.pay(&CHANNEL, Nano(110)));
            assert_eq!(room(&exposure), 40, "{vouchers:?}");
        }
    }
}
