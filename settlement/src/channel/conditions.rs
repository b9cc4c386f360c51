//! Which terms a payee lends on (SECURITY.md 18a). The contract takes no deposit on others, but for the least life that is left.

use super::ChannelTerms;
use crate::limits::{CHANNEL_LIFE_S_MAX, CHANNEL_LIFE_S_MIN, CLOSE_DELAY_S_MAX, CLOSE_DELAY_S_MIN};

/// Why a channel's terms give no credit. The payer chose them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum TermsRefused {
    #[error(
        "the channel's close_delay_s is {0}; {CLOSE_DELAY_S_MIN} to {CLOSE_DELAY_S_MAX} are accepted"
    )]
    CloseDelay(u32),
    #[error("the channel's payer and payee must be accounts of workchain 0")]
    Workchain,
    #[error("the channel's claims end in {left_s} s; at least {CHANNEL_LIFE_S_MIN} s must be left")]
    LifeShort { left_s: u64 },
    #[error("the channel's claims end in {left_s} s; at most {CHANNEL_LIFE_S_MAX} s are accepted")]
    LifeLong { left_s: u64 },
}

impl ChannelTerms {
    /// The part of the rule that needs no clock, for a guest, which has none that it may trust.
    pub fn check(&self) -> Result<(), TermsRefused> {
        if self.payer.workchain != 0 || self.payee.workchain != 0 {
            return Err(TermsRefused::Workchain);
        }
        match self.close_delay_s {
            CLOSE_DELAY_S_MIN..=CLOSE_DELAY_S_MAX => Ok(()),
            other => Err(TermsRefused::CloseDelay(other)),
        }
    }

    /// Whether a payee lends on these terms at this moment: no payer may get its deposit back, or rotate its key, before the payee
    /// has had time to claim, and the contract would not take its deposit if it lived longer.
    pub fn check_at(&self, now_unix_s: u64) -> Result<(), TermsRefused> {
        self.check()?;
        match u64::from(self.claims_until).saturating_sub(now_unix_s) {
            left_s @ ..CHANNEL_LIFE_S_MIN => Err(TermsRefused::LifeShort { left_s }),
            CHANNEL_LIFE_S_MIN..=CHANNEL_LIFE_S_MAX => Ok(()),
            left_s => Err(TermsRefused::LifeLong { left_s }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, ChainId};

    #[test]
    fn delay_and_life_have_bounds_on_both_sides() {
        const NOW: u64 = 1_800_000_000;
        let hash = [1; 32];
        let address = Address { workchain: 0, hash };
        let terms = |close_delay_s: u32, life_s: u64| ChannelTerms {
            chain: ChainId::EMBEDDED,
            payer: address,
            payee: address,
            payer_key: hash,
            payee_key: hash,
            close_delay_s,
            claims_until: u32::try_from(NOW + life_s).expect("before 2106"),
            salt: 0,
        };
        let check = |delay_s: u32, life_s: u64, expected: Result<(), TermsRefused>| {
            let judged = terms(delay_s, life_s).check_at(NOW);
            assert_eq!(judged, expected, "{delay_s} {life_s}");
        };
        const LIFE: u64 = 30 * 86_400;
        for delay in [CLOSE_DELAY_S_MIN, CLOSE_DELAY_S_MAX] {
            check(delay, LIFE, Ok(()));
            check(delay, CHANNEL_LIFE_S_MIN, Ok(()));
            check(delay, CHANNEL_LIFE_S_MAX, Ok(()));
        }
        for delay in [0, CLOSE_DELAY_S_MIN - 1, CLOSE_DELAY_S_MAX + 1, u32::MAX] {
            check(delay, LIFE, Err(TermsRefused::CloseDelay(delay)));
        }
        for left_s in [0, CHANNEL_LIFE_S_MIN - 1] {
            check(
                CLOSE_DELAY_S_MIN,
                left_s,
                Err(TermsRefused::LifeShort { left_s }),
            );
        }
        let left_s = CHANNEL_LIFE_S_MAX + 1;
        check(
            CLOSE_DELAY_S_MIN,
            left_s,
            Err(TermsRefused::LifeLong { left_s }),
        );
        let elsewhere = Address {
            workchain: -1,
            hash,
        };
        for (payer, payee) in [(elsewhere, address), (address, elsewhere)] {
            let terms = ChannelTerms {
                payer,
                payee,
                ..terms(CLOSE_DELAY_S_MIN, LIFE)
            };
            assert_eq!(terms.check_at(NOW), Err(TermsRefused::Workchain));
        }
    }
}
