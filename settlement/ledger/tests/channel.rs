//! The channel contract in the TVM: who is paid, who is refused, and with which exit code.

mod street;

use ed25519_dalek::SigningKey;
use ledger::{AccountState, Ledger};
use settlement::{ChainId, ChannelStatus, CooperativeClose, Nano, Transfer, Voucher, Wallet, exit};
use street::{CLAIMS_UNTIL, DELAY, DEPOSIT, START, Street};

#[test]
fn a_deployed_channel_holds_its_deposit_and_its_reserve() {
    let street = Street::open();
    let state = street.state();
    assert_eq!(
        (state.status, state.deposit, state.paid),
        (ChannelStatus::Open, DEPOSIT, Nano::ZERO)
    );
    assert_eq!(
        street.balance(&street.terms.address()),
        DEPOSIT.0 + 50_000_000
    );
    street.assert_conserved();
}

#[test]
fn a_replayed_or_smaller_voucher_is_refused_and_a_larger_one_pays_the_growth() {
    let street = Street::open();
    assert_eq!(street.claim(&street.voucher(500)), Ok(()));
    assert_eq!(
        street.claim(&street.voucher(500)),
        Err(exit::NOT_ABOVE_PAID)
    );
    assert_eq!(
        street.claim(&street.voucher(499)),
        Err(exit::NOT_ABOVE_PAID)
    );
    assert_eq!(street.claim(&street.voucher(0)), Err(exit::NOT_ABOVE_PAID));
    assert_eq!(street.paid(), 500);
    assert_eq!(street.claim(&street.voucher(501)), Ok(()));
    assert_eq!(street.paid(), 501);
    street.assert_conserved();
}

#[test]
fn vouchers_for_another_chain_or_channel_and_forged_ones_are_refused() {
    let street = Street::open();
    let sign = |voucher: Voucher| voucher.sign(&street.voucher_key);
    let good = street.unsigned(500);
    assert_eq!(
        street.claim(&sign(Voucher {
            chain: ChainId::MAINNET,
            ..good
        })),
        Err(exit::CHAIN)
    );
    assert_eq!(
        street.claim(&sign(Voucher {
            channel: street.terms.payee,
            ..good
        })),
        Err(exit::CHANNEL)
    );
    assert_eq!(
        street.claim(&good.sign(&street.payee_key)),
        Err(exit::SIGNATURE)
    );
    let mut forged = street.voucher(500);
    forged.signature[40] ^= 1;
    assert_eq!(street.claim(&forged), Err(exit::SIGNATURE));
    let mut raised = street.voucher(500);
    raised.voucher.cumulative = Nano(501);
    assert_eq!(street.claim(&raised), Err(exit::SIGNATURE));
    assert_eq!(street.paid(), 0);
    street.assert_conserved();
}

#[test]
fn a_channel_made_for_another_chain_takes_no_money_here() {
    let mut street = Street::without_channel(Ledger::in_memory().expect("a ledger"));
    street.terms.chain = ChainId::MAINNET;
    let deploy = street.terms.deploy(DEPOSIT, 1).expect("an amount");
    assert_eq!(
        street.at_channel(&street.developer, deploy),
        Err(exit::CHAIN)
    );
    assert!(
        street.balance(&street.developer.address()) > 9_900_000_000,
        "the deposit came back"
    );
}

#[test]
fn a_voucher_above_the_deposit_pays_what_there_is_and_the_rest_after_a_top_up() {
    let street = Street::open();
    let big = street.voucher(DEPOSIT.0 + 700);
    assert_eq!(street.claim(&big), Ok(()));
    assert_eq!(street.paid(), DEPOSIT.0);
    assert_eq!(street.claim(&big), Err(exit::DEPOSIT_USED_UP));
    // By anyone, and what the stranger sent above it comes back.
    let top_up = street.terms.top_up(Nano(1_000), 2).expect("an amount");
    assert_eq!(street.at_channel(&street.stranger, top_up), Ok(()));
    assert!(street.balance(&street.stranger.address()) > 9_990_000_000);
    assert_eq!(street.claim(&big), Ok(()));
    assert_eq!(street.paid(), DEPOSIT.0 + 700);
    assert_eq!(street.state().remaining(), Nano(300));
    street.assert_conserved();
}

