//! Blocks and faults: what a live network does to messages and answers.

use crate::network::{Network, START};
use ledger::{Conditions, Faults, Ledger};
use settlement::{Address, Nano, Transfer, toncenter};

const BLOCK_S: u32 = 2;

fn conditions(seed: u64, faults: Faults) -> Conditions {
    Conditions {
        block_s: BLOCK_S,
        seed,
        faults,
    }
}

fn network(faults: Faults) -> Network {
    let network = Network::open();
    network.ledger.set_conditions(conditions(1, faults));
    network
}

/// The voucher's claim, on its way.
fn claim(network: &Network, cumulative: u64) -> Vec<u8> {
    let voucher = network.voucher(cumulative);
    let verified = voucher.verify(&network.terms.payer_key).expect("signed");
    let boc = network.message(&network.provider, network.terms.claim(&verified, 1));
    network.ledger.send_external(&boc).expect("taken");
    boc
}

fn conserved(ledger: &Ledger) -> u128 {
    let totals = ledger.totals().expect("totals");
    let there = totals.balances + totals.in_flight + totals.fees;
    assert_eq!(totals.issued, there, "{totals:?}");
    totals.in_flight
}

#[test]
fn every_hop_takes_a_block() {
    let network = network(Faults::default());
    let wallet = network.provider.address();
    claim(&network, 7_000);
    let at = |block: u32| network.ledger.set_time(START + block * BLOCK_S);
    let count = || network.ledger.transactions(&wallet).expect("read").len();
    let before = count();
    assert_eq!((network.paid(), network.seqno(&network.provider)), (0, 0));
    at(1);
    assert_eq!((network.paid(), network.seqno(&network.provider)), (0, 1));
    assert!(conserved(&network.ledger) > 0, "the claim is on its way");
    at(2);
    assert_eq!((network.paid(), count()), (7_000, before + 1));
    at(3);
    assert_eq!(count(), before + 3, "the payout and the rest");
    assert_eq!(conserved(&network.ledger), 0);
}

#[test]
fn a_restart_forgets_no_message_between_accounts() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.sqlite");
    let network = Network::on(Ledger::open(&path).expect("a ledger"));
    network
        .ledger
        .set_conditions(conditions(1, Faults::default()));
    claim(&network, 7_000);
    network.ledger.set_time(START + BLOCK_S);
    assert!(conserved(&network.ledger) > 0);
    let Network { ledger, terms, .. } = network;
    drop(ledger);
    let ledger = Ledger::open(&path).expect("the same ledger");
    ledger.set_time(START + BLOCK_S);
    ledger.set_conditions(conditions(1, Faults::default()));
    ledger.set_time(START + 10 * BLOCK_S);
    assert_eq!(conserved(&ledger), 0);
    let state = ledger.run_get_method(&terms.address(), "channel_state", &[]);
    assert_eq!(state.expect("it runs").stack[3].to_u64(), Some(7_000));
}

#[test]
fn each_fault_is_what_it_says() {
    let after = |faults: Faults, blocks: u32| {
        let network = network(faults);
        let boc = claim(&network, 7_000);
        network.ledger.set_time(START + blocks * BLOCK_S);
        (network, boc)
    };
    let (dropped, _) = after(
        Faults {
            drop: 1_000,
            ..Faults::default()
        },
        50,
    );
    assert_eq!((dropped.paid(), dropped.seqno(&dropped.provider)), (0, 0));

    let (twice, _) = after(
        Faults {
            duplicate: 1_000,
            ..Faults::default()
        },
        50,
    );
    assert_eq!((twice.paid(), twice.seqno(&twice.provider)), (7_000, 1));

    let (anew, boc) = after(
        Faults {
            reencode: 1_000,
            ..Faults::default()
        },
        50,
    );
    let taken = anew.ledger.transactions(&anew.provider.address());
    let hashes = taken.expect("read");
    let hashes = hashes
        .iter()
        .filter_map(|tx| Some(tx.in_message.as_ref()?.hash));
    assert!(
        !hashes
            .collect::<Vec<_>>()
            .contains(&settlement::message_hash(&boc).expect("ours"))
    );
    assert_eq!(anew.paid(), 7_000);

    let late = Faults {
        delay_blocks_max: 20,
        ..Faults::default()
    };
    let (late, _) = after(late, 1);
    let mut blocks = 1;
    while late.paid() == 0 {
        blocks += 1;
        late.ledger.set_time(START + blocks * BLOCK_S);
    }
    assert!((3..=22).contains(&blocks), "{blocks}");
}

