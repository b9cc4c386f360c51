//! Channels: what the chain says of them, how old that word is, and what can be proved without believing the node.
//!
//! A channel's address is the hash of its code and its terms. So a state that gives back the address, with our code, is
//! that of a true channel, whatever the node: nobody can have a made-up contract pass for one. The figures that change
//! (deposit, paid, status) are the node's word; it is asked again when its word is older than
//! [`CHAIN_WORD_AGE_MAX`](crate::limits::CHAIN_WORD_AGE_MAX), and without a young word there is no credit.
//!
//! After a payer rotated its key the first key is no longer in the state; the store remembers it from before.

use crate::chain::{Chain, ChainFault};
use crate::limits::{CHAIN_WORD_AGE_MAX, CHAIN_WORD_AGE_MIN, CHANNELS_MAX};
use crate::vouchers::{Store, StoreError};
use settlement::toncenter::{AccountStatus, ChainError};
use settlement::{Address, ChainId, ChannelState, ChannelStatus, ChannelTerms};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// Asks the chain about channels that pay one payee, and remembers the answers for a while.
pub struct Channels {
    chain: Chain,
    store: Store,
    ours: Ours,
    heard: Mutex<HashMap<Address, (Instant, ChannelState)>>,
}

/// Who must be paid for a channel to concern us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ours {
    /// The chain that settles.
    pub chain: ChainId,
    /// The account that is paid.
    pub payee: Address,
    /// Its key.
    pub payee_key: [u8; 32],
}

/// How old the chain's word may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// As young as a busy proxy keeps it.
    Recent,
    /// Asked again, since something speaks for a change; at most twice a second.
    AskAgain,
    /// Asked now: money depends on it.
    Now,
}

/// Why a channel gives no credit.
#[derive(Debug, thiserror::Error)]
pub enum ChannelRefused {
    /// No contract answers there.
    #[error("there is no payment channel at {0}")]
    Absent(Address),
    /// A contract answers, and it is no channel whose address its terms give.
    #[error("the contract at {0} is not a payment channel this program can prove")]
    Unproven(Address),
    /// It pays somebody else.
    #[error("the channel pays another payee")]
    Payee,
    /// It is on another chain.
    #[error("the channel is on chain {got}, this provider settles on {want}")]
    Chain {
        /// The channel's.
        got: ChainId,
        /// Ours.
        want: ChainId,
    },
    /// Nobody can say.
    #[error(transparent)]
    Unknown(#[from] ChainFault),
    /// Our own disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Channels {
    /// Channels that pay `ours`, as `chain` tells them.
    pub fn new(chain: Chain, store: Store, ours: Ours) -> Self {
        Channels {
            chain,
            store,
            ours,
            heard: Mutex::default(),
        }
    }

    /// The state of a channel that is proved to be one and that pays us.
    pub async fn state(&self, channel: &Address, age: Age) -> Result<ChannelState, ChannelRefused> {
        if let Some(state) = self.remembered(channel, age) {
            return Ok(state);
        }
        let state = match self.chain.channel_state(channel).await {
            Ok(state) => state,
            Err(ChainFault::Answer(fault)) => return Err(self.why_none(channel, fault).await?),
            Err(fault) => return Err(fault.into()),
        };
        self.prove(channel, &state).await?;
        self.remember(channel, &state);
        Ok(state)
    }

    /// Nodes differ in how they say that there is no such get method; whether the account runs at all is told alike.
    async fn why_none(
        &self,
        channel: &Address,
        fault: ChainError,
    ) -> Result<ChannelRefused, ChainFault> {
        let runs = self.chain.account(channel).await?.status == AccountStatus::Active;
        Ok(match fault {
            _ if !runs => ChannelRefused::Absent(*channel),
            ChainError::Refused { .. } | ChainError::State(_) => ChannelRefused::Unproven(*channel),
            fault => ChannelRefused::Unknown(fault.into()),
        })
    }

    async fn prove(&self, channel: &Address, state: &ChannelState) -> Result<(), ChannelRefused> {
        let (channel, key) = (*channel, state.payer_key);
        if terms(state, key).address() == channel {
            self.store
                .clone()
                .on_disk(move |s| s.remember_first_key(&channel, &key))
                .await?;
        } else {
            let first = self
                .store
                .clone()
                .on_disk(move |s| s.first_key(&channel))
                .await?;
            match first {
                Some(first) if terms(state, first).address() == channel => {}
                _ => return Err(ChannelRefused::Unproven(channel)),
            }
        }
        if state.chain != self.ours.chain {
            return Err(ChannelRefused::Chain {
                got: state.chain,
                want: self.ours.chain,
            });
        }
        if state.payee != self.ours.payee || state.payee_key != self.ours.payee_key {
            return Err(ChannelRefused::Payee);
        }
        Ok(())
    }

    fn remembered(&self, channel: &Address, age: Age) -> Option<ChannelState> {
        let age_max = match age {
            Age::Recent => CHAIN_WORD_AGE_MAX,
            Age::AskAgain => CHAIN_WORD_AGE_MIN,
            Age::Now => return None,
        };
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, state) = heard.get(channel)?;
        (at.elapsed() <= age_max).then(|| state.clone())
    }

