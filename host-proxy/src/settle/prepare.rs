//! What is to be claimed, and the message that claims it. Nothing is written and nothing is sent here, except that what the chain
//! has paid is noted.

use super::{CLAIM_MORE, Round, SettleError, Settled, Settler, WALLET_MIN, owed};
use crate::channels::MaxAge;
use crate::limits::{CLAIMS_PER_MESSAGE_MAX, PAYOUT_VALID_S};
use crate::node::{NodeError, WalletView};
use crate::store::{Claim, NewMessage, Numbers, Purpose, Store};
use settlement::{Address, ChannelStatus, ChannelTerms, Nano, Transfer, VerifiedVoucher};

/// A channel's claim, or why none is needed.
pub(super) enum Judged {
    Nothing(Settled),
    Claim(Box<ToClaim>),
}

/// A claim that is to be made.
pub(super) struct ToClaim {
    pub(super) claim: Claim,
    /// By how much it grows what is paid.
    pub(super) growth: Nano,
    pub(super) voucher: VerifiedVoucher,
    pub(super) terms: ChannelTerms,
}

impl Settler<'_> {
    /// Signs the next claims of the round, and ends it for every channel that has none. `None`: it has ended for all.
    pub(super) async fn prepare(
        &self,
        round: &mut Round,
    ) -> Result<Option<NewMessage>, SettleError> {
        if round.left.is_empty() {
            return Ok(None);
        }
        let (wallet, numbers) = self.wallet_to_sign().await?;
        let (mut claims, mut transfers) = (Vec::new(), Vec::new());
        for channel in round.left.clone() {
            let needed = Nano(WALLET_MIN.0 + claims.len() as u64 * CLAIM_MORE.0);
            let poor = wallet.balance < needed;
            if claims.len() >= CLAIMS_PER_MESSAGE_MAX || (poor && !claims.is_empty()) {
                break;
            }
            match self.judge(&channel, &wallet).await {
                Ok(Judged::Nothing(settled)) => {
                    let paid = settled.paid_after_nano;
                    let note = move |s: &Store| s.note_progress(&channel, paid, false);
                    self.store.on_disk(note).await?;
                    round.finish(channel, Ok(settled));
                }
                Ok(Judged::Claim(..)) if poor => {
                    let balance = wallet.balance;
                    round.finish(channel, Err(SettleError::Wallet { balance, needed }));
                }
                Ok(Judged::Claim(to_claim)) => {
                    let ToClaim {
                        claim,
                        voucher,
                        terms,
                        ..
                    } = *to_claim;
                    let mut transfer = terms.claim(&voucher, voucher.cumulative.0);
                    // After a key rotation today's terms no longer give the address; the channel is where it was.
                    transfer.to = channel;
                    claims.push(claim);
                    transfers.push(transfer);
                }
                Err(error) => {
                    if let SettleError::Over { lost, .. } = error {
                        tracing::error!(%channel, %lost, "vouchers are lost: the channel pays no more");
                        let gone = move |s: &Store| s.note_progress(&channel, Nano::ZERO, true);
                        self.store.on_disk(gone).await?;
                    }
                    round.finish(channel, Err(error));
                }
            }
        }
        match claims.is_empty() {
            true => Ok(None),
            false => Ok(Some(self.sign(
                &wallet,
                &numbers,
                Purpose::Claims(claims),
                &transfers,
            )?)),
        }
    }

    /// The wallet, if these books know everything that it has sent.
    pub(crate) async fn wallet_to_sign(&self) -> Result<(WalletView, Numbers), SettleError> {
        let wallet = self.node.wallet(&self.payee.address()).await?;
        let numbers = self.store.on_disk(|s| s.numbers()).await?;
        if wallet.seqno > numbers.known {
            return Err(SettleError::OldBooks {
                wallet: self.payee.address(),
                chain: wallet.seqno,
                books: numbers.known,
            });
        }
        // What is signed for an old number is void at once, and would be taken for the message that had it.
        if wallet.seqno < numbers.taken {
            return Err(NodeError::BehindBooks {
                node: wallet.seqno,
                books: numbers.taken,
            }
            .into());
        }
        Ok((wallet, numbers))
    }

    /// A message of the wallet's next number.
    pub(crate) fn sign(
        &self,
        wallet: &WalletView,
        numbers: &Numbers,
        purpose: Purpose,
        transfers: &[Transfer],
    ) -> Result<NewMessage, SettleError> {
        let now = u32::try_from(wallet.unix_s).unwrap_or(u32::MAX);
        let valid_until = now.saturating_add(PAYOUT_VALID_S);
        let signer = self.payee.wallet();
        Ok(NewMessage {
            seqno: wallet.seqno,
            valid_until,
            boc: signer.transfer(wallet.seqno, valid_until, transfers)?,
            wallet_before: wallet.balance,
            // The account may be from an older block than the number.
            after_lt: Some(wallet.last_lt.max(numbers.taken_lt)),
            purpose,
        })
    }

    pub(super) async fn judge(
        &self,
        channel: &Address,
        wallet: &WalletView,
    ) -> Result<Judged, SettleError> {
        let channel = *channel;
        let voucher = self.store.on_disk(move |s| s.highest(&channel)).await?;
        let voucher = voucher.ok_or(SettleError::NoVoucher(channel))?;
        let state = self.channels.state(&channel, MaxAge::Now).await?;
        let cumulative = voucher.voucher.cumulative;
        let over =
            state.status == ChannelStatus::Closed || wallet.unix_s >= state.claims_until.into();
        let lost = cumulative.checked_sub(state.paid).unwrap_or(Nano::ZERO);
        if over && lost > Nano::ZERO {
            return Err(SettleError::Over { channel, lost });
        }
        // The answer may be older than one before it.
        let known = self.store.on_disk(move |s| s.progress(&channel)).await?;
        let paid = state.paid.max(known);
        let growth = owed(&state, cumulative).checked_sub(paid);
        let Some(growth) = growth.filter(|growth| *growth > Nano::ZERO) else {
            let settled = Settled::nothing(&channel, paid, wallet.balance);
            return Ok(Judged::Nothing(settled));
        };
        let verified = voucher
            .verify(&state.payer_key)
            .map_err(SettleError::Void)?;
        let terms = state.terms(state.payer_key);
        let claim = Claim {
            channel,
            cumulative: verified.cumulative,
            paid_before: paid,
        };
        Ok(Judged::Claim(Box::new(ToClaim {
            claim,
            growth,
            voucher: verified,
            terms,
        })))
    }
}
