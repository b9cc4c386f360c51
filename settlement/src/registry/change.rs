//! What a registry lists and how it changes: the entries of each kind, and their values as the contract keeps them.

use crate::{
    Address, Nano,
    limits::{REGISTRY_ENDPOINT_BYTES_MAX, REGISTRY_FEE_BPS_MAX},
};

const IMAGE: u8 = 1;
const MODEL: u8 = 2;
const PROXY: u8 = 3;
const REVOKED_IMAGE: u8 = 4;
const REVOKED_PLATFORM: u8 = 5;
const REVOKED_GPU: u8 = 6;
const FEE: u8 = 7;
const ADMIN: u8 = 8;
const GUARDIAN: u8 = 9;
const CODE: u8 = 10;

/// What an entry, a revocation or a proposal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegistryKey {
    /// Which kind it is, as in the contract.
    pub kind: u8,
    /// What names it within its kind; zero for a setting.
    pub id: [u8; 32],
}

/// The most that a model may cost, in nanoTON for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Ceilings {
    pub prompt: Nano,
    pub cached: Nano,
    pub completion: Nano,
    pub reasoning: Nano,
}

/// Something that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// An image on one shape of machine.
    Image {
        /// The digest of MRTD and RTMR0 to RTMR2 (`wire::image_digest`).
        digest: [u8; 32],
        /// Its last moment, in Unix seconds.
        not_after: u32,
    },
    /// A model.
    Model {
        /// Its root.
        root: [u8; 32],
        /// What it may cost.
        ceilings: Ceilings,
    },
    /// A proxy, for whoever looks for one.
    Proxy {
        /// Its payee's key.
        key: [u8; 32],
        /// Where it is: two capital letters of ISO 3166-1.
        region: [u8; 2],
        /// Its URL.
        endpoint: String,
    },
}

/// Names an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryName {
    /// By its digest.
    Image([u8; 32]),
    /// By its root.
    Model([u8; 32]),
    /// By its payee's key.
    Proxy([u8; 32]),
}

/// What can be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocable {
    /// By the digest that an entry has.
    Image([u8; 32]),
    /// By its PPID, with zeros before it.
    Platform([u8; 32]),
    /// By its digest in keysets.
    Gpu([u8; 32]),
}

/// What the admin proposes, to take effect after the delay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// To add an entry, or to replace it.
    Allow(Entry),
    /// To end a revocation.
    Restore(Revocable),
    /// To set the network's fee, in basis points.
    Fee(u16),
    /// To have another admin.
    Admin(Address),
    /// To have another guardian.
    Guardian(Address),
    /// To run other code, by its hash.
    Code([u8; 32]),
}

/// What admin and guardian each do at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tightening {
    /// Revoke, for a reason that people number.
    Revoke(Revocable, u8),
    /// Remove an entry.
    Remove(EntryName),
    /// Give an image less time, or a model lower ceilings.
    Limit(Entry),
    /// Lower the network's fee, in basis points.
    Fee(u16),
}

/// Why a value is not one of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum ValueRefused {
    #[error("{0} is no kind of entry")]
    Kind(u8),
    #[error("{got} bytes are no value of an entry of kind {kind}")]
    Bytes { kind: u8, got: usize },
    #[error("a setting has no id of its own")]
    Id,
    #[error("a fee of {0} basis points; at most {REGISTRY_FEE_BPS_MAX} can be")]
    Fee(u16),
    #[error("a region is two capital letters")]
    Region,
    #[error("an endpoint is 1 to {REGISTRY_ENDPOINT_BYTES_MAX} printable characters of ASCII")]
    Endpoint,
    #[error("admin and guardian are accounts on the base chain")]
    Workchain,
}

impl RegistryKey {
    const fn new(kind: u8, id: [u8; 32]) -> RegistryKey {
        RegistryKey { kind, id }
    }

    const fn setting(kind: u8) -> RegistryKey {
        RegistryKey::new(kind, [0; 32])
    }
}

