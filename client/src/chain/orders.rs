//! What a channel's owner has done to it: topped up, closed, withdrawn, its key rotated, a rotation taken back.
//!
//! ```text
//!  Order ─plan─► Plan (judged by the chain's state and clock; nothing sent) ─send─► the channel in its new state
//!    └─ NotNow: it would only cost its fee        └─ void: certainly nothing happened   └─ refused: the value came back
//! ```
//!
//! Promises: an order is one message, valid for a minute. [`send`] ends with its effect, or says for certain that it has none and
//! may be repeated, or, when the node is away, until when it may still take effect. Top-ups are the one order that a blind repetition
//! would do twice.

use super::message::{Message, follow, needed};
use super::{Channel, account, owned_channel};
use crate::error::ClientError;
use crate::transport::Transport;
use settlement::toncenter;
use settlement::{Address, ChannelState, ChannelStatus, ChannelTerms, Nano, Transfer, Wallet};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Add to the deposit.
    TopUp(Nano),
    /// Start the close delay.
    Close,
    /// Take a request to close back, or else a rotation that has not taken effect.
    Cancel,
    /// Take out what is left, after the close delay or the end of claims.
    Withdraw,
    /// Replace the voucher key after the close delay.
    Rotate([u8; 32]),
}

/// Why an order makes no sense in the channel's state. It would only cost its fee.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum NotNow {
    #[error("the channel is closed; its rest was paid to the payer's wallet")]
    Closed,
    #[error("the channel is closing; it can be withdrawn from at {unlock_at} (Unix seconds)")]
    Closing { unlock_at: u32 },
    #[error(
        "the channel is closing, which version 1 of the contract cannot take back; withdraw at {unlock_at} (Unix seconds) and open \
         another"
    )]
    CannotReopen { unlock_at: u32 },
    #[error("the channel is open; close it first, then wait {close_delay_s} s")]
    Open { close_delay_s: u32 },
    #[error("the close delay ends at {unlock_at} (Unix seconds), in {left_s} s")]
    TooEarly { unlock_at: u32, left_s: u64 },
    #[error("the channel's claims ended at {0} (Unix seconds); it takes no more money")]
    Over(u32),
    #[error("the channel is closed; what it keeps can be withdrawn after {0} (Unix seconds)")]
    Tombstone(u32),
    #[error("neither a close nor a rotation is under way")]
    NothingToCancel,
    #[error("a rotation is under way and takes effect at {at} (Unix seconds); cancel it first")]
    Rotating { at: u32 },
    #[error("this is the channel's key already")]
    SameKey,
    #[error("an amount of 0 adds nothing")]
    NoAmount,
    #[error("the amount is more than there is")]
    TooMuch,
    #[error("only the payer's wallet {payer} may do this; `wallet_key_file` is that of {wallet}")]
    NotThePayer { payer: Address, wallet: Address },
    #[error(
        "the wallet {wallet} holds {} and this needs {}, of which what is not used comes back", balance.in_ton(), needed.in_ton()
    )]
    Wallet {
        wallet: Address,
        balance: Nano,
        needed: Nano,
    },
}

/// An order that makes sense now, not sent yet.
pub struct Plan {
    /// What will be done.
    pub order: Order,
    /// The channel as it is.
    pub before: Channel,
    /// The wallet that sends.
    pub wallet: Address,
    /// What the wallet holds.
    pub balance: Nano,
    /// What goes with the message. What is not used of it comes back.
    pub value: Nano,
    /// The message is void after this, by the chain's clock.
    pub valid_until: u32,
    first_key: [u8; 32],
    message: Message,
}

impl Order {
    /// Whether it would have an effect in this state at this moment of the chain's clock.
    fn judge(
        &self,
        state: &ChannelState,
        old: bool,
        wallet: &Address,
        now_unix_s: u64,
    ) -> Result<(), NotNow> {
        let (unlock_at, close_delay_s) = (state.unlock_at, state.close_delay_s);
        let over = now_unix_s > state.claims_until.into();
        let rotating = state.pending_at != 0 && state.pending_key != state.payer_key;
        if !matches!(self, Order::TopUp(_)) && state.payer != *wallet {
            let (payer, wallet) = (state.payer, *wallet);
            return Err(NotNow::NotThePayer { payer, wallet });
        }
        if state.status == ChannelStatus::Closed {
            return match self {
                Order::Withdraw if over => Ok(()),
                Order::Withdraw => Err(NotNow::Tombstone(state.claims_until)),
                _ => Err(NotNow::Closed),
            };
        }
        match (self, state.status) {
            (Order::TopUp(Nano::ZERO), _) => Err(NotNow::NoAmount),
            (Order::Withdraw, _) if over || state.remaining() == Nano::ZERO => Ok(()),
            (_, _) if over => Err(NotNow::Over(state.claims_until)),
            (Order::TopUp(_) | Order::Close, ChannelStatus::Closing) => {
                Err(NotNow::Closing { unlock_at })
            }
            (Order::Withdraw, ChannelStatus::Closing) => {
                match u64::from(unlock_at).saturating_sub(now_unix_s) {
                    0 => Ok(()),
                    left_s => Err(NotNow::TooEarly { unlock_at, left_s }),
                }
            }
            (Order::Withdraw, _) => Err(NotNow::Open { close_delay_s }),
            (Order::Cancel, ChannelStatus::Closing) if old => {
                Err(NotNow::CannotReopen { unlock_at })
            }
            (Order::Cancel, ChannelStatus::Closing) => Ok(()),
            (Order::Cancel, _) if rotating => Ok(()),
            (Order::Cancel, _) => Err(NotNow::NothingToCancel),
            (Order::Rotate(_), _) if rotating => Err(NotNow::Rotating {
                at: state.pending_at,
            }),
            (Order::Rotate(key), _) if *key == state.payer_key => Err(NotNow::SameKey),
            (Order::TopUp(_) | Order::Close | Order::Rotate(_), _) => Ok(()),
        }
    }

