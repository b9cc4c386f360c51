//! Vouchers, charges and the file they are in.

mod evidence;
mod price;
mod tls;

use super::charges::ChargeRefused;
use super::engines::{Server, WITH_PASSWORD, lease, on_each, open};
use super::*;
use crate::fixtures::{
    DEPOSIT, channel_state, channel_terms, charge, directory, payee, payer_key, receipt_key,
    voucher,
};
use crate::limits::{CHARGES_KEPT, CHARGES_PRUNED_EVERY, RECEIPTS_PER_CHANNEL_MAX};
use rusqlite::{Connection, params};
use wire::EnvelopeDigest;

fn verified(cumulative: u64) -> VerifiedVoucher {
    crate::voucher::verify(
        &voucher(cumulative),
        &channel_terms().address(),
        &channel_state(DEPOSIT),
    )
    .expect("good")
}

#[test]
fn a_lower_voucher_never_replaces_a_higher_one_and_a_repeat_is_fine() {
    on_each(|place| {
        let store = open(place);
        assert_eq!(
            store.take_now(&verified(10)).expect("stored"),
            Taken::Stored
        );
        assert_eq!(
            store.take_now(&verified(10)).expect("stored"),
            Taken::Repeated
        );
        assert_eq!(
            store.take_now(&verified(9)).expect("read"),
            Taken::Stale { highest: Nano(10) }
        );
        let mut same_amount = voucher(10).voucher;
        same_amount.usage_root = [9; 32];
        let same_amount = same_amount
            .sign(&payer_key())
            .verify(&channel_state(DEPOSIT).payer_key)
            .expect("signed");
        assert_eq!(
            store.take_now(&same_amount).expect("read"),
            Taken::Stale { highest: Nano(10) }
        );
        assert_eq!(
            store.take_now(&verified(11)).expect("stored"),
            Taken::Stored
        );
        // Another process opens the file while we hold it, as `settle` does beside `serve`.
        let beside = open(place);
        assert_eq!(
            beside.highest(&channel_terms().address()).expect("read"),
            Some(voucher(11))
        );
        assert_eq!(
            beside.take_now(&verified(12)).expect("stored"),
            Taken::Stored
        );
        assert_eq!(
            store.take_now(&verified(11)).expect("read"),
            Taken::Stale { highest: Nano(12) }
        );
    });
}

#[test]
fn books_of_another_payee_or_chain_are_refused() {
    on_each(|place| {
        drop(open(place));
        let other = channel_terms().address();
        for (payee, chain) in [
            (other, ChainId::EMBEDDED),
            (payee().address(), ChainId::TESTNET),
        ] {
            let error = Store::open_at(place, &payee, chain).err().expect("refused");
            assert!(error.to_string().contains("belongs to payee"), "{error}");
        }
    });
}

#[test]
fn charges_add_up_per_receipt_key_and_one_number_has_one_charge() {
    on_each(|place| {
        let store = open(place);
        let channel = channel_terms().address();
        let key = receipt_key().verifying_key().to_bytes();
        let keep = |key: &[u8; 32], seq, cost, cumulative| {
            // Only the store is under test: any key stands for the signer's.
            let signed = charge(seq, cost, cumulative);
            let verified = signed
                .verify(
                    &receipt_key().verifying_key().to_bytes(),
                    &channel_terms().payer_key,
                )
                .expect("signed");
            store.record_now(key, &verified, None).expect("stored")
        };
        assert_eq!(keep(&key, 0, 5, 5), Ok(()));
        assert_eq!(keep(&key, 0, 5, 5), Ok(()));
        // Number 1 was lost on its way; number 2 counts it.
        assert_eq!(keep(&key, 2, 5, 15), Ok(()));
        assert_eq!(store.figures(&channel).expect("read").owed, Nano(15));
        assert_eq!(keep(&key, 2, 4, 14), Err(ChargeRefused::Another { seq: 2 }));
        assert_eq!(keep(&[9; 32], 0, 100, 100), Ok(()));
        let expected = Figures {
            owed: Nano(115),
            highest: None,
        };
        assert_eq!(store.figures(&channel).expect("read"), expected);
        assert_eq!(store.channels().expect("read"), [channel]);
    });
}

