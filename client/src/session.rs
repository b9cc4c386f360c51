//! An attested worker, and everything a job needs to be sealed to it.
//!
//! A [`Session`] is made by [`Session::attest`] alone: a fresh nonce, the bundle that the proxy brings, and
//! `wire::attest` with the policy of the owner's manifest and the payee of the owner's channel. Its age counts from the
//! moment the nonce was made, by this machine's monotonic clock: a host that slows its guest's clock gains nothing.

use crate::budget::Budget;
use crate::chain::Channel;
use crate::error::{ClientError, Executed};
use crate::limits::REPLY_BYTES_MAX;
use crate::tokens::Models;
use crate::transport::{Ask, Transport, TransportError};
use attest::{Manifest, Policy, Root, RootClass};
use settlement::Nano;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wire::{AttestedWorker, Expected, Keyset};

/// A worker that may see plaintext, for as long as its keyset lives. Cheap to clone.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    worker: AttestedWorker,
    channel: Channel,
    shared: Arc<Shared>,
    bundle: Vec<u8>,
    nonce: [u8; 32],
    since: Instant,
    took: Duration,
    verified_at_unix_s: u64,
}

/// What all sessions of one client have in common.
pub struct Shared {
    /// The budget.
    pub budget: Arc<Budget>,
    /// The allow-list.
    pub models: Models,
    /// What the guest should measure to.
    pub manifest: Manifest,
    /// The root that its quote must lead to.
    pub root: Root,
    /// The profile demanded.
    pub profile: String,
    /// The most one job may cost.
    pub cost_max: Nano,
    /// The longest a whole answer may take.
    pub deadline_ms: u32,
    /// The longest the first token may take.
    pub first_token_ms: u32,
}

impl Session {
    /// Challenges the worker behind the proxy and verifies its evidence.
    pub async fn attest(
        proxy: &Transport,
        channel: Channel,
        shared: Arc<Shared>,
    ) -> Result<Session, ClientError> {
        let nonce: [u8; 32] = random()?;
        let since = Instant::now();
        let bundle = fetch_bundle(proxy, &nonce).await?;
        let floor = format!("tcb_evaluation_number/{}", shared.root.class());
        let mut policy = Policy::from_manifest(&shared.manifest);
        policy.tcb_evaluation_number_min = shared.budget.floor(&floor)?;
        let expected = Expected {
            profile: shared.profile.clone(),
            chain: channel.state.chain,
            payee: channel.state.payee,
            payee_key: channel.state.payee_key,
        };
        let now = unix_s()?;
        let worker = wire::attest(&bundle, &nonce, &policy, &shared.root, &expected, now)?;
        shared
            .budget
            .raise_floor(&floor, worker.peer().tcb_evaluation_number)?;
        Ok(Session(Arc::new(Inner {
            worker,
            channel,
            shared,
            bundle,
            nonce,
            since,
            took: since.elapsed(),
            verified_at_unix_s: now,
        })))
    }

    /// Whether a job may still be sealed to this worker.
    pub fn is_fresh(&self) -> bool {
        self.0.since.elapsed() < Duration::from_secs(self.keyset().lifetime_s.into())
    }

    /// The worker.
    pub fn worker(&self) -> &AttestedWorker {
        &self.0.worker
    }

    /// Its keyset.
    pub fn keyset(&self) -> &Keyset {
        self.0.worker.keyset()
    }

    /// The channel that pays it, as it was read when the worker was attested.
    pub fn channel(&self) -> &Channel {
        &self.0.channel
    }

    /// The evidence as it came, for whoever wants to verify it again.
    pub fn bundle(&self) -> &[u8] {
        &self.0.bundle
    }

    /// The challenge that the evidence answers.
    pub fn nonce(&self) -> &[u8; 32] {
        &self.0.nonce
    }

    /// When it was verified, by this machine's wall clock.
    pub fn verified_at_unix_s(&self) -> u64 {
        self.0.verified_at_unix_s
    }

    /// How long the challenge and its verification took.
    pub fn took(&self) -> Duration {
        self.0.took
    }

    /// Whose root the quote leads to. Say so to people.
    pub fn root(&self) -> RootClass {
        self.0.worker.peer().root
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }
}

async fn fetch_bundle(proxy: &Transport, nonce: &[u8; 32]) -> Result<Vec<u8>, ClientError> {
    let path = format!("/v1/attestation?nonce={}", hex::encode(nonce));
    let ask = Ask {
        method: "GET",
        path: &path,
        content_type: "",
        authorization: "",
        body: Vec::new(),
    };
    let reply = proxy
        .call(ask, REPLY_BYTES_MAX)
        .await
        .map_err(|e| proxy_error("attestation", e, Executed::No))?;
    match reply.status {
        200 => Ok(reply.body),
        status => Err(proxy_refused(
            "attestation",
            status,
            &reply.body,
            Executed::No,
        )),
    }
}

/// A failed exchange with the proxy. `sent` is what holds when something may have been sent.
pub(crate) fn proxy_error(
    what: &'static str,
    error: TransportError,
    sent: Executed,
) -> ClientError {
    match error {
        TransportError::Connect { .. } => ClientError::Unreachable(error.to_string()),
        _ => ClientError::ProxyMisbehaved {
            what,
            detail: error.to_string(),
            executed: sent,
        },
    }
}

/// The proxy's error object, for display.
pub(crate) fn proxy_refused(
    what: &'static str,
    status: u16,
    body: &[u8],
    executed: Executed,
) -> ClientError {
    let object: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let field = |name: &str| {
        let text = object.pointer(&format!("/error/{name}"));
        text.and_then(|text| text.as_str()).map(crate::error::shown)
    };
    ClientError::ProxyRefused {
        what,
        status,
        code: field("code").unwrap_or_else(|| format!("status {status}")),
        message: field("message").unwrap_or_else(|| "it gave no reason".into()),
        executed,
    }
}

/// Fresh randomness from the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], ClientError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| ClientError::Internal(format!("no randomness: {e}")))?;
    Ok(bytes)
}

/// This machine's wall clock.
pub(crate) fn unix_s() -> Result<u64, ClientError> {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|since| since.as_secs())
        .map_err(|_| ClientError::Internal("this machine's clock is before 1970".into()))
}
