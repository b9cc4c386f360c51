//! The proxy as a service: what its operator sees, what it refuses, how it stops, many guests, and TLS.

use super::leaving::{ending, owes};
use super::*;
use crate::config::{BaseUrl, Rate, TlsFiles};
use crate::fixtures::{envelope_for, guest_at, keyset};
use std::path::Path as FilePath;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

/// One exchange, with the head of the answer as it came.
async fn raw(to: SocketAddr, method: &str, path: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.expect("connected");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(&[head.as_bytes(), body].concat())
        .await
        .expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("read");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn send(listen: SocketAddr, job: &[u8]) -> (u16, Vec<u8>, bool) {
    http(listen, "POST", "/v1/sealed", job).await
}

/// Serves until told.
async fn stoppable(config: Config) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let serving = serve(config, shutdown).await.expect("serves");
    (serving.listen, stop, serving.served)
}

/// A guest that begins each job, and ends it when told.
fn waiting_guest(config: &Config) -> (Arc<Notify>, Arc<AtomicUsize>) {
    let (go_on, begun) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let told = (go_on.clone(), begun.clone());
    guest(config, move |_, mut stream: UnixStream| {
        let (go_on, begun) = told.clone();
        async move {
            let first = Frame::data(&[1; 500]);
            stream.write_all(&first).await.expect("read");
            begun.fetch_add(1, Ordering::SeqCst);
            go_on.notified().await;
            // The proxy may have been stopped.
            let _ = stream.write_all(&ending(b"sealed")).await;
        }
    });
    (go_on, begun)
}

async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    waited.expect("before long");
}

