//! One channel's life under messages that a seed chooses: good ones, bad ones and damaged ones, at moments around its deadlines.
//! After each message the promises of the contract are checked.

use super::*;
use crate::network::Random;
use ed25519_dalek::SigningKey;
use settlement::limits::EXTERNAL_COST_MAX;
use settlement::{ChannelTerms, CooperativeClose, Nano, Payload, SignedVoucher, Transfer, Voucher};
use std::collections::BTreeMap;
use tycho_types::{
    cell::{CellSliceRange, Load},
    models::{MessageLayout, StateInit},
};

const START: u32 = 1_800_000_000;
const LT_STEP: u64 = 1_000_000;

/// A message, and what became of it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) what: &'static str,
    pub(super) now: u32,
    pub(super) lt: u64,
    pub(super) message: Cell,
    pub(super) said: Said,
}

/// What all sequences together have seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    steps: usize,
    exit_codes: BTreeMap<i32, usize>,
    external_claims: usize,
    ended: usize,
}

impl Seen {
    /// Every exit code that the contract has, and every way to end.
    pub(super) fn assert_wide(&self) {
        for code in (401..=417).chain([0, 65535]) {
            assert!(self.exit_codes.contains_key(&code), "never {code}");
        }
        assert!(self.external_claims > 30, "{self:?}");
    }
}

/// The contract's books, read from its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Books {
    status: u8,
    deposit: u128,
    paid: u128,
}

pub(super) struct Sequence<'a> {
    config: &'a ParsedConfig,
    seen: &'a mut Seen,
    random: Random,
    terms: ChannelTerms,
    keys: [SigningKey; 2],
    payee_key: SigningKey,
    account: ShardAccount,
    now: u32,
    lt: u64,
    steps: Vec<Step>,
    /// All value that messages brought, and what left again, fees included.
    brought: u128,
    left: u128,
    /// The highest sum that was ever signed by either key.
    signed: u128,
    /// What payouts carried to the payee.
    received: u128,
    books: Books,
}

impl Accounts for Sequence<'_> {
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

const STRANGER: u8 = 3;

