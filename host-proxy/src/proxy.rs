//! The proxy's state, and its two decisions about money: whether to take a voucher, and whether to admit one more job on a
//! channel (SECURITY.md 19).
//!
//! Both protect the provider's income and nobody else: guest and client make their own decisions.

use crate::api_error::ApiError;
use crate::at_once::{AtOnce, household};
use crate::blocking::Blocking;
use crate::channels::{Channels, ExpectedPayee, MaxAge};
use crate::clock::now_unix_s;
use crate::collateral::CollateralSource;
use crate::config::Config;
use crate::credit::Credit;
use crate::error::Error;
use crate::evidence::{self, EndorsedEvidence};
use crate::guest_policy::GuestPolicy;
use crate::guests::{Guest, Guests};
use crate::limits::{
    ATTESTATIONS_MAX, ATTESTATIONS_PER_PEER_MAX, JOBS_PER_CHANNEL_MAX, KEYSET_SEARCH,
    QUESTIONS_MAX, STRANGE_KEYSETS_MAX, UPLOADS_MAX,
};
use crate::metrics::Metrics;
use crate::node::witness::Witness;
use crate::node::{Node, NodeError};
use crate::payee::Payee;
use crate::rate::RateLimit;
use crate::settle::Settler;
use crate::signer::SignerLock;
use crate::store::{Figures, KeptEvidence, RememberedKeyset, Store, Taken};
use crate::telemetry::{Exporter, Telemetry};
use crate::voucher::{self, STALE, VoucherRefused};
use axum::http::StatusCode;
use settlement::{Address, ChannelState, Nano, NotAdmitted, SignedVoucher, TermsRefused};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use wire::{Bundle, Envelope, EnvelopeDigest, Keyset, KeysetDigest, PayerRead};

/// What every connection shares.
pub struct Proxy {
    pub payee: Payee,
    pub store: Store,
    blocking: Blocking,
    pub(crate) node: Node,
    pub(crate) lock: SignerLock,
    pub channels: Channels,
    pub(crate) guests: Guests,
    pub(crate) guest_policy: Option<Arc<GuestPolicy>>,
    pub(crate) collateral: CollateralSource,
    credit: Credit,
    rate: RateLimit,
    pub(crate) log_period_s: u64,
    pub(crate) client_wait: Duration,
    draining: AtomicBool,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) telemetry: Telemetry,
    exporter: Mutex<Option<Exporter>>,
    pub(crate) uploads: Semaphore,
    pub(crate) strange: Arc<Semaphore>,
    pub(crate) attestations: Semaphore,
    attesting: AtOnce<IpAddr>,
    /// Jobs at the guests, by guest and envelope.
    pub(crate) running: AtOnce<(usize, EnvelopeDigest)>,
    pub(crate) questions: Semaphore,
    reserved: Arc<Mutex<HashMap<Address, Reserved>>>,
    searched: tokio::sync::Mutex<Option<Instant>>,
}

/// What a channel's running jobs may cost together, and how many they are.
#[derive(Debug, Default)]
struct Reserved {
    amount: Nano,
    jobs: usize,
}

/// The maximum cost of one running job, held against its channel until dropped.
pub struct Reservation {
    reserved: Arc<Mutex<HashMap<Address, Reserved>>>,
    channel: Address,
    amount: Nano,
    /// The channel's highest voucher as the job was admitted.
    pub(crate) highest: Option<SignedVoucher>,
}

