//! Settling against a real TVM, killed at every point that differs.

mod attacks;
mod external;
mod killed;
mod stake;

use super::*;
use crate::channels::ExpectedPayee;
use crate::config::NodeUrl;
use crate::fixtures::{FAR, channel_terms, directory, node, open_channel, payee, voucher};
use crate::limits::PAYOUT_MARGIN_S;
use crate::store::{Claim, StatePlace};
use ledger::Ledger;
use settlement::{ChainId, Transfer};
use std::sync::Arc;
use tempfile::TempDir;

/// One run of the program: whatever is not in the file or on the chain is lost with it.
struct Process {
    directory: Arc<TempDir>,
    node: Node,
    channels: Channels,
    store: Store,
    payee: Payee,
    lock: SignerLock,
    /// These tests are about the wallet, unless they say otherwise.
    external: bool,
}

impl Process {
    fn start(directory: Arc<TempDir>, node: Node) -> Process {
        let path = directory.path().join("state.sqlite");
        Self::with_books(&StatePlace::File(path), directory, node)
    }

    fn with_books(place: &StatePlace, directory: Arc<TempDir>, node: Node) -> Process {
        let payee = payee();
        let store = crate::store::engines::open(place);
        let expected = ExpectedPayee {
            chain: ChainId::EMBEDDED,
            payee: payee.address(),
            payee_key: payee.public_key(),
        };
        Process {
            channels: Channels::new(node.clone(), store.clone(), expected),
            lock: match place.file() {
                Some(path) => SignerLock::new(path, None),
                None => SignerLock::shared(&store, None),
            },
            directory,
            node,
            store,
            payee,
            external: false,
        }
    }

    /// As after a kill.
    fn restart(self) -> Process {
        let (directory, node) = (self.directory.clone(), self.node.clone());
        drop(self);
        Process::start(directory, node)
    }

    fn promise(&self, amount: u64) {
        let verified = voucher(amount)
            .verify(&channel_terms().payer_key)
            .expect("signed");
        self.store.take_now(&verified).expect("stored");
    }

    fn settler(&self) -> Settler<'_> {
        Settler {
            node: &self.node,
            channels: &self.channels,
            store: &self.store,
            payee: &self.payee,
            lock: &self.lock,
            external: self.external,
        }
    }

    async fn prepare(&self) -> NewMessage {
        let mut round = Round {
            left: [channel_terms().address()].into(),
            done: BTreeMap::new(),
            results: Vec::new(),
        };
        let prepared = self.settler().prepare(&mut round).await;
        prepared
            .expect("prepared")
            .expect("something is to be settled")
    }

    async fn write_payout(&self) -> Message {
        let new = self.prepare().await;
        let begun = self.store.begin_message(&new, None).expect("stored");
        begun.expect("the only one")
    }

    async fn settle(&self) -> Result<Settled, SettleError> {
        self.settler().settle(&channel_terms().address()).await
    }
}

/// A process and its ledger.
async fn start() -> (Ledger, Process) {
    let (ledger, url) = node().await;
    (ledger, Process::start(directory().into(), Node::new(url)))
}

/// The same, with a channel.
async fn open() -> (Ledger, Process) {
    let (ledger, process) = start().await;
    open_channel(&ledger);
    (ledger, process)
}

const PROMISED: u64 = 400_000_000;

/// The wallet sends exactly one message, the channel pays exactly once, and the figures agree.
async fn check_paid_once(ledger: &Ledger, process: &Process, settled: &Settled) {
    assert_eq!(settled.price_nano, Nano(PROMISED));
    assert_eq!(
        (settled.paid_before_nano, settled.paid_after_nano),
        (Nano::ZERO, Nano(PROMISED))
    );
    let fee = settled.fee_nano.expect("seen");
    let left = settled.wallet_before_nano.0 + settled.price_nano.0 - fee.0;
    assert_eq!(settled.wallet_after_nano.0, left);
    assert!(fee.0 > 0 && fee < Nano(30_000_000), "{settled:?}");
    let wallet = payee().address();
    assert_eq!(
        process
            .node
            .wallet(&wallet)
            .await
            .expect("the node answers")
            .seqno,
        1
    );
    assert_eq!(
        ledger.account(&wallet).expect("read").balance,
        settled.wallet_after_nano
    );
    let again = process.settle().await.expect("nothing to do");
    assert_eq!(
        (again.price_nano, again.fee_nano),
        (Nano::ZERO, Some(Nano::ZERO))
    );
    assert_eq!(
        process
            .store
            .paid_out(&channel_terms().address())
            .expect("read"),
        (1, Nano(PROMISED))
    );
}

#[tokio::test]
async fn the_highest_voucher_becomes_money_once() {
    let (ledger, process) = open().await;
    process.promise(PROMISED / 2);
    process.promise(PROMISED);
    let settled = process.settle().await.expect("settled");
    check_paid_once(&ledger, &process, &settled).await;
}

