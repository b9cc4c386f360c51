//! The provider's stake: collateral put in, asked back, taken out, from the payee's wallet, which owns it.
//!
//! ```text
//!  order ─ judged by the stake's state ─► written ─► the wallet sent it ─┬ the stake shows it ──► its new state
//!            └ NotNow: nothing is sent                                   └ it does not, in time ► refused: the value came back
//! ```
//!
//! Promises: what [`super`] says of messages. An order that a crash left on its way is finished by the same order, not sent twice;
//! between the wallet's sending and the stake's showing it, a deposit that is repeated is a second deposit, and the error says so.

use super::{SettleError, Settler};
use crate::clock;
use crate::limits::{PAYOUT_MARGIN_S, PAYOUT_POLL};
use crate::store::{Order, Ordered, Store};
use settlement::limits::{
    STAKE_LIFE_S_MAX, STAKE_SLASHES_MAX, UNBOND_DELAY_S_MAX, UNBOND_DELAY_S_MIN,
};
use settlement::{Address, Nano, StakeRefused, StakeState, StakeTerms, Transfer};

/// What is to be done to the stake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StakeOrder {
    /// Add collateral.
    Deposit(Nano),
    /// Let so much begin to leave.
    Unbond(Nano),
    /// Take out what has waited out the delay; after `slashable_until`, everything.
    Withdraw,
}

/// An order that would be taken now.
pub struct StakePlan {
    pub stake: Address,
    /// `None`: the contract is deployed with the order.
    pub before: Option<StakeState>,
    /// Goes with the message; what is not used comes back.
    pub value: Nano,
    /// What would leave the stake, or be added to it.
    pub amount: Nano,
    /// What the wallet would keep.
    pub keeps: Nano,
    order: Order,
    transfer: Transfer,
}

/// Why an order would only cost its fee.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StakeNotNow {
    #[error("{0} is in the configuration and no contract runs there")]
    Nothing(Address),
    #[error(
        "no contract runs at the stake's address yet: the first deposit needs its terms, --unbond-days and --slashable-until"
    )]
    NoTerms,
    #[error("the terms give the stake {got}; `stake` in the configuration is {want}")]
    OtherTerms { got: Address, want: Address },
    #[error(transparent)]
    NotAStake(#[from] StakeRefused),
    #[error("only the stake's owner {owner} may do this; this wallet is {wallet}")]
    NotOwner { owner: Address, wallet: Address },
    #[error(
        "the unbonding delay is {0} s; {UNBOND_DELAY_S_MIN} to {UNBOND_DELAY_S_MAX} are allowed"
    )]
    UnbondDelay(u32),
    #[error(
        "slashable_until is {0} (Unix seconds); it has to be later than an unbonding delay from now, and within four years"
    )]
    End(u32),
    #[error("the stake ended at {0} (Unix seconds): withdraw takes everything")]
    Ended(u32),
    #[error("the stake is slashed to its end and takes no more; open another with another --salt")]
    SlashedOut,
    #[error("an amount of 0 changes nothing")]
    NoAmount,
    #[error("the stake holds {} that are not leaving", .0.in_ton())]
    MoreThanBonded(Nano),
    #[error("nothing is leaving the stake; unbond first")]
    NothingLeaving,
    #[error("what is leaving can leave at {unlock_at} (Unix seconds), in {left_s} s")]
    TooEarly { unlock_at: u32, left_s: u64 },
    #[error("the amount is more than there is")]
    TooMuch,
    #[error(
        "the same order was still on its way from before, and the wallet has sent it now: look with `host-proxy stake status` before \
         you repeat it"
    )]
    Resumed,
    #[error(
        "the wallet sent the message and the stake {0} does not show its effect; if it was refused, the value came back. Look with \
         `host-proxy stake status` before you repeat it"
    )]
    NoEffect(Address),
}

