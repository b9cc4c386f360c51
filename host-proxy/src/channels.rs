//! The state of payment channels: as the node reports it, with a maximum age, and as far as it can be proved without the node.
//!
//! A channel's address is the hash of its code and its terms. So terms that hash to the address are those of a genuine
//! channel, whatever the node says. The figures that change (deposit, paid, status) are taken from the node; it is asked again
//! after [`CHANNEL_AGE_MAX`], and without a recent answer there is no credit.
//!
//! Where a deposit or a voucher is above an amount, a second node has to say the same ([`Witness`]).
//!
//! After a payer has rotated its key the first key is no longer in the state; the store remembers it from before.
//!
//! Anyone may name a channel. One that was never proved is looked up at a bounded rate, and its refusal is remembered for a
//! while, so that strangers cannot spend the calls that known channels need. Jobs that ask for a channel at the same time share one
//! look-up: otherwise the first jobs of a few new channels would use up the rate, and each job the node.

use crate::api_error::ApiError;
use crate::error::Error;
use crate::limits::{
    CHANNEL_AGE_MAX, CHANNEL_AGE_MIN, CHANNELS_MAX, UNKNOWN_AGE_MAX, UNKNOWN_LOOKUPS,
    UNKNOWN_LOOKUPS_MAX,
};
use crate::node::witness::Witness;
use crate::node::{Node, NodeError};
use crate::store::Store;
use axum::http::StatusCode;
use settlement::toncenter::{AccountStatus, ChainError};
use settlement::{Address, ChainId, ChannelState, Nano};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// Asks the node about channels that pay one payee, and remembers the answers for a while.
pub struct Channels {
    node: Node,
    witness: Option<Witness>,
    store: Store,
    expected: ExpectedPayee,
    states: Mutex<HashMap<Address, (Instant, ChannelState)>>,
    refused: Mutex<HashMap<Address, (Instant, ChannelRefused)>>,
    lookups: Mutex<VecDeque<Instant>>,
    /// Under way, each for all who ask meanwhile.
    asking: Mutex<HashMap<Address, Weak<OnceCell<Asked>>>>,
}

type Asked = Result<ChannelState, ChannelRefused>;

/// Whom a channel must pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedPayee {
    pub chain: ChainId,
    pub payee: Address,
    pub payee_key: [u8; 32],
}

/// How old a channel's state may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxAge {
    /// [`CHANNEL_AGE_MAX`].
    Recent,
    /// [`CHANNEL_AGE_MIN`]: something suggests that it has changed.
    AskAgain,
    /// Asked now: money depends on it.
    Now,
}

/// Why a channel gives no credit.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChannelRefused {
    #[error("there is no payment channel at {0}")]
    Absent(Address),
    #[error("the contract at {0} is not a payment channel: its terms do not hash to its address")]
    Unproven(Address),
    #[error(
        "channel {0} is of version 1 of the contract, which this provider takes no more: close it and open another"
    )]
    Version1(Address),
    #[error("the channel pays another payee")]
    Payee,
    #[error("the channel is on chain {got}, this provider settles on {own}")]
    Chain { got: ChainId, own: ChainId },
    #[error("too many unknown channels are being looked up")]
    Busy,
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Store(Arc<Error>),
}

impl From<Error> for ChannelRefused {
    fn from(error: Error) -> Self {
        ChannelRefused::Store(Arc::new(error))
    }
}

impl Channels {
    pub fn new(node: Node, store: Store, expected: ExpectedPayee) -> Self {
        Channels {
            node,
            witness: None,
            store,
            expected,
            states: Mutex::default(),
            refused: Mutex::default(),
            lookups: Mutex::default(),
            asking: Mutex::default(),
        }
    }

    /// From now on this second node has to agree where much is at stake.
    pub fn with_witness(mut self, witness: Option<Witness>) -> Self {
        self.witness = witness;
        self
    }

    /// The state of a channel that is proved to be one and that pays the expected payee.
    pub async fn state(&self, channel: &Address, age: MaxAge) -> Asked {
        if let Some(state) = self.remembered(channel, age) {
            return Ok(state);
        }
        if age != MaxAge::Recent {
            return self.look_up(channel, age).await;
        }
        let asking = self.asking(channel);
        // If who asks leaves, the next of those who wait asks.
        let asked = asking.get_or_init(|| self.look_up(channel, age)).await;
        asked.clone()
    }

