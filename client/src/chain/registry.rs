//! What a network allows and has revoked, as a node tells it: asked for before a job is sealed, where the owner names a registry.
//!
//! Trusted: the registry's admin and guardian, and the node, for what the contract holds and the block's time. An old view is refused by
//! the highest version that this machine has seen: a node that is behind, or lies, revives no revoked image.

mod change;

pub use change::{ChangePlan, Role, plan_change, send_change};

use super::ask;
use super::recent::{Recent, failed};
use crate::error::ClientError;
use crate::session::unix_s;
use crate::transport::Transport;
use crate::trust::TrustStore;
use settlement::toncenter::{self, Call, ChainError};
use settlement::{
    Address, ChainId, Listed, RegistryKey, RegistryRefused, RegistryState, RegistryView, Revocable,
    limits::REGISTRY_ITEMS_MAX,
};
use std::collections::BTreeMap;
use tokio::time::Instant;
use wire::{AttestedWorker, ModelOffer};

const WHAT: &str = "registry";

/// Which registry the owner names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryRule {
    /// Where it is.
    pub address: Address,
    /// The network that it is for.
    pub chain: ChainId,
    /// The lowest version that is accepted, besides the highest that was seen.
    pub version_min: u64,
}

/// A registry that allows a worker, in a view that is recent enough.
#[derive(Debug, Clone)]
pub struct RegistrySeen {
    /// Where it is.
    pub address: Address,
    /// Of which version the view is.
    pub version: u64,
    /// Until when the worker's image is allowed, in Unix seconds.
    pub image_not_after: u32,
    age_s: u64,
    read: Instant,
    models: BTreeMap<[u8; 32], RegistryView>,
}

/// Everything that a registry lists.
#[derive(Debug, Clone)]
pub struct RegistryContents {
    /// Its state.
    pub state: RegistryState,
    /// Seconds since the block that this is from.
    pub age_s: u64,
    /// Entries and revocations, then proposals, each in the order of their keys.
    pub listed: Vec<(RegistryKey, Listed)>,
}

impl RegistrySeen {
    /// How old the view is now.
    pub fn age_s(&self) -> u64 {
        self.age_s + self.read.elapsed().as_secs()
    }

    /// Refuses a job on a model that is not allowed, or not at this price, or on an image whose time has ended meanwhile.
    pub fn allows(&self, offer: &ModelOffer) -> Result<(), ClientError> {
        let refused = |why| refused(&self.address, why);
        if unix_s()? > self.image_not_after.into() {
            return Err(refused(RegistryRefused::ImageEnded(self.image_not_after)));
        }
        let view = { self.models.get(&offer.root.0) }
            .ok_or(RegistryRefused::ModelNotAllowed)
            .map_err(refused)?;
        let prices = &offer.prices;
        view.admits_prices(prices.prompt, prices.cached, prices.completion)
            .map_err(refused)
    }
}

fn refused(registry: &Address, why: RegistryRefused) -> ClientError {
    let registry = *registry;
    ClientError::Registry { registry, why }
}

