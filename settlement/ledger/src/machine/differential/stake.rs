//! One stake's life under messages that a seed chooses. After each message the promises of the contract are checked.

use super::*;
use crate::network::Random;
use ed25519_dalek::{Signer, SigningKey};
use settlement::{
    Address, Cap, ChannelTerms, Charge, EndorsedKey, Nano, Offence, StakeTerms, Transfer,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tycho_types::{cell::Load, models::StateInit};

const START: u32 = 1_800_000_000;
const DAY: u32 = 86_400;
const LT_STEP: u64 = 1_000_000;
const STRANGER: u8 = 3;
const OWNER: u8 = 1;

/// What all sequences together have seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    exit_codes: BTreeMap<i32, usize>,
    ended: usize,
}

impl Seen {
    /// Every exit code that the contract has, and every stake to its end.
    pub(super) fn assert_wide(&self, sequences: usize) {
        for code in (431..=448).chain([0, 421, 423, 424, 65535]) {
            assert!(self.exit_codes.contains_key(&code), "never {code}");
        }
        assert_eq!(self.ended, sequences);
    }
}

/// The contract's books, read from its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Books {
    bonded: u128,
    unbonding: u128,
    unlock_at: u32,
    slashes: u8,
}

pub(super) struct Life<'a> {
    config: &'a ParsedConfig,
    seen: &'a mut Seen,
    random: Random,
    terms: StakeTerms,
    channel: ChannelTerms,
    owner_key: SigningKey,
    endorser: SigningKey,
    payer_key: SigningKey,
    account: ShardAccount,
    now: u32,
    lt: u64,
    steps: Vec<Step>,
    brought: u128,
    left: u128,
    books: Books,
}

impl Accounts for Life<'_> {
    fn shard_account(&self, _: &Address) -> Result<ShardAccount, LedgerError> {
        Ok(self.account.clone())
    }
}

fn account(n: u8) -> Address {
    Address {
        workchain: 0,
        hash: [n; 32],
    }
}

