//! Settling: the highest voucher becomes money in the payee's wallet.
//!
//! ```text
//!            sign                  send              the chain shows it
//!  nothing ───────► PENDING (disk) ─────► PENDING ───────────────────────► PAID
//!                      ▲   │                 │ the channel refused ──────► REFUSED
//!                      └───┘ crash: the same │ void by the chain's clock,
//!                            bytes again     └ and not taken ────────────► EXPIRED, then a new one
//! ```
//!
//! Promises: the message is on the disk before it is on the wire; only its bytes are ever sent for this payout; there is
//! one at a time, since the wallet numbers its messages. So a kill at any point loses nothing and pays nothing twice.
//! (The channel pays only the growth of `paid`, so a second claim could only waste its fee; this does not rely on it.)
//!
//! Trusts: the node about the wallet and the channel. A lying node can make the proxy wait or waste a fee.

use crate::channels::{ChannelRefused, Channels, MaxAge, terms};
use crate::clock::now_unix_s;
use crate::error::Error;
use crate::limits::{PAYOUT_MARGIN_S, PAYOUT_POLL, PAYOUT_VALID_S, PAYOUT_WATCH};
use crate::node::{Node, NodeError};
use crate::payee::Payee;
use crate::store::{NewPayout, Paid, Payout, PayoutOutcome, Store, corrupt};
use serde::Serialize;
use settlement::toncenter::{ChainError, PayoutError, payout_fee};
use settlement::{Address, ChannelStatus, Nano, VoucherError, message_hash};
use tokio::time::Instant;

pub struct Settler<'a> {
    pub node: &'a Node,
    pub channels: &'a Channels,
    pub store: &'a Store,
    pub payee: &'a Payee,
}

/// What settling one channel changed. In JSON, amounts are decimal strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settled {
    pub channel: String,
    /// The growth of what the channel has paid.
    pub price_nano: Nano,
    pub paid_before_nano: Nano,
    pub paid_after_nano: Nano,
    pub wallet_before_nano: Nano,
    pub wallet_after_nano: Nano,
    /// The cost of the claim: `wallet_after - wallet_before == price - fee`.
    pub fee_nano: Nano,
}

/// Why nothing was settled.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    #[error("there is no voucher for channel {0}")]
    NoVoucher(Address),
    #[error(transparent)]
    Channel(#[from] ChannelRefused),
    #[error("channel {0} pays no claims any more: it is closed, or past its claims_until")]
    Over(Address),
    #[error("the stored voucher is not signed by the channel's current payer key: {0}")]
    Void(VoucherError),
    #[error("the wallet holds {balance} nanoTON; a claim needs {needed}, most of which comes back")]
    Wallet { balance: Nano, needed: Nano },
    #[error("the claim cannot be built: {0}")]
    Build(#[from] settlement::WalletError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Store(#[from] Error),
    #[error("the claim was not paid: the channel refused it, or the wallet could not carry it")]
    Refused,
    #[error("the node's figures for the claim contradict each other; the claim stays pending")]
    Contradiction,
    #[error("the chain does not show the payout yet; run again, the same message will be repeated")]
    NotYet,
    #[error(
        "paid, but the figures differ: the wallet went from {wallet_before} to {wallet_after}, price {price}, fee {fee}"
    )]
    Figures {
        wallet_before: Nano,
        wallet_after: Nano,
        price: Nano,
        fee: Nano,
    },
}

/// What a wallet must hold to send a claim: the value that goes with it (0.05 TON, see `ChannelTerms::claim`) and fees.
pub(crate) const WALLET_MIN: Nano = Nano(70_000_000);

impl Settled {
    /// Two claims as one.
    fn followed_by(self, later: Settled) -> Settled {
        Settled {
            channel: self.channel,
            price_nano: Nano(self.price_nano.0.saturating_add(later.price_nano.0)),
            paid_before_nano: self.paid_before_nano,
            paid_after_nano: later.paid_after_nano,
            wallet_before_nano: self.wallet_before_nano,
            wallet_after_nano: later.wallet_after_nano,
            fee_nano: Nano(self.fee_nano.0.saturating_add(later.fee_nano.0)),
        }
    }
}