/// Refuses a worker that the registry does not allow. Of the offers, what the registry says of their models comes back.
pub async fn check_registry(
    node: &Transport,
    rule: &RegistryRule,
    trust: &TrustStore,
    worker: &AttestedWorker,
    offers: &[&ModelOffer],
) -> Result<RegistrySeen, ClientError> {
    let now_unix_s = unix_s()?;
    let registry = &rule.address;
    let least = rule.version_min.max(trust.registry_version(registry)?);
    let recent = Recent::read(node, WHAT, registry, now_unix_s).await?;
    let (peer, gpus) = (worker.peer(), &worker.keyset().gpus);
    let image = wire::image_digest(&peer.registers);
    let platform = Revocable::platform(&peer.ppid);
    let platform =
        platform.ok_or_else(|| refused(registry, RegistryRefused::Ppid(peer.ppid.len())))?;
    let mut seen = RegistrySeen {
        address: *registry,
        version: u64::MAX,
        image_not_after: u32::MAX,
        age_s: recent.age_s,
        read: Instant::now(),
        models: BTreeMap::new(),
    };
    // A question has one GPU and one model.
    for number in 0..gpus.len().max(offers.len()).max(1) {
        let gpu = gpus.get(number).map_or([0; 32], |gpu| gpu.0);
        let model = offers.get(number).map_or([0; 32], |offer| offer.root.0);
        let question = RegistryView::question(&image.0, &platform, &gpu, &model);
        let call = toncenter::registry_view(registry, &question);
        let view = answered(node, registry, &recent, &call).await?;
        view.admits(rule.chain, least, now_unix_s)
            .map_err(|why| refused(registry, why))?;
        seen.version = seen.version.min(view.version);
        let last = view.image_not_after.unwrap_or_default();
        seen.image_not_after = seen.image_not_after.min(last);
        seen.models.insert(model, view);
    }
    trust.remember_registry(registry, seen.version)?;
    Ok(seen)
}

/// Reads all of a registry. One that changes meanwhile is read again, twice.
pub async fn read_registry(
    node: &Transport,
    rule: &RegistryRule,
    trust: &TrustStore,
) -> Result<RegistryContents, ClientError> {
    for _ in 0..3 {
        if let Some(contents) = read_once(node, rule, trust).await? {
            return Ok(contents);
        }
    }
    let why = "it changed three times while it was read; try again";
    Err(failed(WHAT, &rule.address, &why))
}

/// `None` if it changed meanwhile.
async fn read_once(
    node: &Transport,
    rule: &RegistryRule,
    trust: &TrustStore,
) -> Result<Option<RegistryContents>, ClientError> {
    let registry = &rule.address;
    let recent = Recent::read(node, WHAT, registry, unix_s()?).await?;
    let call = toncenter::registry_state(registry);
    let state = answered(node, registry, &recent, &call).await?;
    let least = rule.version_min.max(trust.registry_version(registry)?);
    let (got, chain) = (state.version, state.terms.chain);
    if chain != rule.chain {
        let (got, want) = (chain, rule.chain);
        return Err(refused(registry, RegistryRefused::Chain { got, want }));
    }
    if got < least {
        return Err(refused(registry, RegistryRefused::Old { got, least }));
    }
    let mut listed = Vec::new();
    for proposals in [false, true] {
        let mut last = None;
        while listed.len() <= REGISTRY_ITEMS_MAX {
            let call = toncenter::registry_next(registry, proposals, last.as_ref());
            let item = answered(node, registry, &recent, &call).await?;
            let item = { item.after(last.as_ref()) }.map_err(|why| failed(WHAT, registry, &why))?;
            if item.version != state.version {
                return Ok(None);
            }
            let Some((key, what)) = item.next else { break };
            listed.push((key, what));
            last = Some(key);
        }
    }
    let counted = [state.entries, state.revocations, state.proposals];
    if listed.len() != counted.map(usize::from).iter().sum::<usize>() {
        let why = "the node lists more or fewer entries than it counts";
        return Err(failed(WHAT, registry, &why));
    }
    trust.remember_registry(registry, state.version)?;
    let age_s = recent.age_s;
    Ok(Some(RegistryContents {
        state,
        age_s,
        listed,
    }))
}

/// An answer from a block that is recent enough.
async fn answered<T>(
    node: &Transport,
    registry: &Address,
    recent: &Recent,
    call: &Call<(T, Option<u32>)>,
) -> Result<T, ClientError> {
    let failed = |why: &dyn std::fmt::Display| failed(WHAT, registry, why);
    if !recent.is_active {
        return Err(failed(&"no contract runs there"));
    }
    let answer: Result<_, ChainError> = ask(node, call).await?;
    let (view, block) = answer.map_err(|error| failed(&error))?;
    recent.cover(block).map_err(|why| failed(&why))?;
    Ok(view)
}