#[test]
fn anyone_may_deliver_a_claim_and_the_payee_is_credited_exactly() {
    let street = Street::open();
    let before = street.balance(&street.terms.payee);
    let claim = street.terms.insecure_claim(&street.voucher(123_456_789), 1);
    let accepted = street.send(&street.stranger, claim);
    assert_eq!(street::verdict(&accepted, &street.terms.address()), Ok(()));
    let received = street::of(&accepted, &street.terms.payee).expect("the payee is paid");
    assert_eq!(
        street.balance(&street.terms.payee),
        before + 123_456_789 - received.total_fees.0
    );
    // The reserve paid no gas.
    assert_eq!(
        street.balance(&street.terms.address()),
        DEPOSIT.0 - 123_456_789 + 50_000_000
    );
    street.assert_conserved();
}

#[test]
fn only_the_payer_may_close_or_rotate_and_not_before_the_delay() {
    let street = Street::open();
    for request in [
        street.terms.request_close(1),
        street.terms.finalize_close(1),
        street.terms.rotate_key(&[9; 32], 1),
    ] {
        assert_eq!(
            street.at_channel(&street.stranger, request.clone()),
            Err(exit::NOT_PAYER)
        );
        assert_eq!(
            street.at_channel(&street.provider, request),
            Err(exit::NOT_PAYER)
        );
    }
    let close = || street.at_channel(&street.developer, street.terms.finalize_close(2));
    assert_eq!(close(), Err(exit::TOO_EARLY));
    assert_eq!(
        street.at_channel(&street.developer, street.terms.request_close(2)),
        Ok(())
    );
    assert_eq!(
        street.at_channel(&street.developer, street.terms.request_close(2)),
        Err(exit::CLOSING)
    );
    let top_up = street.terms.top_up(Nano(1_000), 2).expect("an amount");
    assert_eq!(
        street.at_channel(&street.developer, top_up),
        Err(exit::CLOSING)
    );
    street.ledger.set_time(START + DELAY - 1);
    assert_eq!(close(), Err(exit::TOO_EARLY));
    // Claims stay open while closing, to the last second and beyond, until somebody finalizes.
    assert_eq!(street.claim(&street.voucher(500)), Ok(()));
    street.ledger.set_time(START + DELAY);
    assert_eq!(street.claim(&street.voucher(600)), Ok(()));
    let before = street.balance(&street.developer.address());
    assert_eq!(close(), Ok(()));
    let returned = street.balance(&street.developer.address()) - before;
    assert!(
        returned > DEPOSIT.0 && returned < DEPOSIT.0 + 50_000_000,
        "{returned}"
    );
    assert_eq!(
        (street.state().status, street.paid()),
        (ChannelStatus::Closed, 600)
    );
    street.assert_conserved();
}

#[test]
fn a_closed_channel_deployed_again_pays_no_old_voucher() {
    let street = Street::open();
    assert_eq!(street.claim(&street.voucher(500)), Ok(()));
    assert_eq!(
        street.at_channel(&street.developer, street.terms.request_close(1)),
        Ok(())
    );
    street.ledger.set_time(START + DELAY);
    assert_eq!(
        street.at_channel(&street.developer, street.terms.finalize_close(1)),
        Ok(())
    );
    assert_eq!(
        street.balance(&street.terms.address()),
        20_000_000,
        "the tombstone keeps its rent"
    );
    let again = street.terms.deploy(DEPOSIT, 9).expect("an amount");
    assert_eq!(
        street.at_channel(&street.developer, again),
        Err(exit::CLOSED)
    );
    assert_eq!(street.claim(&street.voucher(500)), Err(exit::CLOSED));
    assert_eq!(street.claim(&street.voucher(900)), Err(exit::CLOSED));
    assert_eq!(street.paid(), 500);
    // What a stranger forces on the tombstone, the payer gets.
    street.send(
        &street.stranger,
        Transfer::money(street.terms.address(), Nano(700_000_000)),
    );
    let before = street.balance(&street.developer.address());
    assert_eq!(
        street.at_channel(&street.developer, street.terms.finalize_close(2)),
        Ok(())
    );
    assert!(street.balance(&street.developer.address()) > before + 690_000_000);
    street.assert_conserved();
}

