//! Attacks on the channel contract: each refused with its own exit code, or bounded. Those on vouchers, rotation and closed channels
//! are in [`crate::channel`]; random ones in `src/machine/differential.rs`.

use crate::network::{self, CLAIMS_UNTIL, DELAY, DEPOSIT, Network, START};
use ledger::{Accepted, Ledger, TransactionView};
use settlement::{
    Address, ChainId, ChannelStatus, CooperativeClose, Nano, SignedVoucher, Transfer, Voucher,
    exit,
    limits::{CHANNEL_LIFE_S_MAX, CLOSE_DELAY_S_MAX, CLOSE_DELAY_S_MIN, EXTERNAL_GROWTH_MIN},
};
use tycho_types::{
    boc::Boc,
    cell::{Cell, CellBuilder, CellSliceRange},
    models::{MsgInfo, OwnedMessage},
};

const GROWTH: u64 = EXTERNAL_GROWTH_MIN.0;

#[test]
fn terms_out_of_bounds_take_no_money_and_start_no_delay() {
    let far = START + CHANNEL_LIFE_S_MAX as u32;
    let elsewhere = |address: Address| Address {
        workchain: -1,
        ..address
    };
    let check = |change: &dyn Fn(&mut settlement::ChannelTerms), expected: Result<(), i32>| {
        let mut network = Network::without_channel(Ledger::in_memory().expect("a ledger"));
        change(&mut network.terms);
        let terms = &network.terms;
        assert_eq!(terms.check_at(START.into()).is_ok(), expected.is_ok());
        let deploy = terms.deploy(DEPOSIT, 1).expect("an amount");
        assert_eq!(network.at_channel(&network.developer, deploy), expected);
        let channel = terms.address();
        if expected.is_ok() {
            return;
        }
        assert!(network.balance(&network.developer.address()) > 9_900_000_000);
        assert_eq!(network.balance(&channel), 0, "the deposit came back");
        // Not even a plain deployment lets time run into an overflow, and what is forced on it comes out.
        network.send(
            &network.stranger,
            Transfer::money(channel, Nano(300_000_000)),
        );
        if terms.payer != network.developer.address() {
            return;
        }
        for request in [terms.request_close(1), terms.rotate_key(&[9; 32], 1)] {
            let request = Transfer {
                state_init: Some(terms.state_init()),
                ..request
            };
            assert_eq!(network.at_channel(&network.developer, request), expected);
        }
        let sweep = Transfer {
            state_init: Some(terms.state_init()),
            ..terms.finalize_close(1)
        };
        let before = network.balance(&network.developer.address());
        assert_eq!(network.at_channel(&network.developer, sweep), Ok(()));
        assert!(network.balance(&network.developer.address()) > before + 250_000_000);
        network.assert_conserved();
    };
    for delay in [CLOSE_DELAY_S_MIN, CLOSE_DELAY_S_MAX] {
        check(&|terms| terms.close_delay_s = delay, Ok(()));
    }
    for delay in [0, CLOSE_DELAY_S_MIN - 1, CLOSE_DELAY_S_MAX + 1, u32::MAX] {
        check(&|terms| terms.close_delay_s = delay, Err(exit::TERMS));
    }
    check(&|terms| terms.claims_until = far, Ok(()));
    for until in [far + 1, u32::MAX] {
        check(&|terms| terms.claims_until = until, Err(exit::TERMS));
    }
    check(
        &|terms| terms.payee = elsewhere(terms.payee),
        Err(exit::TERMS),
    );
    check(
        &|terms| terms.payer = elsewhere(terms.payer),
        Err(exit::TERMS),
    );
}

/// The channel's transaction and what its payee was credited.
fn paid(network: &Network, accepted: &Accepted) -> (TransactionView, u64) {
    let at = network.terms.address();
    assert_eq!(network::verdict(accepted, &at), Ok(()));
    let view = network::of(accepted, &at).expect("a transaction").clone();
    let [payout] = view.out_messages.as_slice() else {
        panic!("{view:?}");
    };
    assert_eq!(
        payout.destination,
        ledger::Party::Account(network.terms.payee)
    );
    let value = payout.value.0;
    (view, value)
}

#[test]
fn an_external_claim_pays_the_growth_less_its_own_cost_and_leaves_the_deposit_alone() {
    let network = Network::open();
    let channel = network.terms.address();
    let mut cumulative = 0;
    for growth in [GROWTH, 700_000_000, GROWTH] {
        cumulative += growth;
        let before = network.balance(&channel);
        let accepted = network
            .external(&network.voucher(cumulative))
            .expect("accepted");
        let (view, value) = paid(&network, &accepted);
        let cost = growth - value;
        println!("growth {growth}: gas {}, cost {cost}", view.gas_used);
        assert!(cost < 4_500_000, "{cost}");
        assert_eq!(
            network.balance(&channel),
            before - growth,
            "the payee paid it all"
        );
        assert_eq!(network.paid(), cumulative);
    }
    network.assert_conserved();
}