fn claims(seqno: u32, channels: &[Address]) -> NewMessage {
    let claim = |channel: &Address| Claim {
        channel: *channel,
        cumulative: Nano(10),
        paid_before: Nano(1),
    };
    NewMessage {
        seqno,
        valid_until: 100,
        boc: vec![1, 2, 3],
        wallet_before: Nano(2),
        after_lt: Some(7),
        purpose: Purpose::Claims(channels.iter().map(claim).collect()),
    }
}

#[test]
fn one_message_is_on_its_way_at_a_time_and_each_claim_ends_once() {
    on_each(|place| {
        let store = open(place);
        let lease = lease(&store);
        let lease = lease.as_ref();
        let (one, other) = (channel_terms().address(), payee().address());
        let new = claims(3, &[one, other]);
        let begun = store.begin_message(&new, lease).expect("stored");
        let begun = begun.expect("the first");
        assert_eq!(store.begin_message(&new, lease).expect("read"), None);
        assert_eq!(store.pending_message().expect("read"), Some(begun.clone()));
        store.message_taken(begun.id, Some(9)).expect("stored");
        assert_eq!(store.pending_message().expect("read"), None);
        assert_eq!(
            store.begin_message(&new, lease).expect("read"),
            None,
            "open claims"
        );
        let open = store.open_payouts(begun.id).expect("read");
        assert_eq!(open.len(), 2);
        let paid = Paid {
            price: Nano(9),
            fee: Some(Nano(1)),
            paid_after: Nano(10),
            wallet_after: Nano(10),
        };
        let end = |outcome| store.end_payout(open[0].id, &outcome, 50).expect("stored");
        end(PayoutOutcome::Paid(paid));
        end(PayoutOutcome::Expired);
        assert_eq!(store.paid_out(&one).expect("read"), (1, Nano(9)));
        assert_eq!(store.open_message(&one).expect("read"), None);
        assert_eq!(store.open_message(&other).expect("read"), Some(begun));
        let next = store
            .begin_message(&claims(4, &[one]), lease)
            .expect("stored");
        assert!(next.is_some(), "the other channel's claim holds up nothing");
    });
}

#[test]
fn books_know_the_numbers_that_they_gave_and_those_that_were_taken_over() {
    on_each(|place| {
        let store = open(place);
        let lease = lease(&store);
        let check = |known, taken, taken_lt| {
            let expected = Numbers {
                known,
                taken,
                taken_lt,
            };
            assert_eq!(store.numbers().expect("read"), expected);
        };
        let begin = |seqno| {
            let new = claims(seqno, &[channel_terms().address()]);
            let begun = store.begin_message(&new, lease.as_ref()).expect("stored");
            begun.expect("nothing is on its way").id
        };
        check(0, 0, 0);
        let id = begin(0);
        check(1, 0, 0);
        store.message_lost(id, false, 1).expect("stored");
        // Void, so its number is given again.
        check(1, 0, 0);
        let id = begin(0);
        store.message_taken(id, Some(9)).expect("stored");
        check(1, 1, 9);
        store.message_lost(id, true, 2).expect("stored");
        store.adopt(5, 3).expect("stored");
        check(5, 5, 9);
        // What another signer took under a number of ours is none of ours.
        let id = begin(5);
        store.message_lost(id, true, 4).expect("stored");
        check(5, 5, 9);
    });
}

#[test]
fn charges_are_pruned_to_what_is_owed_and_what_may_still_be_disputed() {
    on_each(|place| {
        let store = open(place);
        let channel = channel_terms().address();
        let keep = |key: [u8; 32], seq: u64| {
            let signed = charge(seq, 1, seq + 1);
            let verified = signed
                .verify(
                    &receipt_key().verifying_key().to_bytes(),
                    &channel_terms().payer_key,
                )
                .expect("signed");
            store.record_now(&key, &verified, None).expect("stored")
        };
        let rows = || -> i64 {
            let count = "SELECT COUNT(*) FROM charges";
            let (count,) = store.lock().one(count, &[]).expect("read");
            count
        };
        let kept = CHARGES_KEPT.cast_unsigned();
        let many = [
            0,
            1,
            2,
            kept,
            kept + 1,
            kept + CHARGES_PRUNED_EVERY.cast_unsigned(),
        ];
        for seq in many {
            assert_eq!(keep([1; 32], seq), Ok(()));
        }
        assert_eq!(
            (rows(), store.figures(&channel).expect("read").owed.0),
            (3, many[5] + 1)
        );
        // What was there is known; what is as old and was not there cannot be judged any more.
        assert_eq!(keep([1; 32], kept), Ok(()));
        let newest = many[5].cast_signed();
        assert_eq!(keep([1; 32], 3), Err(ChargeRefused::Old { seq: 3, newest }));
        // A guest that starts anew has another key; of the one before only what is owed is of use.
        assert_eq!(keep([2; 32], 0), Ok(()));
        assert_eq!(
            (rows(), store.figures(&channel).expect("read").owed.0),
            (2, many[5] + 2)
        );
    });
}

