//! A written message's way to the wallet: sent, and sent again, until the wallet has taken it or it is void.

use super::{SettleError, Settler};
use crate::clock;
use crate::limits::{PAYOUT_MARGIN_S, PAYOUT_POLL, PAYOUT_WATCH};
use crate::node::NodeError;
use crate::store::{Message, Order, Store};
use settlement::Address;
use settlement::toncenter::{ChainError, Transaction, taken_message};

/// Whether a message is still on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    /// Neither taken nor void.
    Wait,
    /// The wallet has taken it.
    Taken,
    /// It will never be taken.
    Void,
}

impl Settler<'_> {
    /// Repeats a message until it is taken or void.
    pub(crate) async fn carry(&self, message: &Message) -> Result<Carried, SettleError> {
        let started = clock::now();
        while clock::now().saturating_sub(started) < PAYOUT_WATCH {
            match self.step(message).await {
                Ok(Carried::Wait) => {}
                // A node that is away, or slow, or asks for patience.
                Err(SettleError::Node(error)) => tracing::warn!(%error, "carrying a message"),
                ended => return ended,
            }
            clock::pause(PAYOUT_POLL).await;
        }
        tracing::warn!(seqno = message.seqno, "the message stays pending");
        Err(SettleError::NotYet)
    }

    pub(super) async fn step(&self, message: &Message) -> Result<Carried, SettleError> {
        let (id, seqno) = (message.id, message.seqno);
        let wallet = self.node.wallet(&self.payee.address()).await?;
        let void = wallet.unix_s > void_at(message);
        if wallet.seqno > seqno {
            return self.taken(message, wallet.unix_s).await;
        }
        match (void, wallet.seqno == seqno) {
            (true, true) => {
                let lost = move |s: &Store| s.message_lost(id, false, wallet.unix_s);
                self.store.on_disk(lost).await?;
                Ok(Carried::Void)
            }
            (true, false) => Ok(Carried::Wait),
            (false, _) => self.repeat(message).await,
        }
    }

    /// The wallet has given this message's number away: to it, or to another.
    async fn taken(&self, message: &Message, now_unix_s: u64) -> Result<Carried, SettleError> {
        let id = message.id;
        let mut lt = None;
        if let Some(after_lt) = message.after_lt {
            let wallet = self.payee.address();
            let history = self.node.history(&wallet, after_lt).await?;
            match taken_message(after_lt, &history.transactions) {
                Some(transaction) if history.whole => {
                    if !self.is_ours(message, transaction).await? {
                        let lost = move |s: &Store| s.message_lost(id, true, now_unix_s);
                        self.store.on_disk(lost).await?;
                        let seqno = message.seqno;
                        return Err(SettleError::AnotherSigner { wallet, seqno });
                    }
                    lt = Some(transaction.lt);
                    let sent = !transaction.out_messages.is_empty();
                    let end = move |s: &Store| s.end_order(id, sent, now_unix_s);
                    self.store.on_disk(end).await?;
                }
                // The list is from an older block than the number.
                None if history.whole => return Ok(Carried::Wait),
                // Too many transactions to look at, for which a stranger paid. The channels will show what was paid.
                _ => {}
            }
        }
        self.store.on_disk(move |s| s.message_taken(id, lt)).await?;
        Ok(Carried::Taken)
    }

    /// Whether a transaction sent nothing but what the message says. Not all of it may have gone out: the wallet skips what it
    /// cannot pay.
    async fn is_ours(
        &self,
        message: &Message,
        transaction: &Transaction,
    ) -> Result<bool, SettleError> {
        let id = message.id;
        let mut known: Vec<Address> = self.store.on_disk(move |s| s.claimed_by(id)).await?;
        let order = self.store.on_disk(move |s| s.order_of(id)).await?;
        known.extend(order.map(|Order { to, .. }| to));
        let mut sent_to = transaction.out_messages.iter().map(|m| m.destination);
        Ok(sent_to.all(|to| to.is_some_and(|to| known.contains(&to))))
    }

    /// The wallet has not taken the message yet: send the same bytes again.
    async fn repeat(&self, message: &Message) -> Result<Carried, SettleError> {
        match self.node.send(&message.boc).await {
            Ok(()) => tracing::debug!(seqno = message.seqno, "message sent"),
            // Refused may mean "already taken": the wallet's number will show it.
            Err(NodeError::Answer(error @ ChainError::Refused { .. })) => {
                tracing::warn!(%error, seqno = message.seqno, "the node did not take the message");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Carried::Wait)
    }
}

/// After this moment of the chain's clock nothing can take the message any more, and a node that is behind shows that nothing did.
pub(super) fn void_at(message: &Message) -> u64 {
    u64::from(message.valid_until) + u64::from(PAYOUT_MARGIN_S)
}
