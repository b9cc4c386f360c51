//! The same messages as in TON's own C++ emulator give the same exit codes, gas, fees and messages, to the nanoTON.
//! `vectors/reference.json` is written by `contracts/reference.mjs`.

use crate::network::{self, CLAIMS_UNTIL, DELAY, DEPOSIT, Network, START};
use ledger::{Accepted, Ledger};
use serde_json::{Value, json};
use settlement::{Cap, ChainId, Charge, CooperativeClose, Nano, Voucher, Wallet};
use std::{fs, path::Path};

#[test]
fn the_ledger_executes_as_the_reference_emulator_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/reference.json");
    let reference: Value =
        serde_json::from_slice(&fs::read(path).expect("committed")).expect("JSON");
    let expected = reference["steps"].as_array().expect("steps");

    let network = Network::without_channel(Ledger::in_memory().expect("a ledger"));
    let seen = |name: &str, accepted: &Accepted| {
        let view =
            network::of(accepted, &network.terms.address()).expect("the channel has a transaction");
        let out: Vec<Value> = view
            .out_messages
            .iter()
            .map(|message| json!([message.value, message.forward_fee]))
            .collect();
        json!({
            "step": name,
            "exit_code": view.exit_code,
            "action_code": view.action_code,
            "gas_used": view.gas_used,
            "total_fees": view.total_fees,
            "out": out,
        })
    };
    let step = |name: &str, wallet: &Wallet, transfer| seen(name, &network.send(wallet, transfer));
    let (terms, developer, stranger) = (&network.terms, &network.developer, &network.stranger);
    let first = network.voucher(123_456_789);
    // Made for one chain and shown on another; the emulator's test does it the other way round.
    let elsewhere = Voucher {
        chain: ChainId::MAINNET,
        cumulative: Nano(5),
        ..first.voucher
    }
    .sign(&network.voucher_key);
    let mut new_key = [0; 32];
    new_key[31] = 9;
    let mut steps = vec![
        step(
            "deploy",
            developer,
            terms.deploy(DEPOSIT, 1).expect("an amount"),
        ),
        step("claim", stranger, terms.insecure_claim(&first, 7)),
        step("replay", stranger, terms.insecure_claim(&first, 7)),
        step("other chain", stranger, terms.insecure_claim(&elsewhere, 7)),
    ];
    let external = network.voucher(200_000_000).insecure_external_claim();
    let accepted = network.ledger.send_external(&external).expect("accepted");
    steps.push(seen("external claim", &accepted));
    steps.extend([
        step("stranger closes", stranger, terms.request_close(1)),
        step("close", developer, terms.request_close(1)),
        step("cancel", developer, terms.cancel_close(1)),
        step("rotate", developer, terms.rotate_key(&new_key, 1)),
        step("close", developer, terms.request_close(1)),
    ]);
    network.ledger.set_time(START + DELAY);
    steps.push(step("finalize", developer, terms.finalize_close(1)));
    let tombstone = network.balance(&terms.address()).to_string();
    network.ledger.set_time(CLAIMS_UNTIL + 1);
    steps.push(step("destroy", developer, terms.finalize_close(1)));
    assert_eq!(network.balance(&terms.address()), 0);
    assert_eq!(expected.len(), steps.len());
    for (ours, theirs) in steps.iter().zip(expected) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(reference["balance"], tombstone);
}

/// `settlement` computes the hashes of its cells itself; tycho reads the cells and computes them anew.
#[test]
fn hashes_and_addresses_are_those_that_tycho_computes() {
    let root = |boc: &[u8]| tycho_types::boc::Boc::decode(boc).expect("a bag of cells");
    let network = Network::open();
    let (terms, key) = (&network.terms, &network.voucher_key);
    assert_eq!(
        terms.address().hash,
        root(&terms.state_init().boc()).repr_hash().0
    );
    for amount in [0, 1, 255, 256, u64::from(u32::MAX), u64::MAX] {
        let cap = Cap {
            chain: ChainId(-239),
            channel: terms.address(),
            job: [6; 16],
            most: Nano(u64::MAX),
        };
        let charge = Charge {
            cap: cap.sign(key),
            stake: terms.payee,
            receipt_hash: [3; 32],
            seq: amount,
            cost: Nano(amount),
            cumulative: Nano(amount / 2),
        };
        assert_eq!(charge.cell_hash(), root(&charge.cell_boc()).repr_hash().0);
        // A claim carries the voucher, a close itself, as the one reference of its body.
        let voucher = network.voucher(amount);
        let close = CooperativeClose {
            chain: ChainId::TESTNET,
            channel: terms.address(),
            paid: Nano(amount),
            valid_until: amount as u32,
        };
        for (transfer, hash) in [
            (
                terms.insecure_claim(&voucher, 1),
                voucher.voucher.cell_hash(),
            ),
            (terms.cooperate(&close.sign(key), 1), close.cell_hash()),
        ] {
            let message = network
                .developer
                .transfer(1, 1, &[transfer])
                .expect("one transfer");
            let mut cells = vec![root(&message)];
            let mut found = false;
            while let Some(cell) = cells.pop() {
                found |= cell.repr_hash().0 == hash;
                cells.extend((0..cell.reference_count()).filter_map(|n| cell.reference_cloned(n)));
            }
            assert!(found, "amount {amount}");
        }
    }
}