#[test]
fn receipts_are_kept_with_their_charges_and_bounded() {
    on_each(|place| {
        let store = open(place);
        let key = receipt_key().verifying_key().to_bytes();
        let receipt = |n: u32| KeptReceipt {
            envelope: EnvelopeDigest::of(&n.to_be_bytes()),
            channel: channel_terms().address(),
            payer_key: [3; 32],
            receipt: vec![4; 100],
            charge: vec![1, 2],
        };
        for n in 0..RECEIPTS_PER_CHANNEL_MAX + 2 {
            let signed = charge(n.into(), 1, u64::from(n) + 1);
            let verified = signed
                .verify(&key, &channel_terms().payer_key)
                .expect("signed");
            store
                .record_now(&key, &verified, Some(receipt(n)))
                .expect("stored")
                .expect("new");
        }
        let kept = |n: u32| open(place).receipt(&receipt(n).envelope).expect("read");
        assert_eq!((kept(0), kept(1)), (None, None));
        for n in [2, RECEIPTS_PER_CHANNEL_MAX + 1] {
            assert_eq!(kept(n), Some(receipt(n)));
        }
    });
}

#[test]
fn a_file_of_the_first_version_keeps_what_is_in_it() {
    let directory = directory();
    let path = directory.path().join("state.sqlite");
    let old = Connection::open(&path).expect("opens");
    old.execute_batch(schema::STEPS[0]).expect("made");
    old.execute(
        "INSERT INTO owner VALUES (?1, ?2)",
        params![payee().address().to_string(), ChainId::EMBEDDED.0],
    )
    .expect("written");
    let channel = channel_terms().address();
    for (cumulative, state) in [(5, "paid"), (9, "pending")] {
        old.execute(
            "INSERT INTO payouts VALUES (NULL, ?1, ?2, 3, 100, x'0102', 0, 7, ?3, NULL, NULL, NULL, NULL)",
            params![channel.to_string(), cumulative, state],
        )
        .expect("written");
    }
    old.pragma_update(None, "user_version", 1).expect("written");
    drop(old);
    let check = |store: &Store| {
        let pending = store.pending_message().expect("read");
        let pending = pending.expect("still pending");
        let open = store.open_payouts(pending.id).expect("read");
        assert_eq!(
            (pending.id, pending.seqno, pending.after_lt, open.len()),
            (2, 3, None, 1)
        );
        assert_eq!(open[0].claim.cumulative, Nano(9));
        assert_eq!(
            store.open_message(&channel).expect("read"),
            Some(pending),
            "the paid one has ended"
        );
    };
    // Killed within the change, the file is as it was.
    let mut killed = Connection::open(&path).expect("opens");
    let change = killed.transaction().expect("begun");
    change.execute_batch(schema::STEPS[1]).expect("made");
    drop(change);
    drop(killed);
    check(&Store::open(&path, &payee().address(), ChainId::EMBEDDED).expect("opens"));
    check(&Store::open(&path, &payee().address(), ChainId::EMBEDDED).expect("opens"));
    let later = Connection::open(&path).expect("opens");
    later
        .pragma_update(None, "user_version", schema::STEPS.len() as i64 + 1)
        .expect("written");
    drop(later);
    let refused = Store::open(&path, &payee().address(), ChainId::EMBEDDED)
        .err()
        .expect("refused");
    let says = format!("has version {}", schema::STEPS.len() + 1);
    assert!(refused.to_string().contains(&says), "{refused}");
}

