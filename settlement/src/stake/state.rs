//! What a node says a stake's state is, read from the stack of its get method `stake_state`.

use super::StakeTerms;
use crate::{
    Address, ChainId, Nano, StateError,
    limits::{UNBOND_DELAY_S_MAX, UNBOND_DELAY_S_MIN},
    state::{Item, address},
    toncenter::StackItem,
};

/// A stake's state, as one node told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StakeState {
    /// What the contract started with. Compare their address with the account's: then no node made them up.
    pub terms: StakeTerms,
    /// Collateral that is not leaving.
    pub bonded: Nano,
    /// Collateral that is leaving, slashable until it has left.
    pub unbonding: Nano,
    /// When it may leave; 0 if none does.
    pub unlock_at: u32,
    /// How many offences have been slashed.
    pub slashes: u8,
}

/// Why a stake vouches for no keyset. The provider is at fault, or the node lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum StakeRefused {
    #[error("the account {0} is no stake: its terms give another address")]
    NotAStake(Address),
    #[error("the stake is for chain {got}, {want} is demanded")]
    Chain { got: ChainId, want: ChainId },
    #[error("the stake's owner is another than the payee that endorses")]
    OwnerKey,
    #[error(
        "the stake's unbonding delay is {0} s; {UNBOND_DELAY_S_MIN} to {UNBOND_DELAY_S_MAX} are accepted"
    )]
    UnbondDelay(u32),
    #[error(
        "the stake is slashable for {left_s} s more; its unbonding delay of {delay_s} s is demanded"
    )]
    EndsSoon { left_s: u64, delay_s: u32 },
    #[error("the stake holds {got} nanoTON that are not leaving; at least {least} are demanded")]
    TooLittle { got: Nano, least: Nano },
}

const ITEMS: usize = 11;

impl StakeState {
    /// The get method that answers the stack.
    pub const GET_METHOD: &'static str = "stake_state";

    /// Reads the stack of [`GET_METHOD`](Self::GET_METHOD).
    pub fn parse(stack: &[StackItem]) -> Result<StakeState, StateError> {
        let wrong_count = StateError::Items {
            got: stack.len(),
            expected: ITEMS,
        };
        let items: &[StackItem; ITEMS] = stack.try_into().map_err(|_| wrong_count)?;
        let field = |index: usize, name| Item {
            item: &items[index],
            name,
        };
        let slashes = field(4, "number of slashes").u64()?;
        Ok(StakeState {
            bonded: Nano(field(1, "bonded amount").u64()?),
            unbonding: Nano(field(2, "leaving amount").u64()?),
            unlock_at: field(3, "unlock time").u32()?,
            slashes: u8::try_from(slashes).map_err(|_| StateError::Field("number of slashes"))?,
            terms: StakeTerms {
                chain: ChainId(field(0, "chain").i32()?),
                owner: address(field(5, "owner"), field(6, "owner"))?,
                owner_key: field(7, "owner's key").bytes()?,
                unbond_delay_s: field(8, "unbonding delay").u32()?,
                slashable_until: field(9, "end").u32()?,
                salt: field(10, "salt").u64()?,
            },
        })
    }

    /// Whether this is the stake at `account`, and it answers with at least `least` for what `payee_key`, or a key that it vouches
    /// for, endorses now.
    pub fn answers_for(
        &self,
        account: &Address,
        chain: ChainId,
        payee_key: &[u8; 32],
        least: Nano,
        now_unix_s: u64,
    ) -> Result<(), StakeRefused> {
        let terms = &self.terms;
        if terms.address() != *account {
            return Err(StakeRefused::NotAStake(*account));
        }
        if terms.chain != chain {
            let (got, want) = (terms.chain, chain);
            return Err(StakeRefused::Chain { got, want });
        }
        if terms.owner_key != *payee_key {
            return Err(StakeRefused::OwnerKey);
        }
        let delay_s = terms.unbond_delay_s;
        if !(UNBOND_DELAY_S_MIN..=UNBOND_DELAY_S_MAX).contains(&delay_s) {
            return Err(StakeRefused::UnbondDelay(delay_s));
        }
        let left_s = u64::from(terms.slashable_until).saturating_sub(now_unix_s);
        if left_s < delay_s.into() {
            return Err(StakeRefused::EndsSoon { left_s, delay_s });
        }
        if self.bonded < least {
            let got = self.bonded;
            return Err(StakeRefused::TooLittle { got, least });
        }
        Ok(())
    }

