//! Settling: the highest vouchers become money in the payee's wallet.
//!
//! ```text
//!  message            sign                  send              the wallet's number moved
//!           nothing ───────► PENDING (disk) ─────► PENDING ─┬───────────────────────► TAKEN, or ANOTHER took the number
//!                               ▲   │                       │ void by the chain's clock,
//!                               └───┘ crash: same bytes     └ and not taken ────────► VOID
//!
//!  its claims                             OPEN ─┬ the channel has paid ───► PAID
//!                                               ├ the channel refused ────► REFUSED
//!                                               └ void, and not paid ─────► EXPIRED, then a new one
//! ```
//!
//! A claim that is large enough goes without the wallet first ([`external`]): it costs a third, needs no number and may be repeated by
//! anyone, since the channel pays only the growth.
//!
//! Promises: a message is on the disk before it is on the wire; only its bytes are ever sent for its number; one at a time is on its
//! way to the wallet, which numbers its messages, and one claim at a time for each channel. So a kill at any point loses nothing and
//! pays nothing twice. (The channel pays only the growth of `paid`, so a second claim could only waste its fee; this does not rely on
//! it.) What ends a claim is the wallet's number and what the channel has paid: not a hash, which anyone can change.
//! What became of a message that the wallet has taken concerns its channels and holds up no other.
//!
//! One process signs at a time ([`crate::signer`]), and only with books that know every message the wallet has sent: a state file
//! from a backup, or a second signer elsewhere, ends in [`SettleError::OldBooks`] instead of another message.
//!
//! Trusts: the node about the wallet and the channel. A lying node can make the proxy wait or waste a fee.

mod carry;
mod conclude;
mod external;
mod orders;
mod prepare;
mod stake;

pub use orders::{Adoption, Standing};
pub use stake::{StakeNotNow, StakeOrder, StakePlan};

use crate::channels::{ChannelRefused, Channels};
use crate::clock;
use crate::error::Error;
use crate::limits::{NODE_PATIENCE, PAYOUT_POLL};
use crate::node::{Node, NodeError};
use crate::payee::Payee;
use crate::signer::{Held, LockError, SignerLock};
use crate::store::{Message, NewMessage, Paid, Payout, Store};
use serde::Serialize;
use settlement::{Address, ChannelState, ChannelStatus, Nano, VoucherError};
use std::collections::{BTreeMap, VecDeque};

pub struct Settler<'a> {
    pub node: &'a Node,
    pub channels: &'a Channels,
    pub store: &'a Store,
    pub payee: &'a Payee,
    pub lock: &'a SignerLock,
    /// Whether claims that are large enough go without the wallet.
    pub external: bool,
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
    /// The cost of the claim: `wallet_after - wallet_before == price - fee`, if nothing else moved the wallet, other claims of the same
    /// message among it. `None`: it was not found among the wallet's transactions.
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
    #[error("the wallet holds {balance} nanoTON; this needs {needed} with its fee")]
    TooLittle { balance: Nano, needed: Nano },
    #[error("the message was not taken in its time and is void: nothing happened, repeat it")]
    NotTaken,
    #[error("the wallet took the message and sent nothing: it could not carry the amount")]
    NotWithdrawn,
    #[error("the claim cannot be built: {0}")]
    Build(#[from] settlement::WalletError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Store(#[from] Error),
    #[error(transparent)]
    Stake(#[from] StakeNotNow),
    #[error(transparent)]
    Signer(#[from] LockError),
    #[error(
        "the state file is older than the chain: the wallet {wallet} has sent {chain} messages and the file knows of {books}, so \
         nothing is signed. Stop every other host-proxy that has this key; if the file is from a backup, put the newest one back; \
         if there is none, or the wallet was used by hand, run `host-proxy payouts adopt`"
    )]
    OldBooks {
        wallet: Address,
        chain: u32,
        books: u32,
    },
    #[error(
        "the wallet {wallet} took a message under number {seqno} that is not of this state file, so nothing is signed: another \
         host-proxy has its key, or it was used by hand. When nobody else signs, run `host-proxy payouts adopt`"
    )]
    AnotherSigner { wallet: Address, seqno: u32 },
    #[error("the claim was not paid: the channel refused it, or the wallet could not carry it")]
    Refused,
    #[error("the chain does not show the payout yet; run again, the same message will be repeated")]
    NotYet,
}

/// What a wallet must hold to send a claim: the value that goes with it (0.05 TON, see `ChannelTerms::claim`) and fees.
pub(crate) const WALLET_MIN: Nano = Nano(70_000_000);
/// What each further claim in the same message needs.
const CLAIM_MORE: Nano = Nano(55_000_000);

/// Channels and what became of each.
pub type Results = Vec<(Address, Result<Settled, SettleError>)>;