    /// The look-up of this channel that is under way, or a new one.
    fn asking(&self, channel: &Address) -> Arc<OnceCell<Asked>> {
        let mut all = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asking) = all.get(channel).and_then(Weak::upgrade) {
            return asking;
        }
        all.retain(|_, asking| asking.strong_count() > 0);
        let asking = Arc::default();
        all.insert(*channel, Arc::downgrade(&asking));
        asking
    }

    async fn look_up(&self, channel: &Address, age: MaxAge) -> Asked {
        if age != MaxAge::Now {
            self.may_ask(channel).await?;
        }
        let asked = self.ask(channel).await;
        match &asked {
            Ok(state) => self.remember(channel, state),
            Err(refused) => self.remember_refused(channel, refused),
        }
        asked
    }

    async fn ask(&self, channel: &Address) -> Result<ChannelState, ChannelRefused> {
        let state = match self.node.channel_state(channel).await {
            Ok(state) => state,
            Err(NodeError::Answer(error)) => return Err(self.why_no_state(channel, error).await?),
            Err(error) => return Err(error.into()),
        };
        self.prove(channel, &state).await?;
        let Some(witness) = &self.witness else {
            return Ok(state);
        };
        let of = *channel;
        let voucher = self.store.on_disk(move |s| s.highest(&of)).await?;
        let promised = voucher.map_or(Nano::ZERO, |signed| signed.voucher.cumulative);
        // The node's word for the deposit is one of the things in doubt, so our voucher counts as well.
        Ok(witness
            .confirm(&self.node, channel, state, promised)
            .await?)
    }

    /// Whether the node may be asked about this channel: always if it was proved before, else if few others were lately.
    async fn may_ask(&self, channel: &Address) -> Result<(), ChannelRefused> {
        let of = *channel;
        if self
            .store
            .on_disk(move |s| s.first_key(&of))
            .await?
            .is_some()
        {
            return Ok(());
        }
        {
            let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, refused)) = refused.get(channel)
                && at.elapsed() <= UNKNOWN_AGE_MAX
                && let Some(again) = refused.again()
            {
                return Err(again);
            }
        }
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        lookups.retain(|at| at.elapsed() <= UNKNOWN_LOOKUPS);
        if lookups.len() >= UNKNOWN_LOOKUPS_MAX {
            return Err(ChannelRefused::Busy);
        }
        lookups.push_back(Instant::now());
        Ok(())
    }

    fn remember_refused(&self, channel: &Address, refused: &ChannelRefused) {
        let Some(refused) = refused.again() else {
            return;
        };
        let mut all = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        // The rate of look-ups bounds how many there are.
        all.retain(|_, (at, _)| at.elapsed() <= UNKNOWN_AGE_MAX);
        all.insert(*channel, (Instant::now(), refused));
    }

    /// Nodes differ in how they report a missing get method, and agree on whether an account is active.
    async fn why_no_state(
        &self,
        channel: &Address,
        error: ChainError,
    ) -> Result<ChannelRefused, NodeError> {
        let runs = self.node.account(channel).await?.status == AccountStatus::Active;
        Ok(match error {
            _ if !runs => ChannelRefused::Absent(*channel),
            ChainError::Refused { .. } | ChainError::State(_) => ChannelRefused::Unproven(*channel),
            error => ChannelRefused::Node(error.into()),
        })
    }

    async fn prove(&self, channel: &Address, state: &ChannelState) -> Result<(), ChannelRefused> {
        let (channel, key) = (*channel, state.payer_key);
        if state.terms(key).address() == channel {
            let remember = move |s: &Store| s.remember_first_key(&channel, &key);
            self.store.on_disk(remember).await?;
        } else {
            let first = self.store.on_disk(move |s| s.first_key(&channel)).await?;
            match first {
                Some(first) if state.terms(first).address() == channel => {}
                _ if state.terms(first.unwrap_or(key)).address_v1() == channel => {
                    return Err(ChannelRefused::Version1(channel));
                }
                _ => return Err(ChannelRefused::Unproven(channel)),
            }
        }
        let (got, own) = (state.chain, self.expected.chain);
        if got != own {
            return Err(ChannelRefused::Chain { got, own });
        }
        if state.payee != self.expected.payee || state.payee_key != self.expected.payee_key {
            return Err(ChannelRefused::Payee);
        }
        Ok(())
    }

    fn remembered(&self, channel: &Address, age: MaxAge) -> Option<ChannelState> {
        let age_max = match age {
            MaxAge::Recent => CHANNEL_AGE_MAX,
            MaxAge::AskAgain => CHANNEL_AGE_MIN,
            MaxAge::Now => return None,
        };
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, state) = states.get(channel)?;
        (at.elapsed() <= age_max).then(|| state.clone())
    }

    fn remember(&self, channel: &Address, state: &ChannelState) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if states.len() >= CHANNELS_MAX && !states.contains_key(channel) {
            states.retain(|_, (at, _)| at.elapsed() <= CHANNEL_AGE_MAX);
            let oldest = states
                .iter()
                .min_by_key(|(_, (at, _))| *at)
                .map(|(a, _)| *a);
            if let (true, Some(oldest)) = (states.len() >= CHANNELS_MAX, oldest) {
                states.remove(&oldest);
            }
        }
        states.insert(*channel, (Instant::now(), state.clone()));
    }

    #[cfg(test)]
    pub(crate) fn set_state(&self, channel: &Address, state: &ChannelState, at: Instant) {
        let mut states = self.states.lock().expect("whole");
        states.insert(*channel, (at, state.clone()));
    }
}

