//! Orders against a real TVM.

use super::*;
use crate::chain::{Opened, open_channel};
use ledger::Ledger;
use settlement::ChainId;
use std::sync::atomic::{AtomicU32, Ordering};

const NOW: u32 = 1_800_000_000;
const DAY: u32 = 86_400;
const KEY: [u8; 32] = [3; 32];
const DEPOSIT: Nano = Nano(500_000_000);

struct World {
    ledger: Ledger,
    node: Transport,
    wallet: Wallet,
    channel: Address,
}

impl World {
    async fn open() -> World {
        let ledger = Ledger::in_memory().expect("a ledger");
        ledger.set_time(NOW);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("loopback");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(ledger::serve(ledger.clone(), listener));
        let node = Transport::new(&url).expect("a url");
        let wallet = Wallet::from_seed(&[2; 32], ChainId::EMBEDDED);
        ledger
            .faucet(&wallet.address(), Nano(5_000_000_000))
            .expect("money");
        let terms = ChannelTerms {
            chain: ChainId::EMBEDDED,
            payer: wallet.address(),
            payee: Address {
                workchain: 0,
                hash: [8; 32],
            },
            payer_key: KEY,
            payee_key: [4; 32],
            close_delay_s: 3_600,
            claims_until: NOW + 30 * DAY,
            salt: 0,
        };
        let opened = open_channel(&node, &wallet, &terms, DEPOSIT, NOW.into()).await;
        let Opened { channel, .. } = opened.expect("opened");
        let channel = channel.address;
        World {
            ledger,
            node,
            wallet,
            channel,
        }
    }

    async fn read(&self) -> Channel {
        owned_channel(&self.node, ChainId::EMBEDDED, self.channel, &KEY)
            .await
            .expect("ours")
    }

    async fn plan_of(&self, wallet: &Wallet, order: Order) -> Result<Plan, ClientError> {
        let channel = self.read().await;
        plan(&self.node, wallet, channel, KEY, order, 0).await
    }

    async fn run(&self, order: Order) -> Result<ChannelState, ClientError> {
        let plan = self.plan_of(&self.wallet, order).await?;
        Ok(send(&self.node, &self.wallet, plan).await?.state)
    }

    async fn refused(&self, order: Order, said: &str) {
        let before = self.balance();
        let refused = self.run(order).await.expect_err("refused").to_string();
        assert!(refused.contains(said), "{refused}");
        assert_eq!(self.balance(), before, "a refusal costs nothing");
    }

    fn balance(&self) -> u64 {
        let account = self.ledger.account(&self.wallet.address());
        account.expect("read").balance.0
    }
}

#[tokio::test]
async fn the_owner_gets_all_of_its_money_out() {
    let world = World::open().await;
    let state = world.run(Order::TopUp(Nano(250_000_000))).await;
    assert_eq!(state.expect("done").deposit, Nano(750_000_000));
    world.refused(Order::Withdraw, "close it first").await;
    world.refused(Order::Cancel, "neither").await;
    let closing = world.run(Order::Close).await.expect("done");
    assert_eq!(closing.status, ChannelStatus::Closing);
    world.refused(Order::Close, "closing").await;
    world.refused(Order::TopUp(Nano(1)), "closing").await;
    let back = world.run(Order::Cancel).await.expect("done");
    assert_eq!((back.status, back.unlock_at), (ChannelStatus::Open, 0));
    let closing = world.run(Order::Close).await.expect("done");
    world.refused(Order::Withdraw, "in 3600 s").await;
    world.ledger.set_time(closing.unlock_at - 1);
    world.refused(Order::Withdraw, "in 1 s").await;
    world.ledger.set_time(closing.unlock_at);
    let before = world.balance();
    let closed = world.run(Order::Withdraw).await.expect("done");
    assert_eq!(closed.status, ChannelStatus::Closed);
    // What the tombstone keeps comes back at the end of claims, and nothing is left.
    let open = |fee: u64| before + 750_000_000 - fee;
    assert!(world.balance() > open(10_000_000), "all of the deposit");
    world
        .refused(Order::Withdraw, "can be withdrawn after")
        .await;
    world.ledger.set_time(NOW + 30 * DAY + 1);
    let before = world.balance();
    let gone = world.run(Order::Withdraw).await.expect("done");
    assert_eq!(gone.status, ChannelStatus::Closed);
    assert!(world.balance() > before + 2_000_000, "the tombstone's");
    let left = account(&world.node, &world.channel).await.expect("read");
    assert_eq!(left.balance, Nano::ZERO);
}