#[test]
fn of_two_proxies_vouchers_the_highest_stays_and_none_is_lost() {
    on_each(|place| {
        let proxies = [open(place), open(place)];
        std::thread::scope(|threads| {
            for (start, store) in proxies.iter().enumerate() {
                threads.spawn(move || {
                    for cumulative in (1 + start as u64..=60).step_by(2) {
                        let taken = store.take_now(&verified(cumulative)).expect("an answer");
                        let highest = store.highest(&channel_terms().address()).expect("read");
                        let highest = highest.expect("one was taken").voucher.cumulative;
                        match taken {
                            Taken::Stored => assert!(highest >= Nano(cumulative)),
                            Taken::Stale { highest: said } => assert!(said > Nano(cumulative)),
                            Taken::Repeated => panic!("each is sent once"),
                        }
                    }
                });
            }
        });
        let highest = open(place).highest(&channel_terms().address());
        assert_eq!(highest.expect("read"), Some(voucher(60)));
    });
}

#[test]
fn of_two_proxies_charges_each_is_taken_and_logged_once() {
    on_each(|place| {
        let proxies = [open(place), open(place)];
        std::thread::scope(|threads| {
            for store in &proxies {
                threads.spawn(move || {
                    for seq in 0..40 {
                        let signed = charge(seq, 1, seq + 1);
                        let key = receipt_key().verifying_key().to_bytes();
                        let verified = signed.verify(&key, &channel_terms().payer_key);
                        let kept = store.record_now(&key, &verified.expect("signed"), None);
                        assert_eq!(kept.expect("stored"), Ok(()));
                    }
                });
            }
        });
        let store = open(place);
        assert_eq!(store.logged().expect("read"), 40);
        let channel = channel_terms().address();
        assert_eq!(store.figures(&channel).expect("read").owed, Nano(40));
    });
}

#[test]
fn a_signer_without_the_lease_begins_no_message_and_the_next_one_does() {
    let Some(server) = Server::running() else {
        return;
    };
    let place = server.database();
    let (one, other) = (open(&place), open(&place));
    let [first, second] = [LeaseId::new(), LeaseId::new()].map(|id| id.expect("randomness"));
    let new = claims(3, &[channel_terms().address()]);
    let short = std::time::Duration::from_millis(400);
    assert_eq!(one.take_lease(&first, "one", short).expect("taken"), None);
    let busy = other.take_lease(&second, "other", short).expect("read");
    assert_eq!(busy.as_deref(), Some("one"));
    assert!(one.renew_lease(&first, short).expect("renewed"));
    let refused = |store: &Store, lease: Option<&LeaseId>| {
        let refused = store.begin_message(&new, lease).expect_err("refused");
        assert!(refused.to_string().contains("lease"), "{refused}");
    };
    refused(&other, Some(&second));
    refused(&other, None);
    // As if it had been killed, or stopped for a while.
    std::thread::sleep(short * 2);
    refused(&one, Some(&first));
    let long = std::time::Duration::from_secs(60);
    assert_eq!(
        other.take_lease(&second, "other", long).expect("taken"),
        None
    );
    assert!(!one.renew_lease(&first, long).expect("read"), "it is lost");
    refused(&one, Some(&first));
    assert_eq!(one.pending_message().expect("read"), None);
    one.end_lease(&first).expect("nothing of the other's");
    let begun = other.begin_message(&new, Some(&second)).expect("stored");
    assert_eq!(one.pending_message().expect("read"), begun);
    other.end_lease(&second).expect("given back");
    assert!(!other.renew_lease(&second, long).expect("read"));
    assert_eq!(one.take_lease(&first, "one", long).expect("free"), None);
}

#[test]
fn a_lost_connection_takes_its_transaction_with_it_and_the_next_change_connects_again() {
    let Some(server) = Server::running() else {
        return;
    };
    let store = open(&server.database());
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'chrysalis host-proxy' AND datname = $1";
    let name = store
        .lock()
        .one("SELECT CAST(current_database() AS TEXT)", &[]);
    let (name,): (String,) = name.expect("read");
    let cut = || server.administer(|client| client.execute(cut, &[&name]).expect("cut"));
    store.take_now(&verified(1)).expect("stored");
    let halved = store.change(|change| {
        change.execute("DELETE FROM vouchers", &[])?;
        assert_eq!(cut(), 2);
        // None of these may run on a new connection, outside of the transaction.
        let after = change.execute("DELETE FROM vouchers", &[]);
        assert!(after.is_err());
        assert!(change.execute("DELETE FROM vouchers", &[]).is_err());
        Ok(())
    });
    halved.expect_err("it is not committed");
    let highest = || store.highest(&channel_terms().address()).expect("read");
    assert_eq!(highest(), Some(voucher(1)));
    assert_eq!(
        store.take_now(&verified(2)).expect("connected again"),
        Taken::Stored
    );
    assert_eq!(cut(), 2);
    assert_eq!(
        store.take_now(&verified(3)).expect("connected again"),
        Taken::Stored
    );
    assert_eq!(highest(), Some(voucher(3)));
    let given_up = store.change(|change| {
        let nothing = "INSERT INTO vouchers VALUES (NULL, NULL, NULL)";
        change.execute(nothing, &[]).expect_err("refused");
        Ok(())
    });
    given_up.expect_err("the server commits nothing of it");
}