impl<'a> Sequence<'a> {
    /// Makes a channel's life of this seed, to its very end.
    pub(super) fn run(config: &'a ParsedConfig, seed: u64, seen: &'a mut Seen) -> Vec<Step> {
        let mut random = Random(seed);
        let keys = [4, 6].map(|n| SigningKey::from_bytes(&[n; 32]));
        let payee_key = SigningKey::from_bytes(&[5; 32]);
        let terms = terms(&mut random, &keys[0], &payee_key);
        let mut sequence = Sequence {
            config,
            seen,
            random,
            terms,
            keys,
            payee_key,
            account: no_account().expect("an empty account"),
            now: START,
            lt: LT_STEP,
            steps: Vec::new(),
            brought: 0,
            left: 0,
            signed: 0,
            received: 0,
            books: Books::default(),
        };
        let deposit = sequence.pick(&[60_000_000, 1_000_000_000, 5_000_000_000]);
        sequence.top_up(deposit, true);
        for _ in 0..4 + sequence.random.below(12) {
            sequence.pass_time();
            sequence.next();
        }
        sequence.end();
        sequence.steps
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random.below(one_in) == 0
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.below(all.len() as u64) as usize]
    }

    fn deposit(&mut self) -> u64 {
        self.pick(&[0, 1, 60_000_000, 1_000_000_000, 5_000_000_000])
    }

    /// To a moment beside a deadline, or a while on.
    fn pass_time(&mut self) {
        let until = self.terms.claims_until;
        let delay = self.terms.close_delay_s.min(3_000_000);
        let wait = match self.random.below(12) {
            0 => delay.saturating_sub(1),
            1 => delay,
            2 => delay + 1,
            3 if self.chance(6) => until.saturating_sub(self.now),
            4 if self.chance(6) => until.saturating_sub(self.now).saturating_add(1),
            5 if self.chance(4) => 365 * 86_400,
            _ => self.random.below(100) as u32,
        };
        self.now = self.now.saturating_add(wait).min(u32::MAX - 4_000_000);
    }

    fn next(&mut self) {
        let query = 1;
        match self.random.below(16) {
            0 => {
                let deposit = self.deposit();
                self.top_up(deposit, false);
            }
            1..=3 => {
                let voucher = self.voucher();
                let transfer = self.terms.insecure_claim(&voucher, query);
                self.send("claim", STRANGER, transfer);
            }
            4..=6 => self.external(),
            7 => self.payer_sends("close", self.terms.request_close(query)),
            8 => self.payer_sends("cancel", self.terms.cancel_close(query)),
            9 | 10 => self.payer_sends("finalize", self.terms.finalize_close(query)),
            11 => {
                let key = self.pick(&[0, 1]);
                let key = self.keys[key].verifying_key().to_bytes();
                self.payer_sends("rotate", self.terms.rotate_key(&key, query));
            }
            12 | 13 => {
                let transfer = self.cooperation();
                self.send("cooperate", STRANGER, transfer);
            }
            14 => {
                let value = self.random.below(2_000_000_000);
                let bounce = self.chance(2);
                let transfer = Transfer::money(self.terms.address(), Nano(value));
                self.send("money", STRANGER, Transfer { bounce, ..transfer });
            }
            _ => self.damaged(),
        }
    }

    /// From the payer, and now and then from somebody else.
    fn payer_sends(&mut self, what: &'static str, transfer: Transfer) {
        let from = match self.random.below(8) {
            0 => STRANGER,
            1 => 2,
            _ => 1,
        };
        self.send(what, from, transfer);
    }

    fn top_up(&mut self, amount: u64, deploy: bool) {
        let transfer = match deploy {
            true => self.terms.deploy(Nano(amount), 1),
            false => self.terms.top_up(Nano(amount), 1),
        };
        self.send("top up", 1, transfer.expect("an amount"));
    }

    /// Around what the channel has paid and holds, now and then not for it, or not signed.
    fn voucher(&mut self) -> SignedVoucher {
        let (paid, deposit) = (self.books.paid as u64, self.books.deposit as u64);
        let more = self.pick(&[0, 1, 49_999_999, 50_000_000, 700_000_000]);
        let cumulative = match self.random.below(4) {
            0 => deposit.saturating_add(more),
            1 => paid.saturating_sub(more),
            _ => paid.saturating_add(more),
        };
        let mut voucher = Voucher {
            chain: self.terms.chain,
            channel: self.terms.address(),
            cumulative: Nano(cumulative),
            usage_root: [6; 32],
        };
        match self.random.below(24) {
            0 => voucher.chain = ChainId::TESTNET,
            1 => voucher.channel = account(9),
            2 => return voucher.sign(&self.payee_key),
            _ => self.signed = self.signed.max(cumulative.into()),
        }
        let key = if self.chance(4) { 1 } else { 0 };
        let mut signed = voucher.sign(&self.keys[key]);
        if self.chance(20) {
            signed.signature[self.random.below(64) as usize] ^= 1;
        }
        signed
    }

    fn cooperation(&mut self) -> Transfer {
        let paid = self.books.paid as u64;
        let close = CooperativeClose {
            chain: self.pick(&[self.terms.chain, self.terms.chain, ChainId::TESTNET]),
            channel: self.terms.address(),
            paid: Nano(self.pick(&[paid, paid, paid + 1, paid.saturating_sub(1)])),
            valid_until: self.now.saturating_sub(1) + self.random.below(4) as u32,
        };
        let signed = match self.chance(6) {
            true => close.sign(&self.keys[0]),
            false => close.sign(&self.payee_key),
        };
        self.terms.cooperate(&signed, 1)
    }

    /// A good message with a bit flipped, cut, or with something after its end.
    fn damaged(&mut self) {
        let voucher = self.voucher();
        let external = self.chance(2);
        let body = match external {
            true => external_body(&voucher),
            false => body(&self.terms.insecure_claim(&voucher, 1).payload),
        };
        let slice = body.as_slice_allow_exotic();
        let (bits, mut builder) = (slice.size_bits(), CellBuilder::new());
        let mut bytes = body.data().to_vec();
        let kept = match self.random.below(3) {
            0 => {
                let bit = self.random.below(bits.into()) as usize;
                bytes[bit / 8] ^= 0x80 >> (bit % 8);
                bits
            }
            1 => self.random.below(bits.into()) as u16,
            _ => bits,
        };
        builder.store_raw(&bytes, kept).expect("fits");
        if let Some(reference) = body.reference_cloned(0) {
            builder.store_reference(reference.clone()).expect("fits");
            if kept == bits && self.chance(2) {
                builder.store_reference(reference).expect("fits");
            }
        }
        if kept == bits && self.chance(2) {
            builder.store_zeros(7).expect("fits");
        }
        let body = builder.build().expect("a cell");
        match external {
            true => self.deliver_external("damaged external", body),
            false => self.deliver("damaged", STRANGER, 50_000_000, true, None, body),
        }
    }

    fn external(&mut self) {
        let voucher = self.voucher();
        self.deliver_external("external claim", external_body(&voucher));
    }

    /// Time passes, and the payer takes what there is: nothing may be left.
    fn end(&mut self) {
        let until = self.terms.claims_until;
        self.now = self
            .now
            .max(until.saturating_add(1 + self.random.below(1_000) as u32));
        if self.now <= until {
            return;
        }
        let mut last = self.terms.finalize_close(9);
        last.state_init = Some(self.terms.state_init());
        self.send("the end", 1, last);
        let left = self.account.load_account().expect("an account");
        assert!(left.is_none(), "stranded: {left:?}");
        assert_eq!(self.brought, self.left, "coins in are coins out and fees");
        self.seen.ended += 1;
    }

    fn send(&mut self, what: &'static str, from: u8, transfer: Transfer) {
        // Now and then too little, or just enough.
        let value = match self.random.below(10) {
            0 => self.random.below(20_000_000),
            _ => transfer.value.0,
        };
        let value = if what == "the end" {
            transfer.value.0
        } else {
            value
        };
        let state = transfer.state_init.map(|state| {
            let state = Boc::decode(state.boc()).expect("a bag of cells");
            state.parse::<StateInit>().expect("an initial state")
        });
        let body = transfer
            .payload
            .map_or_else(Cell::default, |body| cell(&body));
        self.deliver(what, from, value, transfer.bounce, state, body);
    }

    fn deliver(
        &mut self,
        what: &'static str,
        from: u8,
        value: u64,
        bounce: bool,
        init: Option<StateInit>,
        body: Cell,
    ) {
        let info = IntMsgInfo {
            ihr_disabled: true,
            bounce,
            bounced: false,
            src: int_address(&account(from)),
            dst: int_address(&self.terms.address()),
            value: CurrencyCollection::from(Tokens::new(value.into())),
            extra_flags: Default::default(),
            fwd_fee: Tokens::ZERO,
            created_lt: self.lt - 1,
            created_at: self.now,
        };
        self.brought += u128::from(value);
        self.execute_one(what, MsgInfo::Int(info), init, body);
    }

    fn deliver_external(&mut self, what: &'static str, body: Cell) {
        let info = tycho_types::models::ExtInMsgInfo {
            src: None,
            dst: int_address(&self.terms.address()),
            import_fee: Tokens::ZERO,
        };
        self.execute_one(what, MsgInfo::ExtIn(info), None, body);
    }

    fn execute_one(
        &mut self,
        what: &'static str,
        info: MsgInfo,
        init: Option<StateInit>,
        body: Cell,
    ) {
        let external = matches!(info, MsgInfo::ExtIn(_));
        let body = (CellSliceRange::full(&body), body);
        let message = OwnedMessage {
            info,
            init,
            body,
            // Inline where a claim's own message has it so.
            layout: (what != "external claim").then_some(MessageLayout {
                init_to_cell: true,
                body_to_cell: true,
            }),
        };
        let message = CellBuilder::build_from(&message).expect("a message");
        let address = self.terms.address();
        let (now, lt) = (self.now, self.lt);
        let mut machine = Machine::new(self.config, self, now, lt);
        let result = machine.execute(&address, external, &message, lt - 1);
        let Effects {
            transactions,
            mut accounts,
            ..
        } = machine.effects;
        let said = match result {
            Ok(_) => {
                let view = &transactions[0];
                self.account = accounts.remove(&address).expect("it has changed");
                let said = Said::of(&view.boc, &self.account);
                self.check(what, external, view);
                said
            }
            Err(LedgerError::Refused(Refusal::NotAccepted { exit_code, .. })) => {
                *self.seen.exit_codes.entry(exit_code).or_default() += 1;
                Said::Refused(exit_code)
            }
            Err(LedgerError::Refused(Refusal::CannotRun { .. })) => Said::Refused(0),
            Err(error) => panic!("{what}: {error}"),
        };
        self.seen.steps += 1;
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
    fn check(&mut self, what: &'static str, external: bool, view: &TransactionView) {
        let at = format!("{what}, {} steps on, {:?}", self.steps.len(), self.books);
        let code = view.exit_code.unwrap_or(0);
        *self.seen.exit_codes.entry(code).or_default() += 1;
        let out = |m: &crate::transaction::MessageView| {
            u128::from(m.value.0) + u128::from(m.forward_fee.0)
        };
        let gone: u128 = view.out_messages.iter().map(out).sum();
        self.left += gone + u128::from(view.total_fees.0);
        let (balance, books) = self.read();
        assert_eq!(self.brought, self.left + balance, "conserved: {at}");

        let before = std::mem::replace(&mut self.books, books.unwrap_or_default());
        let payee = crate::transaction::Party::Account(self.terms.payee);
        let paid_out = view
            .out_messages
            .iter()
            .find(|m| m.destination == payee && !m.bounced);
        let value = paid_out.map_or(0, |m| u128::from(m.value.0));
        self.received += value;
        let Some(books) = books else {
            assert_eq!(
                value, 0,
                "nothing is paid by a channel that is not there: {at}"
            );
            return;
        };
        let growth = books.paid - before.paid;
        assert!(books.paid <= books.deposit, "{at}");
        assert!(books.paid <= self.signed, "paid more than signed: {at}");
        match external {
            true => {
                assert_eq!((code, view.action_code), (0, Some(0)), "{at}");
                // Its own forwarding and the network's fees are in what it cost.
                assert!(
                    value <= growth && value + u128::from(EXTERNAL_COST_MAX.0) >= growth,
                    "{at}: {value} of {growth}"
                );
                self.seen.external_claims += 1;
            }
            false => assert_eq!(value, growth, "{at}"),
        }
        assert!(
            self.received <= self.signed,
            "received more than signed: {at}"
        );
        if books.status != 2 && self.now <= self.terms.claims_until {
            let owed = books.deposit - books.paid;
            assert!(balance >= owed, "holds {balance} of {owed}: {at}");
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
        let status = slice.load_u8().expect("a status");
        slice.skip_first(32, 0).expect("a chain");
        let mut coins = || {
            Tokens::load_from(&mut slice)
                .expect("an amount")
                .into_inner()
        };
        let (deposit, paid) = (coins(), coins());
        let books = Books {
            status,
            deposit,
            paid,
        };
        (balance, Some(books))
    }
}

/// Mostly good ones.
fn terms(random: &mut Random, key: &SigningKey, payee_key: &SigningKey) -> ChannelTerms {
    const DAY: u32 = 86_400;
    let good = [3_600, 3_601, DAY, 7 * DAY, 30 * DAY];
    let delays = [
        good.as_slice(),
        &good,
        &good,
        &[0, 3_599, 30 * DAY + 1, u32::MAX],
    ]
    .concat();
    let good = [3_600, DAY, 30 * DAY, 365 * DAY, 4 * 365 * DAY];
    let lives = [good.as_slice(), &good, &[4 * 365 * DAY + 1]].concat();
    let chains = [ChainId::MAINNET; 15].into_iter().chain([ChainId::TESTNET]);
    let chains: Vec<ChainId> = chains.collect();
    let mut choose = |count: usize| random.below(count as u64) as usize;
    ChannelTerms {
        chain: chains[choose(chains.len())],
        payer: account(1),
        payee: account(2),
        payer_key: key.verifying_key().to_bytes(),
        payee_key: payee_key.verifying_key().to_bytes(),
        close_delay_s: delays[choose(delays.len())],
        claims_until: START + lives[choose(lives.len())],
        salt: 1,
    }
}

fn cell(body: &Payload) -> Cell {
    Boc::decode(body.boc()).expect("a bag of cells")
}

fn body(payload: &Option<Payload>) -> Cell {
    cell(payload.as_ref().expect("a claim has a body"))
}

fn external_body(voucher: &SignedVoucher) -> Cell {
    let message = Boc::decode(voucher.insecure_external_claim()).expect("a bag of cells");
    let message = message.parse::<OwnedMessage>().expect("a message");
    let (range, cell) = message.body;
    let body = range.apply(&cell).expect("a body");
    CellBuilder::build_from(body).expect("a cell")
}
