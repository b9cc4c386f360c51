//! What became of the claims in a message that the wallet has taken. Each channel decides for itself: what it has paid ends a claim,
//! and the transactions say what that cost.

use super::carry::void_at;
use super::{Round, SettleError, Settled, Settler, owed};
use crate::channels::{ChannelRefused, MaxAge};
use crate::clock;
use crate::error::Error;
use crate::limits::{PAYOUT_POLL, PAYOUT_WATCH};
use crate::node::{History, WalletView};
use crate::store::{Message, Paid, Payout, PayoutOutcome, Store};
use settlement::Nano;
use settlement::toncenter::{PayoutError, payout_fee};

impl Settler<'_> {
    /// Watches a message's open claims until each has ended, or for as long as there is patience.
    pub(super) async fn conclude(
        &self,
        message: &Message,
        round: &mut Round,
    ) -> Result<(), SettleError> {
        let (started, id) = (clock::now(), message.id);
        loop {
            let open = self.store.on_disk(move |s| s.open_payouts(id)).await?;
            if open.is_empty() {
                return Ok(());
            }
            match self.look(message, open, round).await {
                Ok(()) => {}
                // A node that is away, or slow, or asks for patience.
                Err(
                    SettleError::Node(error) | SettleError::Channel(ChannelRefused::Node(error)),
                ) => tracing::warn!(%error, "watching a payout"),
                Err(error) => return Err(error),
            }
            let open = self.store.on_disk(move |s| s.open_payouts(id)).await?;
            if clock::now().saturating_sub(started) >= PAYOUT_WATCH {
                for payout in open {
                    tracing::warn!(channel = %payout.claim.channel, "the payout stays open");
                    round.finish(payout.claim.channel, Err(SettleError::NotYet));
                }
                return Ok(());
            }
            if !open.is_empty() {
                clock::pause(PAYOUT_POLL).await;
            }
        }
    }

    /// One look at the chain: ends what can be ended now.
    async fn look(
        &self,
        message: &Message,
        open: Vec<Payout>,
        round: &mut Round,
    ) -> Result<(), SettleError> {
        let address = self.payee.address();
        let wallet = self.node.wallet(&address).await?;
        let of_wallet = match message.after_lt {
            Some(after_lt) => Some(self.node.history(&address, after_lt).await?),
            None => None,
        };
        let alone = open.len() == 1;
        for payout in open {
            let judged = self.judge_end(message, &payout, &wallet, &of_wallet);
            let (Some(outcome), complete) = judged.await? else {
                continue;
            };
            self.end(&payout, outcome, wallet.unix_s).await?;
            let channel = payout.claim.channel;
            match outcome {
                PayoutOutcome::Paid(paid) => {
                    let settled = Settled::report(message, &payout, &paid);
                    if alone && !settled.adds_up() {
                        // Anyone may send money to the wallet meanwhile, and other claims do: no reason to fail a paid claim.
                        tracing::debug!(?settled, "something beside the claim moved the wallet");
                    }
                    round.bring(channel, settled);
                }
                // If somebody else had delivered the voucher, that is all; else it is not tried again at once.
                PayoutOutcome::Refused if complete => {}
                PayoutOutcome::Refused => round.finish(channel, Err(SettleError::Refused)),
                PayoutOutcome::Expired => {}
            }
        }
        Ok(())
    }

    /// How a claim ended, if it has; and whether the channel has paid all that it claimed, in whatever way.
    async fn judge_end(
        &self,
        message: &Message,
        payout: &Payout,
        wallet: &WalletView,
        of_wallet: &Option<History>,
    ) -> Result<(Option<PayoutOutcome>, bool), SettleError> {
        let claim = &payout.claim;
        let void = wallet.unix_s > void_at(message);
        let state = self.channels.state(&claim.channel, MaxAge::Now).await?;
        let complete = owed(&state, claim.cumulative) <= state.paid;
        let shown = match (of_wallet, message.after_lt) {
            (Some(history), Some(after_lt)) if history.whole => {
                let of_channel = self.node.history(&claim.channel, after_lt).await?;
                payout_fee(
                    after_lt,
                    &self.payee.address(),
                    &claim.channel,
                    &history.transactions,
                    &of_channel.transactions,
                )
            }
            _ => Err(PayoutError::NotYet("whole history")),
        };
        // At most this: the books leave out what other claims of the channel have brought.
        let grown = state.paid.checked_sub(claim.paid_before);
        let mut paid = Paid {
            price: grown.unwrap_or(Nano::ZERO),
            fee: None,
            paid_after: state.paid,
            wallet_after: wallet.balance,
        };
        let outcome = match shown {
            Ok(shown) if complete => {
                (paid.price, paid.fee) = (shown.price, Some(shown.fee));
                paid.wallet_after = self.node.account(&self.payee.address()).await?.balance;
                Some(PayoutOutcome::Paid(paid))
            }
            Err(PayoutError::Refused) => Some(PayoutOutcome::Refused),
            _ if void && complete => Some(PayoutOutcome::Paid(paid)),
            _ if void => Some(PayoutOutcome::Expired),
            // On its way, or the answers are of different blocks.
            _ => None,
        };
        Ok((outcome, complete))
    }

    async fn end(
        &self,
        payout: &Payout,
        outcome: PayoutOutcome,
        now_unix_s: u64,
    ) -> Result<(), Error> {
        let id = payout.id;
        let write = move |s: &Store| s.end_payout(id, &outcome, now_unix_s);
        self.store.on_disk(write).await
    }
}
