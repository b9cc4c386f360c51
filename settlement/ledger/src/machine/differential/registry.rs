//! One registry's life under messages that a seed chooses, good ones and damaged ones. After each the promises of the contract are
//! checked: above all that nothing loosens but by a proposal that has waited.

use super::*;
use crate::network::Random;
use settlement::{Address, Contract, Nano, Registry, RegistryTerms, Transfer};
use std::collections::BTreeMap;
use tycho_types::{cell::Load, dict::RawDict};

const START: u32 = 1_800_000_000;
const DAY: u32 = 86_400;
const LT_STEP: u64 = 1_000_000;
const ADMIN: u8 = 1;
const GUARDIAN: u8 = 2;
const STRANGER: u8 = 3;
const EXECUTABLE: u32 = 30 * DAY;

/// What all lives together have seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    exit_codes: BTreeMap<i32, usize>,
    executed: usize,
    versions: u64,
}

impl Seen {
    /// Every exit code that a short life can come to: that the registry is full has a test of its own.
    pub(super) fn assert_wide(&self) {
        for code in (451..=465).chain([0, 469, 470, 65535]) {
            assert!(self.exit_codes.contains_key(&code), "never {code}");
        }
        assert!(self.executed > 30, "{self:?}");
    }
}

type Key = [u8; 33];

/// The contract's books, read from its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Books {
    version: u64,
    fee: u16,
    counts: [u16; 3],
    entries: BTreeMap<Key, Vec<u8>>,
    /// With the moment before the value.
    proposals: BTreeMap<Key, Vec<u8>>,
    /// The hashes of admin and guardian.
    roles: [[u8; 32]; 2],
}

pub(super) struct Life<'a> {
    config: &'a ParsedConfig,
    seen: &'a mut Seen,
    random: Random,
    terms: RegistryTerms,
    account: ShardAccount,
    now: u32,
    lt: u64,
    steps: Vec<Step>,
    brought: u128,
    left: u128,
    books: Books,
    code: HashBytes,
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