impl From<EntryName> for RegistryKey {
    fn from(name: EntryName) -> RegistryKey {
        match name {
            EntryName::Image(id) => RegistryKey::new(IMAGE, id),
            EntryName::Model(id) => RegistryKey::new(MODEL, id),
            EntryName::Proxy(id) => RegistryKey::new(PROXY, id),
        }
    }
}

impl From<Revocable> for RegistryKey {
    fn from(what: Revocable) -> RegistryKey {
        match what {
            Revocable::Image(id) => RegistryKey::new(REVOKED_IMAGE, id),
            Revocable::Platform(id) => RegistryKey::new(REVOKED_PLATFORM, id),
            Revocable::Gpu(id) => RegistryKey::new(REVOKED_GPU, id),
        }
    }
}

impl Revocable {
    /// A platform by its PPID of 16 bytes. `None` for any other length.
    pub fn platform(ppid: &[u8]) -> Option<Revocable> {
        let ppid: &[u8; 16] = ppid.try_into().ok()?;
        let mut id = [0; 32];
        id[16..].copy_from_slice(ppid);
        Some(Revocable::Platform(id))
    }

    /// What names it within its kind.
    pub fn id(&self) -> [u8; 32] {
        RegistryKey::from(*self).id
    }

    pub(super) fn of(key: RegistryKey) -> Option<Revocable> {
        match key.kind {
            REVOKED_IMAGE => Some(Revocable::Image(key.id)),
            REVOKED_PLATFORM => Some(Revocable::Platform(key.id)),
            REVOKED_GPU => Some(Revocable::Gpu(key.id)),
            _ => None,
        }
    }
}

impl Entry {
    /// What names it.
    pub fn name(&self) -> EntryName {
        match self {
            Entry::Image { digest, .. } => EntryName::Image(*digest),
            Entry::Model { root, .. } => EntryName::Model(*root),
            Entry::Proxy { key, .. } => EntryName::Proxy(*key),
        }
    }

    /// Refuses what no reader would accept: a region or an endpoint out of form.
    pub fn check(&self) -> Result<(), ValueRefused> {
        let Entry::Proxy {
            region, endpoint, ..
        } = self
        else {
            return Ok(());
        };
        if !region.iter().all(u8::is_ascii_uppercase) {
            return Err(ValueRefused::Region);
        }
        let fits = (1..=REGISTRY_ENDPOINT_BYTES_MAX).contains(&endpoint.len());
        match fits && endpoint.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(()),
            false => Err(ValueRefused::Endpoint),
        }
    }

    fn value(&self) -> Vec<u8> {
        match self {
            Entry::Image { not_after, .. } => not_after.to_be_bytes().to_vec(),
            Entry::Model { ceilings, .. } => ceilings.value().concat(),
            Entry::Proxy {
                region, endpoint, ..
            } => [&region[..], endpoint.as_bytes()].concat(),
        }
    }

    pub(super) fn parse(key: RegistryKey, value: &[u8]) -> Result<Entry, ValueRefused> {
        let bytes = ValueRefused::Bytes {
            kind: key.kind,
            got: value.len(),
        };
        let entry = match key.kind {
            IMAGE => Entry::Image {
                digest: key.id,
                not_after: u32::from_be_bytes(value.try_into().map_err(|_| bytes)?),
            },
            MODEL => Entry::Model {
                root: key.id,
                ceilings: Ceilings::parse(value).ok_or(bytes)?,
            },
            PROXY => {
                let (region, endpoint) = value.split_first_chunk().ok_or(bytes)?;
                let endpoint = std::str::from_utf8(endpoint);
                Entry::Proxy {
                    key: key.id,
                    region: *region,
                    endpoint: endpoint.map_err(|_| ValueRefused::Endpoint)?.to_owned(),
                }
            }
            kind => return Err(ValueRefused::Kind(kind)),
        };
        entry.check()?;
        Ok(entry)
    }
}

