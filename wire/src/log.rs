//! The provider's log of receipts: trees over the charges that its guests signed, and COSE Receipts that one charge is in one.
//!
//! A charge names its receipt by hash, so a tree over charges commits to receipts, and the proxy that makes it has read none of them.
//! Trees are RFC 9162's, receipts RFC 9942's: a COSE_Sign1 whose payload, the root, is detached and computed from the proof. The
//! first entry of each tree names the root before it, so that one who keeps a root sees whether an earlier one was changed.
//!
//! It proves that the provider committed to a charge in one tree of its log. It does not prove when: the time is the provider's word,
//! unless a time-stamp of an authority comes with it (RFC 3161, in the place that RFC 9921 gives it).

use crate::cbor::Malformed;
use crate::limits::{LOG_PATH_MAX, LOG_RECEIPT_BYTES_MAX, TIMESTAMP_BYTES_MAX};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use minicbor::data::{Tag, Type};
use minicbor::{Decoder, Encoder};
use settlement::{Address, SignedCharge};
use sha2::{Digest as _, Sha256};

const WHAT: &str = "log receipt";
const SUBJECT: &str = "chrysalis/log/v1/";
const HEAD: &[u8] = b"chrysalis/log-head/v1\0";

// COSE header parameters and algorithms: RFC 9052, RFC 9053; CWT claims in headers: RFC 9597; time-stamps: RFC 9921; the last two:
// RFC 9942.
const ALG: i64 = 1;
const EDDSA: i64 = -8;
const CWT_CLAIMS: i64 = 15;
const TIMESTAMP_OF_SIGNATURE: i64 = 270;
const VDS: i64 = 395;
const RFC9162_SHA256: i64 = 1;
const VDP: i64 = 396;
const INCLUSION: i64 = -1;
const TAG_SIGN1: u64 = 18;
// CWT claims: RFC 8392.
const ISSUER: i64 = 1;
const SUBJECT_CLAIM: i64 = 2;
const ISSUED_AT: i64 = 6;

/// The hash of an entry in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLeaf(pub [u8; 32]);

/// What the provider signs beside a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogTree {
    /// Whose log it is.
    pub payee: Address,
    /// Counts its trees, from 0.
    pub tree: u64,
    /// The tree's entries, its own first one included.
    pub size: u64,
    /// When it was closed, in Unix seconds: the provider's word.
    pub closed_unix_s: u64,
}

/// A COSE Receipt as it travels; nothing of it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogReceipt {
    /// The tree.
    pub of: LogTree,
    /// The place of the entry, from 0, which is the tree's own.
    pub index: u64,
    /// The hashes beside its way to the root, from below; at most [`LOG_PATH_MAX`].
    pub path: Vec<[u8; 32]>,
    /// Over the root and [`Self::of`].
    pub signature: [u8; 64],
    /// A time-stamp token of an authority over [`log_imprint`], at most [`TIMESTAMP_BYTES_MAX`] bytes.
    pub timestamp: Option<Vec<u8>>,
}

/// Where a charge stands in the provider's log. Only [`LogReceipt::verify`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    of: LogTree,
    index: u64,
    root: [u8; 32],
    imprint: [u8; 32],
    timestamp: Option<Vec<u8>>,
}

/// Why a log receipt proves nothing. The proxy is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum NotLogged {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the log receipt's path does not lead from entry {index} of {size} to a root")]
    Path { index: u64, size: u64 },
    #[error("the log receipt is of the payee {got}, the keyset pays {want}")]
    Payee { got: Address, want: Address },
    #[error(
        "the log receipt is not signed by the key that endorsed the keyset, or is for another charge"
    )]
    Signature,
}

impl LogLeaf {
    /// Of a charge, in the bytes that travel.
    pub fn of(charge: &SignedCharge) -> Self {
        LogLeaf(leaf(&charge.encode()))
    }

    /// The first entry of a tree: it names the root of the tree before, zeros for the first.
    pub fn head(tree: u64, previous: &[u8; 32]) -> Self {
        LogLeaf(leaf(&[HEAD, &tree.to_be_bytes(), previous].concat()))
    }
}

/// What an authority puts its time on: SHA-256 of the signature as CBOR has it (RFC 9921 section 3.1).
pub fn log_imprint(signature: &[u8; 64]) -> [u8; 32] {
    Sha256::digest(encoded(|e| e.bytes(signature)?.ok())).into()
}

/// The root of a tree with these entries (RFC 9162 section 2.1.2); of none, the hash of nothing.
pub fn log_root(leaves: &[LogLeaf]) -> [u8; 32] {
    match leaves {
        [] => Sha256::digest([]).into(),
        [LogLeaf(only)] => *only,
        several => {
            let (left, right) = several.split_at(split(several.len()));
            node(&log_root(left), &log_root(right))
        }
    }
}

