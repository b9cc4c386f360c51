//! What the operator asks for: where things stand, what would be claimed, money out of the wallet, and books that follow the chain.

use super::carry::Carried;
use super::{CLAIM_MORE, Results, Round, SettleError, Settler, WALLET_MIN};
use crate::channels::MaxAge;
use crate::clock::now_unix_s;
use crate::limits::CLAIMS_PER_MESSAGE_MAX;
use crate::signer::Held;
use crate::store::{Claim, Order, Ordered, Purpose, Store};
use serde::Serialize;
use settlement::{Address, Nano, Transfer};
use std::collections::BTreeMap;

/// Where the payee's money is.
#[derive(Debug, Serialize)]
pub struct Standing {
    pub wallet: Address,
    pub balance_nano: Nano,
    /// Claims that the wallet can send in one message.
    pub claims_at_once: u64,
    /// The wallet's next number, and the lowest that the books do not know.
    pub chain_seqno: u32,
    pub books_seqno: u32,
    /// Whether the books know all that the wallet has sent.
    pub signs: bool,
    /// Claims that have not ended, and their sum.
    pub open_claims: u32,
    pub open_nano: Nano,
    pub unpaid_nano: Nano,
    pub unpaid: Vec<Unpaid>,
}

/// A channel with an unpaid voucher, or one that has paid more than the newest voucher says.
#[derive(Debug, Serialize)]
pub struct Unpaid {
    pub channel: Address,
    pub unpaid_nano: Nano,
    /// Until when it can be claimed in any case, and in how many seconds that is. `None`: the node does not show the channel.
    pub claimable_until: Option<u32>,
    pub left_s: Option<u64>,
    /// What the channel has paid above the newest voucher.
    pub lost_nano: Nano,
}

/// What would be claimed.
pub struct Planned {
    pub claims: Vec<Claim>,
    /// Of channels without a claim.
    pub results: Results,
}

/// The wallet's next number, and the lowest that the books did not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adoption {
    pub chain: u32,
    pub books: u32,
}

/// What a transfer costs at most, the wallet's first message included.
const TRANSFER_FEE: Nano = Nano(20_000_000);