impl Ceilings {
    fn value(&self) -> [[u8; 8]; 4] {
        [self.prompt, self.cached, self.completion, self.reasoning].map(|n| n.0.to_be_bytes())
    }

    fn parse(value: &[u8]) -> Option<Ceilings> {
        let ([prompt, cached, completion, reasoning], []) = value.as_chunks::<8>() else {
            return None;
        };
        let nano = |bytes: &[u8; 8]| Nano(u64::from_be_bytes(*bytes));
        Some(Ceilings {
            prompt: nano(prompt),
            cached: nano(cached),
            completion: nano(completion),
            reasoning: nano(reasoning),
        })
    }
}

impl Change {
    /// What it changes. There is one proposal for a key at a time.
    pub fn key(&self) -> RegistryKey {
        match self {
            Change::Allow(entry) => entry.name().into(),
            Change::Restore(what) => (*what).into(),
            Change::Fee(_) => RegistryKey::setting(FEE),
            Change::Admin(_) => RegistryKey::setting(ADMIN),
            Change::Guardian(_) => RegistryKey::setting(GUARDIAN),
            Change::Code(_) => RegistryKey::setting(CODE),
        }
    }

    /// Refuses what the contract or a reader would refuse.
    pub fn check(&self) -> Result<(), ValueRefused> {
        match self {
            Change::Allow(entry) => entry.check(),
            Change::Fee(fee) if *fee > REGISTRY_FEE_BPS_MAX => Err(ValueRefused::Fee(*fee)),
            Change::Admin(account) | Change::Guardian(account) if account.workchain != 0 => {
                Err(ValueRefused::Workchain)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn value(&self) -> Vec<u8> {
        match self {
            Change::Allow(entry) => entry.value(),
            Change::Restore(_) => Vec::new(),
            Change::Fee(fee) => fee.to_be_bytes().to_vec(),
            Change::Admin(account) | Change::Guardian(account) => account.hash.to_vec(),
            Change::Code(hash) => hash.to_vec(),
        }
    }

    pub(super) fn parse(key: RegistryKey, value: &[u8]) -> Result<Change, ValueRefused> {
        if key.kind <= PROXY {
            return Ok(Change::Allow(Entry::parse(key, value)?));
        }
        let bytes = ValueRefused::Bytes {
            kind: key.kind,
            got: value.len(),
        };
        if let Some(what) = Revocable::of(key) {
            return value
                .is_empty()
                .then_some(Change::Restore(what))
                .ok_or(bytes);
        }
        if key.id != [0; 32] {
            return Err(ValueRefused::Id);
        }
        let hash = || <[u8; 32]>::try_from(value).map_err(|_| bytes);
        let account = || hash().map(|hash| Address { workchain: 0, hash });
        let change = match key.kind {
            FEE => Change::Fee(u16::from_be_bytes(value.try_into().map_err(|_| bytes)?)),
            ADMIN => Change::Admin(account()?),
            GUARDIAN => Change::Guardian(account()?),
            CODE => Change::Code(hash()?),
            kind => return Err(ValueRefused::Kind(kind)),
        };
        change.check()?;
        Ok(change)
    }
}

impl Tightening {
    /// What it changes.
    pub fn key(&self) -> RegistryKey {
        match self {
            Tightening::Revoke(what, _) => (*what).into(),
            Tightening::Remove(name) => (*name).into(),
            Tightening::Limit(entry) => entry.name().into(),
            Tightening::Fee(_) => RegistryKey::setting(FEE),
        }
    }

    pub(super) fn value(&self) -> Vec<u8> {
        match self {
            Tightening::Revoke(_, reason) => vec![*reason],
            Tightening::Remove(_) => Vec::new(),
            Tightening::Limit(entry) => entry.value(),
            Tightening::Fee(fee) => fee.to_be_bytes().to_vec(),
        }
    }
}
