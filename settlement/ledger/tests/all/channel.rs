//! The channel contract in the TVM: who is paid, who is refused, and with which exit code.

use crate::network::{self, CLAIMS_UNTIL, DELAY, DEPOSIT, Network, RESERVE, START};
use ed25519_dalek::SigningKey;
use ledger::{AccountState, Ledger};
use settlement::{ChainId, ChannelStatus, CooperativeClose, Nano, Transfer, Voucher, Wallet, exit};

#[test]
fn a_deployed_channel_holds_its_deposit_and_its_reserve() {
    let network = Network::open();
    let state = network.state();
    assert_eq!(
        (state.status, state.deposit, state.paid),
        (ChannelStatus::Open, DEPOSIT, Nano::ZERO)
    );
    assert_eq!(
        network.balance(&network.terms.address()),
        DEPOSIT.0 + network.rent_ahead()
    );
    network.assert_conserved();
}

#[test]
fn a_replayed_or_smaller_voucher_is_refused_and_a_larger_one_pays_the_growth() {
    let network = Network::open();
    assert_eq!(network.claim(&network.voucher(500)), Ok(()));
    assert_eq!(
        network.claim(&network.voucher(500)),
        Err(exit::NOT_ABOVE_PAID)
    );
    assert_eq!(
        network.claim(&network.voucher(499)),
        Err(exit::NOT_ABOVE_PAID)
    );
    assert_eq!(
        network.claim(&network.voucher(0)),
        Err(exit::NOT_ABOVE_PAID)
    );
    assert_eq!(network.paid(), 500);
    assert_eq!(network.claim(&network.voucher(501)), Ok(()));
    assert_eq!(network.paid(), 501);
    network.assert_conserved();
}

#[test]
fn vouchers_for_another_chain_or_channel_and_forged_ones_are_refused() {
    let network = Network::open();
    let sign = |voucher: Voucher| voucher.sign(&network.voucher_key);
    let good = network.unsigned(500);
    assert_eq!(
        network.claim(&sign(Voucher {
            chain: ChainId::MAINNET,
            ..good
        })),
        Err(exit::CHAIN)
    );
    assert_eq!(
        network.claim(&sign(Voucher {
            channel: network.terms.payee,
            ..good
        })),
        Err(exit::CHANNEL)
    );
    assert_eq!(
        network.claim(&good.sign(&network.payee_key)),
        Err(exit::SIGNATURE)
    );
    let mut forged = network.voucher(500);
    forged.signature[40] ^= 1;
    assert_eq!(network.claim(&forged), Err(exit::SIGNATURE));
    let mut raised = network.voucher(500);
    raised.voucher.cumulative = Nano(501);
    assert_eq!(network.claim(&raised), Err(exit::SIGNATURE));
    assert_eq!(network.paid(), 0);
    network.assert_conserved();
}

#[test]
fn a_channel_made_for_another_chain_takes_no_money_here() {
    let mut network = Network::without_channel(Ledger::in_memory().expect("a ledger"));
    network.terms.chain = ChainId::MAINNET;
    let deploy = network.terms.deploy(DEPOSIT, 1).expect("an amount");
    assert_eq!(
        network.at_channel(&network.developer, deploy),
        Err(exit::CHAIN)
    );
    assert!(
        network.balance(&network.developer.address()) > 9_900_000_000,
        "the deposit came back"
    );
}

#[test]
fn a_voucher_above_the_deposit_pays_what_there_is_and_the_rest_after_a_top_up() {
    let network = Network::open();
    let big = network.voucher(DEPOSIT.0 + 700);
    assert_eq!(network.claim(&big), Ok(()));
    assert_eq!(network.paid(), DEPOSIT.0);
    assert_eq!(network.claim(&big), Err(exit::DEPOSIT_USED_UP));
    // By anyone, and what the stranger sent above it comes back.
    let top_up = network.terms.top_up(Nano(1_000), 2).expect("an amount");
    assert_eq!(network.at_channel(&network.stranger, top_up), Ok(()));
    assert!(network.balance(&network.stranger.address()) > 9_990_000_000);
    assert_eq!(network.claim(&big), Ok(()));
    assert_eq!(network.paid(), DEPOSIT.0 + 700);
    assert_eq!(network.state().remaining(), Nano(300));
    network.assert_conserved();
}