    fn remember(&self, channel: &Address, state: &ChannelState) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() >= CHANNELS_MAX && !heard.contains_key(channel) {
            heard.retain(|_, (at, _)| at.elapsed() <= CHAIN_WORD_AGE_MAX);
            let oldest = heard.iter().min_by_key(|(_, (at, _))| *at).map(|(a, _)| *a);
            if let (true, Some(oldest)) = (heard.len() >= CHANNELS_MAX, oldest) {
                heard.remove(&oldest);
            }
        }
        heard.insert(*channel, (Instant::now(), state.clone()));
    }

    /// Puts a word in the chain's mouth.
    #[cfg(test)]
    pub(crate) fn pretend(&self, channel: &Address, state: &ChannelState, at: Instant) {
        let mut heard = self.heard.lock().expect("whole");
        heard.insert(*channel, (at, state.clone()));
    }
}

/// The terms of a channel in this state, with the payer key it started with.
pub fn terms(state: &ChannelState, first_key: [u8; 32]) -> ChannelTerms {
    ChannelTerms {
        chain: state.chain,
        payer: state.payer,
        payee: state.payee,
        payer_key: first_key,
        payee_key: state.payee_key,
        close_delay_s: state.close_delay_s,
        claims_until: state.claims_until,
        salt: state.salt,
    }
}

/// Whether a channel in this state will still pay for a job that starts now.
pub fn pays_for_new_jobs(state: &ChannelState, now_unix_s: u64) -> bool {
    state.status == ChannelStatus::Open
        && now_unix_s + crate::limits::CLAIM_MARGIN_S < u64::from(state.claims_until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FAR, channel_terms, directory, node, open_channel, payee};
    use settlement::{Nano, Wallet};

    fn channels(directory: &std::path::Path, chain: &Chain, paid: &Address) -> Channels {
        let ours = Ours {
            chain: ChainId::EMBEDDED,
            payee: *paid,
            payee_key: payee().public_key(),
        };
        let path = directory.join(format!("{}.sqlite", hex::encode(paid.hash)));
        let store = Store::open(&path, paid, ChainId::EMBEDDED).expect("opens");
        Channels::new(chain.clone(), store, ours)
    }

    #[tokio::test]
    async fn only_a_proved_channel_that_pays_us_is_known() {
        let (directory, (ledger, url)) = (directory(), node().await);
        let chain = Chain::new(url);
        let (us, wallet) = (payee().address(), channel_terms().payer);
        let ours = channels(directory.path(), &chain, &us);
        let channel = channel_terms().address();
        let absent = ours.state(&channel, Age::Recent).await;
        assert!(
            matches!(absent, Err(ChannelRefused::Absent(_))),
            "{absent:?}"
        );
        open_channel(&ledger);
        assert!(ours.state(&channel, Age::Recent).await.is_ok());
        let no_channel = ours.state(&wallet, Age::Recent).await;
        assert!(
            matches!(no_channel, Err(ChannelRefused::Unproven(_))),
            "{no_channel:?}"
        );
        let strangers = channels(directory.path(), &chain, &wallet);
        let not_theirs = strangers.state(&channel, Age::Recent).await;
        assert!(
            matches!(not_theirs, Err(ChannelRefused::Payee)),
            "{not_theirs:?}"
        );
    }

    #[tokio::test]
    async fn a_channel_known_before_its_key_rotated_stays_proved() {
        let (directory, (ledger, url)) = (directory(), node().await);
        let chain = Chain::new(url);
        let channel = open_channel(&ledger);
        let us = payee().address();
        let known = channels(directory.path(), &chain, &us);
        known.state(&channel, Age::Now).await.expect("proved");
        let payer = Wallet::from_seed(&[2; 32], ChainId::EMBEDDED);
        let rotate = channel_terms().rotate_key(&[9; 32], 1);
        let boc = payer.transfer(1, FAR, &[rotate]).expect("one transfer");
        ledger.send_external(&boc).expect("accepted");
        ledger.set_time(ledger.now() + channel_terms().close_delay_s + 1);
        let state = known.state(&channel, Age::Now).await.expect("proved still");
        assert_eq!(
            (state.payer_key, state.deposit > Nano::ZERO),
            ([9; 32], true)
        );
        let empty = tempfile::tempdir().expect("a directory");
        let strange = channels(empty.path(), &chain, &us)
            .state(&channel, Age::Now)
            .await;
        assert!(
            matches!(strange, Err(ChannelRefused::Unproven(_))),
            "{strange:?}"
        );
    }
}
