//! From a signed voucher to money in the provider's wallet, to the nanoTON; and the charge check in the TVM.

use crate::network::{Network, START};
use ed25519_dalek::SigningKey;
use ledger::{Ledger, Refusal};
use settlement::{
    Address, Cap, ChainId, ChannelTerms, Charge, Contract, Nano, SignedCharge, Transfer, exit,
    message_hash,
    toncenter::{StackItem, Transaction, payout_fee},
};

/// Transactions as a client of the HTTP interface sees them.
fn seen(ledger: &Ledger, address: &Address) -> Vec<Transaction> {
    ledger
        .transactions(address)
        .expect("transactions")
        .iter()
        .map(as_seen)
        .collect()
}

fn as_seen(view: &ledger::TransactionView) -> Transaction {
    let account = |party: &ledger::Party| match party {
        ledger::Party::Account(address) => Some(*address),
        ledger::Party::Outside => None,
    };
    let message = |view: &ledger::MessageView| settlement::toncenter::Message {
        hash: Some(view.hash),
        source: account(&view.source),
        destination: account(&view.destination),
        value: view.value,
        forward_fee: view.forward_fee,
        created_lt: view.created_lt,
    };
    Transaction {
        lt: view.lt,
        hash: view.hash,
        unix_s: view.unix_s,
        fee: view.fee(),
        in_message: view.in_message.as_ref().map(message),
        out_messages: view.out_messages.iter().map(message).collect(),
    }
}

#[test]
fn a_claim_pays_exactly_the_price_and_costs_exactly_the_computed_fee() {
    let network = Network::open();
    let (wallet, channel) = (network.provider.address(), network.terms.address());
    let mut cumulative = 0;
    for (number, price) in [(0, 1_500), (1, 777_000_000), (2, 1)] {
        network.ledger.set_time(START + number * 100_000);
        cumulative += price;
        let verified = network
            .voucher(cumulative)
            .verify(&network.terms.payer_key)
            .expect("the payer signed it");
        let boc = network.message(&network.provider, network.terms.claim(&verified, 1));
        let (paid_before, before) = (network.paid(), network.balance(&wallet));
        let after_lt = network.last_lt(&wallet);
        let accepted = network
            .ledger
            .send_external(&boc)
            .expect("the wallet accepts");
        let (paid_after, after) = (network.paid(), network.balance(&wallet));

        assert_eq!(Some(accepted.hash), message_hash(&boc));
        let (of_wallet, of_channel) = (
            seen(&network.ledger, &wallet),
            seen(&network.ledger, &channel),
        );
        let payout =
            payout_fee(after_lt, &wallet, &channel, &of_wallet, &of_channel).expect("settled");
        assert_eq!(paid_after - paid_before, price);
        assert_eq!(payout.price, Nano(price));
        assert_eq!(
            i128::from(after) - i128::from(before),
            i128::from(price) - i128::from(payout.fee.0)
        );
        println!(
            "claim {number}: price {}, fee {}",
            Nano(price).in_ton(),
            payout.fee.in_ton()
        );
        network.assert_conserved();
    }
}

#[test]
fn a_refused_claim_has_no_payout() {
    let network = Network::open();
    let (wallet, channel) = (network.provider.address(), network.terms.address());
    let mut forged = network.voucher(5);
    forged.signature[0] ^= 1;
    let boc = network.message(&network.provider, network.terms.insecure_claim(&forged, 1));
    let after_lt = network.last_lt(&wallet);
    let payout = || {
        payout_fee(
            after_lt,
            &wallet,
            &channel,
            &seen(&network.ledger, &wallet),
            &seen(&network.ledger, &channel),
        )
    };
    assert_eq!(
        payout(),
        Err(settlement::toncenter::PayoutError::NotYet(
            "transaction of the wallet"
        ))
    );
    network
        .ledger
        .send_external(&boc)
        .expect("the wallet accepts");
    assert_eq!(payout(), Err(settlement::toncenter::PayoutError::Refused));
    assert_eq!(network.paid(), 0);
}

#[test]
fn a_wallet_takes_a_message_once_in_its_time_and_only_from_its_key() {
    let network = Network::open();
    let to = network.stranger.address();
    let transfer = Transfer::money(to, Nano(5));
    let boc = network.message(&network.developer, transfer.clone());
    network.ledger.send_external(&boc).expect("the first time");
    let before = (
        network.balance(&network.developer.address()),
        network.ledger.totals().expect("totals"),
    );
    let refused = |boc: &[u8], exit_code: i32| {
        let error = network.ledger.send_external(boc).expect_err("refused");
        let account = network.developer.address();
        assert_eq!(
            error.refusal(),
            Some(&Refusal::NotAccepted { account, exit_code })
        );
    };
    // Wallet V5R1's own codes: 133 seqno, 136 expired, 135 signature.
    refused(&boc, 133);
    let seqno = network.seqno(&network.developer);
    let wait = network
        .developer
        .transfer(seqno, START - 1, std::slice::from_ref(&transfer))
        .expect("a message");
    refused(&wait, 136);
    let mut bad = network
        .developer
        .transfer(seqno + 1, START + 60, &[transfer])
        .expect("a message");
    refused(&bad, 133);
    // Refused messages left no trace.
    assert_eq!(
        (
            network.balance(&network.developer.address()),
            network.ledger.totals().expect("totals")
        ),
        before
    );
    // A message cut short is no message.
    bad.truncate(bad.len() - 1);
    assert!(matches!(
        network
            .ledger
            .send_external(&bad)
            .expect_err("cut")
            .refusal(),
        Some(Refusal::Malformed(_))
    ));
}

