//! Claims without the wallet: the voucher itself is sent to the channel, which takes what that costs out of what it pays.
//!
//! ```text
//!  nothing ─► OPEN (disk) ─► sent, and sent again ─┬ the channel has paid ─► PAID, or OTHER: wallets' claims brought it
//!                  ▲ crash: the same voucher       └ patience ends ────────► the wallet claims; still OPEN until it is paid
//! ```
//!
//! The channel accepts each growth once and charges nothing for what it refuses, so nothing has to be ruled out before it is sent again.

use super::prepare::Judged;
use super::{Round, SettleError, Settled, Settler, owed};
use crate::channels::{ChannelRefused, MaxAge};
use crate::clock;
use crate::limits::{EXTERNAL_PATIENCE, PAYOUT_POLL};
use crate::node::NodeError;
use crate::store::{ExternalClaim, Paid, Store};
use settlement::limits::EXTERNAL_GROWTH_MIN;
use settlement::toncenter::{ChainError, PayoutError, external_payout};
use settlement::{Address, Nano};

/// A claim on its way, and its message; `None` where there is nothing to send any more.
type Open = (ExternalClaim, Option<Vec<u8>>);

impl Settler<'_> {
    /// Claims what is large enough, and waits for it. What is not paid then is left to the wallet.
    pub(super) async fn claim_externally(&self, round: &mut Round) -> Result<(), SettleError> {
        let mut open = match self.external {
            true => self.begin_externals(round).await?,
            false => Vec::new(),
        };
        let patience = clock::now() + EXTERNAL_PATIENCE;
        while !open.is_empty() {
            let mut left = Vec::new();
            let last = clock::now() >= patience;
            for (claim, message) in open {
                match self.follow(&claim, message.as_deref(), last, round).await {
                    Ok(true) => {}
                    Ok(false) => left.push((claim, message)),
                    Err(
                        SettleError::Node(error)
                        | SettleError::Channel(ChannelRefused::Node(error)),
                    ) => {
                        tracing::warn!(%error, channel = %claim.claim.channel, "an external claim");
                        left.push((claim, message));
                    }
                    Err(error) => return Err(error),
                }
            }
            if last {
                return Ok(());
            }
            if !left.is_empty() {
                clock::pause(PAYOUT_POLL).await;
            }
            open = left;
        }
        Ok(())
    }

    /// Writes what is to be claimed, and finds what a kill left open.
    async fn begin_externals(&self, round: &Round) -> Result<Vec<Open>, SettleError> {
        let mut open = Vec::new();
        if round.left.is_empty() {
            return Ok(open);
        }
        let wallet = match self.node.wallet(&self.payee.address()).await {
            Ok(wallet) => wallet,
            // Whoever signs next says so, and has patience.
            Err(_) => return Ok(open),
        };
        for channel in &round.left {
            let channel = *channel;
            let mut message = None;
            // What keeps a channel from being claimed is said when the wallet's claims are prepared.
            if let Ok(Judged::Claim(to_claim)) = self.judge(&channel, &wallet).await
                && to_claim.growth >= EXTERNAL_GROWTH_MIN
            {
                let (claim, balance, lt) = (to_claim.claim, wallet.balance, wallet.last_lt);
                let begin = move |s: &Store| s.begin_external(&claim, balance, lt);
                self.store.on_disk(begin).await?;
                message = Some(to_claim.voucher.external_claim());
            }
            let begun = self.open_external(channel).await?;
            open.extend(begun.map(|begun| (begun, message)));
        }
        Ok(open)
    }

    async fn open_external(&self, channel: Address) -> Result<Option<ExternalClaim>, SettleError> {
        let read = move |s: &Store| s.open_external(&channel);
        Ok(self.store.on_disk(read).await?)
    }

    /// Looks whether a claim was paid, and sends it if not. Whether it has ended; the last look ends one whose transactions do not show
    /// what it cost.
    async fn follow(
        &self,
        open: &ExternalClaim,
        message: Option<&[u8]>,
        last: bool,
        round: &mut Round,
    ) -> Result<bool, SettleError> {
        let claim = &open.claim;
        let state = self.channels.state(&claim.channel, MaxAge::Now).await?;
        if owed(&state, claim.cumulative) > state.paid {
            let Some(message) = message else {
                // Too little is left for a claim of this kind: the wallet brings it, and then this one ends.
                return Ok(true);
            };
            match self.node.send(message).await {
                Ok(()) => {}
                // It may have been taken already, by a state that this node does not show yet.
                Err(NodeError::Answer(error @ ChainError::Refused { .. })) => {
                    tracing::debug!(%error, channel = %claim.channel, "not taken");
                }
                Err(error) => return Err(error.into()),
            }
            return Ok(false);
        }
        let grown = state.paid.checked_sub(claim.paid_before);
        let (wallet, after_lt) = (self.payee.address(), open.after_lt);
        let of_channel = self.node.history(&claim.channel, after_lt).await?;
        let of_wallet = self.node.history(&wallet, after_lt).await?;
        let shown = external_payout(
            after_lt,
            grown.unwrap_or(Nano::ZERO),
            &wallet,
            &of_wallet.transactions,
            &of_channel.transactions,
        );
        let whole = of_channel.whole && of_wallet.whole;
        let payout = match shown {
            Ok(payout) => payout,
            Err(PayoutError::NotYet(_)) if whole && !last => return Ok(false),
            // Strangers paid for more transactions than are looked at: what it brought counts, what it cost is not known.
            Err(_) => None,
        };
        let account = self.node.account(&wallet).await?;
        let by_wallets = payout.is_none() && shown.is_ok() && whole;
        let mut paid = Paid {
            price: payout.map_or(grown.unwrap_or(Nano::ZERO), |payout| payout.price),
            fee: payout.map(|payout| payout.fee),
            paid_after: state.paid,
            wallet_after: account.balance,
        };
        let (id, now) = (open.id, clock::now_unix_s());
        let end = move |s: &Store| s.end_external(id, (&paid, by_wallets), now);
        if let Some(price) = self.store.on_disk(end).await?.filter(|price| price.0 > 0) {
            paid.price = price;
            round.bring(claim.channel, Settled::external(open, &paid));
        }
        Ok(true)
    }
}

impl Settled {
    fn external(open: &ExternalClaim, paid: &Paid) -> Settled {
        Settled {
            channel: open.claim.channel.to_string(),
            price_nano: paid.price,
            paid_before_nano: open.claim.paid_before,
            paid_after_nano: paid.paid_after,
            wallet_before_nano: open.wallet_before,
            wallet_after_nano: paid.wallet_after,
            fee_nano: paid.fee,
        }
    }
}