impl Proxy {
    /// Opens the state file and reads the key.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let node = Node::new(config.toncenter.clone()).paced(config.calls_per_s);
        Self::with_node(config, node, Blocking::Threads)
    }

    /// The same with this node, and with work that blocks run there.
    pub(crate) fn with_node(
        config: &Config,
        node: Node,
        blocking: Blocking,
    ) -> Result<Self, Error> {
        let payee = Payee::open(config)?;
        let store =
            Store::open_at(&config.state, &payee.address(), config.chain)?.blocking(blocking);
        let expected = ExpectedPayee {
            chain: config.chain,
            payee: payee.address(),
            payee_key: payee.public_key(),
        };
        let metrics = Arc::<Metrics>::default();
        let (telemetry, exporter) = Telemetry::new(config.service.otlp.as_ref(), &metrics);
        Ok(Proxy {
            channels: Channels::new(node.clone(), store.clone(), expected)
                .with_witness(config.second.as_ref().map(Witness::new)),
            payee,
            lock: match config.state.file() {
                Some(path) => SignerLock::new(path, config.wallet_key.file()),
                None => SignerLock::shared(&store, config.wallet_key.file()),
            },
            guests: Guests::new(config, &store.keysets()?),
            store,
            blocking,
            node,
            guest_policy: config
                .guest_files
                .as_ref()
                .map(GuestPolicy::read)
                .transpose()?
                .map(Arc::new),
            collateral: CollateralSource::open(&config.collateral)?,
            credit: config.credit,
            rate: RateLimit::new(config.service.rate),
            log_period_s: config.service.log_period_s,
            client_wait: config.service.client_wait,
            draining: AtomicBool::new(false),
            metrics,
            telemetry,
            exporter: Mutex::new(exporter),
            uploads: Semaphore::new(UPLOADS_MAX),
            strange: Arc::new(Semaphore::new(STRANGE_KEYSETS_MAX)),
            attestations: Semaphore::new(ATTESTATIONS_MAX),
            attesting: AtOnce::default(),
            running: AtOnce::default(),
            questions: Semaphore::new(QUESTIONS_MAX),
            reserved: Arc::default(),
            searched: tokio::sync::Mutex::default(),
        })
    }

    pub fn settler(&self) -> Settler<'_> {
        Settler {
            node: &self.node,
            channels: &self.channels,
            store: &self.store,
            payee: &self.payee,
            lock: &self.lock,
            external: true,
        }
    }

    /// What sends spans, once.
    pub(crate) fn exporter(&self) -> Option<Exporter> {
        let mut exporter = self.exporter.lock().unwrap_or_else(PoisonError::into_inner);
        exporter.take()
    }

    /// From here on no job is taken.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// What the payee's wallet holds.
    pub(crate) async fn wallet(&self) -> Result<Nano, NodeError> {
        Ok(self.node.wallet(&self.payee.address()).await?.balance)
    }

    /// Takes a voucher. After `Ok` it is on the disk, now or already before.
    pub async fn take(&self, signed: &SignedVoucher) -> Result<(), ApiError> {
        let channel = signed.voucher.channel;
        let (got, own) = (signed.voucher.chain, self.payee.chain());
        if got != own {
            return Err(VoucherRefused::Chain { got, own }.into());
        }
        let known = self.store.on_disk(move |s| s.highest(&channel)).await;
        if known.map_err(|e| ApiError::internal(&e))?.as_ref() == Some(signed) {
            return Ok(());
        }
        let state = self.channel(&channel, MaxAge::Recent).await?;
        let verified = match voucher::verify(signed, &channel, &state) {
            // A top-up or a new key may be younger than what is remembered.
            Err(VoucherRefused::AboveDeposit { .. } | VoucherRefused::Voucher(_)) => {
                let state = self.channel(&channel, MaxAge::AskAgain).await?;
                voucher::verify(signed, &channel, &state)
            }
            checked => checked,
        }?;
        let taken = self.store.take(&verified).await;
        match taken.map_err(|e| ApiError::internal(&e))? {
            Taken::Stored | Taken::Repeated => Ok(()),
            Taken::Stale { highest } => {
                let got = signed.voucher.cumulative;
                Err(VoucherRefused::Stale { got, highest }.into())
            }
        }
    }

    /// Decides whether a channel is good for one more job, and reserves the job's maximum cost.
    ///
    /// It is reserved before the figures are read, so that two concurrent jobs cannot both use what is left.
    pub async fn admit(&self, envelope: &Envelope) -> Result<Reservation, ApiError> {
        if envelope.terms.chain != self.payee.chain() {
            let (got, own) = (envelope.terms.chain, self.payee.chain());
            let words = format!("the envelope is for chain {got}; this provider settles on {own}");
            return Err(ApiError::bad_request("chain", words));
        }
        self.can_earn().await?;
        let channel = envelope.channel();
        let state = self.channel(&channel, MaxAge::Recent).await?;
        if envelope.terms.payer_key != state.payer_key {
            return Err(ApiError::refuse(
                StatusCode::FORBIDDEN,
                "payer",
                "the envelope is not signed by the channel's payer key",
            ));
        }
        self.rate
            .take(&state.payer_key, Instant::now().into_std())?;
        state.admits(now_unix_s())?;
        let (mut reservation, running) = self.reserve(channel, envelope.cost_max)?;
        let figures = self.figures(channel, envelope.voucher.as_deref()).await?;
        let used = figures
            .owed
            .checked_add(running)
            .ok_or_else(|| payment("exposure", "the sum of costs is out of range"))?;
        let vouchered = figures.vouchered();
        let uncovered = used.checked_sub(vouchered).unwrap_or(Nano::ZERO);
        let credit = self.credit.of(vouchered);
        if uncovered > credit {
            let words = format!(
                "the channel would owe {uncovered} nanoTON without a voucher; it is lent {credit} now, which grows by a tenth \
                 of what it pays up to {}",
                self.credit.max
            );
            return Err(payment("exposure", words));
        }
        let fits = |state: &ChannelState| used.max(vouchered) <= state.deposit;
        if !fits(&state) && !fits(&self.channel(&channel, MaxAge::AskAgain).await?) {
            return Err(payment(
                "exposure",
                "the job may cost more than the rest of the deposit; top up the channel",
            ));
        }
        reservation.highest = figures.highest;
        Ok(reservation)
    }

    /// What is owed and promised on a channel, with the voucher in an envelope taken. Most envelopes repeat the highest one.
    async fn figures(
        &self,
        channel: Address,
        enclosed: Option<&[u8]>,
    ) -> Result<Figures, ApiError> {
        let read = async || {
            let figures = self.store.figures_of(channel).await;
            figures.map_err(|e| ApiError::internal(&e))
        };
        let figures = read().await?;
        let highest = figures.highest.as_ref().map(SignedVoucher::encode);
        match enclosed {
            Some(enclosed) if highest.as_deref() != Some(enclosed) => {
                self.take_enclosed(enclosed).await?;
                read().await
            }
            _ => Ok(figures),
        }
    }

    /// Refuses jobs whose charges could not be written down: that is this host's fault, and its operator has to hear it.
    async fn can_earn(&self) -> Result<(), ApiError> {
        if self.store.could_write() {
            return Ok(());
        }
        let able = self.store.on_disk(|store| store.can_write()).await;
        able.map_err(|error| {
            tracing::error!(%error, "no job is taken");
            let words = "this provider cannot store what it is owed; it takes no jobs now";
            ApiError::refuse(StatusCode::SERVICE_UNAVAILABLE, "disk", words)
        })
    }

    /// The voucher in an envelope. An old one is no error: the payer may have been restored from a backup.
    async fn take_enclosed(&self, voucher: &[u8]) -> Result<(), ApiError> {
        let signed = SignedVoucher::decode(voucher).map_err(VoucherRefused::from)?;
        match self.take(&signed).await {
            Err(reply) if reply.code == STALE => Ok(()),
            taken => taken,
        }
    }

    fn reserve(&self, channel: Address, amount: Nano) -> Result<(Reservation, Nano), ApiError> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let before = reserved.get(&channel);
        if before.is_some_and(|before| before.jobs >= JOBS_PER_CHANNEL_MAX) {
            return Err(ApiError::busy());
        }
        let sum = before
            .map_or(Nano::ZERO, |before| before.amount)
            .checked_add(amount);
        let running = sum.ok_or_else(|| payment("exposure", "the sum of costs is out of range"))?;
        let entry = reserved.entry(channel).or_default();
        (entry.amount, entry.jobs) = (running, entry.jobs + 1);
        let reservation = Reservation {
            reserved: self.reserved.clone(),
            channel,
            amount,
            highest: None,
        };
        Ok((reservation, running))
    }

    /// Channels for which something is reserved.
    pub(crate) fn channels_reserved(&self) -> usize {
        let reserved = self.reserved.lock();
        reserved.unwrap_or_else(PoisonError::into_inner).len()
    }

    pub async fn channel(&self, channel: &Address, age: MaxAge) -> Result<ChannelState, ApiError> {
        Ok(self.channels.state(channel, age).await?)
    }

    /// The state of a channel, for the payer who signed `authorization`.
    pub(crate) async fn channel_for_payer(
        &self,
        channel: &Address,
        authorization: &str,
    ) -> Result<ChannelState, ApiError> {
        let state = self.channel(channel, MaxAge::Recent).await?;
        let read = PayerRead {
            chain: self.payee.chain(),
            channel: *channel,
            receipt: None,
        };
        read.check(authorization, &state.payer_key, now_unix_s())?;
        Ok(state)
    }

    /// An attestation bundle: evidence, endorsement and collateral.
    pub(crate) async fn bundle(&self, nonce: &[u8; 32], peer: IpAddr) -> Result<Bundle, ApiError> {
        let enter = |peer| {
            self.attesting
                .enter(peer, ATTESTATIONS_PER_PEER_MAX)
                .ok_or_else(ApiError::busy)
        };
        let _one_of_few = household(peer).map(enter).transpose()?;
        let slot = self.attestations.try_acquire();
        let _slot = slot.map_err(|_| ApiError::busy())?;
        let mut refused = None;
        for guest in self.guests.by_load() {
            match self.endorsed(&guest, nonce).await {
                Ok(bundle) => {
                    guest.shown();
                    return Ok(bundle);
                }
                // Another one may be well. The least loaded one's refusal says most.
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(ApiError::busy))
    }

    /// A bundle of fresh evidence of this guest that this provider stands behind.
    pub(crate) async fn endorsed(
        &self,
        guest: &Guest,
        nonce: &[u8; 32],
    ) -> Result<Bundle, ApiError> {
        let stood_behind = async {
            let evidence = evidence::ask(&guest.address, &self.payee, nonce).await?;
            self.stand_behind(guest, evidence, nonce).await
        };
        let stood_behind = stood_behind.await;
        stood_behind.inspect_err(|error| guest.refused(error.code))
    }

    /// A bundle of this evidence, if a client with this provider's manifest would take it. Only then is its receipt key
    /// remembered: what only says that it is the guest signs no charge that counts.
    pub(crate) async fn stand_behind(
        &self,
        guest: &Guest,
        endorsed: EndorsedEvidence,
        nonce: &[u8; 32],
    ) -> Result<Bundle, ApiError> {
        let keyset = endorsed.keyset;
        let (evidence, source) = (endorsed.evidence, &self.collateral);
        let collateral = source.for_evidence(&evidence, self.blocking).await?;
        let gpu = source.for_gpu(&evidence).await?;
        let bundle = Bundle::new(evidence, endorsed.endorsement, collateral, gpu);
        if let Some(policy) = self.guest_policy.clone() {
            let (encoded, nonce, keyset) = (bundle.encode(), *nonce, keyset.clone());
            let check = move || policy.check(&encoded, &nonce, &keyset);
            let checked = self.blocking.run(check).await;
            checked.map_err(|e| ApiError::internal(&e))?.map_err(|refused| {
                tracing::error!(%refused, "the guest is not what guest_manifest says; it is not endorsed");
                evidence::not_endorsed()
            })?;
        }
        self.learn(guest, &keyset, &bundle, nonce).await?;
        Ok(bundle)
    }

    /// Remembers the key that signs this keyset's charges, on the disk too: after a restart jobs may end under keys that the guest
    /// shows to nobody any more. With it goes the evidence, for receipts that are verified later.
    async fn learn(
        &self,
        guest: &Guest,
        keyset: &Keyset,
        bundle: &Bundle,
        nonce: &[u8; 32],
    ) -> Result<(), ApiError> {
        let (digest, receipt_key) = (keyset.digest(), keyset.receipt_key);
        if guest.receipt_key(digest).is_none() {
            let remembered = RememberedKeyset {
                digest,
                receipt_key,
                guest: guest.address.to_string(),
            };
            let kept = KeptEvidence {
                bundle: bundle.encode(),
                nonce: *nonce,
            };
            let store = self.store.clone();
            let stored =
                store.on_disk(move |s| s.remember_keyset(&remembered, &kept, now_unix_s()));
            stored.await.map_err(|e| ApiError::internal(&e))?;
        }
        guest.learn(keyset);
        Ok(())
    }

    /// Asks the guests for their keysets when a job names an unknown one, for instance after a restart of this program.
    pub(crate) async fn search(&self, keyset: KeysetDigest) {
        self.learn_unless(|| self.guests.of(keyset).is_some()).await;
    }

    /// Asks the guests for their keysets because of a charge that no known key has signed.
    pub(crate) async fn learn_anew(&self) {
        self.learn_unless(|| false).await;
    }

    async fn learn_unless(&self, known: impl Fn() -> bool) {
        let mut searched = self.searched.lock().await;
        let lately = searched.is_some_and(|at| at.elapsed() < KEYSET_SEARCH);
        if known() || lately {
            return;
        }
        *searched = Some(Instant::now());
        for guest in self.guests.by_load() {
            if let Err(reply) = self.look(&guest).await {
                let (code, guest) = (reply.code, &guest.address);
                tracing::warn!(code, %guest, "cannot learn the guest's keyset");
            }
            if known() {
                return;
            }
        }
    }

    /// Attests a guest for this proxy alone.
    pub(crate) async fn look(&self, guest: &Guest) -> Result<(), ApiError> {
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|error| ApiError::internal(&error))?;
        self.endorsed(guest, &nonce).await.map(drop)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = reserved.get_mut(&self.channel) {
            running.amount = running
                .amount
                .checked_sub(self.amount)
                .unwrap_or(Nano::ZERO);
            running.jobs -= 1;
            if running.jobs == 0 {
                reserved.remove(&self.channel);
            }
        }
    }
}

impl From<NotAdmitted> for ApiError {
    fn from(refused: NotAdmitted) -> Self {
        let code = match refused {
            NotAdmitted::Closing | NotAdmitted::Closed => "closed",
            NotAdmitted::Terms(TermsRefused::LifeShort { .. }) => "closed",
            NotAdmitted::Terms(_) => "terms",
            NotAdmitted::Rotating { .. } => "rotating",
        };
        payment(code, refused.to_string())
    }
}

impl From<wire::ReadRefused> for ApiError {
    fn from(refused: wire::ReadRefused) -> Self {
        ApiError::refuse(StatusCode::FORBIDDEN, "not_the_payer", refused.to_string())
    }
}

fn payment(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::refuse(StatusCode::PAYMENT_REQUIRED, code, message)
}

#[cfg(test)]
mod tests;