#[test]
fn anyone_may_deliver_a_claim_and_the_payee_is_credited_exactly() {
    let network = Network::open();
    let before = network.balance(&network.terms.payee);
    let claim = network
        .terms
        .insecure_claim(&network.voucher(123_456_789), 1);
    let accepted = network.send(&network.stranger, claim);
    assert_eq!(
        network::verdict(&accepted, &network.terms.address()),
        Ok(())
    );
    let received = network::of(&accepted, &network.terms.payee).expect("the payee is paid");
    assert_eq!(
        network.balance(&network.terms.payee),
        before + 123_456_789 - received.total_fees.0
    );
    // The reserve paid no gas.
    assert_eq!(
        network.balance(&network.terms.address()),
        DEPOSIT.0 - 123_456_789 + network.rent_ahead()
    );
    network.assert_conserved();
}

#[test]
fn only_the_payer_may_close_or_rotate_and_not_before_the_delay() {
    let network = Network::open();
    for request in [
        network.terms.request_close(1),
        network.terms.finalize_close(1),
        network.terms.rotate_key(&[9; 32], 1),
    ] {
        assert_eq!(
            network.at_channel(&network.stranger, request.clone()),
            Err(exit::NOT_PAYER)
        );
        assert_eq!(
            network.at_channel(&network.provider, request),
            Err(exit::NOT_PAYER)
        );
    }
    let close = || network.at_channel(&network.developer, network.terms.finalize_close(2));
    assert_eq!(close(), Err(exit::TOO_EARLY));
    assert_eq!(
        network.at_channel(&network.developer, network.terms.request_close(2)),
        Ok(())
    );
    assert_eq!(
        network.at_channel(&network.developer, network.terms.request_close(2)),
        Err(exit::CLOSING)
    );
    let top_up = network.terms.top_up(Nano(1_000), 2).expect("an amount");
    assert_eq!(
        network.at_channel(&network.developer, top_up),
        Err(exit::CLOSING)
    );
    network.ledger.set_time(START + DELAY - 1);
    assert_eq!(close(), Err(exit::TOO_EARLY));
    // Claims stay open while closing, to the last second and beyond, until somebody finalizes.
    assert_eq!(network.claim(&network.voucher(500)), Ok(()));
    network.ledger.set_time(START + DELAY);
    assert_eq!(network.claim(&network.voucher(600)), Ok(()));
    let before = network.balance(&network.developer.address());
    assert_eq!(close(), Ok(()));
    let returned = network.balance(&network.developer.address()) - before;
    assert!(
        returned > DEPOSIT.0 - 15_000_000 && returned < DEPOSIT.0,
        "{returned}"
    );
    assert_eq!(
        (network.state().status, network.paid()),
        (ChannelStatus::Closed, 600)
    );
    network.assert_conserved();
}

#[test]
fn a_closed_channel_deployed_again_pays_no_old_voucher() {
    let network = Network::open();
    assert_eq!(network.claim(&network.voucher(500)), Ok(()));
    assert_eq!(
        network.at_channel(&network.developer, network.terms.request_close(1)),
        Ok(())
    );
    network.ledger.set_time(START + DELAY);
    assert_eq!(
        network.at_channel(&network.developer, network.terms.finalize_close(1)),
        Ok(())
    );
    assert_eq!(
        network.balance(&network.terms.address()),
        network.rent_ahead(),
        "the tombstone keeps its rent"
    );
    let again = network.terms.deploy(DEPOSIT, 9).expect("an amount");
    assert_eq!(
        network.at_channel(&network.developer, again),
        Err(exit::CLOSED)
    );
    assert_eq!(network.claim(&network.voucher(500)), Err(exit::CLOSED));
    assert_eq!(network.claim(&network.voucher(900)), Err(exit::CLOSED));
    assert_eq!(network.paid(), 500);
    // What a stranger forces on the tombstone, the payer gets.
    network.send(
        &network.stranger,
        Transfer::money(network.terms.address(), Nano(700_000_000)),
    );
    let before = network.balance(&network.developer.address());
    assert_eq!(
        network.at_channel(&network.developer, network.terms.finalize_close(2)),
        Ok(())
    );
    assert!(network.balance(&network.developer.address()) > before + 690_000_000);
    network.assert_conserved();
}

