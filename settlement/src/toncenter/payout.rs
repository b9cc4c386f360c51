//! What a claim brought, computed from the transactions it left.
//!
//! A payee's wallet W sends a claim with value `v` to a channel C. C pays the price `p` in a message of its own, and returns the rest
//! `r` of `v`. Each transaction of W costs W its `fee`. So
//!
//! ```text
//! after = before - Σ fee(W's transactions of this claim) - v + p + r
//! fee   = p - (after - before) = Σ fee(W's transactions of this claim) + v - r
//! ```
//!
//! where W's transactions are the one that the external message started and the two that received `p` and `r`. `v - r` is what C
//! spent on this claim: its gas, the forwarding of its two messages, and rent the claim had to restore. A message may carry several
//! claims, each to another channel; then each bears an equal share of the first transaction's fee, rounded up.

use super::{Message, Transaction};
use crate::{Address, Nano, limits::EXTERNAL_COST_MAX};

/// A claim that was paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payout {
    /// What the channel paid: the growth of its `paid`.
    pub price: Nano,
    /// What it cost the wallet, all told: `wallet_after - wallet_before == price - fee` if it was the message's only claim and nothing
    /// else happened to the wallet.
    pub fee: Nano,
    /// Hash of the channel's transaction.
    pub channel_transaction: [u8; 32],
}

/// Why no payout is seen (yet).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum PayoutError {
    #[error("not settled yet: no {0}")]
    NotYet(&'static str),
    #[error("the channel refused the claim")]
    Refused,
    #[error("the wallet took a message that carried no claim to this channel")]
    NotCarried,
    #[error("the node's figures do not add up")]
    Contradiction,
}

/// Follows the first external message that a wallet took after logical time `after_lt` through wallet and channel.
///
/// What was signed for the wallet's next number can only be that message. Its hash says less: anyone on its way may encode it anew
/// without the signature noticing. The lists must reach back to `after_lt`.
pub fn payout_fee(
    after_lt: u64,
    wallet: &Address,
    channel: &Address,
    wallet_transactions: &[Transaction],
    channel_transactions: &[Transaction],
) -> Result<Payout, PayoutError> {
    // 1. The wallet took the external message and sent the claim.
    let started = taken_message(after_lt, wallet_transactions)
        .ok_or(PayoutError::NotYet("transaction of the wallet"))?;
    let mut claims = started
        .out_messages
        .iter()
        .filter(|message| message.destination == Some(*channel));
    let claim = claims.next().ok_or(PayoutError::NotCarried)?;
    if claims.next().is_some() {
        // Two claims in one wallet message: their fees cannot be told apart.
        return Err(PayoutError::Contradiction);
    }
    // 2. The channel took the claim. Paid, it sends the payout and then the rest; refused, the chain sends the value back alone.
    let paid = caused_by(channel_transactions, claim)
        .ok_or(PayoutError::NotYet("transaction of the channel"))?;
    let [payout, rest] = paid.out_messages.as_slice() else {
        return Err(PayoutError::Refused);
    };
    if payout.destination != Some(*wallet) || rest.destination != Some(*wallet) {
        return Err(PayoutError::Contradiction);
    }
    // 3. The wallet received both.
    let received = caused_by(wallet_transactions, payout)
        .ok_or(PayoutError::NotYet("receipt of the payout"))?;
    let returned =
        caused_by(wallet_transactions, rest).ok_or(PayoutError::NotYet("receipt of the rest"))?;
    let share = Nano(
        started
            .fee
            .0
            .div_ceil(started.out_messages.len().max(1) as u64),
    );
    let fee = [share, received.fee, returned.fee, claim.value]
        .into_iter()
        .try_fold(Nano::ZERO, Nano::checked_add)
        .and_then(|sum| sum.checked_sub(rest.value))
        .ok_or(PayoutError::Contradiction)?;
    Ok(Payout {
        price: payout.value,
        fee,
        channel_transaction: paid.hash,
    })
}

/// Follows the claims without a wallet that a channel took after logical time `after_lt`: together what they paid, and what they cost,
/// the wallet's own fees for receiving it included. `growth` is by how much `paid` grew since; what claims by wallets brought of that
/// is not in the price. `None`: there was none. The lists must reach back to `after_lt`; while they do not explain the growth, they are
/// from an older block than it is.
pub fn external_payout(
    after_lt: u64,
    growth: Nano,
    wallet: &Address,
    wallet_transactions: &[Transaction],
    channel_transactions: &[Transaction],
) -> Result<Option<Payout>, PayoutError> {
    const UNSEEN: PayoutError = PayoutError::NotYet("transaction of the channel");
    let (mut price, mut credited, mut costs_max) = (growth, Nano::ZERO, Nano::ZERO);
    let mut channel_transaction = None;
    for tx in channel_transactions.iter().filter(|tx| tx.lt > after_lt) {
        let outside = tx.in_message.as_ref().is_some_and(|m| m.source.is_none());
        match tx.out_messages.as_slice() {
            [payout] if outside && payout.destination == Some(*wallet) => {
                let received = caused_by(wallet_transactions, payout);
                let fee = received
                    .ok_or(PayoutError::NotYet("receipt of the payout"))?
                    .fee;
                let net = payout.value.checked_sub(fee);
                let sums = net.and_then(|net| {
                    let costs = costs_max.checked_add(fee)?.checked_add(EXTERNAL_COST_MAX)?;
                    Some((credited.checked_add(net)?, costs))
                });
                (credited, costs_max) = sums.ok_or(PayoutError::Contradiction)?;
                channel_transaction = Some(tx.hash);
            }
            // A wallet's: the growth itself, and the rest of its value.
            [payout, _rest] if payout.destination == Some(*wallet) => {
                price = price.checked_sub(payout.value).ok_or(UNSEEN)?;
            }
            _ => {}
        }
    }
    let fee = price.checked_sub(credited).ok_or(UNSEEN)?;
    // Any other claim brings more than this.
    if fee > costs_max {
        return Err(UNSEEN);
    }
    Ok(channel_transaction.map(|channel_transaction| Payout {
        price,
        fee,
        channel_transaction,
    }))
}

/// The transaction in which a wallet took its first external message after logical time `after_lt`.
pub fn taken_message(after_lt: u64, of_wallet: &[Transaction]) -> Option<&Transaction> {
    let external = |tx: &&Transaction| tx.in_message.as_ref().is_some_and(|m| m.source.is_none());
    let later = of_wallet.iter().filter(|tx| tx.lt > after_lt);
    later.filter(external).min_by_key(|tx| tx.lt)
}

fn caused_by<'a>(transactions: &'a [Transaction], message: &Message) -> Option<&'a Transaction> {
    transactions.iter().find(|tx| {
        tx.in_message
            .as_ref()
            .is_some_and(|m| m.source == message.source && m.created_lt == message.created_lt)
    })
}