impl<'a> Life<'a> {
    /// Makes a registry's life of this seed.
    pub(super) fn run(config: &'a ParsedConfig, seed: u64, seen: &'a mut Seen) -> Vec<Step> {
        let mut random = Random(seed);
        let mut pick = |all: &[u32]| all[random.below(all.len() as u64) as usize];
        let terms = RegistryTerms {
            chain: match pick(&[0, 0, 0, 0, 0, 0, 0, 0, 1]) {
                0 => ChainId::MAINNET,
                _ => ChainId::TESTNET,
            },
            admin: account(ADMIN),
            guardian: account(GUARDIAN),
            delay_s: pick(&[DAY, DAY, DAY, DAY, DAY + 1, 30 * DAY, DAY - 1]),
            open_until: START
                + pick(&[7 * DAY, 7 * DAY, 7 * DAY, 7 * DAY, 7 * DAY, 0, 0, 31 * DAY]),
            salt: 1,
        };
        let mut life = Life {
            config,
            seen,
            random,
            terms,
            account: no_account().expect("an empty account"),
            now: START,
            lt: LT_STEP,
            steps: Vec::new(),
            brought: 0,
            left: 0,
            books: Books::none(),
            code: HashBytes(Contract::Registry.code_hash()),
        };
        life.open();
        for step in 0..24 + life.random.below(24) {
            if life.books.version == 0 && step > 8 {
                break;
            }
            life.pass_time();
            life.next();
        }
        life.end();
        life.seen.versions += life.books.version;
        life.steps
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random.below(one_in) == 0
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.below(all.len() as u64) as usize]
    }

    /// To the moment when a proposal can be executed or is void, or a while on.
    fn pass_time(&mut self) {
        let moments: Vec<u32> = { self.books.proposals.values() }
            .map(|proposal| u32::from_be_bytes(proposal[..4].try_into().expect("a moment")))
            .collect();
        let executable = match moments.is_empty() {
            true => self.now,
            false => self.pick(&moments),
        };
        let to = match self.random.below(12) {
            0 => executable - 1,
            1..=5 => executable,
            6 => executable.saturating_add(EXECUTABLE),
            7 if self.chance(3) => executable.saturating_add(EXECUTABLE + 1),
            _ => self.now + self.random.below(3_600) as u32,
        };
        self.now = self.now.max(to);
    }

    fn open(&mut self) {
        let mut opening = self.terms.open(1);
        if self.chance(8) {
            opening.value = Nano(self.pick(&[1_000_000, 400_000_000]));
        }
        self.now += self.pick(&[0, 0, 0, 1]);
        self.send("open", STRANGER, opening);
    }

    fn next(&mut self) {
        let registry = Registry(self.terms.address());
        let from = match self.random.below(8) {
            0 => STRANGER,
            1 | 2 => GUARDIAN,
            _ => ADMIN,
        };
        let key = self.key();
        match self.random.below(16) {
            0 => self.open(),
            1 => self.send("withdraw", from, registry.withdraw(1)),
            2 => {
                let money = Transfer::money(registry.0, Nano(self.random.below(900_000_000)));
                let bounce = self.chance(2);
                self.send("money", from, Transfer { bounce, ..money });
            }
            3 | 4 => {
                let value = self.value(key[0]);
                self.keyed(b"rtgt", "tighten", from, key, &value);
            }
            5 => self.keyed(b"rcan", "cancel", from, key, &[]),
            6..=9 => self.execute(from, key),
            _ => {
                let value = self.value(key[0]);
                self.keyed(b"rprp", "propose", from, key, &value);
            }
        }
    }

    /// One that has a proposal or an entry, or a new one of any kind.
    fn key(&mut self) -> Key {
        let known = { self.books.proposals.keys() }.chain(self.books.entries.keys());
        let known: Vec<Key> = known.copied().collect();
        if !known.is_empty() && !self.chance(3) {
            return self.pick(&known);
        }
        let kind = self.random.below(12) as u8;
        let id = match kind {
            7..=10 if !self.chance(4) => 0,
            _ => 1 + self.random.below(3) as u8,
        };
        let mut key = [id; 33];
        key[0] = kind;
        key
    }

    /// A value of this kind, or sometimes of another.
    fn value(&mut self, kind: u8) -> Vec<u8> {
        let kind = if self.chance(10) {
            self.random.below(12) as u8
        } else {
            kind
        };
        let ends = [self.now, self.now + DAY, u32::MAX];
        match kind {
            _ if self.chance(6) => Vec::new(),
            1 => self.pick(&ends).to_be_bytes().to_vec(),
            2 => (0..4)
                .flat_map(|_| self.random.below(4).to_be_bytes())
                .collect(),
            3 => b"DEhttp://a"[..self.pick(&[2, 3, 10])].to_vec(),
            4..=6 => vec![9; self.pick(&[0, 1, 1])],
            7 => self.pick(&[0u16, 25, 500, 501]).to_be_bytes().to_vec(),
            8 | 9 => vec![self.pick(&[ADMIN, GUARDIAN, STRANGER]); 32],
            // Its own code, so that a life goes on.
            _ => self.code.0.to_vec(),
        }
    }

    fn execute(&mut self, from: u8, key: Key) {
        let with = self.chance(2).then_some(match self.chance(4) {
            true => Contract::ChargeCheck,
            false => Contract::Registry,
        });
        let mut body = keyed(b"rexe", key, &[with.map_or(0, |_| 0x80)]);
        if let Some(contract) = with {
            let code = Boc::decode(contract.code_boc()).expect("code");
            body.store_reference(code).expect("room");
        }
        self.send_body("execute", from, body);
    }

    fn keyed(&mut self, tag: &[u8; 4], what: &'static str, from: u8, key: Key, value: &[u8]) {
        let mut body = keyed(tag, key, value);
        if self.chance(16) {
            body.store_reference(Cell::default()).expect("room");
        }
        self.send_body(what, from, body);
    }

    fn send_body(&mut self, what: &'static str, from: u8, body: CellBuilder) {
        let value = match self.random.below(12) {
            0 => self.random.below(200_000_000),
            _ => 800_000_000,
        };
        let body = body.build().expect("a cell");
        self.deliver(what, from, value, true, None, body);
    }

    fn send(&mut self, what: &'static str, from: u8, transfer: Transfer) {
        let decode = |boc: Vec<u8>| Boc::decode(boc).expect("a bag of cells");
        let init = transfer.state_init.map(|state| decode(state.boc()));
        let body = { transfer.payload }.map_or_else(Cell::default, |body| decode(body.boc()));
        self.deliver(what, from, transfer.value.0, transfer.bounce, init, body);
    }

    /// What is above the reserve comes out, whatever happened before.
    fn end(&mut self) {
        if self.books.version == 0 {
            return;
        }
        // In some lives a value of another kind became the admin: no account can take anything out there.
        let admin = |from: &u8| self.books.roles[0] == [*from; 32];
        let Some(admin) = [ADMIN, GUARDIAN, STRANGER].into_iter().find(admin) else {
            return;
        };
        let registry = Registry(self.terms.address());
        for value in [3_000_000_000, 1] {
            let money = Transfer::money(registry.0, Nano(value));
            self.send("money", STRANGER, money);
            self.send("the end", admin, registry.withdraw(1));
        }
        let held = self.read().0;
        assert!((300_000_000..420_000_000).contains(&held), "holds {held}");
    }

    fn deliver(
        &mut self,
        what: &'static str,
        from: u8,
        value: u64,
        bounce: bool,
        init: Option<Cell>,
        body: Cell,
    ) {
        let address = self.terms.address();
        let (now, lt) = (self.now, self.lt);
        let init = init.map(|state| state.parse().expect("an initial state"));
        let message = internal(
            &account(from),
            &address,
            value,
            bounce,
            init,
            body,
            (now, lt),
        );
        self.brought += u128::from(value);
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
        self.check(what, from, view);
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
    fn check(&mut self, what: &'static str, from: u8, view: &TransactionView) {
        let at = format!("{what} from {from}, {} steps on", self.steps.len());
        let code = view.exit_code.unwrap_or(0);
        *self.seen.exit_codes.entry(code).or_default() += 1;
        let values = view.out_messages.iter();
        let gone: u128 = values
            .map(|m| u128::from(m.value.0) + u128::from(m.forward_fee.0))
            .sum();
        self.left += gone + u128::from(view.total_fees.0);
        let (balance, now) = self.read();
        assert_eq!(self.brought, self.left + balance, "conserved: {at}");
        let was = std::mem::replace(&mut self.books, now.clone());
        assert!(
            [was.version, was.version + 1].contains(&now.version),
            "{at}"
        );
        if now.version == was.version {
            assert_eq!(now, was, "a change without a version: {at}");
            return;
        }
        assert_eq!(code, 0, "{at}");
        now.assert_counted(&at);
        let allowed = |role: usize| was.roles[role] == [from; 32];
        match what {
            "execute" => {
                self.seen.executed += 1;
                let ripe = |proposal: &[u8]| {
                    let moment = u32::from_be_bytes(proposal[..4].try_into().expect("a moment"));
                    (moment..=moment + EXECUTABLE).contains(&self.now)
                };
                let gone = was.proposals.iter();
                let gone: Vec<_> = gone
                    .filter(|(key, _)| !now.proposals.contains_key(*key))
                    .collect();
                assert!(gone.len() == 1 && ripe(gone[0].1), "{at}");
            }
            "propose" => {
                assert!(allowed(0), "{at}");
                assert_eq!((&now.entries, now.fee), (&was.entries, was.fee), "{at}");
                assert_eq!(now.roles, was.roles, "{at}");
            }
            "cancel" | "tighten" => {
                assert!(allowed(0) || allowed(1), "{at}");
                now.assert_tighter(&was, &at);
            }
            "open" => assert_eq!(was.version, 0, "{at}"),
            other => panic!("{other} changed it: {at}"),
        }
    }

    /// What the account holds, and its books if it runs.
    fn read(&self) -> (u128, Books) {
        let Some(account) = self.account.load_account().expect("an account") else {
            return (0, Books::none());
        };
        let balance = account.balance.tokens.into_inner();
        let AccountState::Active(state) = account.state else {
            return (balance, Books::none());
        };
        let data = state.data.expect("it has data");
        (balance, Books::of(&data).expect("a registry's data"))
    }
}