    fn message(
        &self,
        terms: &ChannelTerms,
        state: &ChannelState,
        query_id: u64,
    ) -> Option<Transfer> {
        Some(match self {
            Order::TopUp(amount) => terms.top_up(*amount, query_id)?,
            Order::Close => terms.request_close(query_id),
            Order::Withdraw => terms.finalize_close(query_id),
            Order::Cancel if state.status == ChannelStatus::Closing => terms.cancel_close(query_id),
            // To the key in force: what was pending is gone.
            Order::Cancel => terms.rotate_key(&state.payer_key, query_id),
            Order::Rotate(key) => terms.rotate_key(key, query_id),
        })
    }

    /// Whether the channel shows it.
    fn shows(&self, before: &ChannelState, after: &ChannelState) -> bool {
        match self {
            Order::TopUp(amount) => before
                .deposit
                .checked_add(*amount)
                .is_some_and(|sum| after.deposit >= sum),
            Order::Close => after.status != ChannelStatus::Open,
            Order::Withdraw => after.status == ChannelStatus::Closed,
            Order::Cancel if before.status == ChannelStatus::Closing => {
                after.status == ChannelStatus::Open
            }
            Order::Cancel => after.pending_key == before.payer_key,
            Order::Rotate(key) => after.pending_key == *key,
        }
    }
}

/// Reads channel and wallet, and judges the order. Sends nothing.
pub async fn plan(
    node: &Transport,
    wallet: &Wallet,
    channel: Channel,
    first_key: [u8; 32],
    order: Order,
    now_unix_s: u64,
) -> Result<Plan, ClientError> {
    let address = wallet.address();
    let account = account(node, &address).await?;
    let now = account.block_unix_s.unwrap_or(now_unix_s);
    let refuse = |why: NotNow| ClientError::Chain(format!("channel {}: {why}", channel.address));
    let terms = channel.state.terms(first_key);
    let old = terms.address() != channel.address;
    let judged = order.judge(&channel.state, old, &address, now);
    judged.map_err(refuse)?;
    let transfer = order.message(&terms, &channel.state, now);
    let mut transfer = transfer.ok_or_else(|| refuse(NotNow::TooMuch))?;
    // Version 1 understands the same messages at another address.
    transfer.to = channel.address;
    let needed = needed(&transfer).ok_or_else(|| refuse(NotNow::TooMuch))?;
    if account.balance < needed {
        return Err(refuse(NotNow::Wallet {
            wallet: address,
            balance: account.balance,
            needed,
        }));
    }
    let message = Message::next(node, address, &account, transfer, now).await?;
    Ok(Plan {
        order,
        wallet: address,
        balance: account.balance,
        value: message.value(),
        valid_until: message.valid_until,
        first_key,
        before: channel,
        message,
    })
}

/// Sends a plan's message and follows it to its end. Returns the channel as it is then.
pub async fn send(node: &Transport, wallet: &Wallet, plan: Plan) -> Result<Channel, ClientError> {
    let address = plan.before.address;
    let at = format!("channel {address}");
    let shown = async || {
        if let Some(gone) = gone(node, &plan).await? {
            return Ok(Some(gone));
        }
        let channel = owned_channel(node, wallet_chain(&plan), address, &plan.first_key).await?;
        let is_shown = plan.order.shows(&plan.before.state, &channel.state);
        Ok(is_shown.then_some(channel))
    };
    follow(node, wallet, &plan.message, &at, "channel show", shown).await
}

/// The channel as it was at the end, once a withdrawal after the end of claims has left nothing of it.
async fn gone(node: &Transport, plan: &Plan) -> Result<Option<Channel>, ClientError> {
    if plan.order != Order::Withdraw {
        return Ok(None);
    }
    let mut channel = plan.before.clone();
    if account(node, &channel.address).await?.status == toncenter::AccountStatus::Active {
        return Ok(None);
    }
    channel.state.status = ChannelStatus::Closed;
    channel.state.deposit = channel.state.paid;
    Ok(Some(channel))
}

fn wallet_chain(plan: &Plan) -> settlement::ChainId {
    plan.before.state.chain
}

#[cfg(test)]
mod tests;