#[test]
fn after_claims_until_nothing_is_claimed_and_the_payer_needs_no_delay() {
    let street = Street::open();
    street.ledger.set_time(CLAIMS_UNTIL);
    assert_eq!(street.claim(&street.voucher(500)), Ok(()));
    street.ledger.set_time(CLAIMS_UNTIL + 1);
    assert_eq!(
        street.claim(&street.voucher(600)),
        Err(exit::AFTER_CLAIMS_UNTIL)
    );
    let top_up = street.terms.top_up(Nano(1_000), 2).expect("an amount");
    assert_eq!(
        street.at_channel(&street.stranger, top_up),
        Err(exit::AFTER_CLAIMS_UNTIL)
    );
    assert_eq!(
        street.at_channel(&street.stranger, street.terms.finalize_close(1)),
        Err(exit::NOT_PAYER)
    );
    assert_eq!(
        street.at_channel(&street.developer, street.terms.finalize_close(1)),
        Ok(())
    );
    assert_eq!(street.state().status, ChannelStatus::Closed);
    street.assert_conserved();
}

#[test]
fn a_rotated_key_takes_effect_after_the_delay_and_not_before() {
    let street = Street::open();
    let new_key = SigningKey::from_bytes(&[44; 32]);
    let rotate = street
        .terms
        .rotate_key(&new_key.verifying_key().to_bytes(), 1);
    assert_eq!(street.at_channel(&street.developer, rotate), Ok(()));
    // Before the delay: the old key's unclaimed vouchers are good, the new key's are not yet.
    assert_eq!(
        street.claim(&street.unsigned(100).sign(&new_key)),
        Err(exit::SIGNATURE)
    );
    street.ledger.set_time(START + DELAY - 1);
    assert_eq!(street.claim(&street.voucher(200)), Ok(()));
    assert_eq!(street.state().payer_key, street.terms.payer_key);
    // After it, the other way round.
    street.ledger.set_time(START + DELAY);
    assert_eq!(street.state().payer_key, new_key.verifying_key().to_bytes());
    assert_eq!(street.claim(&street.voucher(300)), Err(exit::SIGNATURE));
    assert_eq!(street.claim(&street.unsigned(300).sign(&new_key)), Ok(()));
    // A second rotation starts from the key in force.
    let rotate = street.terms.rotate_key(&street.terms.payer_key, 2);
    assert_eq!(street.at_channel(&street.developer, rotate), Ok(()));
    assert_eq!(street.claim(&street.unsigned(400).sign(&new_key)), Ok(()));
    assert_eq!(street.paid(), 400);
}

#[test]
fn the_payees_signature_closes_at_once_but_not_below_what_it_is_owed() {
    let street = Street::open();
    assert_eq!(street.claim(&street.voucher(500)), Ok(()));
    let agreed = CooperativeClose {
        chain: ChainId::EMBEDDED,
        channel: street.terms.address(),
        paid: Nano(500),
    };
    let deliver = |signed| street.at_channel(&street.stranger, street.terms.cooperate(&signed, 1));
    assert_eq!(
        deliver(agreed.sign(&street.voucher_key)),
        Err(exit::SIGNATURE)
    );
    assert_eq!(
        deliver(
            CooperativeClose {
                paid: Nano(501),
                ..agreed
            }
            .sign(&street.payee_key)
        ),
        Err(exit::NOT_ABOVE_PAID)
    );
    let elsewhere = CooperativeClose {
        channel: street.terms.payer,
        ..agreed
    };
    assert_eq!(
        deliver(elsewhere.sign(&street.payee_key)),
        Err(exit::CHANNEL)
    );
    let other_chain = CooperativeClose {
        chain: ChainId::TESTNET,
        ..agreed
    };
    assert_eq!(
        deliver(other_chain.sign(&street.payee_key)),
        Err(exit::CHAIN)
    );
    let before = street.balance(&street.developer.address());
    assert_eq!(deliver(agreed.sign(&street.payee_key)), Ok(()));
    assert!(street.balance(&street.developer.address()) > before + DEPOSIT.0 - 500);
    assert_eq!(street.state().status, ChannelStatus::Closed);
    street.assert_conserved();
}

