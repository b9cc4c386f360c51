//! Settling: the highest voucher becomes money in the payee's wallet.
//!
//! ```text
//!            sign                  send              the wallet's number moved      the channel has paid
//!  nothing ───────► PENDING (disk) ─────► PENDING ─────────────────────────► TAKEN ────────────────────► PAID
//!                      ▲   │                 │                                 │ the channel refused ───► REFUSED
//!                      └───┘ crash: the same │ void by the chain's clock,      │ void, and not paid ────► EXPIRED,
//!                            bytes again     └ and not taken ► EXPIRED         └                          then a new one
//! ```
//!
//! Promises: the message is on the disk before it is on the wire; only its bytes are ever sent for this payout; one at a time is
//! on its way to the wallet, which numbers its messages, and one at a time for each channel. So a kill at any point loses nothing
//! and pays nothing twice. (The channel pays only the growth of `paid`, so a second claim could only waste its fee; this does not
//! rely on it.) What ends a payout is the wallet's number and what the channel has paid: not a hash, which anyone can change.
//! What became of a message that the wallet has taken concerns its channel and holds up no other.
//!
//! Trusts: the node about the wallet and the channel. A lying node can make the proxy wait or waste a fee.

use crate::channels::{ChannelRefused, Channels, MaxAge};
use crate::error::Error;
use crate::limits::{PAYOUT_MARGIN_S, PAYOUT_POLL, PAYOUT_VALID_S, PAYOUT_WATCH};
use crate::node::{Node, NodeError, WalletView};
use crate::payee::Payee;
use crate::store::{NewPayout, Paid, Payout, PayoutOutcome, Store};
use serde::Serialize;
use settlement::toncenter::{ChainError, PayoutError, payout_fee};
use settlement::{Address, ChannelState, ChannelStatus, Nano, VoucherError};
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
    /// The cost of the claim: `wallet_after - wallet_before == price - fee`, if nothing else moved the wallet. `None`: it was
    /// not found among the wallet's transactions.
    pub fee_nano: Option<Nano>,
}

/// Why nothing was settled.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    #[error("there is no voucher for channel {0}")]
    NoVoucher(Address),
    #[error(transparent)]
    Channel(#[from] ChannelRefused),
    #[error(
        "channel {channel} pays no claims any more: it is closed, or past its claims_until; {lost} nanoTON of its vouchers are lost"
    )]
    Over { channel: Address, lost: Nano },
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
    #[error("the chain does not show the payout yet; run again, the same message will be repeated")]
    NotYet,
}

/// What a wallet must hold to send a claim: the value that goes with it (0.05 TON, see `ChannelTerms::claim`) and fees.
pub(crate) const WALLET_MIN: Nano = Nano(70_000_000);

impl Settled {
    /// Whether the claim alone explains what the wallet holds. Both sides as sums, since a small price may be below its fee.
    fn adds_up(&self) -> bool {
        let expected = self.wallet_before_nano.checked_add(self.price_nano);
        let fee = self.fee_nano.unwrap_or(Nano::ZERO);
        expected.is_some() && expected == self.wallet_after_nano.checked_add(fee)
    }

    /// Two claims as one.
    fn followed_by(self, later: Settled) -> Settled {
        Settled {
            channel: self.channel,
            price_nano: Nano(self.price_nano.0.saturating_add(later.price_nano.0)),
            paid_before_nano: self.paid_before_nano,
            paid_after_nano: later.paid_after_nano,
            wallet_before_nano: self.wallet_before_nano,
            wallet_after_nano: later.wallet_after_nano,
            fee_nano: self
                .fee_nano
                .zip(later.fee_nano)
                .and_then(|(one, other)| one.checked_add(other)),
        }
    }
}