#[test]
fn what_an_external_claim_may_not_do_is_not_accepted_and_costs_nobody_anything() {
    let network = Network::open();
    let good = network.voucher(GROWTH);
    network.external(&good).expect("accepted");
    let totals = network.ledger.totals().expect("totals");
    let refused = |signed: &SignedVoucher, code: i32| {
        assert_eq!(network.external(signed), Err(code), "{signed:?}");
        assert_eq!(network.ledger.totals().expect("totals"), totals);
    };
    let sign = |voucher: Voucher| voucher.sign(&network.voucher_key);
    let more = network.unsigned(GROWTH * 2);
    refused(&good, exit::NOT_ABOVE_PAID);
    refused(&network.voucher(GROWTH - 1), exit::NOT_ABOVE_PAID);
    refused(&network.voucher(GROWTH + 1), exit::GROWTH_TOO_SMALL);
    refused(&network.voucher(GROWTH * 2 - 1), exit::GROWTH_TOO_SMALL);
    refused(&more.sign(&network.payee_key), exit::SIGNATURE);
    let chain = ChainId::MAINNET;
    refused(&sign(Voucher { chain, ..more }), exit::CHAIN);
    // A voucher for another channel, carried to this one.
    let channel = network.terms.payee;
    let elsewhere = sign(Voucher { channel, ..more });
    let moved = readdressed(&elsewhere.insecure_external_claim(), &network);
    let error = network.ledger.send_external(&moved).expect_err("refused");
    assert!(format!("{error}").contains("403"), "{error}");

    let all = network.voucher(DEPOSIT.0 + 5);
    network.external(&all).expect("accepted");
    assert_eq!(network.external(&all), Err(exit::DEPOSIT_USED_UP));
    let close = network.terms.finalize_close(1);
    assert_eq!(network.at_channel(&network.developer, close), Ok(()));
    assert_eq!(network.external(&all), Err(exit::CLOSED));
    network.ledger.set_time(CLAIMS_UNTIL + 1);
    let network = Network::open();
    network.ledger.set_time(CLAIMS_UNTIL);
    network.external(&good).expect("at the last second");
    network.ledger.set_time(CLAIMS_UNTIL + 1);
    assert_eq!(
        network.external(&network.voucher(GROWTH * 2)),
        Err(exit::AFTER_CLAIMS_UNTIL)
    );
    network.assert_conserved();
}

fn readdressed(boc: &[u8], network: &Network) -> Vec<u8> {
    altered(boc, |message| {
        let MsgInfo::ExtIn(info) = &mut message.info else {
            panic!("an external message");
        };
        let good = network.voucher(1).insecure_external_claim();
        let good = Boc::decode(good).expect("cells");
        let good = good.parse::<OwnedMessage>().expect("a message");
        let MsgInfo::ExtIn(to) = good.info else {
            panic!("an external message");
        };
        info.dst = to.dst;
    })
}

fn altered(boc: &[u8], change: impl FnOnce(&mut OwnedMessage)) -> Vec<u8> {
    let root = Boc::decode(boc).expect("cells");
    let mut message = root.parse::<OwnedMessage>().expect("a message");
    message.layout = None;
    change(&mut message);
    Boc::encode(CellBuilder::build_from(&message).expect("a message"))
}

/// `count` cells of 1,000 bits that all differ.
fn ballast(count: u32) -> Cell {
    (0..count).fold(Cell::default(), |below, n| {
        let mut cell = CellBuilder::new();
        cell.store_u32(n).expect("fits");
        cell.store_zeros(968).expect("fits");
        cell.store_reference(below).expect("fits");
        cell.build().expect("a cell")
    })
}

#[test]
fn whoever_makes_an_external_claim_dear_on_its_way_has_it_refused() {
    let network = Network::open();
    let claim = network.voucher(GROWTH).insecure_external_claim();
    // The one initial state that the chain takes here: the channel's own, 30 cells.
    let stuffed = altered(&claim, |message| {
        let state = Boc::decode(network.terms.state_init().boc()).expect("cells");
        message.init = Some(state.parse().expect("a state"));
    });
    let totals = network.ledger.totals().expect("totals");
    let error = network.ledger.send_external(&stuffed).expect_err("refused");
    assert!(format!("{error}").contains("409"), "{error}");
    assert_eq!(network.ledger.totals().expect("totals"), totals);
    network
        .ledger
        .send_external(&claim)
        .expect("the claim itself is good");
}

