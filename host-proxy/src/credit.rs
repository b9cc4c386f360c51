//! How much a channel may owe (SECURITY.md 19): little at first, more as it pays.
//!
//! Whoever opens a channel pays the network for it ([`CHANNEL_COST`](crate::limits::CHANNEL_COST)). A channel that is lent less than
//! that cannot gain by leaving. From there on credit grows by a share of what the channel has promised by voucher, which the deposit
//! covers: to be lent W once, a payer must have paid several times W. The guest keeps its own, measured bound, which is the same for
//! every channel; this one is the provider's and never above it in a sound configuration.

use crate::limits::{CREDIT_GROWTH, CREDIT_START};
use settlement::Nano;

/// What channels are lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// A channel that has paid nothing yet.
    pub start: Nano,
    /// Any channel.
    pub max: Nano,
}

/// Why these amounts are no rule. The configuration is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum CreditRefused {
    #[error("exposure_max_nano is 0; no job could be served")]
    Nothing,
    #[error("exposure_start_nano is {start}; at most exposure_max_nano, {max}, is allowed")]
    StartAboveMax { start: Nano, max: Nano },
}

impl Credit {
    /// `start` is [`CREDIT_START`] if not given, or `max` where that is less.
    pub fn new(start: Option<Nano>, max: Nano) -> Result<Credit, CreditRefused> {
        let start = start.unwrap_or(CREDIT_START.min(max));
        if max == Nano::ZERO {
            return Err(CreditRefused::Nothing);
        }
        if start > max {
            return Err(CreditRefused::StartAboveMax { start, max });
        }
        Ok(Credit { start, max })
    }

    /// What a channel may owe that has promised this much.
    pub fn of(&self, vouchered: Nano) -> Nano {
        let grown = self.start.0.saturating_add(vouchered.0 / CREDIT_GROWTH);
        Nano(grown.min(self.max.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CHANNEL_COST;

    #[test]
    fn credit_starts_below_what_a_channel_costs_and_grows_with_what_it_pays() {
        let credit = Credit::new(None, Nano(100_000_000)).expect("a rule");
        assert!(credit.start < CHANNEL_COST, "leaving at once is a loss");
        let check = |paid: u64, lent: u64| assert_eq!(credit.of(Nano(paid)), Nano(lent), "{paid}");
        check(0, 25_000_000);
        check(9, 25_000_000);
        check(100_000_000, 35_000_000);
        check(750_000_000, 100_000_000);
        check(u64::MAX, 100_000_000);
    }

    #[test]
    fn whoever_leaves_has_paid_several_times_what_it_takes() {
        let credit = Credit::new(None, Nano(u64::MAX)).expect("a rule");
        for paid in [0, 1, 10_000_000, 1_000_000_000, 1 << 50] {
            let gain = credit.of(Nano(paid)).0.saturating_sub(CHANNEL_COST.0);
            assert!(gain <= paid / CREDIT_GROWTH, "{paid}: {gain}");
        }
    }

    #[test]
    fn a_small_window_needs_no_start_and_a_wrong_one_is_refused() {
        let small = Credit::new(None, Nano(7)).expect("a rule");
        assert_eq!((small.start, small.of(Nano(1_000))), (Nano(7), Nano(7)));
        assert_eq!(Credit::new(None, Nano(0)), Err(CreditRefused::Nothing));
        let (start, max) = (Nano(8), Nano(7));
        let refused = CreditRefused::StartAboveMax { start, max };
        assert_eq!(Credit::new(Some(start), max), Err(refused));
    }
}