impl StakeOrder {
    /// Whether it would have an effect on a stake in this state at this moment of the chain's clock, and what it moves.
    fn judge(
        self,
        state: &StakeState,
        wallet: &Address,
        now_unix_s: u64,
    ) -> Result<Nano, StakeNotNow> {
        let (terms, end) = (&state.terms, state.terms.slashable_until);
        let over = now_unix_s > end.into();
        let own = matches!(self, StakeOrder::Deposit(_)) || terms.owner == *wallet;
        if !own {
            let (owner, wallet) = (terms.owner, *wallet);
            return Err(StakeNotNow::NotOwner { owner, wallet });
        }
        let all = || state.bonded.checked_add(state.unbonding);
        match self {
            StakeOrder::Withdraw if over => all().ok_or(StakeNotNow::TooMuch),
            _ if over => Err(StakeNotNow::Ended(end)),
            StakeOrder::Deposit(Nano::ZERO) | StakeOrder::Unbond(Nano::ZERO) => {
                Err(StakeNotNow::NoAmount)
            }
            StakeOrder::Deposit(_) if state.slashes >= STAKE_SLASHES_MAX => {
                Err(StakeNotNow::SlashedOut)
            }
            StakeOrder::Unbond(amount) if amount > state.bonded => {
                Err(StakeNotNow::MoreThanBonded(state.bonded))
            }
            StakeOrder::Deposit(amount) | StakeOrder::Unbond(amount) => Ok(amount),
            StakeOrder::Withdraw if state.unbonding == Nano::ZERO => {
                Err(StakeNotNow::NothingLeaving)
            }
            StakeOrder::Withdraw => {
                let unlock_at = state.unlock_at;
                match u64::from(unlock_at).saturating_sub(now_unix_s) {
                    0 => Ok(state.unbonding),
                    left_s => Err(StakeNotNow::TooEarly { unlock_at, left_s }),
                }
            }
        }
    }

    fn what(self) -> Ordered {
        match self {
            StakeOrder::Deposit(_) => Ordered::StakeDeposit,
            StakeOrder::Unbond(_) => Ordered::StakeUnbond,
            StakeOrder::Withdraw => Ordered::StakeWithdrawal,
        }
    }

    fn message(self, terms: &StakeTerms, query_id: u64) -> Option<Transfer> {
        match self {
            StakeOrder::Deposit(amount) => terms.deposit(amount, query_id),
            StakeOrder::Unbond(amount) => Some(terms.unbond(amount, query_id)),
            StakeOrder::Withdraw => Some(terms.withdraw(query_id)),
        }
    }

    /// Whether the stake shows it.
    fn is_shown(self, before: Option<&StakeState>, after: Option<&StakeState>) -> bool {
        let held = |state: Option<&StakeState>, of: fn(&StakeState) -> Nano| {
            state.map_or(0, |state| of(state).0)
        };
        match self {
            // A cut between the two looks would hide it, and then it is said to have no effect.
            StakeOrder::Deposit(amount) => {
                held(after, |s| s.bonded) >= held(before, |s| s.bonded).saturating_add(amount.0)
            }
            StakeOrder::Unbond(_) => {
                after.map(|s| s.unlock_at) > before.map(|s| s.unlock_at)
                    || held(after, |s| s.unbonding) > held(before, |s| s.unbonding)
            }
            StakeOrder::Withdraw => held(after, |s| s.unbonding) == 0,
        }
    }
}

/// Whether a stake of these terms can begin now.
fn judge_terms(terms: &StakeTerms, now_unix_s: u64) -> Result<(), StakeNotNow> {
    let (delay, end) = (terms.unbond_delay_s, terms.slashable_until);
    if !(UNBOND_DELAY_S_MIN..=UNBOND_DELAY_S_MAX).contains(&delay) {
        return Err(StakeNotNow::UnbondDelay(delay));
    }
    let left = u64::from(end).saturating_sub(now_unix_s);
    if left <= delay.into() || left > STAKE_LIFE_S_MAX.into() {
        return Err(StakeNotNow::End(end));
    }
    Ok(())
}