#[test]
fn refused_messages_change_nothing_and_their_value_returns() {
    let street = Street::open();
    let channel = street.terms.address();
    let (state, held) = (street.state(), street.balance(&channel));
    let before = street.balance(&street.stranger.address());
    // Plain money, too little value, a zero amount.
    let plain = Transfer {
        bounce: true,
        ..Transfer::money(channel, Nano(1_000_000_000))
    };
    assert_eq!(
        street.at_channel(&street.stranger, plain),
        Err(exit::UNKNOWN_MESSAGE)
    );
    let poor = Transfer {
        value: Nano(5_000_000),
        ..street.terms.insecure_claim(&street.voucher(500), 1)
    };
    assert_eq!(
        street.at_channel(&street.stranger, poor),
        Err(exit::TOO_LITTLE_VALUE)
    );
    let short = Transfer {
        value: Nano(400_000_000),
        ..street
            .terms
            .top_up(Nano(500_000_000), 1)
            .expect("an amount")
    };
    assert_eq!(
        street.at_channel(&street.stranger, short),
        Err(exit::TOO_LITTLE_VALUE)
    );
    let zero = street.terms.top_up(Nano::ZERO, 1).expect("an amount");
    assert_eq!(
        street.at_channel(&street.stranger, zero),
        Err(exit::ZERO_AMOUNT)
    );
    assert_eq!((street.state(), street.balance(&channel)), (state, held));
    let lost = before - street.balance(&street.stranger.address());
    assert!(lost < 40_000_000, "only fees: {lost}");
    street.assert_conserved();
}

#[test]
fn a_payee_that_refuses_messages_keeps_the_money_and_the_channel_its_books() {
    // Nothing the channel sends can bounce, so a payee without code, or with code that throws, changes no state here.
    let mut street = Street::open();
    let other = street.terms.address();
    for (salt, payee) in [
        (2, other),
        (3, Wallet::from_seed(&[77; 32], ChainId::EMBEDDED).address()),
    ] {
        street.terms.payee = payee;
        street.terms.salt = salt;
        let deploy = street.terms.deploy(DEPOSIT, 1).expect("an amount");
        assert_eq!(street.at_channel(&street.developer, deploy), Ok(()));
        let before = street.balance(&payee);
        let claim = street.terms.insecure_claim(&street.voucher(300_000_000), 1);
        let accepted = street.send(&street.stranger, claim);
        assert_eq!(street::verdict(&accepted, &street.terms.address()), Ok(()));
        let received = street::of(&accepted, &payee).expect("delivered");
        assert_eq!(
            street.balance(&payee),
            before + 300_000_000 - received.total_fees.0
        );
        assert_eq!(street.paid(), 300_000_000);
        street.assert_conserved();
    }
}

#[test]
fn years_of_rent_are_restored_by_the_next_claim_and_never_come_out_of_the_deposit() {
    let mut street = Street::without_channel(Ledger::in_memory().expect("a ledger"));
    street.terms.claims_until = u32::MAX;
    let deploy = street.terms.deploy(DEPOSIT, 1).expect("an amount");
    assert_eq!(street.at_channel(&street.developer, deploy), Ok(()));
    street.ledger.set_time(START + 2 * 365 * 86_400);
    assert_eq!(street.claim(&street.voucher(DEPOSIT.0)), Ok(()));
    assert_eq!(street.balance(&street.terms.address()), 50_000_000);
    assert!(matches!(
        street.ledger.account(&street.terms.address()).expect("an account").state,
        AccountState::Active { code_hash, .. } if code_hash == settlement::CHANNEL_CODE_HASH
    ));
    street.assert_conserved();
}
