//! The same messages as in TON's own C++ emulator give the same exit codes, gas, fees and messages, to the nanoTON.
//! `vectors/reference.json` is written by `contracts/reference.mjs`.

mod street;

use ledger::Ledger;
use serde_json::{Value, json};
use settlement::{ChainId, Nano, Transfer, Voucher, Wallet};
use std::{fs, path::Path};
use street::{DELAY, DEPOSIT, START, Street};

#[test]
fn the_ledger_executes_as_the_reference_emulator_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/reference.json");
    let reference: Value =
        serde_json::from_slice(&fs::read(path).expect("committed")).expect("JSON");
    let expected = reference["steps"].as_array().expect("steps");

    let street = Street::without_channel(Ledger::in_memory().expect("a ledger"));
    let step = |name: &str, wallet: &Wallet, transfer: Transfer| {
        let accepted = street.send(wallet, transfer);
        let view =
            street::of(&accepted, &street.terms.address()).expect("the channel has a transaction");
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
    let (terms, developer, stranger) = (&street.terms, &street.developer, &street.stranger);
    let first = street.voucher(123_456_789);
    // Made for one chain and shown on another; the emulator's test does it the other way round.
    let elsewhere = Voucher {
        chain: ChainId::MAINNET,
        cumulative: Nano(5),
        ..first.voucher
    }
    .sign(&street.voucher_key);
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
        step("stranger closes", stranger, terms.request_close(1)),
        step("rotate", developer, terms.rotate_key(&new_key, 1)),
        step("close", developer, terms.request_close(1)),
    ];
    street.ledger.set_time(START + DELAY);
    steps.push(step("finalize", developer, terms.finalize_close(1)));

    assert_eq!(expected.len(), steps.len());
    for (ours, theirs) in steps.iter().zip(expected) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(
        reference["balance"],
        street.balance(&terms.address()).to_string()
    );
}