#[test]
fn altered_external_messages_never_panic_and_never_move_money() {
    let network = Network::open();
    let boc = network.message(
        &network.developer,
        Transfer::money(network.stranger.address(), Nano(5)),
    );
    let before = network.ledger.totals().expect("totals");
    for byte in 0..boc.len() {
        let mut changed = boc.clone();
        changed[byte] ^= 0x10;
        assert!(
            network.ledger.send_external(&changed).is_err(),
            "byte {byte}"
        );
    }
    for length in 0..boc.len() {
        assert!(
            network.ledger.send_external(&boc[..length]).is_err(),
            "length {length}"
        );
    }
    assert_eq!(network.ledger.totals().expect("totals"), before);
    network
        .ledger
        .send_external(&boc)
        .expect("the message itself is good");
}

fn charge(network: &Network, cost: u64, most: u64) -> Charge {
    let cap = Cap {
        chain: ChainId::EMBEDDED,
        channel: network.terms.address(),
        job: [6; 16],
        most: Nano(most),
    };
    Charge {
        cap: cap.sign(&network.voucher_key),
        stake: Address {
            workchain: 0,
            hash: [2; 32],
        },
        receipt_hash: [3; 32],
        seq: 41,
        cost: Nano(cost),
        cumulative: Nano(900),
    }
}

/// What the deployed charge check says of a charge: sequence number and sum, or its exit code. `terms` are those of the channel that is
/// shown to it.
fn judge(
    network: &Network,
    signed: &SignedCharge,
    key: &[u8; 32],
    terms: &ChannelTerms,
) -> Result<(Option<u64>, Option<u64>), i32> {
    let stack = [
        StackItem::Cell(signed.charge.cell_boc()),
        signature_slice(&signed.signature),
        StackItem::from_uint256(*key),
        StackItem::Cell(terms.data_boc()),
    ];
    let at = Contract::charge_check_state().address();
    let answer = network
        .ledger
        .run_get_method(&at, "check_charge", &stack)
        .expect("it runs");
    match answer.exit_code {
        0 => Ok((answer.stack[0].to_u64(), answer.stack[1].to_u64())),
        code => Err(code),
    }
}

#[test]
fn the_tvm_judges_charges_as_the_library_does() {
    let network = Network::open();
    let code = Contract::charge_check_state();
    let deploy = Transfer {
        state_init: Some(code.clone()),
        ..Transfer::money(code.address(), Nano(100_000_000))
    };
    network.send(&network.stranger, deploy);

    let key = SigningKey::from_bytes(&[12; 32]);
    let public = key.verifying_key().to_bytes();
    let terms = &network.terms;
    let check = |charge: SignedCharge, public: &[u8; 32], expected: Result<(), i32>| {
        let judged = judge(&network, &charge, public, terms);
        assert_eq!(
            judged,
            expected.map(|()| (Some(41), Some(900))),
            "{charge:?}"
        );
        assert_eq!(
            charge.verify(public, &terms.payer_key).is_ok(),
            expected.is_ok()
        );
    };
    let good = charge(&network, 100, 100).sign(&key);
    check(good, &public, Ok(()));
    check(good, &[9; 32], Err(exit::CHARGE_SIGNATURE));
    for bit in [0, 100, 255, 256, 511] {
        let mut flipped = good;
        flipped.signature[bit / 8] ^= 1 << (bit % 8);
        check(flipped, &public, Err(exit::CHARGE_SIGNATURE));
    }
    let mut moved = good;
    moved.charge.seq = 42;
    check(moved, &public, Err(exit::CHARGE_SIGNATURE));
    let above = charge(&network, 101, 100).sign(&key);
    check(above, &public, Err(exit::CHARGE_COST_ABOVE_CAP));

    // The guest's own word for what the payer allowed.
    let mut raised = good.charge;
    raised.cap.cap.most = Nano(1_000);
    let forged = Charge {
        cap: raised.cap.cap.sign(&key),
        ..raised
    };
    for charge in [raised, forged] {
        check(charge.sign(&key), &public, Err(exit::CHARGE_CAP_SIGNATURE));
    }
    // The guest's own key in terms that are not the channel's.
    let others = ChannelTerms {
        payer_key: public,
        ..terms.clone()
    };
    let judged = judge(&network, &forged.sign(&key), &public, &others);
    assert_eq!(judged, Err(exit::CHARGE_CHANNEL));

    let mut elsewhere = good.charge;
    elsewhere.cap.cap.chain = ChainId::MAINNET;
    let judged = judge(&network, &elsewhere.sign(&key), &public, terms);
    assert_eq!(judged, Err(exit::CHARGE_CHAIN));
}

/// A slice of 512 bits, as a bag of one cell: by hand, to need no builder here.
fn signature_slice(signature: &[u8; 64]) -> StackItem {
    // b5ee9c72, flags: 1-byte references, 1-byte offsets, 1 cell, 1 root, 0 absent, 66 bytes, root 0; then 0 references, 128 half bytes.
    let mut boc = vec![
        0xb5, 0xee, 0x9c, 0x72, 0x01, 0x01, 0x01, 0x01, 0x00, 66, 0x00, 0x00, 128,
    ];
    boc.extend_from_slice(signature);
    StackItem::Slice(boc)
}