fn keyed(tag: &[u8; 4], key: Key, value: &[u8]) -> CellBuilder {
    let mut body = CellBuilder::new();
    let bits = if tag == b"rexe" {
        1
    } else {
        8 * value.len() as u16
    };
    body.store_raw(tag, 32).expect("room");
    body.store_u64(1).expect("room");
    body.store_raw(&key, 264).expect("room");
    body.store_raw(value, bits).expect("room");
    body
}

impl Books {
    /// Of a registry that does not run yet.
    fn none() -> Books {
        Books {
            roles: [[ADMIN; 32], [GUARDIAN; 32]],
            ..Books::default()
        }
    }

    fn of(data: &Cell) -> Result<Books, tycho_types::error::Error> {
        let mut slice = data.as_slice()?;
        slice.skip_first(32, 0)?;
        let (version, fee) = (slice.load_u64()?, slice.load_u16()?);
        let counts = [slice.load_u16()?, slice.load_u16()?, slice.load_u16()?];
        let mut all = || -> Result<BTreeMap<Key, Vec<u8>>, tycho_types::error::Error> {
            let dict = RawDict::<264>::load_from(&mut slice)?;
            let bytes = |slice: tycho_types::cell::CellSlice<'_>| {
                let mut bytes = vec![0; usize::from(slice.size_bits() / 8)];
                slice.get_raw(0, &mut bytes, slice.size_bits())?;
                Ok::<_, tycho_types::error::Error>(bytes)
            };
            let entries = dict.iter().map(|entry| {
                let (key, value) = entry?;
                let key = bytes(key.as_data_slice())?;
                Ok((key.try_into().expect("33 bytes"), bytes(value)?))
            });
            entries.collect()
        };
        let (entries, proposals) = (all()?, all()?);
        let roles = slice.load_reference()?.as_slice()?;
        // Two addresses of 267 bits, which end in their hashes.
        let mut hashes = [[0; 32]; 2];
        for (hash, at) in hashes.iter_mut().zip([267 - 256, 2 * 267 - 256]) {
            roles.get_raw(at, hash, 256)?;
        }
        Ok(Books {
            version,
            fee,
            counts,
            entries,
            proposals,
            roles: hashes,
        })
    }

    /// The counts are right, and nothing is both allowed and revoked, or revoked and proposed.
    fn assert_counted(&self, at: &str) {
        let revoked = |key: &&Key| (4..=6).contains(&key[0]);
        let revocations = self.entries.keys().filter(revoked).count();
        let counted = [
            self.entries.len() - revocations,
            revocations,
            self.proposals.len(),
        ];
        assert_eq!(self.counts.map(usize::from), counted, "{at}");
        for key in self.entries.keys().filter(|key| key[0] == 4) {
            let mut image = *key;
            image[0] = 1;
            assert!(!self.entries.contains_key(&image), "{at}");
            assert!(!self.proposals.contains_key(&image), "{at}");
        }
    }

    /// Nothing is allowed now that was not before, and nothing is revoked no more.
    fn assert_tighter(&self, was: &Books, at: &str) {
        assert!(self.fee <= was.fee && self.roles == was.roles, "{at}");
        for (key, value) in &self.entries {
            match (key[0], was.entries.get(key)) {
                (4..=6, _) => {}
                (2, Some(old)) => {
                    let mut pairs = value.chunks(8).zip(old.chunks(8));
                    assert!(pairs.all(|(new, old)| new <= old), "{at}");
                }
                (_, Some(old)) => assert!(value <= old, "{at}"),
                (_, None) => panic!("allowed at once: {at}"),
            }
        }
        let revoked = { was.entries.iter() }.filter(|(key, _)| (4..=6).contains(&key[0]));
        for (key, value) in revoked {
            assert_eq!(self.entries.get(key), Some(value), "{at}");
        }
        let kept = |(key, value)| was.proposals.get(key) == Some(value);
        assert!(self.proposals.iter().all(kept), "{at}");
    }
}
