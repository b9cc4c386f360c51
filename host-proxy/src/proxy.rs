//! The proxy's state, and the two decisions it makes for its own operator: whether to take a voucher, and whether a
//! channel is good for one more job (SECURITY.md 19).
//!
//! Both protect the provider's income and nobody else: guest and client decide again for themselves.

use crate::chain::Chain;
use crate::channels::{Age, ChannelRefused, Channels, Ours, pays_for_new_jobs};
use crate::collateral::{CacheError, Depot};
use crate::config::{CollateralConfig, CollateralFrom, Config, ConfigError};
use crate::endorse::{KeyFileError, Payee};
use crate::guest::GuestAddress;
use crate::limits::{ATTESTATIONS_MAX, JOBS_MAX, KEYSET_SEARCH, KEYSETS_MAX};
use crate::reply::Reply;
use crate::settle::{Settler, now_unix_s};
use crate::vouchers::{Store, StoreError, Taken, VoucherRefused, judge};
use axum::http::StatusCode;
use settlement::{Address, ChannelState, Nano, SignedVoucher, VoucherError};
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use wire::{Digest, Envelope, Keyset};

/// What every connection shares.
pub struct Proxy {
    /// Who is paid.
    pub payee: Payee,
    /// Vouchers, charges, payouts.
    pub store: Store,
    /// The node.
    pub chain: Chain,
    /// Its word about channels.
    pub channels: Channels,
    /// Where the guest listens.
    pub guest: GuestAddress,
    /// Where collateral is had.
    pub collateral: Lists,
    /// W.
    pub exposure_max: Nano,
    pub(crate) jobs: Arc<Semaphore>,
    pub(crate) attestations: Arc<Semaphore>,
    reserved: Arc<Mutex<HashMap<Address, Nano>>>,
    keysets: Mutex<VecDeque<(Digest, [u8; 32])>>,
    searched: tokio::sync::Mutex<Option<Instant>>,
}

