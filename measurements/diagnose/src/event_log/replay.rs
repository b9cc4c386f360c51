//! The registers that a log leads to.

use std::collections::BTreeMap;

use super::EventLog;
use registers::{Digest48, Register};

/// The run-time registers as a log would leave them. They are the guest's only if a verified quote has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// RTMR0 to RTMR3.
    pub rtmr: [Digest48; 4],
    /// How many events extended each.
    pub events: [usize; 4],
}

impl Replay {
    /// Before the first event.
    pub const START: Replay = Replay {
        rtmr: [Digest48::ZERO; 4],
        events: [0; 4],
    };
}

impl EventLog {
    /// Extends the registers from zero by the events, in order (Intel TDX Module ABI, TDG.MR.RTMR.EXTEND:
    /// `r = SHA384(r || digest)`). Events of MRTD extend nothing here: it is complete before the guest runs.
    ///
    /// Of a TPM's log, these are no guest's registers: there every PCR gets a separator, here every register.
    pub fn replay(&self) -> Replay {
        self.replay_after(Replay::START)
    }

    /// The same, from the registers that another log led to: the firmware's log ends before the application's begins.
    pub fn replay_after(&self, before: Replay) -> Replay {
        let extending = self.events.iter().filter(|event| event.extends());
        extending.fold(before, |mut replay, event| {
            let number = match event.register {
                Some(Register::Rtmr0) => 0,
                Some(Register::Rtmr1) => 1,
                Some(Register::Rtmr2) => 2,
                Some(Register::Rtmr3) => 3,
                Some(Register::Mrtd) | None => return replay,
            };
            replay.rtmr[number] = replay.rtmr[number].extended_by(&event.digest);
            replay.events[number] += 1;
            replay
        })
    }

    /// The registers by their numbers in the log, for a TPM's: the PCRs that have events, each from zero. A PCR 0 that was
    /// started from another locality than 0 starts elsewhere and is not what this says.
    pub fn replay_by_index(&self) -> BTreeMap<u32, Digest48> {
        let mut registers = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.extends()) {
            let value = registers.entry(event.index).or_insert(Digest48::ZERO);
            *value = value.extended_by(&event.digest);
        }
        registers
    }
}