impl Settler<'_> {
    /// Settles the highest voucher of a channel and waits until the chain shows it.
    ///
    /// A payout of this channel that was left open is brought to its end first, and another channel's as far as the wallet. Ours may
    /// be of a lower voucher, so a claim for the rest follows; what is returned covers all of this channel's claims.
    pub async fn settle(&self, channel: &Address) -> Result<Settled, SettleError> {
        let of = *channel;
        let mut done: Option<Settled> = None;
        loop {
            while let Some(open) = self.store.on_disk(move |s| s.open_payout(&of)).await? {
                // `None`: it expired.
                if let Some(settled) = self.follow(&open, Until::Ended).await? {
                    done = Some(match done {
                        Some(before) => before.followed_by(settled),
                        None => settled,
                    });
                }
            }
            if let Some(pending) = self.store.on_disk(|s| s.pending_payout()).await? {
                self.follow(&pending, Until::Taken).await?;
            }
            match self.prepare(channel).await {
                Ok(Prepared::Nothing(settled)) => {
                    let paid = settled.paid_after_nano;
                    self.store
                        .on_disk(move |s| s.note_progress(&of, paid, false))
                        .await?;
                    return Ok(done.unwrap_or(settled));
                }
                Ok(Prepared::Payout(payout)) => {
                    // `None`: the other process was faster; follow its payout.
                    self.store.on_disk(move |s| s.begin_payout(&payout)).await?;
                }
                Err(error @ SettleError::Over { lost, .. }) => {
                    tracing::error!(%channel, %lost, "vouchers are lost: the channel pays no more");
                    let gone = move |s: &Store| s.note_progress(&of, Nano::ZERO, true);
                    self.store.on_disk(gone).await?;
                    return Err(error);
                }
                Err(error) => return Err(error),
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
        let now = wallet.unix_s;
        let over = state.status == ChannelStatus::Closed || now >= u64::from(state.claims_until);
        let lost = voucher
            .voucher
            .cumulative
            .checked_sub(state.paid)
            .unwrap_or(Nano::ZERO);
        if over && lost > Nano::ZERO {
            return Err(SettleError::Over { channel, lost });
        }
        if owed(&state, voucher.voucher.cumulative) <= state.paid {
            return Ok(Prepared::Nothing(Settled {
                channel: channel.to_string(),
                price_nano: Nano::ZERO,
                paid_before_nano: state.paid,
                paid_after_nano: state.paid,
                wallet_before_nano: wallet.balance,
                wallet_after_nano: wallet.balance,
                fee_nano: Some(Nano::ZERO),
            }));
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
        let mut claim = state
            .terms(state.payer_key)
            .claim(&verified, verified.cumulative.0);
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
            after_lt: Some(wallet.last_lt),
        }))
    }

    /// Brings a written payout to its end, or to the wallet. `None`: it expired, and another may be made; or it was taken.
    pub(crate) async fn follow(
        &self,
        payout: &Payout,
        until: Until,
    ) -> Result<Option<Settled>, SettleError> {
        let started = Instant::now();
        let mut last = NodeError::Timeout;
        while started.elapsed() < PAYOUT_WATCH {
            match self.step(payout, until).await {
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

    async fn step(&self, payout: &Payout, until: Until) -> Result<Step, SettleError> {
        let (id, payout) = (payout.id, &payout.payout);
        let wallet = self.node.wallet(&self.payee.address()).await?;
        let void_at = u64::from(payout.valid_until) + u64::from(PAYOUT_MARGIN_S);
        let void = wallet.unix_s > void_at;
        if wallet.seqno > payout.seqno {
            self.store.on_disk(move |s| s.payout_taken(id)).await?;
            return match until {
                Until::Taken => Ok(Step::Ended(None)),
                Until::Ended => self.after_wallet(id, payout, &wallet, void).await,
            };
        }
        match (void, wallet.seqno == payout.seqno) {
            (true, true) => {
                self.end(id, payout, PayoutOutcome::Expired).await?;
                Ok(Step::Ended(None))
            }
            (true, false) => Ok(Step::Wait),
            (false, _) => self.repeat(payout).await,
        }
    }

    /// The wallet has taken this payout's number. Its message is on its way through the chain; or another one took the number;
    /// or the channel refused. What the channel has paid decides, and the transactions say what it cost.
    async fn after_wallet(
        &self,
        id: i64,
        payout: &NewPayout,
        wallet: &WalletView,
        void: bool,
    ) -> Result<Step, SettleError> {
        let shown = self.shown(payout).await?;
        let state = self.channels.state(&payout.channel, MaxAge::Now).await?;
        let complete = owed(&state, payout.cumulative) <= state.paid;
        let mut paid = Paid {
            price: state
                .paid
                .checked_sub(payout.paid_before)
                .unwrap_or(Nano::ZERO),
            fee: None,
            paid_after: state.paid,
            wallet_after: wallet.balance,
        };
        match shown {
            Ok(shown) => {
                (paid.price, paid.fee) = (shown.price, Some(shown.fee));
                paid.wallet_after = self.node.account(&self.payee.address()).await?.balance;
            }
            Err(PayoutError::Refused) if !complete => {
                self.end(id, payout, PayoutOutcome::Refused).await?;
                return Err(SettleError::Refused);
            }
            Err(_) if void && complete => {}
            Err(_) if void => {
                self.end(id, payout, PayoutOutcome::Expired).await?;
                return Ok(Step::Ended(None));
            }
            Err(_) => return Ok(Step::Wait),
        }
        self.end(id, payout, PayoutOutcome::Paid(paid)).await?;
        Ok(Step::Ended(Some(report(payout, &paid))))
    }

    /// The payout, as the transactions since it was signed show it.
    async fn shown(
        &self,
        payout: &NewPayout,
    ) -> Result<Result<settlement::toncenter::Payout, PayoutError>, NodeError> {
        let not_seen = Ok(Err(PayoutError::NotYet("whole history")));
        let Some(after_lt) = payout.after_lt else {
            return not_seen;
        };
        let wallet = self.payee.address();
        let in_wallet = self.node.history(&wallet, after_lt).await?;
        let in_channel = self.node.history(&payout.channel, after_lt).await?;
        if !in_wallet.whole {
            return not_seen;
        }
        let (of_wallet, of_channel) = (&in_wallet.transactions, &in_channel.transactions);
        Ok(payout_fee(
            after_lt,
            &wallet,
            &payout.channel,
            of_wallet,
            of_channel,
        ))
    }

    /// The wallet has not taken the payout yet: send the same message again.
    async fn repeat(&self, payout: &NewPayout) -> Result<Step, SettleError> {
        match self.node.send(&payout.boc).await {
            Ok(()) => tracing::debug!(seqno = payout.seqno, "payout sent"),
            // Refused may mean "already taken": the wallet's number will show it.
            Err(NodeError::Answer(error @ ChainError::Refused { .. })) => {
                tracing::warn!(%error, seqno = payout.seqno, "the node did not take the payout");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Step::Wait)
    }

    async fn end(&self, id: i64, payout: &NewPayout, outcome: PayoutOutcome) -> Result<(), Error> {
        let channel = payout.channel;
        let write = move |s: &Store| {
            s.end_payout(id, &outcome)?;
            match outcome {
                PayoutOutcome::Paid(paid) => s.note_progress(&channel, paid.paid_after, false),
                PayoutOutcome::Refused | PayoutOutcome::Expired => Ok(()),
            }
        };
        self.store.on_disk(write).await
    }
}

/// What a channel must have paid for a voucher of this amount to be complete. A closed one's deposit says only what it has paid.
fn owed(state: &ChannelState, cumulative: Nano) -> Nano {
    match state.status {
        ChannelStatus::Closed => cumulative,
        ChannelStatus::Open | ChannelStatus::Closing => cumulative.min(state.deposit),
    }
}

/// How far a payout is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The wallet has taken its number, so that another may be sent.
    Taken,
    /// The channel has paid, or will not.
    Ended,
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

fn report(payout: &NewPayout, paid: &Paid) -> Settled {
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
    if !settled.adds_up() {
        // Anyone may send money to the wallet meanwhile, and the operator may spend some: no reason to fail a paid claim.
        tracing::warn!(?settled, "something beside the claim moved the wallet");
    }
    settled
}

#[cfg(test)]
mod tests;