#[test]
fn an_answer_of_an_older_block_is_that_blocks_state() {
    let network = network(Faults {
        lag_blocks_max: 6,
        ..Faults::default()
    });
    let (ledger, channel) = (&network.ledger, network.terms.address());
    claim(&network, 7_000);
    let mut seen = std::collections::BTreeMap::new();
    for block in 1..40_u32 {
        ledger.set_time(START + block * BLOCK_S);
        let view = ledger.view().expect("a view");
        let age = ledger.seqno().expect("read") - view.seqno;
        assert!(age <= 6);
        assert_eq!(view.unix_s, START + block * BLOCK_S - age as u32 * BLOCK_S);
        let state = ledger.run_get_method_in(&view, &channel, "channel_state", &[]);
        let paid = state.expect("it runs").stack[3].to_u64().expect("a number");
        let count = ledger.transactions_in(&view, &channel, None, 100);
        let told = (paid, count.expect("read").len());
        let before = seen.insert(view.seqno, told);
        assert!(
            before.is_none_or(|before| before == told),
            "one block, one state"
        );
    }
    // Without gaps in what they told: nothing was paid, then all was.
    let told: Vec<_> = seen.into_values().collect();
    assert!(told.is_sorted(), "{told:?}");
    assert_eq!((told[0].0, told[told.len() - 1].0), (0, 7_000));
}

#[test]
fn a_reordered_block_keeps_the_order_between_two_accounts() {
    let mut orders = std::collections::HashSet::new();
    for seed in 0..20 {
        let network = Network::open();
        let reorder = Faults {
            reorder: true,
            ..Faults::default()
        };
        network.ledger.set_conditions(conditions(seed, reorder));
        let (one, other) = (network.stranger.address(), network.provider.address());
        let transfers: Vec<Transfer> = (1..=8)
            .flat_map(|n| [one, other].map(|to| Transfer::money(to, Nano(n))))
            .collect();
        let seqno = network.seqno(&network.developer);
        let boc = network
            .developer
            .transfer(seqno, START + 60, &transfers)
            .expect("a message");
        network.ledger.send_external(&boc).expect("taken");
        network.ledger.set_time(START + 4 * BLOCK_S);
        // Newest first: when each was delivered, and when it was made.
        let of = |to: &Address| {
            let transactions = network.ledger.transactions(to).expect("read");
            let made = |tx: &ledger::TransactionView| {
                (tx.lt, tx.in_message.as_ref().expect("a cause").created_lt)
            };
            transactions.iter().take(8).map(made).collect::<Vec<_>>()
        };
        let mut all = Vec::new();
        for to in [one, other] {
            assert!(of(&to).is_sorted_by(|a, b| a.1 > b.1), "{:?}", of(&to));
            all.extend(of(&to));
        }
        all.sort_unstable();
        let first = all[0].1;
        orders.insert(
            all.iter()
                .map(|(_, made)| made.abs_diff(first))
                .collect::<Vec<_>>(),
        );
        conserved(&network.ledger);
    }
    assert!(orders.len() > 10, "between others it is any order");
}

#[test]
fn a_seed_repeats_a_run_and_429_is_answered() {
    let run = |seed: u64| {
        let network = Network::open();
        let faults = Faults {
            drop: 300,
            refuse: 300,
            delay_blocks_max: 3,
            lag_blocks_max: 3,
            ..Faults::default()
        };
        network.ledger.set_conditions(conditions(seed, faults));
        let question = toncenter::account(&network.provider.address());
        let answers = (0..40).map(|block| {
            network.ledger.set_time(START + block * BLOCK_S);
            network.ledger.answer(question.request())
        });
        answers.collect::<Vec<_>>()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
    let question = toncenter::masterchain_info();
    let refused = run(7).into_iter().find(|(status, _)| *status == 429);
    let (status, body) = refused.expect("some are");
    let refused = question.answer(status, &body).expect_err("refused");
    assert_eq!(refused, toncenter::ChainError::RateLimited);
}