#[test]
fn damaged_external_claims_are_not_accepted() {
    let network = Network::open();
    let claim = network.voucher(GROWTH).insecure_external_claim();
    let totals = network.ledger.totals().expect("totals");
    let with_body = |change: &dyn Fn(&mut CellBuilder)| {
        altered(&claim, |message| {
            let (range, cell) = message.body.clone();
            let mut body = CellBuilder::new();
            let slice = range.apply(&cell).expect("a body");
            body.store_slice(slice).expect("fits");
            change(&mut body);
            let body = body.build().expect("a cell");
            message.body = (CellSliceRange::full(&body), body);
        })
    };
    let trailing: [&dyn Fn(&mut CellBuilder); 3] = [
        &|body| body.store_bit_one().expect("fits"),
        &|body| body.store_reference(Cell::default()).expect("fits"),
        &|body| body.store_reference(ballast(3)).expect("fits"),
    ];
    for change in trailing {
        assert!(network.ledger.send_external(&with_body(change)).is_err());
    }
    for byte in 0..claim.len() {
        let mut changed = claim.clone();
        changed[byte] ^= 0x10;
        assert!(
            network.ledger.send_external(&changed).is_err(),
            "byte {byte}"
        );
    }
    assert_eq!(network.ledger.totals().expect("totals"), totals);
    network
        .ledger
        .send_external(&claim)
        .expect("the claim itself is good");
}

#[test]
fn what_strangers_force_on_a_channel_is_not_the_payees() {
    let network = Network::open();
    let channel = network.terms.address();
    network.send(
        &network.stranger,
        Transfer::money(channel, Nano(1_000_000_000)),
    );
    let accepted = network
        .external(&network.voucher(GROWTH))
        .expect("accepted");
    let (_, value) = paid(&network, &accepted);
    assert!(value < GROWTH, "no more than signed: {value}");
    let before = network.balance(&network.developer.address());
    for request in [
        network.terms.request_close(1),
        network.terms.finalize_close(1),
    ] {
        assert_eq!(network.at_channel(&network.developer, request), Ok(()));
        network.ledger.set_time(START + DELAY);
    }
    let returned = network.balance(&network.developer.address()) - before;
    assert!(returned > DEPOSIT.0 - GROWTH + 980_000_000, "{returned}");
    network.assert_conserved();
}

#[test]
fn a_close_is_taken_back_by_its_payer_only_and_the_next_one_waits_anew() {
    let network = Network::open();
    let developer = |transfer| network.at_channel(&network.developer, transfer);
    let terms = &network.terms;
    assert_eq!(developer(terms.cancel_close(1)), Err(exit::NOT_CLOSING));
    assert_eq!(developer(terms.request_close(1)), Ok(()));
    for other in [&network.stranger, &network.provider] {
        let refused = network.at_channel(other, terms.cancel_close(1));
        assert_eq!(refused, Err(exit::NOT_PAYER));
    }
    network.ledger.set_time(START + DELAY - 1);
    assert_eq!(developer(terms.cancel_close(1)), Ok(()));
    let state = network.state();
    assert_eq!((state.status, state.unlock_at), (ChannelStatus::Open, 0));
    network.ledger.set_time(START + DELAY);
    assert_eq!(developer(terms.finalize_close(1)), Err(exit::TOO_EARLY));
    assert_eq!(
        developer(terms.top_up(Nano(5), 1).expect("an amount")),
        Ok(())
    );
    assert_eq!(developer(terms.request_close(1)), Ok(()));
    network.ledger.set_time(START + 2 * DELAY - 1);
    assert_eq!(developer(terms.finalize_close(1)), Err(exit::TOO_EARLY));
    assert_eq!(network.claim(&network.voucher(500)), Ok(()));
    network.ledger.set_time(START + 2 * DELAY);
    assert_eq!(developer(terms.finalize_close(1)), Ok(()));
    assert_eq!(developer(terms.cancel_close(1)), Err(exit::CLOSED));
    network.assert_conserved();
}

#[test]
fn a_channel_whose_deposit_is_paid_closes_at_once_and_never_before() {
    let network = Network::open();
    let close = || network.at_channel(&network.developer, network.terms.finalize_close(1));
    assert_eq!(network.claim(&network.voucher(DEPOSIT.0 - 1)), Ok(()));
    assert_eq!(close(), Err(exit::TOO_EARLY));
    assert_eq!(network.claim(&network.voucher(DEPOSIT.0 + 9)), Ok(()));
    assert_eq!(network.state().remaining(), Nano::ZERO);
    assert_eq!(close(), Ok(()));
    // A top-up that was on its way comes back.
    let top_up = network.terms.top_up(Nano(9), 1).expect("an amount");
    assert_eq!(
        network.at_channel(&network.stranger, top_up),
        Err(exit::CLOSED)
    );
    assert_eq!(
        network.claim(&network.voucher(DEPOSIT.0 + 9)),
        Err(exit::CLOSED)
    );
    network.assert_conserved();
}