#[tokio::test]
async fn a_kill_before_sending_repeats_the_same_message() {
    let (ledger, process) = open().await;
    process.promise(PROMISED);
    let written = process.write_payout().await;
    let process = process.restart();
    assert_eq!(
        process.store.pending_message().expect("read"),
        Some(written)
    );
    let settled = process.settle().await.expect("settled");
    check_paid_once(&ledger, &process, &settled).await;
}

#[tokio::test]
async fn a_pending_payout_of_a_lower_voucher_is_followed_by_the_rest() {
    let (_ledger, process) = open().await;
    process.promise(PROMISED / 2);
    process.write_payout().await;
    process.promise(PROMISED);
    let settled = process.settle().await.expect("settled");
    assert_eq!(settled.price_nano, Nano(PROMISED));
    assert_eq!(
        (settled.paid_before_nano, settled.paid_after_nano),
        (Nano::ZERO, Nano(PROMISED))
    );
    let fee = settled.fee_nano.expect("seen");
    let left = settled.wallet_before_nano.0 + settled.price_nano.0 - fee.0;
    assert_eq!(settled.wallet_after_nano.0, left);
    let again = process.settle().await.expect("nothing to do");
    assert_eq!(
        (again.price_nano, again.fee_nano),
        (Nano::ZERO, Some(Nano::ZERO))
    );
}

#[tokio::test]
async fn a_kill_after_sending_sends_nothing_more() {
    let (ledger, process) = open().await;
    process.promise(PROMISED);
    let written = process.write_payout().await;
    process.node.send(&written.boc).await.expect("accepted");
    let process = process.restart();
    let settled = process.settle().await.expect("settled");
    check_paid_once(&ledger, &process, &settled).await;
}

#[tokio::test]
async fn a_kill_before_signing_leaves_nothing_behind() {
    let (ledger, process) = open().await;
    process.promise(PROMISED);
    drop(process.prepare().await);
    let process = process.restart();
    assert_eq!(process.store.pending_message().expect("read"), None);
    let settled = process.settle().await.expect("settled");
    check_paid_once(&ledger, &process, &settled).await;
}

#[tokio::test]
async fn two_processes_settle_once_between_them() {
    let (ledger, one) = open().await;
    let other = Process::start(one.directory.clone(), one.node.clone());
    one.promise(PROMISED);
    let (first, second) = tokio::join!(one.settle(), other.settle());
    let (first, second) = (first.expect("settled"), second.expect("settled"));
    // Both followed one payout, or the second came when all was done.
    let settled = if first.price_nano == Nano::ZERO {
        second
    } else {
        first
    };
    check_paid_once(&ledger, &one, &settled).await;
}

#[tokio::test]
async fn only_a_void_message_is_replaced() {
    let (ledger, process) = open().await;
    process.promise(PROMISED);
    let written = process.write_payout().await;
    ledger.set_time(written.valid_until + PAYOUT_MARGIN_S + 1);
    let settled = process.settle().await.expect("settled");
    check_paid_once(&ledger, &process, &settled).await;
    // The void message is void for good.
    assert!(process.node.send(&written.boc).await.is_err());
}

/// Somebody who has the key sends a message of their own.
fn by_hand(ledger: &Ledger, process: &Process, seqno: u32, amount: u64) {
    let transfer = Transfer::money(channel_terms().payer, Nano(amount));
    let boc = process.payee.wallet().transfer(seqno, FAR, &[transfer]);
    let boc = boc.expect("one transfer");
    ledger.send_external(&boc).expect("accepted");
}

#[tokio::test]
async fn after_a_message_of_another_signer_nothing_is_signed_until_the_operator_says_so() {
    let (ledger, process) = open().await;
    process.promise(PROMISED);
    let written = process.write_payout().await;
    by_hand(&ledger, &process, 0, 1);
    let noticed = process.settle().await;
    let another = matches!(noticed, Err(SettleError::AnotherSigner { seqno: 0, .. }));
    assert!(another, "{noticed:?}");
    // It stays so, also for the next process and for every other channel.
    let process = process.restart();
    let refused = process.settle().await;
    let old = matches!(
        refused,
        Err(SettleError::OldBooks {
            chain: 1,
            books: 0,
            ..
        })
    );
    assert!(old, "{refused:?}");
    assert!(process.node.send(&written.boc).await.is_err());
    process.store.adopt(1, 0).expect("stored");
    let settled = process.settle().await.expect("settled");
    assert_eq!(settled.price_nano, Nano(PROMISED));
}

#[tokio::test]
async fn a_file_from_a_backup_signs_nothing_once_the_chain_has_gone_on() {
    let (ledger, process) = open().await;
    process.promise(PROMISED / 2);
    let backup = process.directory.path().join("backup.sqlite");
    process.store.back_up(&backup).expect("saved");
    process.settle().await.expect("settled");
    process.promise(PROMISED);
    // What the backup lacks: the first payout and the second voucher.
    let path = process.directory.path().join("state.sqlite");
    let Process {
        directory, node, ..
    } = process;
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
    std::fs::rename(&backup, &path).expect("restored");
    let restored = Process::start(directory, node);
    let before = ledger.account(&payee().address()).expect("read").last_lt;
    // The payer's next job brings its newest voucher again.
    restored.promise(PROMISED);
    let refused = restored.settle().await.expect_err("refused");
    let said = refused.to_string();
    assert!(
        said.contains("older than the chain") && said.contains("payouts adopt"),
        "{said}"
    );
    assert_eq!(restored.store.pending_message().expect("read"), None);
    let after = ledger.account(&payee().address()).expect("read").last_lt;
    assert_eq!(after, before, "nothing was sent");
    restored.store.adopt(1, 0).expect("stored");
    let settled = restored.settle().await.expect("settled");
    assert_eq!(settled.price_nano, Nano(PROMISED / 2));
}