impl ChannelRefused {
    /// The same refusal once more, where it is about the channel.
    fn again(&self) -> Option<Self> {
        use ChannelRefused::{Busy, Node, Store};
        (!matches!(self, Busy | Node(_) | Store(_))).then(|| self.clone())
    }
}

impl From<ChannelRefused> for ApiError {
    fn from(refused: ChannelRefused) -> Self {
        let (status, code) = match &refused {
            ChannelRefused::Absent(_)
            | ChannelRefused::Unproven(_)
            | ChannelRefused::Version1(_) => (StatusCode::NOT_FOUND, "channel"),
            ChannelRefused::Payee => (StatusCode::FORBIDDEN, "payee"),
            ChannelRefused::Chain { .. } => (StatusCode::BAD_REQUEST, "chain"),
            ChannelRefused::Node(error) => {
                tracing::warn!(%error, "TON node");
                let words = "this provider cannot reach the chain now";
                return ApiError::refuse(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "chain_unavailable",
                    words,
                );
            }
            ChannelRefused::Busy => return ApiError::busy(),
            ChannelRefused::Store(error) => return ApiError::internal(error),
        };
        ApiError::refuse(status, code, refused.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{CountingNode, FAR, channel_terms, directory, node, open_channel, payee};
    use settlement::Wallet;
    use std::time::Duration;

    fn channels(directory: &std::path::Path, node: &Node, paid: &Address) -> Channels {
        let expected = ExpectedPayee {
            chain: ChainId::EMBEDDED,
            payee: *paid,
            payee_key: payee().public_key(),
        };
        let path = directory.join(format!("{}.sqlite", hex::encode(paid.hash)));
        let store = Store::open(&path, paid, ChainId::EMBEDDED).expect("opens");
        Channels::new(node.clone(), store, expected)
    }

    #[tokio::test]
    async fn only_a_proved_channel_that_pays_us_is_known() {
        let (directory, (ledger, url)) = (directory(), node().await);
        let node = Node::new(url);
        let (us, wallet) = (payee().address(), channel_terms().payer);
        let ours = channels(directory.path(), &node, &us);
        let channel = channel_terms().address();
        for age in [MaxAge::Recent, MaxAge::AskAgain, MaxAge::Now] {
            let absent = ours.state(&channel, age).await;
            assert!(
                matches!(absent, Err(ChannelRefused::Absent(_))),
                "{absent:?}"
            );
        }
        open_channel(&ledger);
        assert!(ours.state(&channel, MaxAge::Now).await.is_ok());
        assert!(ours.state(&channel, MaxAge::Recent).await.is_ok());
        let no_channel = ours.state(&wallet, MaxAge::Recent).await;
        assert!(
            matches!(no_channel, Err(ChannelRefused::Unproven(_))),
            "{no_channel:?}"
        );
        let other_payees = channels(directory.path(), &node, &wallet);
        let not_the_others = other_payees.state(&channel, MaxAge::Recent).await;
        assert!(
            matches!(not_the_others, Err(ChannelRefused::Payee)),
            "{not_the_others:?}"
        );
    }

    #[tokio::test]
    async fn a_channel_known_before_its_key_rotated_stays_proved() {
        let (directory, (ledger, url)) = (directory(), node().await);
        let node = Node::new(url);
        let channel = open_channel(&ledger);
        let us = payee().address();
        let known = channels(directory.path(), &node, &us);
        known.state(&channel, MaxAge::Now).await.expect("proved");
        let payer = Wallet::from_seed(&[2; 32], ChainId::EMBEDDED);
        let rotate = channel_terms().rotate_key(&[9; 32], 1);
        let boc = payer.transfer(1, FAR, &[rotate]).expect("one transfer");
        ledger.send_external(&boc).expect("accepted");
        ledger.set_time(ledger.now() + channel_terms().close_delay_s + 1);
        let state = known
            .state(&channel, MaxAge::Now)
            .await
            .expect("proved still");
        assert_eq!(
            (state.payer_key, state.deposit > Nano::ZERO),
            ([9; 32], true)
        );
        let empty = tempfile::tempdir().expect("a directory");
        let strange = channels(empty.path(), &node, &us)
            .state(&channel, MaxAge::Now)
            .await;
        assert!(
            matches!(strange, Err(ChannelRefused::Unproven(_))),
            "{strange:?}"
        );
    }

    #[tokio::test]
    async fn jobs_that_begin_together_on_a_new_channel_share_one_look_up() {
        let (directory, (ledger, url)) = (directory(), node().await);
        let node = CountingNode::start(url).await;
        let us = payee().address();
        let channels = channels(directory.path(), &Node::new(node.url.clone()), &us);
        let channel = open_channel(&ledger);
        let asking = || channels.state(&channel, MaxAge::Recent);
        // Who begins the look-up leaves, as a client may.
        assert!(
            tokio::time::timeout(Duration::ZERO, asking())
                .await
                .is_err(),
            "it asks the node"
        );
        let jobs = (0..4 * UNKNOWN_LOOKUPS_MAX).map(|_| asking());
        for asked in futures_util::future::join_all(jobs).await {
            asked.expect("proved");
        }
        let calls = node.calls();
        assert!(calls <= 2 * 3, "{calls} calls for one channel");
        assert!(channels.lookups.lock().expect("whole").len() <= 2);
        // The same of a refusal.
        let absent = Address {
            hash: [7; 32],
            ..channel
        };
        let jobs = (0..4 * UNKNOWN_LOOKUPS_MAX).map(|_| channels.state(&absent, MaxAge::Recent));
        for asked in futures_util::future::join_all(jobs).await {
            assert!(matches!(asked, Err(ChannelRefused::Absent(_))), "{asked:?}");
        }
        assert!(node.calls() <= calls + 3);
    }

    #[tokio::test]
    async fn strangers_spend_few_of_the_nodes_calls_and_none_of_a_known_channels() {
        let (directory, (ledger, url)) = (directory(), node().await);
        let us = payee().address();
        let node = CountingNode::start(url).await;
        let channels = channels(directory.path(), &Node::new(node.url.clone()), &us);
        let known = open_channel(&ledger);
        channels
            .state(&known, MaxAge::Recent)
            .await
            .expect("proved");
        let absent = Address {
            hash: [7; 32],
            ..known
        };
        for _ in 0..50 {
            let refused = channels.state(&absent, MaxAge::Recent).await;
            assert!(
                matches!(refused, Err(ChannelRefused::Absent(_))),
                "{refused:?}"
            );
        }
        let after_one = node.calls();
        assert!(after_one <= 8, "{after_one} calls for one unknown channel");
        let mut busy = 0;
        for n in 0..100 {
            let other = Address {
                hash: [n + 100; 32],
                ..known
            };
            let refused = channels.state(&other, MaxAge::Recent).await;
            busy += usize::from(matches!(refused, Err(ChannelRefused::Busy)));
        }
        assert!(busy > 100 - UNKNOWN_LOOKUPS_MAX - 1, "{busy} refused");
        assert!(node.calls() <= after_one + 3 * UNKNOWN_LOOKUPS_MAX);
        tokio::time::sleep(CHANNEL_AGE_MIN * 2).await;
        channels
            .state(&known, MaxAge::AskAgain)
            .await
            .expect("known");
    }
}