#[tokio::test]
async fn the_operator_sees_figures_and_a_page_and_clients_see_neither() {
    let directory = directory();
    let (ledger, url) = node().await;
    open_channel(&ledger);
    let mut config = config(directory.path(), url);
    config.service.monitor = Some(([127, 0, 0, 1], 0).into());
    let serving = serve(config.clone(), pending()).await.expect("serves");
    let (listen, monitor) = (serving.listen, serving.monitor.expect("there"));
    guest(&config, |_, mut stream: UnixStream| async move {
        stream.write_all(&whole_answer(90)).await.expect("read");
    });
    assert_eq!(send(listen, &job(100)).await.0, 200);
    assert_eq!(send(listen, b"x").await.0, 400);
    http(listen, "POST", "/v1/vouchers", &voucher(60).encode()).await;
    let (status, body, _) = http(monitor, "GET", "/metrics", b"").await;
    let text = String::from_utf8(body).expect("text");
    assert_eq!(status, 200);
    for line in [
        "host_proxy_jobs_total{guest=\"0\",outcome=\"answered\"} 1",
        "host_proxy_requests_total{route=\"/v1/sealed\",status=\"200\",code=\"\"} 1",
        "host_proxy_requests_total{route=\"/v1/sealed\",status=\"400\",code=\"malformed\"} 1",
        "host_proxy_guest_jobs_running{guest=\"0\"} 0",
        "host_proxy_guest_attested{guest=\"0\"} 1",
        "host_proxy_owed_nano 90",
        "host_proxy_promised_nano 60",
        "host_proxy_draining 0",
    ] {
        assert!(text.lines().any(|got| got == line), "{line}: {text}");
    }
    let (_, body, _) = http(monitor, "GET", "/status.json", b"").await;
    let status: Value = serde_json::from_slice(&body).expect("JSON");
    let guest = &status["guests"][0];
    assert_eq!(
        (&guest["state"], &guest["models"]),
        (&json!("attested"), &json!(["small"]))
    );
    assert_eq!(
        (&guest["jobs_answered"], &guest["jobs_max"]),
        (&json!(1), &json!(32))
    );
    assert!(guest["attested_s_ago"].as_u64().is_some_and(|ago| ago < 60));
    let due = json!([{ "channel": channel_terms().address().to_string(), "unpaid_nano": "60" }]);
    assert_eq!(status["money"]["payouts_due"], due);
    let page = raw(monitor, "GET", "/status", b"").await;
    assert!(
        page.contains("content-security-policy: default-src 'none'"),
        "{page}"
    );
    for absent in ["<script", "http://", "https://", "src=", "href="] {
        assert!(!page.contains(absent), "{absent}: {page}");
    }
    for shown in [
        "attested",
        "small",
        "0.000000090 TON",
        &channel_terms().address().to_string(),
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    for path in ["/metrics", "/status", "/status.json"] {
        assert_eq!(http(listen, "GET", path, b"").await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn a_payer_above_its_rate_is_told_when_to_come_back() {
    let rate = Rate {
        jobs_per_min: 6,
        burst: 2,
    };
    let proxy = proxy_with(|config| config.service.rate = Some(rate)).await;
    let asked = Arc::<AtomicUsize>::default();
    let counted = asked.clone();
    guest(&proxy.config, move |_, mut stream: UnixStream| {
        let seq = counted.fetch_add(1, Ordering::SeqCst) as u64;
        async move {
            let charge = charge(seq, 9, 9 * (seq + 1)).encode();
            let answer = [
                Frame::data(&[1; 500]),
                Frame::encode(FrameKind::Charge, &charge),
                Frame::encode(FrameKind::End, b""),
            ];
            stream.write_all(&answer.concat()).await.expect("read");
        }
    });
    for _ in 0..2 {
        assert_eq!(send(proxy.listen, &job(100)).await.0, 200);
    }
    let answer = raw(proxy.listen, "POST", "/v1/sealed", &job(100)).await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("\r\nretry-after: 10\r\n"), "{answer}");
    assert!(answer.contains(r#""code":"rate_limited""#), "{answer}");
    assert!(answer.contains(r#""executed":"no""#), "{answer}");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_stopping_proxy_refuses_jobs_and_ends_those_that_run() {
    let proxy = proxy().await;
    let (go_on, begun) = waiting_guest(&proxy.config);
    let (listen, stop, served) = stoppable(proxy.config.clone()).await;
    let running = tokio::spawn(async move { send(listen, &job(100)).await });
    until(|| begun.load(Ordering::SeqCst) == 1).await;
    stop.send(()).expect("awaited");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let refused = raw(listen, "POST", "/v1/sealed", &job(100)).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains(r#""code":"draining""#), "{refused}");
    assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
    go_on.notify_one();
    let (status, body, whole) = running.await.expect("answered");
    assert_eq!((status, whole), (200, true));
    assert_eq!(kinds(&body).last(), Some(&FrameKind::End));
    // Its voucher is still taken.
    let paid = http(listen, "POST", "/v1/vouchers", &voucher(90).encode()).await;
    assert_eq!(paid.0, 200);
    let ended = tokio::time::timeout(Duration::from_secs(10), served).await;
    ended.expect("in time").expect("no panic");
    assert!(TcpStream::connect(listen).await.is_err());
    // Nothing was lost: the proxy that was there all the time reads the same file.
    let channel = read_channel(proxy.listen).await;
    let voucher = json!(hex::encode(voucher(90).encode()));
    assert_eq!(
        (&channel["owed_nano"], &channel["voucher"]),
        (&json!("90"), &voucher)
    );
}

#[tokio::test]
async fn a_stopping_proxy_waits_for_a_bounded_time() {
    let proxy = proxy().await;
    let (_go_on, begun) = waiting_guest(&proxy.config);
    let mut config = proxy.config.clone();
    config.service.drain = Duration::from_millis(300);
    let (listen, stop, served) = stoppable(config).await;
    let running = tokio::spawn(async move { send(listen, &job(100)).await });
    until(|| begun.load(Ordering::SeqCst) == 1).await;
    stop.send(()).expect("awaited");
    let ended = tokio::time::timeout(Duration::from_secs(8), served).await;
    ended.expect("in time").expect("no panic");
    running.abort();
}

#[tokio::test]
async fn jobs_go_to_the_guest_that_they_were_sealed_to() {
    let second = {
        let mut second = keyset(&payee());
        second.epoch = 1;
        second
    };
    let proxy = proxy_with(|config| {
        let GuestAddress::Unix(first) = config.guests[0].clone() else {
            unreachable!("the tests' guest is a Unix socket")
        };
        config
            .guests
            .push(GuestAddress::Unix(first.with_file_name("second.sock")));
    })
    .await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    for (index, keyset) in [keyset(&payee()), second.clone()].into_iter().enumerate() {
        let asked = asked.clone();
        let shown = fixtures::evidence(&keyset);
        guest_at(&proxy.config.guests[index], shown, move |_, mut stream| {
            let seq = {
                let mut asked = asked.lock().expect("whole");
                asked.push(index);
                asked.len() as u64
            };
            async move {
                let charge = charge(seq, 9, 9 * seq).encode();
                let answer = [
                    Frame::data(&[1; 500]),
                    Frame::encode(FrameKind::Charge, &charge),
                    Frame::encode(FrameKind::End, b""),
                ];
                stream.write_all(&answer.concat()).await.expect("read");
            }
        });
    }
    // Not attested yet, as after a restart: the proxy looks for the keyset.
    let to_second = [envelope_for(&second, 100, None).encode(), sealed()].concat();
    for (job, expected) in [(&to_second, 1), (&job(100), 0), (&to_second, 1)] {
        assert_eq!(send(proxy.listen, job).await.0, 200);
        assert_eq!(asked.lock().expect("whole").last(), Some(&expected));
    }
    // Clients are spread over both.
    let attested = async || {
        let path = format!("/v1/attestation?nonce={}", "ab".repeat(32));
        let (status, body, _) = http(proxy.listen, "GET", &path, b"").await;
        assert_eq!(status, 200);
        let bundle = Bundle::decode(&body).expect("a bundle");
        let evidence = Evidence::decode(&bundle.evidence).expect("evidence");
        KeysetDigest::of(&evidence.keyset)
    };
    assert_ne!(attested().await, attested().await);
    // One that is gone is shown to nobody.
    let GuestAddress::Unix(path) = &proxy.config.guests[0] else {
        unreachable!("the tests' guest is a Unix socket")
    };
    std::fs::remove_file(path).expect("the socket");
    for _ in 0..3 {
        assert_eq!(attested().await, second.digest());
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_makes_the_guest_wait_and_then_end_the_job() {
    let directory = directory();
    let (ledger, url) = node().await;
    open_channel(&ledger);
    let mut config = config(directory.path(), url);
    config.service.monitor = Some(([127, 0, 0, 1], 0).into());
    config.service.client_wait = Duration::from_millis(400);
    let serving = serve(config.clone(), pending()).await.expect("serves");
    let (written, broken) = (Arc::<AtomicUsize>::default(), Arc::new(Notify::new()));
    let told = (written.clone(), broken.clone());
    guest(&config, move |frames, mut stream: UnixStream| {
        let (written, broken) = told.clone();
        async move {
            if frames[0].kind == FrameKind::OpenReceipt {
                stream.write_all(&ending(b"sealed")).await.expect("read");
                return;
            }
            // As long as somebody takes it.
            while stream.write_all(&Frame::data(&[1; 16_000])).await.is_ok() {
                written.fetch_add(16_000, Ordering::SeqCst);
            }
            broken.notify_one();
        }
    });
    let mut client = TcpStream::connect(serving.listen).await.expect("connected");
    let body = job(100);
    let head = format!(
        "POST /v1/sealed HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client
        .write_all(&[head.as_bytes(), &body].concat())
        .await
        .expect("sent");
    let waited = tokio::time::timeout(Duration::from_secs(10), broken.notified()).await;
    waited.expect("the guest is not kept waiting for ever");
    // Nobody between them hoards the answer: what the sockets take, and the frames that wait.
    let written = written.load(Ordering::SeqCst);
    assert!(written < 8 * 1024 * 1024, "{written}");
    owes(serving.listen, "90").await;
    let monitor = serving.monitor.expect("there");
    let (_, text, _) = http(monitor, "GET", "/metrics", b"").await;
    let text = String::from_utf8(text).expect("text");
    for line in [
        "host_proxy_jobs_total{guest=\"0\",outcome=\"client_slow\"} 1",
        "host_proxy_receipts_recovered_total 1",
        "host_proxy_guest_jobs_running{guest=\"0\"} 0",
    ] {
        assert!(text.lines().any(|got| got == line), "{line}: {text}");
    }
    // When it reads at last, its answer has no end.
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the body is whole");
}

/// Writes a certificate for `proxy.example`, signed by itself.
fn certificate(directory: &FilePath) -> (TlsFiles, CertificateDer<'static>) {
    let ([certificate, key], der) = crate::fixtures::certificate("proxy.example");
    let files = TlsFiles {
        certificate: directory.join("proxy.pem"),
        key: directory.join("proxy.key"),
    };
    std::fs::write(&files.certificate, certificate).expect("written");
    std::fs::write(&files.key, key).expect("written");
    (files, der)
}

/// The head and body of `/healthz` over TLS, by a client that knows this certificate.
async fn healthz(to: SocketAddr, known: &CertificateDer<'static>) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(known.clone()).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(to).await?;
    let name = ServerName::try_from("proxy.example").expect("a name");
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn a_certificate_is_served_and_replaced_without_a_restart() {
    let directory = directory();
    let (_ledger, url) = node().await;
    let mut config = config(directory.path(), url);
    let (files, first) = certificate(directory.path());
    config.service.tls = Some(files.clone());
    let serving = serve(config.clone(), pending()).await.expect("serves");
    let (listen, tls) = (serving.listen, serving.tls.expect("there"));
    let answer = healthz(listen, &first).await.expect("answered");
    assert!(answer.ends_with(r#"{"ok":true}"#), "{answer}");
    // What speaks no TLS gets no answer.
    let mut plain = TcpStream::connect(listen).await.expect("connected");
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\n\r\n")
        .await
        .expect("sent");
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes).await;
    assert!(!bytes.starts_with(b"HTTP"), "{bytes:?}");
    let (_, second) = certificate(directory.path());
    tls.reload().expect("good files");
    assert!(healthz(listen, &first).await.is_err());
    assert!(healthz(listen, &second).await.is_ok());
    // Bad files change nothing, and a program does not start with them.
    std::fs::write(&files.key, "no key").expect("written");
    let error = tls.reload().expect_err("refused").to_string();
    assert!(error.contains("proxy.key"), "{error}");
    assert!(healthz(listen, &second).await.is_ok());
    let error = serve(config, pending()).await.err().expect("refused");
    assert!(error.to_string().contains("proxy.key"), "{error}");
}

#[tokio::test]
async fn a_collector_gets_a_span_of_each_job_and_no_id_in_it() {
    let (spans, mut received) = tokio::sync::mpsc::channel(4);
    let take = move |body: String| {
        let spans = spans.clone();
        async move { spans.send(body).await.map_err(|_| StatusCode::GONE) }
    };
    let collector = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback");
    let url = format!("http://{}", collector.local_addr().expect("bound"));
    let routes = Router::new().route("/v1/traces", post(take));
    tokio::spawn(server::serve(
        collector,
        routes,
        Default::default(),
        pending(),
    ));
    let otlp = BaseUrl::try_from(url).expect("a url");
    let proxy = proxy_with(|config| config.service.otlp = Some(otlp)).await;
    answering(&proxy, whole_answer(90));
    assert_eq!(send(proxy.listen, &job(100)).await.0, 200);
    let body = tokio::time::timeout(Duration::from_secs(10), received.recv()).await;
    let body = body.expect("in time").expect("a batch");
    let batch: Value = serde_json::from_str(&body).expect("JSON");
    let span = &batch["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!(span["name"], "embeddings small");
    let envelope = envelope(100, None);
    let content = envelope.unverified();
    for secret in [
        hex::encode(content.job),
        envelope.digest().to_string(),
        hex::encode(content.terms.payer_key),
        hex::encode(channel_terms().address().hash),
    ] {
        assert!(!body.contains(&secret), "{secret}: {body}");
    }
}

#[tokio::test]
async fn a_charge_is_in_the_log_and_its_tree_is_still_open() {
    let proxy = proxy().await;
    answering(&proxy, whole_answer(90));
    assert_eq!(send(proxy.listen, &job(100)).await.0, 200);
    let get = async |leaf: &str| http(proxy.listen, "GET", &format!("/v1/log/{leaf}"), b"").await;
    let leaf = hex::encode(LogLeaf::of(&charge(0, 90, 90)).0);
    let (status, body, _) = get(&leaf).await;
    assert_eq!((status, said(&body).0.as_str()), (409, "log_open"));
    let (status, body, _) = get(&"ab".repeat(32)).await;
    assert_eq!((status, said(&body).0.as_str()), (404, "log"));
    assert_eq!(get("xyz").await.0, 400);
}