/// Why a proxy cannot start. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The payee's key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The state file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sources of collateral.
    #[error("collateral_sources: {0}")]
    Sources(#[from] ConfigError),
    /// The cache of collateral.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The listening socket.
    #[error("cannot listen: {0}")]
    Listen(#[from] std::io::Error),
}

/// Where Intel's lists are had for a bundle.
pub enum Lists {
    /// In a file that somebody else keeps fresh.
    File(PathBuf),
    /// From sources, through a cache.
    Depot(Depot),
}

impl Lists {
    fn open(from: &CollateralFrom) -> Result<Self, StartError> {
        Ok(match from {
            CollateralFrom::File(path) => Lists::File(path.clone()),
            CollateralFrom::Sources(path) => {
                let config = CollateralConfig::read(path)?;
                Lists::Depot(Depot::open(&config, Depot::system_clock())?)
            }
        })
    }

    /// The depot, if there is one.
    pub fn depot(&self) -> Option<&Depot> {
        match self {
            Lists::File(_) => None,
            Lists::Depot(depot) => Some(depot),
        }
    }
}

/// Room kept for one running job on its channel; given back when dropped.
pub struct Reservation {
    reserved: Arc<Mutex<HashMap<Address, Nano>>>,
    channel: Address,
    amount: Nano,
}

impl Proxy {
    /// Opens the state file and reads the key.
    pub fn open(config: &Config) -> Result<Self, StartError> {
        let payee = Payee::read(&config.payee_key_file, config.chain)?;
        let store = Store::open(&config.state, &payee.address(), config.chain)?;
        let chain = Chain::new(config.toncenter.clone());
        let ours = Ours {
            chain: config.chain,
            payee: payee.address(),
            payee_key: payee.public_key(),
        };
        Ok(Proxy {
            channels: Channels::new(chain.clone(), store.clone(), ours),
            payee,
            store,
            chain,
            guest: config.guest.clone(),
            collateral: Lists::open(&config.collateral)?,
            exposure_max: config.exposure_max,
            jobs: Arc::new(Semaphore::new(JOBS_MAX)),
            attestations: Arc::new(Semaphore::new(ATTESTATIONS_MAX)),
            reserved: Arc::default(),
            keysets: Mutex::default(),
            searched: tokio::sync::Mutex::default(),
        })
    }

    /// What settles.
    pub fn settler(&self) -> Settler<'_> {
        Settler {
            chain: &self.chain,
            channels: &self.channels,
            store: &self.store,
            payee: &self.payee,
        }
    }

    /// Takes a voucher. `Ok` says that it, or the same before it, is on the disk.
    pub async fn take(&self, signed: &SignedVoucher) -> Result<(), Reply> {
        let channel = signed.voucher.channel;
        let known = self
            .store
            .clone()
            .on_disk(move |s| s.highest(&channel))
            .await;
        if known.map_err(|e| Reply::internal(&e))?.as_ref() == Some(signed) {
            return Ok(());
        }
        let state = self.channel(&channel, Age::Recent).await?;
        let verified = match judge(signed, &channel, &state) {
            // A top-up or a new key may be younger than what we remember.
            Err(VoucherRefused::AboveDeposit { .. } | VoucherRefused::Voucher(_)) => judge(
                signed,
                &channel,
                &self.channel(&channel, Age::AskAgain).await?,
            ),
            decided => decided,
        }?;
        let taken = self.store.clone().on_disk(move |s| s.take(&verified)).await;
        match taken.map_err(|e| Reply::internal(&e))? {
            Taken::Stored | Taken::Repeated => Ok(()),
            Taken::Stale { highest } => {
                let got = signed.voucher.cumulative;
                Err(VoucherRefused::Stale { got, highest }.into())
            }
        }
    }

    /// Decides whether a channel is good for one more job, and keeps room for it.
    ///
    /// The room is kept before the figures are read, so that two jobs at once cannot both use what is left.
    pub async fn admit(&self, envelope: &Envelope) -> Result<Reservation, Reply> {
        if envelope.chain != self.payee.chain() {
            return Err(Reply::refuse(
                StatusCode::BAD_REQUEST,
                "chain",
                "this provider settles on another chain",
            ));
        }
        let channel = envelope.channel;
        let state = self.channel(&channel, Age::Recent).await?;
        if envelope.payer_key != state.payer_key {
            return Err(Reply::refuse(
                StatusCode::FORBIDDEN,
                "payer",
                "the envelope is not signed by the channel's payer key",
            ));
        }
        if !pays_for_new_jobs(&state, now_unix_s()) {
            return Err(payment(
                "closed",
                "the channel is closing, closed, or near its last moment for claims",
            ));
        }
        if let Some(voucher) = &envelope.voucher {
            self.take_along(voucher).await?;
        }
        let (reservation, running) = self.reserve(channel, envelope.cost_max)?;
        let figures = self
            .store
            .clone()
            .on_disk(move |s| s.figures(&channel))
            .await;
        let figures = figures.map_err(|e| Reply::internal(&e))?;
        let used = figures
            .owed
            .checked_add(running)
            .ok_or_else(|| payment("exposure", "the cost does not fit"))?;
        let uncovered = used.checked_sub(figures.vouchered).unwrap_or(Nano::ZERO);
        if uncovered > self.exposure_max {
            let words = format!(
                "the channel would owe {uncovered} nanoTON without a voucher; at most {} are lent",
                self.exposure_max
            );
            return Err(payment("exposure", words));
        }
        let fits = |state: &ChannelState| used.max(figures.vouchered) <= state.deposit;
        if !fits(&state) && !fits(&self.channel(&channel, Age::AskAgain).await?) {
            return Err(payment(
                "exposure",
                "the job may cost more than is left of the deposit; top up",
            ));
        }
        Ok(reservation)
    }

    /// The voucher that travels with an envelope. An old one is no fault: the payer may have been restored from a backup.
    async fn take_along(&self, voucher: &[u8]) -> Result<(), Reply> {
        let signed = SignedVoucher::decode(voucher).map_err(VoucherRefused::from)?;
        match self.take(&signed).await {
            Err(reply) if reply.code == STALE => Ok(()),
            taken => taken,
        }
    }

    fn reserve(&self, channel: Address, amount: Nano) -> Result<(Reservation, Nano), Reply> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let running = reserved.entry(channel).or_default();
        let sum = running.checked_add(amount);
        *running = sum.ok_or_else(|| payment("exposure", "the cost does not fit"))?;
        let running = *running;
        let reservation = Reservation {
            reserved: self.reserved.clone(),
            channel,
            amount,
        };
        Ok((reservation, running))
    }

    /// A channel's state, or the words for a client.
    pub async fn channel(&self, channel: &Address, age: Age) -> Result<ChannelState, Reply> {
        Ok(self.channels.state(channel, age).await?)
    }

    /// Remembers whose charges to believe.
    pub(crate) fn learn(&self, keyset: &Keyset) {
        let mut keysets = self.keysets.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = keyset.digest();
        keysets.retain(|(known, _)| *known != digest);
        if keysets.len() >= KEYSETS_MAX {
            keysets.pop_back();
        }
        keysets.push_front((digest, keyset.receipt_key));
    }

    /// The receipt key of a keyset we have seen.
    pub(crate) fn receipt_key(&self, keyset: Digest) -> Option<[u8; 32]> {
        let keysets = self.keysets.lock().unwrap_or_else(PoisonError::into_inner);
        keysets
            .iter()
            .find(|(known, _)| *known == keyset)
            .map(|(_, key)| *key)
    }

    /// Asks the guest who it is when a job names a keyset we do not know: after our own restart, say.
    pub(crate) async fn search(&self, keyset: Digest) {
        let mut searched = self.searched.lock().await;
        let lately = searched.is_some_and(|at| at.elapsed() < KEYSET_SEARCH);
        if self.receipt_key(keyset).is_some() || lately {
            return;
        }
        *searched = Some(Instant::now());
        let mut nonce = [0; 32];
        let seen = match getrandom::fill(&mut nonce) {
            Ok(()) => crate::relay::evidence(self, &nonce).await.map(drop),
            Err(error) => Err(Reply::internal(&error)),
        };
        if let Err(reply) = seen {
            tracing::warn!(code = reply.code, "cannot learn the guest's keyset");
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = reserved.get_mut(&self.channel) {
            *running = running.checked_sub(self.amount).unwrap_or(Nano::ZERO);
            if *running == Nano::ZERO {
                reserved.remove(&self.channel);
            }
        }
    }
}

