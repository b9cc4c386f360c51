//! An attested worker, and everything a job needs to be sealed to it.
//!
//! A [`Session`] is made from an [`Attestation`] alone: a fresh nonce, the bundle that the proxy brings, and
//! `wire::attest` with the policy of the owner's manifest and the payee of the owner's channel. Its age counts from the
//! first nonce to which its keyset was shown, by this machine's clock: a host that slows its guest's clock, so that keys do not
//! end, gains nothing.

use crate::attestation::{Attestation, Challenged, Verifier};
use crate::budget::{Budget, KnownKeyset};
use crate::chain::{self, Channel, RegistryRule, RegistrySeen};
use crate::error::{ClientError, Executed};
use crate::kept::KeptJobs;
use crate::tokens::Models;
use crate::transport::{Transport, TransportError};
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use settlement::Nano;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wire::{Expected, Keyset, Random};

/// A worker that may see plaintext, for as long as its keyset lives. Cheap to clone.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    attestation: Attestation,
    // How long its keyset had been known when it was attested.
    known: Duration,
    channel: Channel,
    registry: Option<RegistrySeen>,
    shared: Arc<Shared>,
}

/// What all sessions of one client have in common.
pub struct Shared {
    /// The budget.
    pub budget: Arc<Budget>,
    /// The allow-list.
    pub models: Models,
    /// What a worker is held against.
    pub verifier: Verifier,
    /// The profile demanded.
    pub profile: String,
    /// Where jobs are kept that may be checked later, if they are.
    pub kept: Option<KeptJobs>,
    /// The least that a provider's stake must hold, if one is demanded.
    pub stake_min: Option<Nano>,
    /// The registry that has to allow a worker, if one is named.
    pub registry: Option<RegistryRule>,
    /// The most one job may cost.
    pub cost_max: Nano,
    /// The longest a whole answer may take.
    pub deadline_ms: u32,
    /// The longest the first token may take.
    pub first_token_ms: u32,
    /// What job ids and seals are drawn from.
    pub random: Random,
}

impl Session {
    /// Verifies the evidence of a worker that the payee of `channel` endorses, and asks the chain what its owner demands besides.
    pub(crate) async fn open(
        node: &Transport,
        challenged: Challenged,
        channel: Channel,
        shared: Arc<Shared>,
    ) -> Result<Session, ClientError> {
        let expected = Expected {
            profile: shared.profile.clone(),
            chain: channel.state.chain,
            payee: channel.state.payee,
            payee_key: channel.state.payee_key,
            gpu_roots: shared.verifier.gpu_roots,
            appraised_gpus: shared.verifier.appraised_gpus.clone(),
        };
        let attestation = shared.verifier.verify(challenged, &expected)?;
        let seen = shared
            .budget
            .keyset(&attestation.worker().keyset_digest())?;
        let seen = seen.map_or(attestation.verified_at_unix_s(), |seen| {
            seen.verified_at_unix_s
        });
        let known_s = attestation.verified_at_unix_s().saturating_sub(seen);
        let lifetime_s = attestation.worker().keyset().lifetime_s;
        if known_s >= lifetime_s.into() {
            return Err(ClientError::OldKeys {
                known_s,
                lifetime_s,
            });
        }
        let worker = attestation.worker();
        chain::check_stake(node, shared.stake_min, worker.keyset(), unix_s()?).await?;
        let registry = match &shared.registry {
            None => None,
            Some(rule) => {
                let offers = worker.keyset().models.iter();
                let offers: Vec<_> = offers
                    .filter(|offer| shared.models.get(&offer.id).is_some())
                    .collect();
                let trust = &shared.verifier.trust;
                Some(chain::check_registry(node, rule, trust, worker, &offers).await?)
            }
        };
        Ok(Session(Arc::new(Inner {
            attestation,
            known: Duration::from_secs(known_s),
            channel,
            registry,
            shared,
        })))
    }

    /// The registry that allows it, if its owner names one.
    pub fn registry(&self) -> Option<&RegistrySeen> {
        self.0.registry.as_ref()
    }

    /// Whether a job may still be sealed to this worker.
    pub fn is_fresh(&self) -> bool {
        self.key_age() < self.lifetime()
    }

    /// How long until the next keyset should be asked for, so that no job waits for it: guests make one each half of a lifetime.
    pub(crate) fn renewed_in(&self) -> Duration {
        (self.lifetime() * 3 / 4).saturating_sub(self.key_age())
    }

    fn key_age(&self) -> Duration {
        self.age() + self.0.known
    }

    fn lifetime(&self) -> Duration {
        Duration::from_secs(self.keyset().lifetime_s.into())
    }

    /// Its keyset.
    pub fn keyset(&self) -> &Keyset {
        self.worker().keyset()
    }

    /// The channel that pays it, as it was read when the worker was attested.
    pub fn channel(&self) -> &Channel {
        &self.0.channel
    }

    /// What is remembered of its keyset.
    pub(crate) fn known(&self) -> KnownKeyset {
        KnownKeyset {
            keyset: self.keyset().clone(),
            root: self.root().to_string(),
            verified_at_unix_s: self.verified_at_unix_s(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }
}

impl Deref for Session {
    type Target = Attestation;

    fn deref(&self) -> &Attestation {
        &self.0.attestation
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

/// The system's generator.
pub(crate) fn kernel() -> Random {
    Random::new(|| UnwrapErr(SysRng))
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