/// The hashes beside the way from an entry to the root, from below (RFC 9162 section 2.1.3.1). `None`: there is no such entry.
pub fn log_path(leaves: &[LogLeaf], index: usize) -> Option<Vec<[u8; 32]>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut leaves, mut index, mut path) = (leaves, index, Vec::new());
    while leaves.len() > 1 {
        let at = split(leaves.len());
        let (left, right) = leaves.split_at(at);
        if index < at {
            path.push(log_root(right));
            leaves = left;
        } else {
            path.push(log_root(left));
            leaves = right;
            index -= at;
        }
    }
    path.reverse();
    Some(path)
}

/// The largest power of two below a length of two or more.
fn split(length: usize) -> usize {
    length.next_power_of_two() / 2
}

fn leaf(entry: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update([0])
        .chain_update(entry)
        .finalize()
        .into()
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let hasher = Sha256::new().chain_update([1]);
    hasher
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

impl LogTree {
    /// Signs a root, with the key that endorses keysets. The signature serves every receipt of the tree.
    pub fn sign(&self, root: &[u8; 32], key: &SigningKey) -> [u8; 64] {
        key.sign(&self.sig_structure(root)).to_bytes()
    }

    fn protected(&self) -> Vec<u8> {
        encoded(|e| {
            e.map(3)?.i64(ALG)?.i64(EDDSA)?;
            e.i64(CWT_CLAIMS)?.map(3)?;
            e.i64(ISSUER)?.str(&self.payee.to_string())?;
            e.i64(SUBJECT_CLAIM)?
                .str(&format!("{SUBJECT}{}/{}", self.tree, self.size))?;
            e.i64(ISSUED_AT)?.u64(self.closed_unix_s)?;
            e.i64(VDS)?.i64(RFC9162_SHA256)?.ok()
        })
    }

    /// RFC 9052 section 4.4. It begins with a CBOR array, and no other statement of the endorsing key does.
    fn sig_structure(&self, root: &[u8; 32]) -> Vec<u8> {
        let protected = self.protected();
        encoded(|e| {
            let e = e.array(4)?.str("Signature1")?.bytes(&protected)?;
            e.bytes(&[])?.bytes(root)?.ok()
        })
    }

    fn decode_protected(bytes: &[u8]) -> Option<Self> {
        let mut d = Decoder::new(bytes);
        let next = |d: &mut Decoder<'_>, expected: i64| (d.i64().ok()? == expected).then_some(());
        (d.map().ok()? == Some(3)).then_some(())?;
        next(&mut d, ALG)?;
        next(&mut d, EDDSA)?;
        next(&mut d, CWT_CLAIMS)?;
        (d.map().ok()? == Some(3)).then_some(())?;
        next(&mut d, ISSUER)?;
        let payee = d.str().ok()?.parse().ok()?;
        next(&mut d, SUBJECT_CLAIM)?;
        let (tree, size) = d.str().ok()?.strip_prefix(SUBJECT)?.split_once('/')?;
        next(&mut d, ISSUED_AT)?;
        let closed_unix_s = d.u64().ok()?;
        Some(LogTree {
            payee,
            tree: tree.parse().ok()?,
            size: size.parse().ok()?,
            closed_unix_s,
        })
    }
}

impl LogReceipt {
    /// The tagged COSE_Sign1.
    pub fn encode(&self) -> Vec<u8> {
        let (protected, proof) = (self.of.protected(), self.inclusion_proof());
        encoded(|e| {
            e.tag(Tag::new(TAG_SIGN1))?.array(4)?.bytes(&protected)?;
            e.map(1 + u64::from(self.timestamp.is_some()))?;
            if let Some(timestamp) = &self.timestamp {
                e.i64(TIMESTAMP_OF_SIGNATURE)?.bytes(timestamp)?;
            }
            e.i64(VDP)?
                .map(1)?
                .i64(INCLUSION)?
                .array(1)?
                .bytes(&proof)?;
            e.null()?.bytes(&self.signature)?.ok()
        })
    }

    fn inclusion_proof(&self) -> Vec<u8> {
        encoded(|e| {
            let e = e.array(3)?.u64(self.of.size)?.u64(self.index)?;
            let e = e.array(self.path.len() as u64)?;
            self.path.iter().try_for_each(|hash| e.bytes(hash)?.ok())
        })
    }

    /// Reads what [`encode`](Self::encode) writes, and nothing else. Nothing is verified here.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > LOG_RECEIPT_BYTES_MAX {
            return Err(Malformed::TooLong {
                what: WHAT,
                got: bytes.len(),
                max: LOG_RECEIPT_BYTES_MAX,
            });
        }
        let receipt = Self::read(bytes).ok_or(Malformed::NotDecodable { what: WHAT })?;
        match receipt.encode() == bytes {
            true => Ok(receipt),
            false => Err(Malformed::NotCanonical { what: WHAT }),
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut d = Decoder::new(bytes);
        (d.tag().ok()?.as_u64() == TAG_SIGN1).then_some(())?;
        (d.array().ok()? == Some(4)).then_some(())?;
        let of = LogTree::decode_protected(d.bytes().ok()?)?;
        let timestamp = match d.map().ok()?? {
            1 => None,
            2 if d.i64().ok()? == TIMESTAMP_OF_SIGNATURE => Some(d.bytes().ok()?.to_vec()),
            _ => return None,
        };
        let fits = |token: &Vec<u8>| token.len() <= TIMESTAMP_BYTES_MAX;
        timestamp.as_ref().is_none_or(fits).then_some(())?;
        (d.i64().ok()? == VDP && d.map().ok()? == Some(1)).then_some(())?;
        (d.i64().ok()? == INCLUSION).then_some(())?;
        (d.array().ok()? == Some(1)).then_some(())?;
        let mut proof = Decoder::new(d.bytes().ok()?);
        (d.datatype().ok()? == Type::Null).then_some(())?;
        d.skip().ok()?;
        let signature = d.bytes().ok()?.try_into().ok()?;
        (proof.array().ok()? == Some(3)).then_some(())?;
        // It is the signed one, or the encoding is not canonical.
        let (_size, index) = (proof.u64().ok()?, proof.u64().ok()?);
        let hashes = proof.array().ok()??;
        (hashes <= LOG_PATH_MAX).then_some(())?;
        let hash = |_| proof.bytes().ok()?.try_into().ok();
        Some(LogReceipt {
            of,
            index,
            path: (0..hashes).map(hash).collect::<Option<_>>()?,
            signature,
            timestamp,
        })
    }

    /// `Ok` claims: the holder of `endorsing_key` signed the root of a tree of its log in which this charge is. `payee` is whom
    /// the keyset pays whose receipt key signed the charge, the key that which endorsed it.
    pub fn verify(
        &self,
        charge: &SignedCharge,
        payee: &Address,
        endorsing_key: &[u8; 32],
    ) -> Result<Logged, NotLogged> {
        let (got, want) = (self.of.payee, *payee);
        if got != want {
            return Err(NotLogged::Payee { got, want });
        }
        let (index, size) = (self.index, self.of.size);
        let root = self.root(LogLeaf::of(charge));
        let root = root.ok_or(NotLogged::Path { index, size })?;
        let key = VerifyingKey::from_bytes(endorsing_key).map_err(|_| NotLogged::Signature)?;
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(&self.of.sig_structure(&root), &signature)
            .map_err(|_| NotLogged::Signature)?;
        Ok(Logged {
            of: self.of,
            index,
            root,
            imprint: log_imprint(&self.signature),
            timestamp: self.timestamp.clone(),
        })
    }

    /// The root that the path leads to (RFC 9162 section 2.1.3.2). The tree's own entry is nobody's charge.
    fn root(&self, leaf: LogLeaf) -> Option<[u8; 32]> {
        let size = self.of.size;
        if self.index == 0 || self.index >= size {
            return None;
        }
        let (mut at, mut last, mut hash) = (self.index, size - 1, leaf.0);
        for beside in &self.path {
            if last == 0 {
                return None;
            }
            if at & 1 == 1 || at == last {
                hash = node(beside, &hash);
                while at & 1 == 0 && at != 0 {
                    (at, last) = (at >> 1, last >> 1);
                }
            } else {
                hash = node(&hash, beside);
            }
            (at, last) = (at >> 1, last >> 1);
        }
        (last == 0).then_some(hash)
    }
}

impl Logged {
    /// The tree.
    pub fn of(&self) -> &LogTree {
        &self.of
    }

    /// Which of them is the charge.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Its root: two roots of one tree, each signed, show that the provider keeps two logs.
    pub fn root(&self) -> &[u8; 32] {
        &self.root
    }

    /// When the root was signed at the latest, by an authority that is believed. `None`: no time-stamp came with the receipt.
    #[cfg(feature = "client")]
    pub fn time(
        &self,
        authorities: &timestamp::Authorities,
    ) -> Result<Option<timestamp::Timestamp>, timestamp::TimestampError> {
        let token = self.timestamp.as_ref();
        let verified = token.map(|token| authorities.verify(token, &self.imprint));
        verified.transpose()
    }

    /// Whether a time-stamp came with the receipt, of whatever worth.
    pub fn has_timestamp(&self) -> bool {
        self.timestamp.is_some()
    }
}

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn encoded(write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Written) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut Encoder::new(&mut bytes)).expect("a Vec takes every write");
    bytes
}

#[cfg(test)]
mod tests;