impl Settler<'_> {
    /// Where things stand.
    pub async fn standing(&self) -> Result<Standing, SettleError> {
        let wallet = self.node.wallet(&self.payee.address()).await?;
        let numbers = self.store.on_disk(|s| s.numbers()).await?;
        let (open_claims, open_nano) = self.store.on_disk(|s| s.open_sum()).await?;
        let mut unpaid = Vec::new();
        for channel in self.store.on_disk(|s| s.channels()).await? {
            unpaid.extend(self.unpaid(channel).await?);
        }
        let sum = unpaid.iter().map(|one| one.unpaid_nano.0).sum();
        let above = wallet.balance.checked_sub(WALLET_MIN);
        let claims = above.map_or(0, |above| 1 + above.0 / CLAIM_MORE.0);
        Ok(Standing {
            wallet: self.payee.address(),
            balance_nano: wallet.balance,
            claims_at_once: claims.min(CLAIMS_PER_MESSAGE_MAX as u64),
            chain_seqno: wallet.seqno,
            books_seqno: numbers.known,
            signs: wallet.seqno <= numbers.known,
            open_claims,
            open_nano,
            unpaid_nano: Nano(sum),
            unpaid,
        })
    }

    async fn unpaid(&self, channel: Address) -> Result<Option<Unpaid>, SettleError> {
        let voucher = self.store.on_disk(move |s| s.highest(&channel)).await?;
        let promised = voucher.map_or(Nano::ZERO, |signed| signed.voucher.cumulative);
        let state = self.channels.state(&channel, MaxAge::AskAgain).await.ok();
        let known = self.store.on_disk(move |s| s.progress(&channel)).await?;
        let paid = state.as_ref().map_or(known, |state| state.paid);
        let less = |a: Nano, b: Nano| a.checked_sub(b).unwrap_or(Nano::ZERO);
        if promised == paid {
            return Ok(None);
        }
        let until = state.map(|state| state.claimable_until());
        let left_s = |until: u32| u64::from(until).saturating_sub(now_unix_s());
        Ok(Some(Unpaid {
            channel,
            unpaid_nano: less(promised, paid),
            claimable_until: until,
            left_s: until.map(left_s),
            lost_nano: less(paid, promised),
        }))
    }

    /// What the next message would claim. Nothing is written and nothing is sent.
    pub async fn plan(&self, channels: &[Address]) -> Result<Planned, SettleError> {
        let mut round = Round {
            left: channels.iter().copied().collect(),
            done: BTreeMap::new(),
            results: Vec::new(),
        };
        let new = self.prepare(&mut round).await?;
        Ok(Planned {
            claims: match new.map(|new| new.purpose) {
                Some(Purpose::Claims(claims)) => claims,
                _ => Vec::new(),
            },
            results: round.results,
        })
    }

    /// What the wallet would keep after sending this amount, its fee counted high.
    pub async fn can_send(&self, amount: Nano) -> Result<Nano, SettleError> {
        let (wallet, _) = self.wallet_to_sign().await?;
        let needed = amount.checked_add(TRANSFER_FEE);
        let needed = needed.unwrap_or(Nano(u64::MAX));
        let balance = wallet.balance;
        let kept = balance.checked_sub(needed);
        kept.ok_or(SettleError::TooLittle { balance, needed })
    }

    /// Sends money out of the wallet, and waits until the wallet has sent it.
    pub async fn withdraw(&self, to: Address, amount: Nano) -> Result<(), SettleError> {
        let held = self.lock.acquire().await?;
        let what = Ordered::Withdrawal;
        let order = Order { what, to, amount };
        if !self.finish_pending(|pending| *pending == order).await? {
            let money = Transfer::money(to, amount);
            self.send_order(order, money, &held).await?;
        }
        Ok(())
    }

    /// Brings the message that is on its way to the wallet. `true`: it carried this very order, which a crash had cut short, and the
    /// wallet has sent it; to send another one would do it twice.
    pub(super) async fn finish_pending(
        &self,
        is_same: impl FnOnce(&Order) -> bool,
    ) -> Result<bool, SettleError> {
        let pending = self.store.on_disk(|s| s.pending_message()).await?;
        let Some(pending) = pending else {
            return Ok(false);
        };
        let id = pending.id;
        let carried = self.carry(&pending).await?;
        let order = self.store.on_disk(move |s| s.order_of(id)).await?;
        let same = order.is_some_and(|order| is_same(&order));
        Ok(same && carried == Carried::Taken && self.store.on_disk(move |s| s.sent(id)).await?)
    }

    /// Sends what is ordered in a message of its own, once it is on the disk, and waits until the wallet has sent it. Returns its
    /// message in the books.
    pub(super) async fn send_order(
        &self,
        order: Order,
        transfer: Transfer,
        held: &Held,
    ) -> Result<i64, SettleError> {
        self.can_send(transfer.value).await?;
        let (wallet, numbers) = self.wallet_to_sign().await?;
        let new = self.sign(&wallet, &numbers, Purpose::Order(order), &[transfer])?;
        let begun = self.begin(new, held).await?.ok_or(SettleError::NotYet)?;
        let id = begun.id;
        match self.carry(&begun).await? {
            Carried::Taken if self.store.on_disk(move |s| s.sent(id)).await? => Ok(id),
            Carried::Void => Err(SettleError::NotTaken),
            Carried::Taken | Carried::Wait => Err(SettleError::NotWithdrawn),
        }
    }

    /// Lets the books answer for every message that the wallet has sent.
    pub async fn adopt(&self, dry_run: bool) -> Result<Adoption, SettleError> {
        let _held = self.lock.acquire().await?;
        let pending = self.store.on_disk(|s| s.pending_message()).await?;
        if let (Some(pending), false) = (pending, dry_run) {
            match self.carry(&pending).await {
                Ok(_) | Err(SettleError::AnotherSigner { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let wallet = self.node.wallet(&self.payee.address()).await?;
        let books = self.store.on_disk(|s| s.numbers()).await?.known;
        if wallet.seqno > books && !dry_run {
            let adopt = move |s: &Store| s.adopt(wallet.seqno, wallet.unix_s);
            self.store.on_disk(adopt).await?;
        }
        Ok(Adoption {
            chain: wallet.seqno,
            books,
        })
    }
}