#[tokio::test]
async fn a_database_from_a_dump_signs_nothing_once_the_chain_has_gone_on() {
    let Some(server) = crate::store::engines::Server::running() else {
        return;
    };
    let (place, (ledger, url)) = (server.database(), node().await);
    open_channel(&ledger);
    let process = Process::with_books(&place, directory().into(), Node::new(url));
    process.promise(PROMISED / 2);
    let restored = server.copy(&place);
    process.settle().await.expect("settled");
    let Process {
        directory, node, ..
    } = process;
    let restored = Process::with_books(&restored, directory, node);
    let before = ledger.account(&payee().address()).expect("read").last_lt;
    restored.promise(PROMISED);
    let refused = restored.settle().await.expect_err("refused").to_string();
    assert!(refused.contains("older than the chain"), "{refused}");
    assert_eq!(restored.store.pending_message().expect("read"), None);
    let after = ledger.account(&payee().address()).expect("read").last_lt;
    assert_eq!(after, before, "nothing was sent");
    let refused = restored.store.back_up(std::path::Path::new("/nowhere"));
    let refused = refused.expect_err("it is not a file").to_string();
    assert!(refused.contains("pg_dump"), "{refused}");
}

#[tokio::test]
async fn new_books_sign_nothing_for_a_wallet_that_was_used() {
    let (ledger, process) = open().await;
    process.promise(PROMISED);
    by_hand(&ledger, &process, 0, 1);
    let refused = process.settle().await;
    assert!(
        matches!(refused, Err(SettleError::OldBooks { books: 0, .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn while_another_process_signs_this_one_does_not() {
    let (_ledger, process) = open().await;
    process.promise(PROMISED);
    let path = process.directory.path().join("state.sqlite");
    let other = SignerLock::new(&path, None);
    let held = other.lock_files().expect("nobody signs");
    let settling = process.settle();
    tokio::pin!(settling);
    let waited = tokio::time::timeout(std::time::Duration::from_secs(2), &mut settling).await;
    assert!(waited.is_err(), "it waits");
    assert_eq!(process.store.pending_message().expect("read"), None);
    drop(held);
    settling.await.expect("settled");
}

#[tokio::test]
async fn without_a_voucher_a_channel_or_money_for_fees_nothing_is_sent() {
    let (ledger, process) = start().await;
    assert!(matches!(
        process.settle().await,
        Err(SettleError::NoVoucher(_))
    ));
    process.promise(PROMISED);
    let absent = process.settle().await;
    assert!(
        matches!(absent, Err(SettleError::Channel(ChannelRefused::Absent(_)))),
        "{absent:?}"
    );
    open_channel(&ledger);
    let view = process
        .node
        .wallet(&process.payee.address())
        .await
        .expect("the node answers");
    by_hand(&ledger, &process, 0, view.balance.0 - 40_000_000);
    process.store.adopt(1, 0).expect("stored");
    assert!(matches!(
        process.settle().await,
        Err(SettleError::Wallet { .. })
    ));
    assert_eq!(process.store.pending_message().expect("read"), None);
}

#[tokio::test]
async fn a_node_that_is_away_is_an_error_with_a_name() {
    let away = NodeUrl::parse("http://127.0.0.1:1").expect("a url");
    let process = Process::start(directory().into(), Node::new(away));
    process.promise(PROMISED);
    let away = process.settle().await;
    let Err(SettleError::Node(NodeError::Unreachable { node, .. })) = away else {
        panic!("{away:?}");
    };
    assert_eq!(node, "127.0.0.1:1");
}

#[test]
fn figures_that_do_not_add_up_are_noticed() {
    let message = Message {
        id: 1,
        seqno: 0,
        valid_until: 0,
        boc: Vec::new(),
        wallet_before: Nano(100),
        after_lt: Some(0),
    };
    let claim = Claim {
        channel: channel_terms().address(),
        cumulative: Nano(10),
        paid_before: Nano(4),
    };
    let payout = Payout { id: 1, claim };
    let paid = Paid {
        price: Nano(6),
        fee: Some(Nano(20)),
        paid_after: Nano(10),
        wallet_after: Nano(86),
    };
    let settled = Settled::report(&message, &payout, &paid);
    assert_eq!((settled.price_nano, settled.adds_up()), (Nano(6), true));
    let other = Paid {
        wallet_after: Nano(87),
        ..paid
    };
    assert!(!Settled::report(&message, &payout, &other).adds_up());
}