    /// Whether an offence that is reported now, with so many seconds on its way, still finds collateral: it is slashable so long.
    pub fn reportable(&self, now_unix_s: u64, on_its_way_s: u64) -> bool {
        let arrives = now_unix_s.saturating_add(on_its_way_s);
        let unlocks = self.bonded > Nano::ZERO || arrives < self.unlock_at.into();
        let held = self.bonded > Nano::ZERO || self.unbonding > Nano::ZERO;
        held && unlocks && arrives <= self.terms.slashable_until.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn state() -> StakeState {
        let terms = [20241, 5_000, 700, 0, 1, 0, 5, 6, 604_800, 1_900_000_000, 9];
        let stack: Vec<StackItem> = terms.iter().map(|n| StackItem::from_i64(*n)).collect();
        StakeState::parse(&stack).expect("a state")
    }

    #[test]
    fn a_stake_answers_only_for_its_owner_with_enough_and_for_long_enough() {
        let good = state();
        let at = good.terms.address();
        let check = |change: &dyn Fn(&mut StakeState), expected: Result<(), StakeRefused>| {
            let mut state = good.clone();
            change(&mut state);
            let at = match expected {
                Err(StakeRefused::NotAStake(_)) => at,
                _ => state.terms.address(),
            };
            let key = &good.terms.owner_key;
            let said = state.answers_for(&at, ChainId::EMBEDDED, key, Nano(5_000), NOW);
            assert_eq!(said, expected);
        };
        check(&|_| (), Ok(()));
        check(&|s| s.terms.salt = 8, Err(StakeRefused::NotAStake(at)));
        let (got, want) = (ChainId::TESTNET, ChainId::EMBEDDED);
        check(
            &|s| s.terms.chain = got,
            Err(StakeRefused::Chain { got, want }),
        );
        check(
            &|s| s.terms.owner_key = [1; 32],
            Err(StakeRefused::OwnerKey),
        );
        for delay in [0, UNBOND_DELAY_S_MIN - 1, UNBOND_DELAY_S_MAX + 1] {
            let refused = StakeRefused::UnbondDelay(delay);
            check(&|s| s.terms.unbond_delay_s = delay, Err(refused));
        }
        let delay_s = UNBOND_DELAY_S_MIN;
        let ends =
            |left: u32| move |s: &mut StakeState| s.terms.slashable_until = NOW as u32 + left;
        check(&ends(delay_s), Ok(()));
        let left_s = u64::from(delay_s) - 1;
        let soon = StakeRefused::EndsSoon { left_s, delay_s };
        check(&ends(delay_s - 1), Err(soon));
        let (got, least) = (Nano(4_999), Nano(5_000));
        check(
            &|s| s.bonded = got,
            Err(StakeRefused::TooLittle { got, least }),
        );
    }

    #[test]
    fn an_offence_is_reported_only_while_its_report_finds_collateral() {
        let check = |bonded, unbonding, unlock_in, ends_in, expected| {
            let mut state = state();
            (state.bonded, state.unbonding) = (Nano(bonded), Nano(unbonding));
            state.unlock_at = NOW as u32 + unlock_in;
            state.terms.slashable_until = NOW as u32 + ends_in;
            assert_eq!(state.reportable(NOW, 60), expected);
        };
        check(1, 0, 0, 1_000, true);
        check(0, 0, 0, 1_000, false);
        check(0, 1, 61, 1_000, true);
        check(0, 1, 60, 1_000, false);
        check(1, 0, 0, 60, true);
        check(1, 0, 0, 59, false);
    }
}
