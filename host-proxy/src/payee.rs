//! Who is paid, and what its proxy may do for it: three keys, so that one theft does not take all (SECURITY.md 18).
//!
//! | key | where | what its thief can do |
//! |---|---|---|
//! | payee | offline | agree to close channels for less than they owe; name another endorser |
//! | wallet | here | take what the wallet holds |
//! | endorsing | here | let keysets that pay this payee look endorsed until the delegation ends, and have its stake slashed for them |
//!
//! Promises: a keyset that pays anyone else, is for another chain, or names another stake, is not endorsed, so
//! that a guest whose configuration was swapped finds no client. Nothing simulated is endorsed for a live chain.

use crate::clock::now_unix_s;
use crate::config::Config;
use crate::error::{Context, Error, Fault, read_file};
use crate::keys::Seed;
use crate::limits::KEY_FILE_BYTES_MAX;
use ed25519_dalek::SigningKey;
use settlement::{Address, ChainId, Wallet};
use std::path::Path;
use wire::{Delegation, Endorsement, Evidence, Keyset, LogTree, Malformed};

/// The payee's public key, its wallet, and the key that endorses for it. It cannot be printed, and wipes both keys when dropped.
pub struct Payee {
    key: [u8; 32],
    endorsing: SigningKey,
    delegation: Delegation,
    wallet: Wallet,
    stake: Address,
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
    #[error(
        "the guest's keyset names the stake {got}, this provider's is {own} (`stake` in host-proxy.yaml)"
    )]
    Stake { got: Address, own: Address },
    #[error("a simulated guest cannot be endorsed for a live TON chain")]
    Simulated,
    #[error(
        "the delegation to the endorsing key ended at {0} (Unix seconds); renew it with `host-proxy delegate`"
    )]
    DelegationEnded(u32),
}

impl Payee {
    /// Reads the two secret keys and the payee's word for the second.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let passphrase = config.passphrase.as_ref();
        let passphrase = passphrase.map(|source| source.passphrase()).transpose()?;
        let passphrase = passphrase.as_ref().map(|text| text.as_str());
        let wallet = config.wallet_key.seed(passphrase)?;
        let endorsing = config.endorsing_key.seed(passphrase)?;
        let delegation = read_delegation(&config.delegation)?;
        let parts = (config.payee_key, &wallet, &endorsing, delegation);
        let payee = Payee::from_parts(parts, config.chain);
        let payee = payee.map_err(|words| Error::new(Fault::Configuration, words))?;
        Ok(payee.staked(config.stake))
    }

    /// `parts` are the payee's public key, the wallet's and the endorsing seed, and the delegation.
    pub(crate) fn from_parts(
        (key, wallet, endorsing, delegation): ([u8; 32], &Seed, &Seed, Delegation),
        chain: ChainId,
    ) -> Result<Self, &'static str> {
        let wallet = Wallet::from_seed(wallet, chain);
        let endorsing = SigningKey::from_bytes(endorsing);
        let public = endorsing.verifying_key().to_bytes();
        if wallet.public_key() == key || public == key || public == wallet.public_key() {
            return Err(
                "payee_key, wallet_key and endorsing_key must be three keys (see `host-proxy keygen`)",
            );
        }
        if delegation.endorser != public {
            return Err("the delegation is for another key than endorsing_key");
        }
        // Whether it has ended is another question, and no reason not to settle.
        if !delegation.holds(&key, chain, 0) {
            return Err("the delegation is not signed by payee_key for this chain");
        }
        Ok(Payee {
            key,
            endorsing,
            delegation,
            stake: wallet.address(),
            wallet,
            chain,
        })
    }

    /// From now on this stake answers for its guests, if there is one.
    pub(crate) fn staked(mut self, stake: Option<Address>) -> Self {
        self.stake = stake.unwrap_or(self.stake);
        self
    }

    pub fn address(&self) -> Address {
        self.wallet.address()
    }

    /// The stake contract that answers for charges of its guests; without one its own address.
    pub fn stake(&self) -> Address {
        self.stake
    }

    pub fn public_key(&self) -> [u8; 32] {
        self.key
    }

    pub fn chain(&self) -> ChainId {
        self.chain
    }

    pub fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// The public key that endorses.
    pub fn endorsing_key(&self) -> [u8; 32] {
        self.delegation.endorser
    }

    /// Signs the root of a tree of this provider's log.
    pub(crate) fn sign_tree(&self, of: &LogTree, root: &[u8; 32]) -> [u8; 64] {
        of.sign(root, &self.endorsing)
    }

    /// Until when keysets can be endorsed, in Unix seconds.
    pub fn endorses_until(&self) -> u32 {
        self.delegation.until_unix_s
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
        if keyset.stake != self.stake {
            let (got, own) = (keyset.stake, self.stake);
            return Err(NotEndorsed::Stake { got, own });
        }
        if keyset.profile == "sim" && keyset.chain.is_live() {
            return Err(NotEndorsed::Simulated);
        }
        let ends = self.delegation.until_unix_s;
        if now_unix_s() > ends.into() {
            return Err(NotEndorsed::DelegationEnded(ends));
        }
        let endorsement =
            Endorsement::sign_delegated(keyset.digest(), self.delegation, &self.endorsing);
        Ok((keyset, endorsement))
    }
}