#[test]
fn after_claims_until_nothing_is_claimed_and_the_payer_needs_no_delay() {
    let network = Network::open();
    network.ledger.set_time(CLAIMS_UNTIL);
    assert_eq!(network.claim(&network.voucher(500)), Ok(()));
    network.ledger.set_time(CLAIMS_UNTIL + 1);
    assert_eq!(
        network.claim(&network.voucher(600)),
        Err(exit::AFTER_CLAIMS_UNTIL)
    );
    let top_up = network.terms.top_up(Nano(1_000), 2).expect("an amount");
    assert_eq!(
        network.at_channel(&network.stranger, top_up),
        Err(exit::AFTER_CLAIMS_UNTIL)
    );
    assert_eq!(
        network.at_channel(&network.stranger, network.terms.finalize_close(1)),
        Err(exit::NOT_PAYER)
    );
    let before = network.balance(&network.developer.address());
    assert_eq!(
        network.at_channel(&network.developer, network.terms.finalize_close(1)),
        Ok(())
    );
    // Nothing is left of it, and the tombstone's coins are the payer's.
    let gone = network.ledger.account(&network.terms.address());
    assert_eq!(gone.expect("read").state, AccountState::Nonexistent);
    let returned = network.balance(&network.developer.address()) - before;
    assert!(
        returned > DEPOSIT.0 - 500 - 10_000_000 + RESERVE,
        "{returned}"
    );
    // Deployed again it pays and takes nothing, and the money that is forced on it comes out again.
    let again = network.terms.deploy(DEPOSIT, 9).expect("an amount");
    let refused = network.at_channel(&network.developer, again);
    assert_eq!(refused, Err(exit::AFTER_CLAIMS_UNTIL));
    let claim = network
        .terms
        .insecure_claim(&network.voucher(900_000_000), 1);
    let claim = Transfer {
        state_init: Some(network.terms.state_init()),
        ..claim
    };
    assert_eq!(
        network.at_channel(&network.stranger, claim),
        Err(exit::AFTER_CLAIMS_UNTIL)
    );
    network.send(
        &network.stranger,
        Transfer::money(network.terms.address(), Nano(700_000_000)),
    );
    let before = network.balance(&network.developer.address());
    let sweep = Transfer {
        state_init: Some(network.terms.state_init()),
        ..network.terms.finalize_close(2)
    };
    assert_eq!(network.at_channel(&network.developer, sweep), Ok(()));
    // The message carries the code once more, which costs some 0.02 TON.
    let gained = network.balance(&network.developer.address()) - before;
    assert!(gained > 670_000_000, "{gained}");
    assert_eq!(network.balance(&network.terms.address()), 0);
    network.assert_conserved();
}

#[test]
fn a_rotated_key_takes_effect_after_the_delay_and_not_before() {
    let network = Network::open();
    let new_key = SigningKey::from_bytes(&[44; 32]);
    let rotate = network
        .terms
        .rotate_key(&new_key.verifying_key().to_bytes(), 1);
    assert_eq!(network.at_channel(&network.developer, rotate), Ok(()));
    // Before the delay: the old key's unclaimed vouchers are good, the new key's are not yet.
    assert_eq!(
        network.claim(&network.unsigned(100).sign(&new_key)),
        Err(exit::SIGNATURE)
    );
    network.ledger.set_time(START + DELAY - 1);
    assert_eq!(network.claim(&network.voucher(200)), Ok(()));
    assert_eq!(network.state().payer_key, network.terms.payer_key);
    // After it, the other way round.
    network.ledger.set_time(START + DELAY);
    assert_eq!(
        network.state().payer_key,
        new_key.verifying_key().to_bytes()
    );
    assert_eq!(network.claim(&network.voucher(300)), Err(exit::SIGNATURE));
    assert_eq!(network.claim(&network.unsigned(300).sign(&new_key)), Ok(()));
    // A second rotation starts from the key in force.
    let rotate = network.terms.rotate_key(&network.terms.payer_key, 2);
    assert_eq!(network.at_channel(&network.developer, rotate), Ok(()));
    assert_eq!(network.claim(&network.unsigned(400).sign(&new_key)), Ok(()));
    assert_eq!(network.paid(), 400);
}