fn digest(domain: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix([domain.as_bytes(), &[0]].concat());
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

impl<'a> Life<'a> {
    /// Makes a stake's life of this seed, to its very end.
    pub(super) fn run(config: &'a ParsedConfig, seed: u64, seen: &'a mut Seen) -> Vec<Step> {
        let mut random = Random(seed);
        let [owner_key, endorser, payer_key] = [4, 5, 6].map(|n| SigningKey::from_bytes(&[n; 32]));
        let mut pick = |all: &[u32]| all[random.below(all.len() as u64) as usize];
        let terms = StakeTerms {
            chain: match pick(&[0, 0, 0, 0, 0, 0, 1]) {
                0 => ChainId::MAINNET,
                _ => ChainId::TESTNET,
            },
            owner: account(OWNER),
            owner_key: owner_key.verifying_key().to_bytes(),
            unbond_delay_s: pick(&[7 * DAY, 7 * DAY, 7 * DAY + 1, 90 * DAY, 7 * DAY - 1]),
            slashable_until: START + pick(&[40 * DAY, 365 * DAY, 365 * DAY, 4 * 365 * DAY]),
            salt: 1,
        };
        let channel = ChannelTerms {
            chain: ChainId::MAINNET,
            payer: account(7),
            payee: account(8),
            payer_key: payer_key.verifying_key().to_bytes(),
            payee_key: terms.owner_key,
            close_delay_s: 3_600,
            claims_until: START + 30 * DAY,
            salt: 1,
        };
        let mut life = Life {
            config,
            seen,
            random,
            terms,
            channel,
            owner_key,
            endorser,
            payer_key,
            account: no_account().expect("an empty account"),
            now: START,
            lt: LT_STEP,
            steps: Vec::new(),
            brought: 0,
            left: 0,
            books: Books::default(),
        };
        life.deposit();
        for _ in 0..8 + life.random.below(16) {
            life.pass_time();
            life.next();
        }
        life.end();
        life.steps
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random.below(one_in) == 0
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.below(all.len() as u64) as usize]
    }

    /// To a moment beside a deadline, or a while on.
    fn pass_time(&mut self) {
        let (delay, until) = (self.terms.unbond_delay_s, self.terms.slashable_until);
        let wait = match self.random.below(16) {
            0 => self.books.unlock_at.saturating_sub(self.now + 1),
            1 | 2 => self.books.unlock_at.saturating_sub(self.now),
            3 => delay + 1,
            4 if self.chance(4) => until.saturating_sub(self.now),
            5 if self.chance(4) => until.saturating_sub(self.now).saturating_add(1),
            _ => self.random.below(3_600) as u32,
        };
        self.now = self.now.saturating_add(wait);
    }

    fn next(&mut self) {
        match self.random.below(16) {
            0 | 1 => self.deposit(),
            2 | 3 => {
                let bonded = self.books.bonded as u64;
                let amount = self.pick(&[0, 1, bonded / 2, bonded, bonded + 1]);
                self.owner_sends("unbond", self.terms.unbond(Nano(amount), 1));
            }
            4 | 5 => self.owner_sends("withdraw", self.terms.withdraw(1)),
            6 => {
                let value = self.random.below(2_000_000_000);
                let bounce = self.chance(2);
                let transfer = Transfer::money(self.terms.address(), Nano(value));
                self.send("money", STRANGER, Transfer { bounce, ..transfer });
            }
            _ => {
                let offence = self.offence();
                self.send("report", STRANGER, self.terms.report(&offence, 1));
            }
        }
    }

    fn owner_sends(&mut self, what: &'static str, transfer: Transfer) {
        let from = if self.chance(8) { STRANGER } else { OWNER };
        self.send(what, from, transfer);
    }

    fn deposit(&mut self) {
        let amount = self.pick(&[0, 1, 900_000_000, 5_000_000_000, 70_000_000_000]);
        let deposit = self.terms.deposit(Nano(amount), 1).expect("an amount");
        self.send("deposit", OWNER, deposit);
    }

    /// A good report, or one with something wrong in it.
    fn offence(&mut self) -> Offence {
        let receipt_key = SigningKey::from_bytes(&[30 + self.random.below(3) as u8; 32]);
        let key = self.endorsed(&receipt_key);
        let seq = self.random.below(4);
        let signer = if self.chance(16) {
            self.endorser.clone()
        } else {
            receipt_key
        };
        let mut first = self.charge(seq, 5);
        if self.chance(12) {
            first.stake = account(9);
        }
        match self.chance(2) {
            true => {
                let (seq, cost) = match self.random.below(12) {
                    0 => (seq + 1, 6),
                    1 => (seq, 5),
                    _ => (seq, 6),
                };
                let mut second = self.charge(seq, cost);
                if self.chance(12) {
                    second.cap.cap.chain = ChainId::TESTNET;
                }
                Offence::TwoCharges(key, first.sign(&signer), second.sign(&signer))
            }
            false => {
                first.cost = Nano(self.pick(&[100, 101, 500]));
                let mut terms = self.channel.clone();
                terms.salt += u64::from(self.chance(12));
                Offence::AboveCap(key, first.sign(&signer), terms)
            }
        }
    }

    fn charge(&self, seq: u64, cost: u64) -> Charge {
        let cap = Cap {
            chain: ChainId::MAINNET,
            channel: self.channel.address(),
            job: [6; 16],
            most: Nano(100),
        };
        Charge {
            cap: cap.sign(&self.payer_key),
            stake: self.terms.address(),
            receipt_hash: [3; 32],
            seq,
            cost: Nano(cost),
            cumulative: Nano(900),
        }
    }

    fn endorsed(&mut self, receipt_key: &SigningKey) -> EndorsedKey {
        let public = receipt_key.verifying_key().to_bytes();
        let before = vec![7; self.random.below(300) as usize];
        let after = vec![8; self.random.below(1_500) as usize];
        let keyset = [&before[..], &[0x06, 0x58, 0x20], &public, &after].concat();
        let (direct, wrong) = (self.chance(2), self.chance(16));
        let delegation = (!direct).then(|| {
            let until = self.pick(&[START + 400 * DAY, START + 400 * DAY, START - DAY]);
            let signer = if self.chance(16) {
                &self.endorser
            } else {
                &self.owner_key
            };
            let key = self.endorser.verifying_key().to_bytes();
            let (chain, until) = (ChainId::MAINNET.0.to_be_bytes(), until.to_be_bytes());
            let signed = digest("chrysalis/delegation/v1", &[&chain, &key, &until]);
            let signature = signer.sign(&signed).to_bytes();
            let bytes = [&key[..], &until, &signature].concat();
            bytes.try_into().expect("100 bytes")
        });
        let signer = match direct ^ wrong {
            true => &self.owner_key,
            false => &self.endorser,
        };
        let keyset_digest = digest("chrysalis/keyset-digest/v1", &[&keyset]);
        let signed = digest("chrysalis/endorsement/v1", &[&keyset_digest]);
        let signature = signer.sign(&signed).to_bytes();
        EndorsedKey::new(&keyset, public, delegation, signature).expect("it has the key")
    }

    /// Time passes, and the owner takes what there is: nothing may be left.
    fn end(&mut self) {
        self.now = self.now.max(self.terms.slashable_until + 1);
        let mut last = self.terms.withdraw(9);
        last.state_init = Some(self.terms.state_init());
        self.send("the end", OWNER, last);
        let left = self.account.load_account().expect("an account");
        assert!(left.is_none(), "stranded: {left:?}");
        assert_eq!(self.brought, self.left, "coins in are coins out and fees");
        self.seen.ended += 1;
    }

    fn send(&mut self, what: &'static str, from: u8, transfer: Transfer) {
        let value = match self.random.below(10) {
            0 if what != "the end" => self.random.below(20_000_000),
            _ => transfer.value.0,
        };
        let init = transfer.state_init.map(|state| {
            let state = Boc::decode(state.boc()).expect("a bag of cells");
            state.parse::<StateInit>().expect("an initial state")
        });
        let body = transfer.payload.map_or_else(Cell::default, |body| {
            Boc::decode(body.boc()).expect("a bag of cells")
        });
        self.brought += u128::from(value);
        let (from, to) = (account(from), self.terms.address());
        let at = (self.now, self.lt);
        let message = internal(&from, &to, value, transfer.bounce, init, body, at);
        self.deliver(what, message);
    }

    fn deliver(&mut self, what: &'static str, message: Cell) {
        let address = self.terms.address();
        let (now, lt) = (self.now, self.lt);
        let mut machine = Machine::new(self.config, self, now, lt);
        machine
            .execute(&address, false, &message, lt - 1)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let Effects {
            transactions,
            mut accounts,
            ..
        } = machine.effects;
        let view = &transactions[0];
        self.account = accounts.remove(&address).expect("it has changed");
        let said = Said::of(&view.boc, &self.account);
        self.check(what, view);
        self.steps.push(Step {
            what,
            now,
            lt,
            message,
            said,
        });
        self.lt += LT_STEP;
    }

    /// What the contract promises, after each message that it took or refused.
    fn check(&mut self, what: &'static str, view: &TransactionView) {
        let at = format!("{what}, {} steps on, {:?}", self.steps.len(), self.books);
        let code = view.exit_code.unwrap_or(0);
        *self.seen.exit_codes.entry(code).or_default() += 1;
        let values = view.out_messages.iter();
        let gone: u128 = values
            .map(|m| u128::from(m.value.0) + u128::from(m.forward_fee.0))
            .sum();
        self.left += gone + u128::from(view.total_fees.0);
        let (balance, books) = self.read();
        assert_eq!(self.brought, self.left + balance, "conserved: {at}");
        let was = std::mem::replace(&mut self.books, books.unwrap_or_default());
        let Some(now) = books else { return };
        let (held, before) = (now.bonded + now.unbonding, was.bonded + was.unbonding);
        if self.now <= self.terms.slashable_until {
            assert!(balance >= held, "holds {balance} of {held}: {at}");
        }
        let slashed = now.slashes - was.slashes;
        match (what, code, held < before) {
            ("report", 0, true) => assert_eq!(slashed, 1, "{at}"),
            ("withdraw", 0, true) => {
                assert!(self.now >= was.unlock_at, "too early: {at}");
                assert_eq!((now.bonded, now.unbonding), (was.bonded, 0), "{at}");
            }
            (_, _, shrunk) => assert!(!shrunk && slashed == 0, "{at}"),
        }
    }

    /// What the account holds, and its books if it runs.
    fn read(&self) -> (u128, Option<Books>) {
        let Some(account) = self.account.load_account().expect("an account") else {
            return (0, None);
        };
        let balance = account.balance.tokens.into_inner();
        let AccountState::Active(state) = account.state else {
            return (balance, None);
        };
        let data = state.data.expect("it has data");
        let mut slice = data.as_slice().expect("an ordinary cell");
        slice.skip_first(32, 0).expect("a chain");
        let mut coins = || {
            let amount = Tokens::load_from(&mut slice).expect("an amount");
            amount.into_inner()
        };
        let (bonded, unbonding) = (coins(), coins());
        let books = Books {
            bonded,
            unbonding,
            unlock_at: slice.load_u32().expect("a moment"),
            slashes: slice.load_u8().expect("a number"),
        };
        (balance, Some(books))
    }
}
