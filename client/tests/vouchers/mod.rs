//! Vouchers reach the payee, whatever happens on the way.

use crate::chat;
use crate::world::{Fault, World, chat_body, copy};
use serde_json::Value;
use settlement::Nano;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn a_voucher_survives_a_proxy_that_dies_before_it_acknowledges() {
    let mut world = World::start(3600).await;
    let client = world.client().unwrap();
    client.attest().await.unwrap();
    world.set(Fault::SilentOnVouchers);
    let body = chat_body(false);
    let came = Arc::clone(&world.guest);
    {
        let mut sink = |_: &Value| ();
        tokio::select! {
            _ = client.chat(&body, &mut sink) => panic!("the proxy never acknowledges"),
            () = came.voucher_came.notified() => world.server.abort(),
        }
    }
    // The client is killed, too: what counts is on its disk.
    drop(client);
    assert!(world.guest.vouchers.lock().unwrap().is_empty());
    world.set(Fault::None);
    world.restart().await;
    let client = world.client().unwrap();
    assert_eq!(client.budget().cumulative(), Ok(Nano(32_000)));
    chat(&client).await.unwrap();
    let vouchers = world.guest.vouchers.lock().unwrap();
    let amounts: Vec<u64> = vouchers.iter().map(|v| v.voucher.cumulative.0).collect();
    assert_eq!(amounts, [32_000, 64_000]);
}

/// Where vouchers are delivered besides, no answer waits for that, and one voucher pays for several.
#[tokio::test]
async fn answers_do_not_wait_for_vouchers_that_are_delivered_besides() {
    let world = World::start(3600).await;
    let client = Arc::new(world.client().unwrap());
    let deliver = || {
        let client = Arc::clone(&client);
        tokio::spawn(async move { client.deliver_waiting().await })
    };
    let delivering = deliver();
    client.attest().await.unwrap();
    world.set(Fault::SilentOnVouchers);
    let came = Arc::clone(&world.guest);
    for paid in [32_000, 64_000, 96_000] {
        let answer = chat(&client).await.unwrap();
        assert_eq!(answer.payment.cumulative, Nano(paid));
        assert!(!answer.delivered);
    }
    came.voucher_came.notified().await;
    assert!(client.budget().unacknowledged().unwrap().is_some());
    // What nobody answered is sent again.
    delivering.abort();
    let _ = delivering.await;
    world.set(Fault::None);
    let delivering = deliver();
    while client.budget().unacknowledged().unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let highest = world.guest.vouchers.lock().unwrap().last().copied();
    assert_eq!(highest.unwrap().voucher.cumulative, Nano(96_000));
    delivering.abort();
    let _ = delivering.await;
    assert!(chat(&client).await.unwrap().delivered);
}

#[tokio::test]
async fn a_state_file_from_a_backup_learns_what_it_promised() {
    let world = World::start(3600).await;
    let client = world.client().unwrap();
    chat(&client).await.unwrap();
    drop(client);
    copy(&world, "state.sqlite", "backup.sqlite");
    let client = world.client().unwrap();
    chat(&client).await.unwrap();
    drop(client);
    copy(&world, "backup.sqlite", "state.sqlite");
    let client = world.client().unwrap();
    assert_eq!(client.budget().cumulative(), Ok(Nano(32_000)));
    assert_eq!(
        chat(&client).await.unwrap().payment.cumulative,
        Nano(96_000)
    );
}
