//! Clients that leave, cancel, and fetch what they lost.

use super::*;
use crate::limits::GUEST_GRACE;

/// Sends a job and leaves when so many bytes of the answer are there.
async fn send_and_leave(listen: SocketAddr, bytes: usize) {
    let mut client = tokio::net::TcpStream::connect(listen)
        .await
        .expect("connected");
    let body = job(100);
    let head = format!(
        "POST /v1/sealed HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client
        .write_all(&[head.as_bytes(), &body].concat())
        .await
        .expect("sent");
    client
        .read_exact(&mut vec![0; bytes])
        .await
        .expect("the head and some of the body");
    // Long enough for the job to be at the guest.
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Waits until the channel owes this much.
pub(super) async fn owes(listen: SocketAddr, nano: &str) {
    let owed = async {
        while read_channel(listen).await["owed_nano"] != json!(nano) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let owed = tokio::time::timeout(Duration::from_secs(4), owed).await;
    owed.expect("whoever hangs up is charged");
}

pub(super) fn ending(receipt: &[u8]) -> Vec<u8> {
    [
        Frame::encode(FrameKind::Receipt, receipt),
        Frame::encode(FrameKind::Charge, &charge(0, 90, 90).encode()),
        Frame::encode(FrameKind::End, b""),
    ]
    .concat()
}

#[tokio::test]
async fn a_client_that_leaves_owes_the_charge_and_fetches_its_receipt() {
    let proxy = proxy().await;
    let left = Arc::new(tokio::sync::Notify::new());
    let told = left.clone();
    guest(&proxy.config, move |_, mut stream: UnixStream| {
        let told = told.clone();
        async move {
            stream
                .write_all(&Frame::data(&[1; 5_000]))
                .await
                .expect("read");
            told.notified().await;
            let rest = [Frame::data(&[2; 40_000]), ending(b"sealed")].concat();
            stream.write_all(&rest).await.expect("read to the end");
        }
    });
    send_and_leave(proxy.listen, 200).await;
    left.notify_one();
    owes(proxy.listen, "90").await;
    // Also after this proxy and its guest are gone.
    let Serving {
        listen,
        served: _served,
        ..
    } = serve(proxy.config.clone(), pending())
        .await
        .expect("restarted");
    let envelope = envelope(100, None).digest();
    let path = format!("/v1/receipts/{envelope}");
    let payer = fixtures::payer_key();
    let mine = leave(Some(envelope), &payer);
    let (status, body, _) = http_as(listen, "GET", &path, b"", &mine).await;
    assert_eq!((status, body), (200, ending(b"sealed")));
    let strangers = leave(Some(envelope), &fixtures::receipt_key());
    for leave in [strangers, leave(None, &payer)] {
        let (status, body, _) = http_as(listen, "GET", &path, b"", &leave).await;
        assert_eq!((status, said(&body).0.as_str()), (404, "receipt"));
    }
    assert_eq!(http(listen, "GET", &path, b"").await.0, 401);
    assert_eq!(
        http_as(listen, "GET", "/v1/receipts/xyz", b"", &mine)
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn a_client_that_leaves_before_the_first_frame_owes_the_charge_too() {
    let proxy = proxy().await;
    guest(&proxy.config, |_, mut stream: UnixStream| async move {
        // Later than the envelope's 100 ms and the grace for the first token.
        tokio::time::sleep(GUEST_GRACE + Duration::from_millis(500)).await;
        let answer = [Frame::data(&[1; 500]), ending(b"sealed")].concat();
        stream.write_all(&answer).await.expect("read to the end");
    });
    send_and_leave(proxy.listen, 0).await;
    owes(proxy.listen, "90").await;
}

#[tokio::test]
async fn what_this_proxy_lost_the_guest_still_has() {
    let proxy = proxy().await;
    let envelope = envelope(100, None).digest();
    guest(
        &proxy.config,
        move |frames, mut stream: UnixStream| async move {
            assert_eq!(
                (frames[0].kind, &frames[0].payload[..]),
                (FrameKind::OpenReceipt, &envelope.0[..])
            );
            stream.write_all(&ending(b"sealed")).await.expect("read");
        },
    );
    // Attesting tells the proxy whose charges count.
    let path = format!("/v1/attestation?nonce={}", "ab".repeat(32));
    assert_eq!(http(proxy.listen, "GET", &path, b"").await.0, 200);
    let path = format!("/v1/receipts/{envelope}");
    let mine = leave(Some(envelope), &fixtures::payer_key());
    let (status, body, _) = http_as(proxy.listen, "GET", &path, b"", &mine).await;
    assert_eq!((status, body), (200, ending(b"sealed")));
    owes(proxy.listen, "90").await;
}

#[tokio::test]
async fn a_cancel_reaches_the_guest_while_its_job_runs() {
    let proxy = proxy().await;
    let envelope = envelope(100, None).digest();
    let cancel = [&envelope.0[..], &[9; 32]].concat();
    let cancelled = Arc::new(tokio::sync::Notify::new());
    let (told, expected) = (cancelled.clone(), cancel.clone());
    guest(&proxy.config, move |frames, mut stream: UnixStream| {
        let (told, expected) = (told.clone(), expected.clone());
        async move {
            if frames[0].kind == FrameKind::OpenCancel {
                assert_eq!(frames[0].payload, expected);
                told.notify_one();
                let end = Frame::encode(FrameKind::End, b"");
                stream.write_all(&end).await.expect("read");
                return;
            }
            stream
                .write_all(&Frame::data(&[1; 500]))
                .await
                .expect("read");
            told.notified().await;
            stream.write_all(&ending(b"sealed")).await.expect("read");
        }
    });
    let post = async |body: &[u8]| http(proxy.listen, "POST", "/v1/cancel", body).await;
    assert_eq!(said(&post(&cancel).await.1).0, "job");
    send_and_leave(proxy.listen, 200).await;
    assert_eq!(said(&post(&cancel[1..]).await.1).0, "malformed");
    assert_eq!(
        said(&post(&[&cancel[..], b"x"].concat()).await.1).0,
        "too_long"
    );
    let (status, body, _) = post(&cancel).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    owes(proxy.listen, "90").await;
}
