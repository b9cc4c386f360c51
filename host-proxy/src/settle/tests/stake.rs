//! The stake by orders of the payee's wallet.

use super::*;
use crate::store::{Order, Ordered, Purpose};
use settlement::StakeTerms;

const DAY_S: u32 = 86_400;
const STAKED: Nano = Nano(2_000_000_000);

/// A process whose configuration names a stake that does not run yet.
async fn staked() -> (Ledger, Process, StakeTerms) {
    let (ledger, mut process) = start().await;
    let wallet = payee().address();
    let money = ledger.faucet(&wallet, Nano(5_000_000_000));
    money.expect("money");
    let terms = StakeTerms {
        chain: ChainId::EMBEDDED,
        owner: wallet,
        owner_key: process.payee.public_key(),
        unbond_delay_s: 7 * DAY_S,
        slashable_until: ledger.now() + 365 * DAY_S,
        salt: 0,
    };
    process.payee = payee().staked(Some(terms.address()));
    (ledger, process, terms)
}

fn kinds(process: &Process) -> Vec<(&'static str, Nano)> {
    let entries = process.store.entries().expect("read").into_iter();
    entries.map(|entry| (entry.kind, entry.amount)).collect()
}

async fn refused(process: &Process, order: StakeOrder, terms: Option<&StakeTerms>) -> StakeNotNow {
    match process.settler().order_stake(order, terms).await {
        Err(SettleError::Stake(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn collateral_goes_in_waits_and_comes_back() {
    let (ledger, process, terms) = staked().await;
    let settler = process.settler();
    let deposit = StakeOrder::Deposit(STAKED);
    let done = settler.order_stake(deposit, Some(&terms)).await;
    let state = done.expect("deposited").expect("it runs");
    assert_eq!((state.bonded, &state.terms), (STAKED, &terms));
    assert_eq!(kinds(&process), [("stake_deposit", STAKED)]);
    let more = Nano(STAKED.0 + 1);
    let too_much = StakeNotNow::MoreThanBonded(STAKED);
    assert_eq!(
        refused(&process, StakeOrder::Unbond(more), None).await,
        too_much
    );
    let none = StakeNotNow::NothingLeaving;
    assert_eq!(refused(&process, StakeOrder::Withdraw, None).await, none);
    let half = Nano(STAKED.0 / 2);
    let leaving = settler.order_stake(StakeOrder::Unbond(half), None).await;
    let leaving = leaving.expect("asked").expect("it runs");
    assert_eq!((leaving.bonded, leaving.unbonding), (half, half));
    let early = refused(&process, StakeOrder::Withdraw, None).await;
    assert!(matches!(early, StakeNotNow::TooEarly { .. }), "{early}");
    let before = ledger.account(&payee().address()).expect("read").balance;
    ledger.set_time(leaving.unlock_at);
    let left = settler.order_stake(StakeOrder::Withdraw, None).await;
    let left = left.expect("taken out").expect("it runs");
    assert_eq!((left.bonded, left.unbonding), (half, Nano::ZERO));
    let after = ledger.account(&payee().address()).expect("read").balance;
    assert!(after.0 > before.0 + half.0 - 20_000_000, "{before} {after}");
    // What begins to leave moves nothing yet.
    let booked = [("stake_deposit", STAKED), ("stake_withdrawal", half)];
    assert_eq!(kinds(&process), booked);
    ledger.set_time(terms.slashable_until + 1);
    let ended = StakeNotNow::Ended(terms.slashable_until);
    assert_eq!(
        refused(&process, StakeOrder::Deposit(half), None).await,
        ended
    );
    let gone = settler.order_stake(StakeOrder::Withdraw, None).await;
    assert_eq!(gone.expect("taken out"), None);
}

#[tokio::test]
async fn a_deposit_that_a_kill_left_on_its_way_is_not_sent_twice() {
    let (ledger, process, terms) = staked().await;
    let order = StakeOrder::Deposit(STAKED);
    let (wallet, numbers) = process.settler().wallet_to_sign().await.expect("read");
    let transfer = terms.deposit(STAKED, 1).expect("an amount");
    let purpose = Purpose::Order(Order {
        what: Ordered::StakeDeposit,
        to: terms.address(),
        amount: STAKED,
    });
    let new = process
        .settler()
        .sign(&wallet, &numbers, purpose, &[transfer]);
    let begun = process.store.begin_message(&new.expect("signed"), None);
    begun.expect("written").expect("the only one");
    let stake = process.payee.stake();
    let mut process = process.restart();
    process.payee = payee().staked(Some(stake));
    let resumed = refused(&process, order, Some(&terms)).await;
    assert_eq!(resumed, StakeNotNow::Resumed);
    let state = process.settler().stake().await.expect("read");
    assert_eq!(state.expect("it runs").bonded, STAKED);
    assert_eq!(kinds(&process), [("stake_deposit", STAKED)]);
    // Books that are older than the chain sign for no stake either.
    by_hand(&ledger, &process, 1, 1);
    let old = process.settler().order_stake(order, None).await;
    assert!(matches!(old, Err(SettleError::OldBooks { .. })), "{old:?}");
}

#[tokio::test]
async fn what_would_only_cost_its_fee_is_not_sent() {
    let (ledger, mut process, terms) = staked().await;
    let deposit = StakeOrder::Deposit(STAKED);
    assert_eq!(refused(&process, deposit, None).await, StakeNotNow::NoTerms);
    let stake = terms.address();
    let nothing = StakeNotNow::Nothing(stake);
    assert_eq!(refused(&process, StakeOrder::Withdraw, None).await, nothing);
    let salted = |salt| StakeTerms {
        salt,
        ..terms.clone()
    };
    let got = salted(1).address();
    let other = StakeNotNow::OtherTerms { got, want: stake };
    assert_eq!(refused(&process, deposit, Some(&salted(1))).await, other);
    let zero = StakeOrder::Deposit(Nano::ZERO);
    assert_eq!(
        refused(&process, zero, Some(&terms)).await,
        StakeNotNow::NoAmount
    );
    for (delay_s, end_s) in [(6, 365), (91, 365), (7, 7), (7, 4 * 365 + 1)] {
        let bad = StakeTerms {
            unbond_delay_s: delay_s * DAY_S,
            slashable_until: ledger.now() + end_s * DAY_S,
            ..terms.clone()
        };
        process.payee = payee().staked(Some(bad.address()));
        let why = refused(&process, deposit, Some(&bad)).await;
        let of_terms = matches!(why, StakeNotNow::UnbondDelay(_) | StakeNotNow::End(_));
        assert!(of_terms, "{why}");
    }
    process.payee = payee().staked(Some(channel_terms().address()));
    open_channel(&ledger);
    let channel = process.settler().order_stake(deposit, None).await;
    channel.expect_err("a channel is no stake");
    let wallet = process.node.wallet(&payee().address()).await;
    assert_eq!(wallet.expect("read").seqno, 0, "nothing was sent");
}
