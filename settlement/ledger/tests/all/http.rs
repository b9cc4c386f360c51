//! A client that knows only HTTP and `settlement` settles a voucher.

use crate::network::{DEPOSIT, Network, START};
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use ledger::Ledger;
use settlement::{
    Nano,
    toncenter::{self, AccountStatus, Call, ChainError},
};
use tokio::net::{TcpListener, TcpStream};

struct Client {
    at: String,
}

impl Client {
    async fn request(&self, method: &str, path: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let stream = TcpStream::connect(&self.at).await.expect("it listens");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .expect("HTTP/1");
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.at)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        let status = answer.status().as_u16();
        (
            status,
            answer
                .into_body()
                .collect()
                .await
                .expect("a body")
                .to_bytes()
                .to_vec(),
        )
    }

    async fn ask<T>(&self, call: Call<T>) -> Result<T, ChainError> {
        let request = call.request();
        let (status, body) = self
            .request(request.method, request.path, request.body.clone())
            .await;
        call.answer(status, &body)
    }
}

async fn serve(ledger: &Ledger) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound").to_string();
    tokio::spawn(ledger::serve(ledger.clone(), listener));
    Client { at }
}

#[tokio::test]
async fn a_voucher_is_settled_over_http_alone() {
    let network = Network::open();
    let client = serve(&network.ledger).await;
    let (wallet, channel) = (network.provider.address(), network.terms.address());

    let state = client
        .ask(toncenter::channel_state(&channel))
        .await
        .expect("a channel");
    assert_eq!(
        (state.deposit, state.matches(&network.terms)),
        (DEPOSIT, Ok(()))
    );
    let before = client
        .ask(toncenter::account(&wallet))
        .await
        .expect("an account");
    assert_eq!(before.status, AccountStatus::Uninitialized);
    assert_eq!(before.block_unix_s, Some(START.into()));
    assert!(before.block_seqno.is_some());

    // A first message takes seqno 0 and deploys the wallet.
    let verified = network
        .voucher(250_000)
        .verify(&network.terms.payer_key)
        .expect("signed");
    let boc = network
        .provider
        .transfer(0, START + 60, &[network.terms.claim(&verified, 1)])
        .expect("a message");
    client
        .ask(toncenter::send_boc(&boc))
        .await
        .expect("accepted");
    assert_eq!(client.ask(toncenter::wallet_seqno(&wallet)).await, Ok(1));
    let again = client
        .ask(toncenter::send_boc(&boc))
        .await
        .expect_err("a replay");
    assert!(
        matches!(
            again,
            ChainError::Refused {
                exit_code: Some(133),
                ..
            }
        ),
        "{again}"
    );

    let after = client
        .ask(toncenter::account(&wallet))
        .await
        .expect("an account");
    assert_eq!(after.status, AccountStatus::Active);
    let of_wallet = client
        .ask(toncenter::transactions(&wallet, 20, None))
        .await
        .expect("transactions");
    let of_channel = client
        .ask(toncenter::transactions(&channel, 20, None))
        .await
        .expect("transactions");
    let payout = toncenter::payout_fee(before.last_lt, &wallet, &channel, &of_wallet, &of_channel)
        .expect("settled");
    // A page begins with the transaction that the one before ended with.
    let older = client
        .ask(toncenter::transactions(&wallet, 2, of_wallet.get(1)))
        .await
        .expect("transactions");
    assert_eq!(older, of_wallet[1..3]);
    assert_eq!(payout.price, Nano(250_000));
    assert_eq!(
        before.balance.0 + payout.price.0 - payout.fee.0,
        after.balance.0
    );
    assert_eq!(
        client
            .ask(toncenter::channel_state(&channel))
            .await
            .expect("a channel")
            .paid,
        Nano(250_000)
    );
    assert!(
        client
            .ask(toncenter::masterchain_info())
            .await
            .expect("a block")
            .seqno
            > 1
    );
}

#[tokio::test]
async fn the_faucet_and_queries_by_get_work_and_bad_requests_are_named() {
    let network = Network::open();
    let client = serve(&network.ledger).await;
    let to = network.stranger.address();
    let body = format!("{{\"address\":\"{to}\",\"amount\":\"5\"}}").into_bytes();
    let before = network.balance(&to);
    let (status, answer) = client.request("POST", "/faucet", body).await;
    assert_eq!((status, network.balance(&to)), (200, before + 5));
    assert!(String::from_utf8_lossy(&answer).contains("simulated value, worth nothing"));

    let path = format!("/api/v2/getAddressBalance?address={}", to.friendly());
    let (status, answer) = client.request("GET", &path, Vec::new()).await;
    assert_eq!(status, 200);
    assert!(String::from_utf8_lossy(&answer).contains(&format!("\"result\":\"{}\"", before + 5)));

    for (path, body, word) in [
        ("/api/v2/sendBoc", "{}", "boc"),
        (
            "/api/v2/sendBoc",
            "{\"boc\":\"AAAA\"}",
            "not a bag of cells",
        ),
        ("/api/v2/sendBoc", "[]", "JSON object"),
        (
            "/api/v2/getAddressInformation",
            "{\"address\":\"0:12\"}",
            "address",
        ),
        (
            "/api/v2/runGetMethod",
            "{\"address\":\"0:12\",\"method\":\"x\",\"stack\":[[\"num\",\"zz\"]]}",
            "stack",
        ),
        ("/api/v2/nothing", "{}", "no such method"),
        ("/faucet", "{\"amount\":5}", "a"),
    ] {
        let (status, answer) = client.request("POST", path, body.as_bytes().to_vec()).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            status == 422 && answer.contains("\"ok\":false") && answer.contains(word),
            "{path} {body}: {status} {answer}"
        );
    }
    let large = vec![b' '; 200 << 10];
    assert_eq!(
        client.request("POST", "/api/v2/sendBoc", large).await.0,
        413
    );
}