impl Settler<'_> {
    /// Settles the highest voucher of a channel and waits until the chain shows it.
    ///
    /// A payout that was left pending, of whatever channel, is brought to its end first. It may be of a lower voucher,
    /// so a claim for the rest follows; what is returned covers all of this channel's claims.
    pub async fn settle(&self, channel: &Address) -> Result<Settled, SettleError> {
        let mut done: Option<Settled> = None;
        loop {
            if let Some(pending) = self.store.on_disk(|s| s.pending_payout()).await? {
                match self.follow(&pending).await {
                    Ok(Some(settled)) if pending.payout.channel == *channel => {
                        done = Some(match done {
                            Some(before) => before.followed_by(settled),
                            None => settled,
                        });
                    }
                    // Expired, or another channel's: ours is still to come.
                    Ok(_) => continue,
                    Err(error) if pending.payout.channel == *channel => return Err(error),
                    Err(error @ (SettleError::Refused | SettleError::Figures { .. })) => {
                        tracing::warn!(channel = %pending.payout.channel, %error, "an earlier payout ended");
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            match self.prepare(channel).await? {
                Prepared::Nothing(settled) => return Ok(done.unwrap_or(settled)),
                Prepared::Payout(payout) => {
                    // `None`: the other process was faster; follow its payout.
                    self.store.on_disk(move |s| s.begin_payout(&payout)).await?;
                }
            }
        }
    }

    /// Signs a claim. Nothing is written and nothing is sent.
    pub(crate) async fn prepare(&self, channel: &Address) -> Result<Prepared, SettleError> {
        let channel = *channel;
        let voucher = self.store.on_disk(move |s| s.highest(&channel)).await?;
        let voucher = voucher.ok_or(SettleError::NoVoucher(channel))?;
        let state = self.channels.state(&channel, MaxAge::Now).await?;
        let wallet = self.node.wallet(&self.payee.address()).await?;
        if voucher.voucher.cumulative.min(state.deposit) <= state.paid {
            return Ok(Prepared::Nothing(Settled {
                channel: channel.to_string(),
                price_nano: Nano::ZERO,
                paid_before_nano: state.paid,
                paid_after_nano: state.paid,
                wallet_before_nano: wallet.balance,
                wallet_after_nano: wallet.balance,
                fee_nano: Nano::ZERO,
            }));
        }
        let now = chain_time(wallet.node_unix_s);
        if state.status == ChannelStatus::Closed || now >= u64::from(state.claims_until) {
            return Err(SettleError::Over(channel));
        }
        let verified = voucher
            .verify(&state.payer_key)
            .map_err(SettleError::Void)?;
        if wallet.balance < WALLET_MIN {
            return Err(SettleError::Wallet {
                balance: wallet.balance,
                needed: WALLET_MIN,
            });
        }
        let mut claim = terms(&state, state.payer_key).claim(&verified, verified.cumulative.0);
        // After a key rotation today's terms no longer give the address; the channel is where it was.
        claim.to = channel;
        let valid_until = u32::try_from(now)
            .unwrap_or(u32::MAX)
            .saturating_add(PAYOUT_VALID_S);
        let boc = self
            .payee
            .wallet()
            .transfer(wallet.seqno, valid_until, &[claim])?;
        Ok(Prepared::Payout(NewPayout {
            channel,
            cumulative: verified.cumulative,
            seqno: wallet.seqno,
            valid_until,
            boc,
            paid_before: state.paid,
            wallet_before: wallet.balance,
        }))
    }

    /// Brings a written payout to its end. `None`: it expired, and another may be made.
    pub(crate) async fn follow(&self, payout: &Payout) -> Result<Option<Settled>, SettleError> {
        let started = Instant::now();
        let mut last = NodeError::Timeout;
        while started.elapsed() < PAYOUT_WATCH {
            match self.step(payout).await {
                Ok(Step::Ended(settled)) => return Ok(settled),
                Ok(Step::Wait) => {}
                // A node that is away, or slow, or asks for patience.
                Err(
                    SettleError::Node(error) | SettleError::Channel(ChannelRefused::Node(error)),
                ) => {
                    tracing::warn!(%error, "watching a payout");
                    last = error;
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(PAYOUT_POLL).await;
        }
        tracing::warn!(%last, "the payout stays pending");
        Err(SettleError::NotYet)
    }

    async fn step(&self, payout: &Payout) -> Result<Step, SettleError> {
        let (id, payout) = (payout.id, &payout.payout);
        let wallet = self.payee.address();
        let hash = message_hash(&payout.boc).ok_or_else(|| corrupt("payout"))?;
        let in_wallet = self.node.transactions(&wallet).await?;
        let in_channel = self.node.transactions(&payout.channel).await?;
        match payout_fee(&hash, &wallet, &payout.channel, &in_wallet, &in_channel) {
            Ok(shown) => {
                let state = self.channels.state(&payout.channel, MaxAge::Now).await?;
                let paid = Paid {
                    price: shown.price,
                    fee: shown.fee,
                    paid_after: state.paid,
                    wallet_after: self.node.account(&wallet).await?.balance,
                };
                self.end(id, PayoutOutcome::Paid(paid)).await?;
                report(payout, &paid).map(|settled| Step::Ended(Some(settled)))
            }
            Err(PayoutError::Refused) => {
                self.end(id, PayoutOutcome::Refused).await?;
                Err(SettleError::Refused)
            }
            Err(PayoutError::Contradiction) => Err(SettleError::Contradiction),
            Err(PayoutError::NotYet(_)) => self.repeat(id, payout).await,
        }
    }

    /// The chain does not show the payout: send it again, or see that it can never come.
    async fn repeat(&self, id: i64, payout: &NewPayout) -> Result<Step, SettleError> {
        let view = self.node.wallet(&self.payee.address()).await?;
        let void_at = u64::from(payout.valid_until) + u64::from(PAYOUT_MARGIN_S);
        let void = chain_time(view.node_unix_s) > void_at;
        if void && view.seqno == payout.seqno {
            self.end(id, PayoutOutcome::Expired).await?;
            return Ok(Step::Ended(None));
        }
        if view.seqno > payout.seqno {
            // Taken, and on its way through the chain; or another message of this wallet took its number. When it is void
            // and its claim is not in the channel, only the second is left.
            let state = self.channels.state(&payout.channel, MaxAge::Now).await?;
            if void && state.paid < payout.cumulative.min(state.deposit) {
                self.end(id, PayoutOutcome::Expired).await?;
                return Ok(Step::Ended(None));
            }
            return Ok(Step::Wait);
        }
        if !void {
            match self.node.send(&payout.boc).await {
                Ok(()) => tracing::debug!(seqno = payout.seqno, "payout sent"),
                // Refused may mean "already taken": the transactions will show it.
                Err(NodeError::Answer(error @ ChainError::Refused { .. })) => {
                    tracing::warn!(%error, seqno = payout.seqno, "the node did not take the payout");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Step::Wait)
    }

    async fn end(&self, id: i64, outcome: PayoutOutcome) -> Result<(), Error> {
        let write = move |s: &Store| s.end_payout(id, &outcome);
        self.store.on_disk(write).await
    }
}

/// A claim, or why none is needed.
pub(crate) enum Prepared {
    /// Everything promised is paid.
    Nothing(Settled),
    /// To be written, then sent.
    Payout(NewPayout),
}

enum Step {
    Wait,
    Ended(Option<Settled>),
}

fn report(payout: &NewPayout, paid: &Paid) -> Result<Settled, SettleError> {
    let price = paid
        .paid_after
        .checked_sub(payout.paid_before)
        .unwrap_or(Nano::ZERO);
    let settled = Settled {
        channel: payout.channel.to_string(),
        price_nano: price,
        paid_before_nano: payout.paid_before,
        paid_after_nano: paid.paid_after,
        wallet_before_nano: payout.wallet_before,
        wallet_after_nano: paid.wallet_after,
        fee_nano: paid.fee,
    };
    // Both sides as sums, since a small price may be below its fee.
    let expected = payout.wallet_before.checked_add(price);
    if expected.is_some() && expected == paid.wallet_after.checked_add(paid.fee) {
        return Ok(settled);
    }
    Err(SettleError::Figures {
        wallet_before: payout.wallet_before,
        wallet_after: paid.wallet_after,
        price,
        fee: paid.fee,
    })
}

/// The chain's clock decides when a message is void; this host's clock is used where the node does not report it.
fn chain_time(node_unix_s: Option<u64>) -> u64 {
    node_unix_s.unwrap_or_else(now_unix_s)
}

#[cfg(test)]
mod tests;
