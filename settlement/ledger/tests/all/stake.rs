//! The stake contract in the TVM: what is slashed, who gets what, who is refused, and with which exit code.

use crate::network::{self, Network, START};
use ed25519_dalek::{Signer, SigningKey};
use ledger::AccountState;
use settlement::{
    Address, Cap, ChainId, Charge, EndorsedKey, Nano, NoOffence, Offence, SignedCharge, StakeState,
    StakeTerms, Transfer, Wallet, exit, stake_exit as code,
};
use sha2::{Digest, Sha256};

const DAY: u32 = 86_400;
const UNBOND_DELAY: u32 = 7 * DAY;
const ENDS: u32 = START + 365 * DAY;
/// When the endorsing key's delegation ends.
const DELEGATED_UNTIL: u32 = START + 30 * DAY;
const BONDED: Nano = Nano(5_000_000_000);
const NOWHERE: Address = Address {
    workchain: 0,
    hash: [0; 32],
};

/// The contract's own constants.
const STATE_BITS: u64 = 22_000;
const STATE_CELLS: u64 = 64;

/// A network with a channel, and a stake of its provider.
struct Staked {
    network: Network,
    terms: StakeTerms,
    endorser: SigningKey,
    receipt_key: SigningKey,
}

/// As `wire::sha256`: a test there compares the two over a keyset of its own.
fn digest(domain: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix([domain.as_bytes(), &[0]].concat());
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn delegation(endorser: &SigningKey, until: u32, chain: i32, owner: &SigningKey) -> [u8; 100] {
    let key = endorser.verifying_key().to_bytes();
    let (chain, until) = (chain.to_be_bytes(), until.to_be_bytes());
    let signed = digest("chrysalis/delegation/v1", &[&chain, &key, &until]);
    let bytes = [&key[..], &until, &owner.sign(&signed).to_bytes()].concat();
    bytes.try_into().expect("100 bytes")
}

/// Bytes that have the receipt key where a keyset has it.
fn keyset(receipt_key: &SigningKey, before: usize, after: usize) -> Vec<u8> {
    let key = receipt_key.verifying_key().to_bytes();
    [
        &vec![7; before][..],
        &[0x06, 0x58, 0x20],
        &key,
        &vec![9; after],
    ]
    .concat()
}

fn endorse(keyset: &[u8], key: &SigningKey) -> [u8; 64] {
    let keyset = digest("chrysalis/keyset-digest/v1", &[keyset]);
    let signed = digest("chrysalis/endorsement/v1", &[&keyset]);
    key.sign(&signed).to_bytes()
}

impl Staked {
    fn undeployed() -> Staked {
        let network = Network::open();
        let terms = StakeTerms {
            chain: ChainId::EMBEDDED,
            owner: network.provider.address(),
            owner_key: network.terms.payee_key,
            unbond_delay_s: UNBOND_DELAY,
            slashable_until: ENDS,
            salt: 1,
        };
        Staked {
            network,
            terms,
            endorser: SigningKey::from_bytes(&[21; 32]),
            receipt_key: SigningKey::from_bytes(&[22; 32]),
        }
    }

    fn open() -> Staked {
        let staked = Staked::undeployed();
        assert_eq!(staked.deposit(BONDED), Ok(()));
        staked
    }

    fn deposit(&self, amount: Nano) -> Result<(), i32> {
        let deposit = self.terms.deposit(amount, 1).expect("an amount");
        self.at(&self.network.provider, deposit)
    }

    fn at(&self, from: &Wallet, transfer: Transfer) -> Result<(), i32> {
        network::verdict(&self.network.send(from, transfer), &self.terms.address())
    }

    fn state(&self) -> StakeState {
        let ledger = &self.network.ledger;
        let answer = ledger.run_get_method(&self.terms.address(), StakeState::GET_METHOD, &[]);
        let state = StakeState::parse(&answer.expect("a stake").stack).expect("a stake's state");
        assert_eq!(state.terms, self.terms);
        state
    }

    fn amounts(&self) -> (u64, u64, u8) {
        let state = self.state();
        (state.bonded.0, state.unbonding.0, state.slashes)
    }

    fn balance(&self) -> u64 {
        self.network.balance(&self.terms.address())
    }

    /// The key as the proxy endorses it: by a key that the payee delegated to.
    fn endorsed(&self) -> EndorsedKey {
        self.endorsed_until(DELEGATED_UNTIL)
    }

    fn endorsed_until(&self, until: u32) -> EndorsedKey {
        let bytes = keyset(&self.receipt_key, 1_300, 2_000);
        let (chain, owner) = (ChainId::EMBEDDED.0, &self.network.payee_key);
        let delegation = delegation(&self.endorser, until, chain, owner);
        self.cut(&bytes, Some(delegation), endorse(&bytes, &self.endorser))
    }

    fn cut(&self, keyset: &[u8], by: Option<[u8; 100]>, signature: [u8; 64]) -> EndorsedKey {
        let key = self.receipt_key.verifying_key().to_bytes();
        EndorsedKey::new(keyset, key, by, signature).expect("it has the key")
    }

    fn unsigned(&self, seq: u64, cost: u64, most: u64) -> Charge {
        let cap = Cap {
            chain: ChainId::EMBEDDED,
            channel: self.network.terms.address(),
            job: [6; 16],
            most: Nano(most),
        };
        Charge {
            cap: cap.sign(&self.network.voucher_key),
            stake: self.terms.address(),
            receipt_hash: [3; 32],
            seq,
            cost: Nano(cost),
            cumulative: Nano(900),
        }
    }

    fn charge(&self, seq: u64, cost: u64) -> SignedCharge {
        self.unsigned(seq, cost, 100).sign(&self.receipt_key)
    }

    fn two(&self, seq: u64) -> Offence {
        let (first, second) = (self.charge(seq, 5), self.charge(seq, 6));
        Offence::two_charges(self.endorsed(), first, second).expect("an offence")
    }

    fn above_cap(&self, seq: u64) -> Offence {
        let terms = self.network.terms.clone();
        Offence::above_cap(self.endorsed(), self.charge(seq, 101), terms).expect("an offence")
    }

    fn report(&self, offence: &Offence) -> Result<(), i32> {
        self.at(&self.network.stranger, self.terms.report(offence, 3))
    }

    fn unbond(&self, amount: u64) -> Result<(), i32> {
        self.at(&self.network.provider, self.terms.unbond(Nano(amount), 2))
    }

    fn withdraw(&self) -> Result<(), i32> {
        self.at(&self.network.provider, self.terms.withdraw(2))
    }
}

#[test]
fn two_charges_of_one_number_cut_the_stake_and_pay_the_reporter_less_than_the_cut() {
    let staked = Staked::open();
    let reserve = staked.balance() - BONDED.0;
    let reporter = staked.network.stranger.address();
    let before = staked.network.balance(&reporter);
    let nowhere = staked.network.balance(&NOWHERE);
    assert_eq!(staked.report(&staked.two(7)), Ok(()));
    assert_eq!(staked.amounts(), (3_500_000_000, 0, 1));
    assert_eq!(
        staked.balance(),
        3_500_000_000 + reserve,
        "the reserve paid nothing"
    );
    let gone = staked.network.balance(&NOWHERE) - nowhere;
    assert!((1_349_000_000..=1_350_000_000).contains(&gone), "{gone}");
    let gained = staked.network.balance(&reporter) - before;
    println!(
        "a report of two charges costs {} nanoTON",
        150_000_000 - gained
    );
    assert!((100_000_000..150_000_000).contains(&gained), "{gained}");
    staked.network.assert_conserved();
}

#[test]
fn a_charge_above_what_its_payer_signed_cuts_the_stake() {
    let staked = Staked::open();
    assert_eq!(staked.report(&staked.above_cap(7)), Ok(()));
    assert_eq!(staked.amounts(), (3_500_000_000, 0, 1));
    // The guest's own word for what the payer allowed.
    let mut charge = staked.unsigned(8, 900, 100);
    charge.cap = Cap {
        most: Nano(1_000),
        ..charge.cap.cap
    }
    .sign(&staked.receipt_key);
    let terms = staked.network.terms.clone();
    let charge = charge.sign(&staked.receipt_key);
    let offence = Offence::above_cap(staked.endorsed(), charge, terms).expect("an offence");
    assert_eq!(staked.report(&offence), Ok(()));
    assert_eq!(staked.amounts(), (2_450_000_000, 0, 2));
    staked.network.assert_conserved();
}

#[test]
fn an_offence_is_slashed_once_whichever_way_it_is_shown() {
    let staked = Staked::open();
    assert_eq!(staked.report(&staked.two(7)), Ok(()));
    for again in [staked.two(7), staked.above_cap(7)] {
        assert_eq!(staked.report(&again), Err(code::SLASHED_ALREADY));
    }
    let Offence::TwoCharges(key, first, second) = staked.two(7) else {
        panic!("two charges");
    };
    let turned = Offence::TwoCharges(key, second, first);
    assert_eq!(staked.report(&turned), Err(code::SLASHED_ALREADY));
    assert_eq!(staked.report(&staked.two(8)), Ok(()));
    staked.network.assert_conserved();
}

#[test]
fn what_is_no_offence_is_refused_here_and_by_the_contract() {
    let staked = Staked::open();
    let key = || staked.endorsed();
    let two = |first, second, ours: NoOffence, theirs: i32| {
        let offence = Offence::two_charges(key(), first, second);
        assert_eq!(offence.expect_err("no offence"), ours);
        let offence = Offence::TwoCharges(key(), first, second);
        assert_eq!(staked.report(&offence), Err(theirs));
    };
    let good = staked.charge(7, 5);
    let other = staked.charge(8, 5);
    two(good, good, NoOffence::SameCharge, code::SAME_CHARGE);
    two(
        good,
        other,
        NoOffence::OtherNumber(7, 8),
        code::OTHER_NUMBER,
    );
    let forged = staked.unsigned(7, 6, 100).sign(&staked.endorser);
    two(good, forged, NoOffence::Signature, exit::CHARGE_SIGNATURE);
    two(forged, good, NoOffence::Signature, exit::CHARGE_SIGNATURE);
    let mut elsewhere = staked.unsigned(7, 6, 100);
    elsewhere.cap.cap.chain = ChainId::MAINNET;
    let elsewhere = elsewhere.sign(&staked.receipt_key);
    two(good, elsewhere, NoOffence::OtherStake, exit::CHARGE_CHAIN);
    let mut others = staked.unsigned(7, 6, 100);
    others.stake = staked.terms.owner;
    let others = others.sign(&staked.receipt_key);
    two(others, good, NoOffence::OtherStake, code::OTHER_STAKE);

    let terms = || staked.network.terms.clone();
    let said = Offence::above_cap(key(), good, terms()).expect_err("no offence");
    assert_eq!(said, NoOffence::WithinCap);
    let within = Offence::AboveCap(key(), good, terms());
    assert_eq!(staked.report(&within), Err(code::WITHIN_CAP));
    // Terms of another channel, with a key that did not sign the cap.
    let mut wrong = terms();
    wrong.payer_key = [9; 32];
    let said = Offence::above_cap(key(), good, wrong.clone()).expect_err("no offence");
    assert_eq!(said, NoOffence::Terms);
    let shown = Offence::AboveCap(key(), good, wrong);
    assert_eq!(staked.report(&shown), Err(exit::CHARGE_CHANNEL));
    let mut above = staked.unsigned(7, 101, 100);
    above.stake = staked.terms.owner;
    let above = above.sign(&staked.receipt_key);
    let offence = Offence::above_cap(key(), above, terms()).expect("an offence");
    assert_eq!(staked.report(&offence), Err(code::OTHER_STAKE));
    assert_eq!(staked.amounts(), (BONDED.0, 0, 0));
    staked.network.assert_conserved();
}

#[test]
fn only_keys_that_the_owner_endorsed_are_its_own() {
    let staked = Staked::open();
    let report = |key: EndorsedKey| {
        let (first, second) = (staked.charge(7, 5), staked.charge(7, 6));
        staked.report(&Offence::TwoCharges(key, first, second))
    };
    let bytes = keyset(&staked.receipt_key, 0, 300);
    let (owner, endorser) = (&staked.network.payee_key, &staked.endorser);
    let until = |until, chain, by| Some(delegation(endorser, until, chain, by));
    let (here, there) = (ChainId::EMBEDDED.0, ChainId::TESTNET.0);
    let by_endorser = endorse(&bytes, endorser);
    let by_receipt_key = endorse(&bytes, &staked.receipt_key);
    for (by, signature, expected) in [
        (None, by_endorser, code::ENDORSEMENT),
        (None, by_receipt_key, code::ENDORSEMENT),
        (
            until(DELEGATED_UNTIL, here, owner),
            by_receipt_key,
            code::ENDORSEMENT,
        ),
        (
            until(DELEGATED_UNTIL, here, endorser),
            by_endorser,
            code::DELEGATION,
        ),
        (
            until(DELEGATED_UNTIL, there, owner),
            by_endorser,
            code::DELEGATION,
        ),
    ] {
        assert_eq!(report(staked.cut(&bytes, by, signature)), Err(expected));
    }
    // Another keyset than the endorsed one: longer, shorter, and with a bit flipped.
    let by = until(DELEGATED_UNTIL, here, owner);
    let mut flipped = bytes.clone();
    flipped[200] ^= 1;
    let longer = [&bytes[..], &[0]].concat();
    for other in [&flipped[..], &longer, &bytes[..bytes.len() - 1]] {
        assert_eq!(
            report(staked.cut(other, by, by_endorser)),
            Err(code::ENDORSEMENT)
        );
    }
    // A key that is not in the keyset.
    let key = staked.receipt_key.verifying_key().to_bytes();
    let other = keyset(endorser, 10, 10);
    assert_eq!(
        EndorsedKey::new(&other, key, by, by_endorser),
        Err(NoOffence::Key)
    );
    assert_eq!(staked.amounts(), (BONDED.0, 0, 0));
    // The owner's own key, and keysets of all sizes: none before, whole cells, and the largest.
    let good = [(0, 0), (127, 127), (16_384 - 35 - 1_300, 1_300)];
    for (number, (before, after)) in good.into_iter().enumerate() {
        let bytes = keyset(&staked.receipt_key, before, after);
        let key = staked.cut(&bytes, None, endorse(&bytes, owner));
        let seq = 20 + number as u64;
        let (first, second) = (staked.charge(seq, 5), staked.charge(seq, 6));
        let offence = Offence::two_charges(key, first, second).expect("an offence");
        let sent = staked
            .network
            .send(&staked.network.stranger, staked.terms.report(&offence, 3));
        let view = network::of(&sent, &staked.terms.address()).expect("a transaction");
        println!("{} bytes of keyset: {} gas", bytes.len(), view.gas_used);
        assert_eq!(network::verdict(&sent, &staked.terms.address()), Ok(()));
    }
    staked.network.assert_conserved();
}

#[test]
fn a_delegated_key_slashes_until_an_unbonding_delay_after_its_end() {
    let staked = Staked::open();
    let ends = START + DAY;
    let report = |seq| {
        let (first, second) = (staked.charge(seq, 5), staked.charge(seq, 6));
        let key = staked.endorsed_until(ends);
        staked.report(&Offence::two_charges(key, first, second).expect("an offence"))
    };
    staked.network.ledger.set_time(ends + UNBOND_DELAY);
    assert_eq!(report(1), Ok(()));
    staked.network.ledger.set_time(ends + UNBOND_DELAY + 1);
    assert_eq!(report(2), Err(code::DELEGATION_ENDED));
}

#[test]
fn what_is_leaving_is_slashable_until_it_has_left_and_is_cut_first() {
    let staked = Staked::open();
    assert_eq!(staked.unbond(4_000_000_000), Ok(()));
    assert_eq!(staked.withdraw(), Err(code::TOO_EARLY));
    assert_eq!(staked.report(&staked.two(1)), Ok(()));
    assert_eq!(staked.amounts(), (1_000_000_000, 2_500_000_000, 1));
    // All of it asked for: the delay counts anew for all.
    staked.network.ledger.set_time(START + DAY);
    assert_eq!(staked.unbond(1_000_000_000), Ok(()));
    staked
        .network
        .ledger
        .set_time(START + DAY + UNBOND_DELAY - 1);
    assert_eq!(staked.withdraw(), Err(code::TOO_EARLY));
    assert_eq!(staked.report(&staked.two(2)), Ok(()));
    // Its moment has come, and it is still here.
    staked.network.ledger.set_time(START + DAY + UNBOND_DELAY);
    assert_eq!(staked.report(&staked.two(3)), Ok(()));
    let (bonded, leaving, slashes) = staked.amounts();
    assert_eq!((bonded, leaving, slashes), (0, 1_450_000_000, 3));
    let owner = staked.network.provider.address();
    let before = staked.network.balance(&owner);
    assert_eq!(staked.withdraw(), Ok(()));
    let gained = staked.network.balance(&owner) - before;
    assert!(
        (leaving - 10_000_000..leaving).contains(&gained),
        "{gained}"
    );
    assert_eq!(staked.amounts(), (0, 0, 3));
    assert_eq!(staked.report(&staked.two(4)), Err(code::NOTHING_LEFT));
    assert_eq!(staked.withdraw(), Err(code::NOTHING_LEAVING));
    staked.network.assert_conserved();
}

#[test]
fn an_empty_stake_deployed_again_remembers_what_was_slashed() {
    let staked = Staked::open();
    assert_eq!(staked.report(&staked.two(1)), Ok(()));
    assert_eq!(staked.unbond(3_500_000_000), Ok(()));
    staked.network.ledger.set_time(START + UNBOND_DELAY);
    assert_eq!(staked.withdraw(), Ok(()));
    // The deposit carries the initial state once more.
    assert_eq!(staked.deposit(Nano(2_000_000_000)), Ok(()));
    assert_eq!(staked.report(&staked.two(1)), Err(code::SLASHED_ALREADY));
    assert_eq!(staked.amounts(), (2_000_000_000, 0, 1));
}

#[test]
fn sixteen_offences_take_all_and_then_nothing_can_be_added() {
    let staked = Staked::open();
    let wealthy = Nano(400_000_000_000);
    let provider = staked.network.provider.address();
    staked
        .network
        .ledger
        .faucet(&provider, Nano(2 * wealthy.0))
        .expect("given");
    assert_eq!(staked.deposit(wealthy), Ok(()));
    let mut all = staked.amounts().0;
    for number in 1..16 {
        assert_eq!(staked.report(&staked.two(number)), Ok(()));
        all -= (all * 30 / 100).max(1_000_000_000).min(all);
        assert_eq!(staked.amounts(), (all, 0, number as u8));
    }
    assert_eq!(staked.report(&staked.two(16)), Ok(()));
    assert_eq!(staked.amounts(), (0, 0, 16));
    assert_eq!(staked.report(&staked.two(17)), Err(code::NOTHING_LEFT));
    assert_eq!(staked.deposit(BONDED), Err(code::SLASHED_OUT));
    staked.network.assert_conserved();
}

#[test]
fn only_the_owner_takes_collateral_out_and_no_more_than_there_is() {
    let staked = Staked::open();
    let stranger = &staked.network.stranger;
    for transfer in [staked.terms.unbond(Nano(1), 1), staked.terms.withdraw(1)] {
        assert_eq!(staked.at(stranger, transfer), Err(code::NOT_OWNER));
    }
    assert_eq!(staked.withdraw(), Err(code::NOTHING_LEAVING));
    assert_eq!(staked.unbond(0), Err(code::ZERO_AMOUNT));
    assert_eq!(staked.unbond(BONDED.0 + 1), Err(code::MORE_THAN_BONDED));
    assert_eq!(staked.deposit(Nano::ZERO), Err(code::ZERO_AMOUNT));
    for (value, transfer) in [
        (
            1_000_000_000,
            staked
                .terms
                .deposit(Nano(1_000_000_000), 1)
                .expect("an amount"),
        ),
        (3_000_000, staked.terms.unbond(Nano(1), 1)),
        (3_000_000, staked.terms.withdraw(1)),
        (20_000_000, staked.terms.report(&staked.two(1), 1)),
        (20_000_000, staked.terms.report(&staked.above_cap(1), 1)),
    ] {
        let poor = Transfer {
            value: Nano(value),
            ..transfer
        };
        assert_eq!(
            staked.at(&staked.network.provider, poor),
            Err(code::TOO_LITTLE_VALUE)
        );
    }
    // Anyone adds.
    let gift = staked.terms.deposit(Nano(7), 1).expect("an amount");
    assert_eq!(staked.at(stranger, gift), Ok(()));
    let plain = Transfer {
        bounce: true,
        ..Transfer::money(staked.terms.address(), Nano(1_000_000_000))
    };
    assert_eq!(staked.at(stranger, plain), Err(exit::UNKNOWN_MESSAGE));
    assert_eq!(staked.amounts(), (BONDED.0 + 7, 0, 0));
    staked.network.assert_conserved();
}

#[test]
fn after_its_end_nothing_is_slashed_and_the_owner_takes_everything() {
    let staked = Staked::open();
    staked.network.ledger.set_time(ENDS);
    assert_eq!(
        staked.report(&staked.above_cap(1)),
        Err(code::DELEGATION_ENDED)
    );
    let bytes = keyset(&staked.receipt_key, 10, 10);
    let direct = staked.cut(&bytes, None, endorse(&bytes, &staked.network.payee_key));
    let offence = |seq| {
        let (first, second) = (staked.charge(seq, 5), staked.charge(seq, 6));
        Offence::two_charges(direct.clone(), first, second).expect("an offence")
    };
    assert_eq!(staked.report(&offence(1)), Ok(()));
    staked.network.ledger.set_time(ENDS + 1);
    assert_eq!(staked.report(&offence(2)), Err(code::ENDED));
    assert_eq!(staked.report(&staked.above_cap(2)), Err(code::ENDED));
    assert_eq!(staked.deposit(Nano(1_000_000_000)), Err(code::ENDED));
    assert_eq!(staked.unbond(1), Err(code::ENDED));
    let stranger = &staked.network.stranger;
    assert_eq!(
        staked.at(stranger, staked.terms.withdraw(1)),
        Err(code::NOT_OWNER)
    );
    assert_eq!(staked.withdraw(), Ok(()));
    let gone = staked
        .network
        .ledger
        .account(&staked.terms.address())
        .expect("read");
    assert_eq!(
        (gone.state, gone.balance),
        (AccountState::Nonexistent, Nano::ZERO)
    );
    // Deployed again it takes nothing, and what is forced on it comes out.
    assert_eq!(staked.deposit(Nano(1_000_000_000)), Err(code::ENDED));
    staked.network.send(
        stranger,
        Transfer::money(staked.terms.address(), Nano(700_000_000)),
    );
    let sweep = Transfer {
        state_init: Some(staked.terms.state_init()),
        ..staked.terms.withdraw(3)
    };
    assert_eq!(staked.at(&staked.network.provider, sweep), Ok(()));
    assert_eq!(staked.balance(), 0);
    staked.network.assert_conserved();
}

#[test]
fn terms_have_bounds_and_their_chain() {
    let check = |change: &dyn Fn(&mut StakeTerms), expected: Result<(), i32>| {
        let mut staked = Staked::undeployed();
        change(&mut staked.terms);
        assert_eq!(staked.deposit(BONDED), expected, "{:?}", staked.terms);
    };
    check(&|t| t.unbond_delay_s = 7 * DAY, Ok(()));
    check(&|t| t.unbond_delay_s = 90 * DAY, Ok(()));
    check(&|t| t.slashable_until = START + 4 * 365 * DAY, Ok(()));
    for delay in [0, 7 * DAY - 1, 90 * DAY + 1, u32::MAX] {
        check(&|t| t.unbond_delay_s = delay, Err(code::TERMS));
    }
    check(
        &|t| t.slashable_until = START + 4 * 365 * DAY + 1,
        Err(code::TERMS),
    );
    check(&|t| t.owner.workchain = -1, Err(code::TERMS));
    check(&|t| t.chain = ChainId::MAINNET, Err(code::CHAIN));
}

/// The rent that a deposit brings is for a state of this size.
#[test]
fn a_stake_with_sixteen_offences_takes_no_more_room_than_its_rent_is_for() {
    let staked = Staked::open();
    let provider = staked.network.provider.address();
    staked
        .network
        .ledger
        .faucet(&provider, Nano(40_000_000_000))
        .expect("given");
    for number in 1..=16 {
        assert_eq!(staked.deposit(Nano(2_000_000_000)), Ok(()));
        assert_eq!(staked.report(&staked.two(number)), Ok(()));
    }
    staked.network.ledger.set_time(START + 20 * DAY);
    let sent = staked
        .network
        .send(&staked.network.provider, staked.terms.withdraw(1));
    let view = network::of(&sent, &staked.terms.address()).expect("a transaction");
    let computed = STATE_BITS + 500 * STATE_CELLS;
    let taken = (view.storage_fees.0 << 16) / u64::from(20 * DAY);
    println!("room {taken} of {computed}");
    assert!(
        taken <= computed && taken > computed * 8 / 10,
        "{taken} of {computed}"
    );
}