/// Reads a delegation: 200 hex digits.
fn read_delegation(path: &Path) -> Result<Delegation, Error> {
    let text = read_file(path, KEY_FILE_BYTES_MAX)?;
    let mut bytes = [0; Delegation::BYTES];
    let read = hex::decode_to_slice(text.trim_ascii(), &mut bytes);
    read.context(Fault::Configuration, || {
        format!("delegation {}", path.display())
    })?;
    Ok(Delegation::decode(&bytes))
}

#[cfg(test)]
mod slashed;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{evidence, keyset, payee_of};
    use zeroize::Zeroizing;

    const FAR: u32 = 4_000_000_000;

    #[test]
    fn only_a_keyset_that_pays_us_is_endorsed() {
        let payee = payee_of(1, ChainId::EMBEDDED);
        let other = payee_of(2, ChainId::EMBEDDED);
        let ours = keyset(&payee);
        let (seen, endorsement) = payee.endorse(&evidence(&ours)).expect("ours");
        assert_eq!(seen, ours);
        let holds = |of: &Payee| {
            let now = now_unix_s();
            endorsement.holds(ours.digest(), &of.public_key(), of.chain(), now)
        };
        assert!(holds(&payee));
        assert!(!holds(&other));

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
        check(&|k| k.stake = got, NotEndorsed::Stake { got, own });
        let staked = payee_of(1, ChainId::EMBEDDED).staked(Some(got));
        let (got, own) = (own, got);
        let refused = staked.endorse(&evidence(&ours)).expect_err("refused");
        assert_eq!(refused, NotEndorsed::Stake { got, own });
        let mut named = ours.clone();
        named.stake = own;
        staked.endorse(&evidence(&named)).expect("ours");
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
        let payee = payee_of(1, ChainId::MAINNET);
        let refused = payee.endorse(&evidence(&keyset(&payee)));
        assert_eq!(refused.expect_err("refused"), NotEndorsed::Simulated);
    }

    #[test]
    fn three_keys_are_three_and_the_payee_vouches_for_the_endorsing_one() {
        const CHAIN: ChainId = ChainId::EMBEDDED;
        let seed = |n: u8| Zeroizing::new([n; 32]);
        let key = |n: u8| SigningKey::from_bytes(&[n; 32]);
        let public = |n: u8| key(n).verifying_key().to_bytes();
        let open = |payee: u8, wallet: u8, endorsing: u8, delegation: Delegation| {
            let parts = (public(payee), &seed(wallet), &seed(endorsing), delegation);
            Payee::from_parts(parts, CHAIN).map(|payee| payee.endorses_until())
        };
        let good = |endorsing: u8| Delegation::sign(public(endorsing), FAR, CHAIN, &key(1));
        assert_eq!(open(1, 2, 3, good(3)), Ok(FAR));
        for (payee, wallet, endorsing) in [(1, 1, 3), (1, 3, 3), (1, 2, 1), (1, 1, 1)] {
            let said = open(payee, wallet, endorsing, good(endorsing)).expect_err("refused");
            assert!(said.contains("three keys"), "{said}");
        }
        let said = open(1, 2, 3, good(4)).expect_err("refused");
        assert!(said.contains("another key"), "{said}");
        for other in [
            Delegation::sign(public(3), FAR, CHAIN, &key(2)),
            Delegation::sign(public(3), FAR, ChainId::TESTNET, &key(1)),
        ] {
            let said = open(1, 2, 3, other).expect_err("refused");
            assert!(said.contains("not signed by payee_key"), "{said}");
        }
        // One that has ended endorses nothing, and the wallet is as good as before.
        let ended = Delegation::sign(public(3), 5, CHAIN, &key(1));
        let parts = (public(1), &seed(2), &seed(3), ended);
        let payee = Payee::from_parts(parts, CHAIN).expect("opens");
        let refused = payee.endorse(&evidence(&keyset(&payee)));
        assert_eq!(
            refused.expect_err("refused"),
            NotEndorsed::DelegationEnded(5)
        );
    }
}