impl Settler<'_> {
    /// The stake of the configuration as the node shows it. `None`: nothing runs there.
    pub async fn stake(&self) -> Result<Option<StakeState>, SettleError> {
        let stake = self.payee.stake();
        let state = self.node.stake_state(&stake).await?;
        if state.as_ref().is_some_and(|s| s.terms.address() != stake) {
            return Err(StakeNotNow::from(StakeRefused::NotAStake(stake)).into());
        }
        Ok(state)
    }

    /// Judges an order. `terms` deploy the contract where it does not run yet. Nothing is written and nothing is sent.
    pub async fn plan_stake(
        &self,
        order: StakeOrder,
        terms: Option<&StakeTerms>,
    ) -> Result<StakePlan, SettleError> {
        let (stake, owner) = (self.payee.stake(), self.payee.address());
        if let Some(terms) = terms.filter(|terms| terms.address() != stake) {
            let (got, want) = (terms.address(), stake);
            return Err(StakeNotNow::OtherTerms { got, want }.into());
        }
        let (wallet, _) = self.wallet_to_sign().await?;
        let now = wallet.unix_s;
        let before = self.stake().await?;
        let state = match (&before, order, terms) {
            (Some(state), ..) => state.clone(),
            (None, StakeOrder::Deposit(_), Some(terms)) => {
                judge_terms(terms, now)?;
                StakeState {
                    terms: terms.clone(),
                    bonded: Nano::ZERO,
                    unbonding: Nano::ZERO,
                    unlock_at: 0,
                    slashes: 0,
                }
            }
            (None, StakeOrder::Deposit(_), None) => return Err(StakeNotNow::NoTerms.into()),
            (None, ..) => return Err(StakeNotNow::Nothing(stake).into()),
        };
        let amount = order.judge(&state, &owner, now)?;
        let transfer = order.message(&state.terms, now);
        let transfer = transfer.ok_or(StakeNotNow::TooMuch)?;
        Ok(StakePlan {
            stake,
            before,
            value: transfer.value,
            amount,
            keeps: self.can_send(transfer.value).await?,
            order: Order {
                what: order.what(),
                to: stake,
                amount,
            },
            transfer,
        })
    }

    /// Sends an order and waits until the stake shows it. `None`: the stake is gone, with everything paid out.
    pub async fn order_stake(
        &self,
        order: StakeOrder,
        terms: Option<&StakeTerms>,
    ) -> Result<Option<StakeState>, SettleError> {
        let held = self.lock.acquire().await?;
        let same = |pending: &Order| {
            let amount = match order {
                StakeOrder::Deposit(amount) | StakeOrder::Unbond(amount) => amount,
                StakeOrder::Withdraw => pending.amount,
            };
            let (what, to) = (order.what(), self.payee.stake());
            *pending == Order { what, to, amount }
        };
        if self.finish_pending(same).await? {
            return Err(StakeNotNow::Resumed.into());
        }
        let plan = self.plan_stake(order, terms).await?;
        let message = self.send_order(plan.order, plan.transfer, &held).await?;
        let started = clock::now_unix_s();
        loop {
            let after = self.stake().await;
            match after {
                Ok(after) if order.is_shown(plan.before.as_ref(), after.as_ref()) => {
                    return Ok(after);
                }
                Ok(_) => {}
                Err(SettleError::Node(error)) => tracing::warn!(%error, "watching the stake"),
                Err(error) => return Err(error),
            }
            let now = clock::now_unix_s();
            if now.saturating_sub(started) > PAYOUT_MARGIN_S.into() {
                let refused = move |s: &Store| s.end_order(message, false, now);
                self.store.on_disk(refused).await?;
                return Err(StakeNotNow::NoEffect(plan.stake).into());
            }
            clock::pause(PAYOUT_POLL).await;
        }
    }
}