#[tokio::test]
async fn a_rotation_is_taken_back_and_one_that_took_effect_leaves_the_money_reachable() {
    let world = World::open().await;
    world.refused(Order::Rotate(KEY), "already").await;
    let rotating = world.run(Order::Rotate([9; 32])).await.expect("done");
    assert_eq!(rotating.payer_key, KEY);
    world
        .refused(Order::Rotate([7; 32]), "cancel it first")
        .await;
    let back = world.run(Order::Cancel).await.expect("done");
    assert_eq!(back.pending_key, KEY);
    world.ledger.set_time(NOW + DAY);
    assert_eq!(world.read().await.state.payer_key, KEY);
    world.run(Order::Rotate([9; 32])).await.expect("done");
    world.ledger.set_time(NOW + 2 * DAY);
    assert_eq!(world.read().await.state.payer_key, [9; 32]);
    let job = crate::chain::read_channel(&world.node, ChainId::EMBEDDED, world.channel, &KEY);
    let refused = job.await.expect_err("not for jobs").to_string();
    assert!(refused.contains("had its key rotated"), "{refused}");
    world.run(Order::TopUp(Nano(1))).await.expect("still ours");
    world.run(Order::Close).await.expect("still ours");
    world.ledger.set_time(NOW + 3 * DAY);
    world.run(Order::Withdraw).await.expect("still ours");
}

#[tokio::test]
async fn after_the_end_of_claims_nothing_needs_to_be_waited_for() {
    let world = World::open().await;
    world.ledger.set_time(NOW + 30 * DAY + 1);
    world.refused(Order::TopUp(Nano(1)), "takes no more").await;
    let closed = world.run(Order::Withdraw).await.expect("done");
    assert_eq!(closed.status, ChannelStatus::Closed);
}

#[tokio::test]
async fn a_plan_that_cannot_be_paid_or_is_not_the_payers_is_refused_and_sends_nothing() {
    let world = World::open().await;
    let stranger = Wallet::from_seed(&[7; 32], ChainId::EMBEDDED);
    for (order, said) in [
        (Order::Close, "only the payer's wallet"),
        (Order::TopUp(Nano(1)), "the wallet"),
    ] {
        let refused = world.plan_of(&stranger, order).await;
        let refused = refused.err().expect("refused").to_string();
        assert!(refused.contains(said), "{refused}");
    }
    for amount in [5_000_000_000, u64::MAX] {
        let order = Order::TopUp(Nano(amount));
        assert!(world.plan_of(&world.wallet, order).await.is_err());
    }
    world
        .refused(Order::TopUp(Nano::ZERO), "adds nothing")
        .await;
    // A plan alone changes nothing.
    let before = world.balance();
    let plan = world.plan_of(&world.wallet, Order::Close).await;
    assert!(plan.expect("planned").value > Nano::ZERO);
    assert_eq!(world.balance(), before);
    assert_eq!(world.read().await.state.status, ChannelStatus::Open);
}

#[tokio::test]
async fn an_order_that_was_overtaken_ends_with_what_is_certain() {
    let world = World::open().await;
    let clock = AtomicU32::new(NOW);
    world
        .ledger
        .set_clock(move || clock.fetch_add(1, Ordering::Relaxed));
    let late = world.plan_of(&world.wallet, Order::TopUp(Nano(5))).await;
    let late = late.expect("it makes sense yet");
    world.run(Order::Close).await.expect("done");
    let taken = send(&world.node, &world.wallet, late).await;
    let taken = taken.expect_err("its number is taken").to_string();
    assert!(taken.contains("did not take"), "{taken}");
    // The channel refuses what the wallet has sent: the value comes back.
    let channel = world.read().await;
    let account = account(&world.node, &world.wallet.address())
        .await
        .expect("read");
    let top_up = channel.state.terms(KEY).top_up(Nano(5), 1);
    let (wallet, later) = (world.wallet.address(), (NOW + 10_000).into());
    let top_up = top_up.expect("an amount");
    let message = Message::next(&world.node, wallet, &account, top_up, later);
    let message = message.await.expect("a number");
    let forced = Plan {
        order: Order::TopUp(Nano(5)),
        wallet,
        balance: account.balance,
        value: message.value(),
        valid_until: message.valid_until,
        first_key: KEY,
        before: channel,
        message,
    };
    let before = world.balance();
    let refused = send(&world.node, &world.wallet, forced).await;
    let refused = refused.expect_err("no effect").to_string();
    assert!(refused.contains("shows no effect"), "{refused}");
    assert!(before - world.balance() < 20_000_000, "the value came back");
}