#[test]
fn no_signature_counts_for_another_kind_of_message() {
    let mut network = Network::without_channel(Ledger::in_memory().expect("a ledger"));
    // The same key for both, as nobody should.
    network.payee_key = network.voucher_key.clone();
    network.terms.payee_key = network.terms.payer_key;
    let deploy = network.terms.deploy(DEPOSIT, 1).expect("an amount");
    assert_eq!(network.at_channel(&network.developer, deploy), Ok(()));
    let close = CooperativeClose {
        chain: ChainId::EMBEDDED,
        channel: network.terms.address(),
        paid: Nano::ZERO,
        valid_until: START + 60,
    }
    .sign(&network.payee_key);
    let mut voucher = network.voucher(500);
    let mut as_close = close;
    (voucher.signature, as_close.signature) = (close.signature, voucher.signature);
    assert_eq!(network.claim(&voucher), Err(exit::SIGNATURE));
    let refused = network.at_channel(&network.stranger, network.terms.cooperate(&as_close, 1));
    assert_eq!(refused, Err(exit::SIGNATURE));
    assert_eq!(
        network.at_channel(&network.stranger, network.terms.cooperate(&close, 1)),
        Ok(())
    );
}

#[test]
fn a_claim_costs_at_every_age_what_it_cost_at_first() {
    let mut network = Network::without_channel(Ledger::in_memory().expect("a ledger"));
    network.terms.claims_until = START + CHANNEL_LIFE_S_MAX as u32;
    let deploy = network.terms.deploy(DEPOSIT, 1).expect("an amount");
    assert_eq!(network.at_channel(&network.developer, deploy), Ok(()));
    let channel = network.terms.address();
    let (mut cumulative, mut costs) = (0, Vec::new());
    for year in [0, 1, 2, 3, 4] {
        network.ledger.set_time(START + year * 365 * 86_400);
        cumulative += GROWTH;
        assert_eq!(
            network.claim(&network.voucher(cumulative)),
            Ok(()),
            "year {year}"
        );
        cumulative += GROWTH;
        let accepted = network
            .external(&network.voucher(cumulative))
            .expect("accepted");
        let (_, value) = paid(&network, &accepted);
        costs.push(GROWTH - value);
        let held = network.balance(&channel);
        assert!(
            held >= DEPOSIT.0 - cumulative + network.rent_ahead(),
            "year {year}: {held}"
        );
    }
    // The reserve pays the rent, not the payee; gas differs by the width of the amounts.
    assert!(
        costs.iter().all(|cost| *cost < costs[0] + 20_000),
        "{costs:?}"
    );
    network.assert_conserved();
}

#[test]
fn the_contract_knows_how_much_room_it_takes() {
    let network = Network::open();
    network.ledger.set_time(START + 20 * 86_400);
    let accepted = network.send(
        &network.stranger,
        network.terms.insecure_claim(&network.voucher(5), 1),
    );
    let view = network::of(&accepted, &network.terms.address()).expect("a transaction");
    let computed = network::STATE_BITS + 500 * network::STATE_CELLS;
    let taken = (view.storage_fees.0 << 16) / (20 * 86_400);
    println!("rent a year {}", (taken * 365 * 86_400) >> 16);
    assert!(
        taken <= computed && taken > computed * 8 / 10,
        "{taken} of {computed}"
    );
}

#[test]
fn opening_a_channel_costs_its_payer_more_than_a_new_one_is_lent() {
    // The cheapest: next to no deposit, a short life, and everything that is not a fee taken back at its end.
    let mut network = Network::without_channel(Ledger::in_memory().expect("a ledger"));
    network.terms.claims_until = START + DELAY;
    let developer = &network.developer;
    // The wallet's own deployment is not the channel's.
    network.send(
        developer,
        Transfer::money(network.stranger.address(), Nano(1)),
    );
    let before = network.balance(&developer.address());
    let deploy = network.terms.deploy(Nano(1), 1).expect("an amount");
    assert_eq!(network.at_channel(developer, deploy), Ok(()));
    network.ledger.set_time(START + DELAY + 1);
    let end = network.terms.finalize_close(1);
    assert_eq!(network.at_channel(developer, end), Ok(()));
    let cost = before - network.balance(&developer.address());
    println!("a channel costs at least {cost}");
    // The proxy's `CHANNEL_COST`, above its `CREDIT_START`.
    assert!(cost > 27_000_000, "{cost}");
    network.assert_conserved();
}