#[test]
fn a_database_is_asked_with_the_password_that_is_elsewhere_and_over_tls() {
    let refused = |url: &str, password: Option<crate::keys::SecretSource>, said: &str| {
        let place = StatePlace::new(url, password, Path::new(""));
        let opened = Store::open_at(&place, &payee().address(), ChainId::EMBEDDED);
        let error = opened.err().expect("refused").to_string();
        assert!(error.contains(said), "{error}");
        for secret in ["hunter2", "wrong"] {
            assert!(!error.contains(secret), "{error}");
        }
    };
    let elsewhere = "put it where state_password says";
    refused("postgresql://a:hunter2@localhost/b", None, elsewhere);
    refused(
        "postgresql://localhost/b?user=a&password=hunter2",
        None,
        elsewhere,
    );
    let clear = "without TLS";
    refused("postgresql://db.example/b?sslmode=disable", None, clear);
    refused(
        "postgresql://localhost,db.example/b?sslmode=disable",
        None,
        clear,
    );
    // A server that cannot do TLS hears that it was asked for, and nothing else.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    let heard = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut from, _) = listener.accept().expect("a connection");
        let mut asked = [0; 8];
        from.read_exact(&mut asked).expect("readable");
        from.write_all(b"N").expect("writable");
        let mut rest = Vec::new();
        let _ = from.read_to_end(&mut rest);
        (asked, rest)
    });
    refused(
        &format!("postgresql://a@127.0.0.1:{port}/b?sslmode=require"),
        None,
        "PostgreSQL",
    );
    // SSLRequest of the protocol: its length, 1234 and 5679.
    let request = [0, 0, 0, 8, 4, 210, 22, 47];
    assert_eq!(heard.join().expect("it listened"), (request, Vec::new()));
    let Some(server) = Server::running() else {
        return;
    };
    let directory = directory();
    let file = directory.path().join("password");
    let source = || Some(crate::keys::SecretSource::File(file.clone()));
    let url = server.url("postgres", WITH_PASSWORD);
    std::fs::write(&file, "wrong").expect("written");
    refused(&url, source(), "password authentication failed");
    refused(&url, None, "password");
    std::fs::write(&file, "right").expect("written");
    drop(open(&StatePlace::new(&url, source(), Path::new(""))));
}

#[test]
fn what_an_open_claim_covers_is_unpaid_until_it_is_in_the_books() {
    on_each(|place| {
        let store = open(place);
        let channel = channel_terms().address();
        let claim = Claim {
            channel,
            cumulative: Nano(9),
            paid_before: Nano(2),
        };
        store.take_now(&verified(9)).expect("stored");
        store
            .note_progress(&channel, Nano(2), false)
            .expect("stored");
        let begun = store.begin_external(&claim, Nano(1), 5);
        begun.expect("stored");
        // The channel has paid, and the engine was killed before it looked at what that brought.
        store
            .note_progress(&channel, Nano(9), false)
            .expect("stored");
        assert_eq!(store.unpaid().expect("read"), [(channel, Nano(7))]);
        let open = store.open_external(&channel).expect("read");
        let paid = Paid {
            price: Nano(7),
            fee: None,
            paid_after: Nano(9),
            wallet_after: Nano(8),
        };
        let id = open.expect("open").id;
        let booked = store.end_external(id, (&paid, false), 50).expect("stored");
        assert_eq!(booked, Some(Nano(7)));
        assert_eq!(
            store.end_external(id, (&paid, false), 50).expect("stored"),
            None
        );
        assert_eq!(store.unpaid().expect("read"), []);
        assert_eq!(store.paid_out(&channel).expect("read"), (1, Nano(7)));
    });
}
