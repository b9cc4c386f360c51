//! The payee's key: it endorses keysets and signs payouts (SECURITY.md 18).
//!
//! Promises: a keyset that pays anybody else, on any other chain, or answers with another stake, is not endorsed, so
//! that a guest whose configuration was swapped finds no client. Nothing simulated is endorsed for a live chain.

use crate::limits::KEY_FILE_BYTES_MAX;
use ed25519_dalek::SigningKey;
use settlement::{Address, ChainId, Wallet};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use wire::{Endorsement, Evidence, Keyset, Malformed};
use zeroize::{Zeroize, Zeroizing};

/// Who is paid. It holds the key, cannot be printed, and wipes the key when dropped.
pub struct Payee {
    key: SigningKey,
    wallet: Wallet,
    chain: ChainId,
}

/// Why a keyset is not endorsed. The guest, or whoever configured it, is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotEndorsed {
    /// What the guest shows is no evidence.
    #[error("the guest's evidence is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// It pays somebody else.
    #[error("the guest's keyset pays {got}, this provider is {want}")]
    Payee {
        /// Whom the keyset names.
        got: Address,
        /// Who we are.
        want: Address,
    },
    /// It names another key for our wallet.
    #[error("the guest's keyset names another payee key than this provider's")]
    PayeeKey,
    /// Another chain.
    #[error("the guest's keyset is for chain {got}, this provider settles on {want}")]
    Chain {
        /// The keyset's chain.
        got: ChainId,
        /// Ours.
        want: ChainId,
    },
    /// Another stake than the payee's account: this version has no stake contract.
    #[error("the guest's keyset names the stake {0}, which is not this provider's account")]
    Stake(Address),
    /// A simulated guest on a live chain.
    #[error("a simulated guest cannot be endorsed for a live TON chain")]
    Simulated,
}

/// Why the payee's key cannot be read. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system refuses.
    #[error("cannot read the payee key {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not 64 hex digits.
    #[error("the payee key {0} is not 64 hex digits")]
    Form(PathBuf),
}

impl Payee {
    /// The payee of this seed on this chain.
    pub fn from_seed(seed: &[u8; 32], chain: ChainId) -> Self {
        Payee {
            key: SigningKey::from_bytes(seed),
            wallet: Wallet::from_seed(seed, chain),
            chain,
        }
    }

    /// Reads the seed: 64 hex digits and at most a line end.
    pub fn read(path: &Path, chain: ChainId) -> Result<Self, KeyFileError> {
        let refuse = |source| KeyFileError::Read {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(path).map_err(refuse)?;
        let mode = file.metadata().map_err(refuse)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "others on this machine can read the payee key: chmod 600");
        }
        let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_BYTES_MAX as usize));
        file.take(KEY_FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(refuse)?;
        let mut seed = [0; 32];
        let read = hex::decode_to_slice(text.trim(), &mut seed);
        let payee = read.map(|()| Payee::from_seed(&seed, chain));
        seed.zeroize();
        payee.map_err(|_| KeyFileError::Form(path.to_owned()))
    }

    /// The account that is paid.
    pub fn address(&self) -> Address {
        self.wallet.address()
    }

    /// Its public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// The chain it settles on.
    pub fn chain(&self) -> ChainId {
        self.chain
    }

    /// The wallet that sends claims.
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
                want: self.chain,
            });
        }
        if keyset.payee != self.address() {
            return Err(NotEndorsed::Payee {
                got: keyset.payee,
                want: self.address(),
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
    use crate::fake::{evidence, keyset};

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
        let (got, want) = (other.address(), payee.address());
        check(&|k| k.payee = got, NotEndorsed::Payee { got, want });
        check(&|k| k.payee_key = other.public_key(), NotEndorsed::PayeeKey);
        check(&|k| k.stake = got, NotEndorsed::Stake(got));
        let (live, embedded) = (ChainId::TESTNET, ChainId::EMBEDDED);
        check(
            &|k| k.chain = live,
            NotEndorsed::Chain {
                got: live,
                want: embedded,
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