#[test]
fn the_payees_signature_closes_at_once_at_exactly_what_is_paid_and_in_its_time() {
    let network = Network::open();
    assert_eq!(network.claim(&network.voucher(500)), Ok(()));
    let agreed = CooperativeClose {
        chain: ChainId::EMBEDDED,
        channel: network.terms.address(),
        paid: Nano(500),
        valid_until: START + 60,
    };
    let deliver =
        |signed| network.at_channel(&network.stranger, network.terms.cooperate(&signed, 1));
    assert_eq!(
        deliver(agreed.sign(&network.voucher_key)),
        Err(exit::SIGNATURE)
    );
    // Not below what the payee is owed, and not on an old word either.
    for paid in [0, 499, 501] {
        let paid = Nano(paid);
        let other = CooperativeClose { paid, ..agreed };
        assert_eq!(
            deliver(other.sign(&network.payee_key)),
            Err(exit::OTHER_AMOUNT)
        );
    }
    network.ledger.set_time(START + 60);
    let expired = CooperativeClose {
        valid_until: START + 59,
        ..agreed
    };
    assert_eq!(
        deliver(expired.sign(&network.payee_key)),
        Err(exit::AGREEMENT_EXPIRED)
    );
    let elsewhere = CooperativeClose {
        channel: network.terms.payer,
        ..agreed
    };
    assert_eq!(
        deliver(elsewhere.sign(&network.payee_key)),
        Err(exit::CHANNEL)
    );
    let other_chain = CooperativeClose {
        chain: ChainId::TESTNET,
        ..agreed
    };
    assert_eq!(
        deliver(other_chain.sign(&network.payee_key)),
        Err(exit::CHAIN)
    );
    let before = network.balance(&network.developer.address());
    assert_eq!(deliver(agreed.sign(&network.payee_key)), Ok(()));
    assert!(network.balance(&network.developer.address()) > before + DEPOSIT.0 - 5_000_000);
    assert_eq!(network.state().status, ChannelStatus::Closed);
    assert_eq!(deliver(agreed.sign(&network.payee_key)), Err(exit::CLOSED));
    network.assert_conserved();
}

#[test]
fn refused_messages_change_nothing_and_their_value_returns() {
    let network = Network::open();
    let channel = network.terms.address();
    let (state, held) = (network.state(), network.balance(&channel));
    let before = network.balance(&network.stranger.address());
    // Plain money, too little value, a zero amount.
    let plain = Transfer {
        bounce: true,
        ..Transfer::money(channel, Nano(1_000_000_000))
    };
    assert_eq!(
        network.at_channel(&network.stranger, plain),
        Err(exit::UNKNOWN_MESSAGE)
    );
    let poor = Transfer {
        value: Nano(5_000_000),
        ..network.terms.insecure_claim(&network.voucher(500), 1)
    };
    assert_eq!(
        network.at_channel(&network.stranger, poor),
        Err(exit::TOO_LITTLE_VALUE)
    );
    let short = Transfer {
        value: Nano(400_000_000),
        ..network
            .terms
            .top_up(Nano(500_000_000), 1)
            .expect("an amount")
    };
    assert_eq!(
        network.at_channel(&network.stranger, short),
        Err(exit::TOO_LITTLE_VALUE)
    );
    let zero = network.terms.top_up(Nano::ZERO, 1).expect("an amount");
    assert_eq!(
        network.at_channel(&network.stranger, zero),
        Err(exit::ZERO_AMOUNT)
    );
    assert_eq!((network.state(), network.balance(&channel)), (state, held));
    let lost = before - network.balance(&network.stranger.address());
    assert!(lost < 40_000_000, "only fees: {lost}");
    network.assert_conserved();
}

#[test]
fn a_payee_that_refuses_messages_keeps_the_money_and_the_channel_its_books() {
    // Nothing the channel sends can bounce, so a payee without code, or with code that throws, changes no state here.
    let mut network = Network::open();
    let other = network.terms.address();
    for (salt, payee) in [
        (2, other),
        (3, Wallet::from_seed(&[77; 32], ChainId::EMBEDDED).address()),
    ] {
        network.terms.payee = payee;
        network.terms.salt = salt;
        let deploy = network.terms.deploy(DEPOSIT, 1).expect("an amount");
        assert_eq!(network.at_channel(&network.developer, deploy), Ok(()));
        let before = network.balance(&payee);
        let claim = network
            .terms
            .insecure_claim(&network.voucher(300_000_000), 1);
        let accepted = network.send(&network.stranger, claim);
        assert_eq!(
            network::verdict(&accepted, &network.terms.address()),
            Ok(())
        );
        let received = network::of(&accepted, &payee).expect("delivered");
        assert_eq!(
            network.balance(&payee),
            before + 300_000_000 - received.total_fees.0
        );
        assert_eq!(network.paid(), 300_000_000);
        network.assert_conserved();
    }
}