/// Settling several channels, between its steps.
struct Round {
    left: VecDeque<Address>,
    /// What claims that have ended brought.
    done: BTreeMap<Address, Settled>,
    results: Results,
}

impl Settler<'_> {
    /// Settles the highest voucher of a channel and waits until the chain shows it.
    ///
    /// A claim of this channel that was left open is brought to its end first, and another channel's as far as the wallet. Ours may
    /// be of a lower voucher, so a claim for the rest follows; what is returned covers all of this channel's claims.
    pub async fn settle(&self, channel: &Address) -> Result<Settled, SettleError> {
        let mut results = self.settle_all(&[*channel]).await?;
        let (_, result) = results.pop().ok_or(SettleError::NoVoucher(*channel))?;
        result
    }

    /// The same for several channels, in this order, with many claims to a message. `Err`: nothing can be signed at all, or no more.
    pub async fn settle_all(&self, channels: &[Address]) -> Result<Results, SettleError> {
        let held = self.lock.acquire().await?;
        let patience = clock::now() + NODE_PATIENCE;
        let mut round = Round {
            left: channels.iter().copied().collect(),
            done: BTreeMap::new(),
            results: Vec::new(),
        };
        loop {
            if let Some(pending) = self.store.on_disk(|s| s.pending_message()).await? {
                self.carry(&pending).await?;
            }
            self.conclude_open(&mut round).await?;
            self.claim_externally(&mut round).await?;
            match self.prepare(&mut round).await {
                // `None` to begin: the other process was faster; its message is carried first.
                Ok(Some(new)) => drop(self.begin(new, &held).await?),
                Ok(None) => return Ok(round.results),
                Err(SettleError::Node(error)) if error.passes() && clock::now() < patience => {
                    tracing::warn!(%error, "preparing claims");
                    clock::pause(PAYOUT_POLL).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Brings the claims that were left open on the round's channels to their ends.
    async fn conclude_open(&self, round: &mut Round) -> Result<(), SettleError> {
        let mut seen = Vec::new();
        for channel in round.left.clone() {
            let open = self
                .store
                .on_disk(move |s| s.open_message(&channel))
                .await?;
            if let Some(message) = open.filter(|message| !seen.contains(&message.id)) {
                seen.push(message.id);
                self.conclude(&message, round).await?;
            }
        }
        Ok(())
    }

    /// Writes a message. `None`: another is on its way.
    async fn begin(&self, new: NewMessage, held: &Held) -> Result<Option<Message>, Error> {
        let lease = held.lease();
        let begin = move |s: &Store| s.begin_message(&new, lease.as_ref());
        self.store.on_disk(begin).await
    }
}

impl Round {
    /// A channel is through with this result, together with what its claims brought before.
    fn finish(&mut self, channel: Address, result: Result<Settled, SettleError>) {
        self.left.retain(|left| *left != channel);
        let result = match (result, self.done.remove(&channel)) {
            (Ok(_), Some(before)) => Ok(before),
            (result, _) => result,
        };
        self.results.push((channel, result));
    }

    /// A claim of this channel brought this.
    fn bring(&mut self, channel: Address, settled: Settled) {
        let settled = match self.done.remove(&channel) {
            Some(before) => before.followed_by(settled),
            None => settled,
        };
        self.done.insert(channel, settled);
    }
}

impl Settled {
    /// Nothing is owed.
    fn nothing(channel: &Address, paid: Nano, wallet: Nano) -> Settled {
        Settled {
            channel: channel.to_string(),
            price_nano: Nano::ZERO,
            paid_before_nano: paid,
            paid_after_nano: paid,
            wallet_before_nano: wallet,
            wallet_after_nano: wallet,
            fee_nano: Some(Nano::ZERO),
        }
    }

    fn report(message: &Message, payout: &Payout, paid: &Paid) -> Settled {
        let grown = paid.paid_after.checked_sub(payout.claim.paid_before);
        Settled {
            channel: payout.claim.channel.to_string(),
            price_nano: grown.unwrap_or(Nano::ZERO),
            paid_before_nano: payout.claim.paid_before,
            paid_after_nano: paid.paid_after,
            wallet_before_nano: message.wallet_before,
            wallet_after_nano: paid.wallet_after,
            fee_nano: paid.fee,
        }
    }

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

/// What a channel must have paid for a voucher of this amount to be complete. A closed one's deposit says only what it has paid.
fn owed(state: &ChannelState, cumulative: Nano) -> Nano {
    match state.status {
        ChannelStatus::Closed => cumulative,
        ChannelStatus::Open | ChannelStatus::Closing => cumulative.min(state.deposit),
    }
}

#[cfg(test)]
mod tests;