const STALE: &str = "stale";

fn payment(code: &'static str, message: impl Into<String>) -> Reply {
    Reply::refuse(StatusCode::PAYMENT_REQUIRED, code, message)
}

impl From<VoucherRefused> for Reply {
    fn from(refused: VoucherRefused) -> Self {
        let (status, code) = match refused {
            VoucherRefused::Voucher(VoucherError::Decode(_)) => {
                (StatusCode::BAD_REQUEST, "malformed")
            }
            VoucherRefused::Voucher(_) => (StatusCode::FORBIDDEN, "signature"),
            VoucherRefused::Chain { .. } => (StatusCode::BAD_REQUEST, "chain"),
            VoucherRefused::Channel(_) => (StatusCode::BAD_REQUEST, "channel"),
            VoucherRefused::AboveDeposit { .. } => (StatusCode::PAYMENT_REQUIRED, "deposit"),
            VoucherRefused::Closed => (StatusCode::PAYMENT_REQUIRED, "closed"),
            VoucherRefused::Stale { .. } => (StatusCode::CONFLICT, STALE),
        };
        Reply::refuse(status, code, refused.to_string())
    }
}

impl From<ChannelRefused> for Reply {
    fn from(refused: ChannelRefused) -> Self {
        let (status, code) = match &refused {
            ChannelRefused::Absent(_) | ChannelRefused::Unproven(_) => {
                (StatusCode::NOT_FOUND, "channel")
            }
            ChannelRefused::Payee => (StatusCode::FORBIDDEN, "payee"),
            ChannelRefused::Chain { .. } => (StatusCode::BAD_REQUEST, "chain"),
            ChannelRefused::Unknown(fault) => {
                tracing::warn!(%fault, "no word from the chain");
                let words = "the chain does not answer this provider now";
                return Reply::refuse(StatusCode::SERVICE_UNAVAILABLE, "chain_unavailable", words);
            }
            ChannelRefused::Store(error) => return Reply::internal(error),
        };
        Reply::refuse(status, code, refused.to_string())
    }
}

#[cfg(test)]
mod tests;
