//! Who is paid: its key endorses keysets and signs payouts (SECURITY.md 18).
//!
//! Promises: a keyset that pays anyone else, is for another chain, or names another stake, is not endorsed, so
//! that a guest whose configuration was swapped finds no client. Nothing simulated is endorsed for a live chain.

use crate::error::{Context, Error, Fault};
use crate::limits::KEY_FILE_BYTES_MAX;
use ed25519_dalek::SigningKey;
use settlement::{Address, ChainId, Wallet};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use wire::{Endorsement, Evidence, Keyset, Malformed};
use zeroize::{Zeroize, Zeroizing};

/// The payee's key and wallet. It cannot be printed, and wipes the key when dropped.
pub struct Payee {
    key: SigningKey,
    wallet: Wallet,
    chain: ChainId,
}

/// Why a keyset is not endorsed. The guest or its configuration is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotEndorsed {
    #[error("the guest's evidence is malformed: {0}")]
    Malformed(#[from] Malformed),
    #[error("the guest's keyset pays {got}, this provider is {own}")]
    Payee { got: Address, own: Address },
    #[error("the guest's keyset has another payee_key than this provider")]
    PayeeKey,
    #[error("the guest's keyset is for chain {got}, this provider settles on {own}")]
    Chain { got: ChainId, own: ChainId },
    #[error("the guest's keyset names the stake {0}; it must be this provider's address")]
    Stake(Address),
    #[error("a simulated guest cannot be endorsed for a live TON chain")]
    Simulated,
}

impl Payee {
    pub fn from_seed(seed: &[u8; 32], chain: ChainId) -> Self {
        Payee {
            key: SigningKey::from_bytes(seed),
            wallet: Wallet::from_seed(seed, chain),
            chain,
        }
    }

    /// Reads the seed: 64 hex digits and at most a line end.
    pub fn read(path: &Path, chain: ChainId) -> Result<Self, Error> {
        let reading = || format!("cannot read payee_key_file {}", path.display());
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = opened.context(Fault::Configuration, reading)?;
        if metadata.permissions().mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "other users can read the payee's key: chmod 600");
        }
        let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_BYTES_MAX as usize));
        let read = file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text);
        read.context(Fault::Configuration, reading)?;
        let mut seed = [0; 32];
        let read = hex::decode_to_slice(text.trim(), &mut seed);
        let payee = read.map(|()| Payee::from_seed(&seed, chain));
        seed.zeroize();
        payee.map_err(|_| {
            let words = format!("payee_key_file {} must hold 64 hex digits", path.display());
            Error::new(Fault::Configuration, words)
        })
    }

    pub fn address(&self) -> Address {
        self.wallet.address()
    }

    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    pub fn chain(&self) -> ChainId {
        self.chain
    }

    pub fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// Endorses the keyset in a guest's evidence, if it is ours to endorse.
    pub fn endorse(&self, evidence: &[u8]) -> Result<(Keyset, Endorsement), NotEndorsed> {
        let evidence = Evidence::decode(evidence)?;
        let keyset = Keyset::decode(&evidence.keyset)?;
        if keyset.chain != self.chain {
            return Err(NotEndorsed::Chain {
                got: keyset.chain,
                own: self.chain,
            });
        }
        if keyset.payee != self.address() {
            return Err(NotEndorsed::Payee {
                got: keyset.payee,
                own: self.address(),
            });
        }
        if keyset.payee_key != self.public_key() {
            return Err(NotEndorsed::PayeeKey);
        }
        if keyset.stake != self.address() {
            return Err(NotEndorsed::Stake(keyset.stake));
        }
        if keyset.profile == "sim" && keyset.chain.is_live() {
            return Err(NotEndorsed::Simulated);
        }
        let endorsement = Endorsement::sign(keyset.digest(), &self.key);
        Ok((keyset, endorsement))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{evidence, keyset};

    #[test]
    fn only_a_keyset_that_pays_us_is_endorsed() {
        let payee = Payee::from_seed(&[1; 32], ChainId::EMBEDDED);
        let other = Payee::from_seed(&[2; 32], ChainId::EMBEDDED);
        let ours = keyset(&payee);
        let (seen, endorsement) = payee.endorse(&evidence(&ours)).expect("ours");
        assert_eq!(seen, ours);
        assert!(endorsement.holds(ours.digest(), &payee.public_key()));
        assert!(!endorsement.holds(ours.digest(), &other.public_key()));

        let check = |change: &dyn Fn(&mut Keyset), expected: NotEndorsed| {
            let mut changed = ours.clone();
            change(&mut changed);
            assert_eq!(
                payee.endorse(&evidence(&changed)).expect_err("refused"),
                expected
            );
        };
        let (got, own) = (other.address(), payee.address());
        check(&|k| k.payee = got, NotEndorsed::Payee { got, own });
        check(&|k| k.payee_key = other.public_key(), NotEndorsed::PayeeKey);
        check(&|k| k.stake = got, NotEndorsed::Stake(got));
        let (live, embedded) = (ChainId::TESTNET, ChainId::EMBEDDED);
        check(
            &|k| k.chain = live,
            NotEndorsed::Chain {
                got: live,
                own: embedded,
            },
        );
        assert!(matches!(
            payee.endorse(b"not evidence"),
            Err(NotEndorsed::Malformed(_))
        ));
    }

    #[test]
    fn nothing_simulated_is_endorsed_for_a_live_chain() {
        let payee = Payee::from_seed(&[1; 32], ChainId::MAINNET);
        let refused = payee.endorse(&evidence(&keyset(&payee)));
        assert_eq!(refused.expect_err("refused"), NotEndorsed::Simulated);
    }
}
