//! What the tests of this crate share: a ledger served on loopback, a channel on it, and a guest that speaks frames and
//! nothing else. The verification under test is never faked.

use crate::clock::now_unix_s;
use crate::config::{BundleCollateral, Config, NodeUrl, ServiceConfig};
use crate::credit::Credit;
use crate::guest::GuestAddress;
use crate::keys::SecretSource;
use crate::payee::Payee;
use crate::store::StatePlace;
use ed25519_dalek::SigningKey;
use ledger::Ledger;
use settlement::{
    Address, Cap, ChainId, ChannelState, ChannelStatus, ChannelTerms, Charge, Nano, SignedCharge,
    SignedVoucher, Voucher, Wallet,
};
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::rustls::pki_types::CertificateDer;
use wire::{
    Delegation, Digest, Endpoint, Envelope, Evidence, Frame, FrameDecoder, FrameKind, KemKey,
    Keyset, ModelOffer, Padding, Prices, SignedEnvelope,
};
use zeroize::Zeroizing;

pub(crate) const PAYEE_SEED: [u8; 32] = [1; 32];
pub(crate) const DEPOSIT: Nano = Nano(1_000_000_000);
/// No message is void before this.
pub(crate) const FAR: u32 = 4_000_000_000;
/// A year from now.
static CLAIMS_UNTIL: LazyLock<u32> = LazyLock::new(|| {
    (now_unix_s() + 365 * 86_400)
        .try_into()
        .expect("before 2106")
});

pub(crate) fn payer_key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

pub(crate) fn receipt_key() -> SigningKey {
    SigningKey::from_bytes(&[4; 32])
}

pub(crate) fn payee() -> Payee {
    payee_of(PAYEE_SEED[0], ChainId::EMBEDDED)
}

/// A provider whose wallet has the seed `[n; 32]`.
pub(crate) fn payee_of(n: u8, chain: ChainId) -> Payee {
    let (payee, endorsing) = (payee_key(n), endorsing_seed(n));
    let public = SigningKey::from_bytes(&endorsing)
        .verifying_key()
        .to_bytes();
    let delegation = Delegation::sign(public, FAR, chain, &payee);
    let key = payee.verifying_key().to_bytes();
    let parts = (key, &Zeroizing::new([n; 32]), &endorsing, delegation);
    Payee::from_parts(parts, chain).expect("three keys")
}

/// The payee's key of that provider.
pub(crate) fn payee_key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[100 + n; 32])
}

fn endorsing_seed(n: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new([200 + n; 32])
}

pub(crate) fn channel_terms() -> ChannelTerms {
    let payee = payee();
    ChannelTerms {
        chain: ChainId::EMBEDDED,
        payer: Wallet::from_seed(&[2; 32], ChainId::EMBEDDED).address(),
        payee: payee.address(),
        payer_key: payer_key().verifying_key().to_bytes(),
        payee_key: payee.public_key(),
        close_delay_s: 3600,
        claims_until: *CLAIMS_UNTIL,
        salt: 0,
    }
}

pub(crate) fn channel_state(deposit: Nano) -> ChannelState {
    let of = channel_terms();
    let state = ChannelState {
        status: ChannelStatus::Open,
        chain: of.chain,
        deposit,
        paid: Nano::ZERO,
        unlock_at: 0,
        claims_until: of.claims_until,
        close_delay_s: of.close_delay_s,
        payer: of.payer,
        payee: of.payee,
        payer_key: of.payer_key,
        pending_key: [0; 32],
        pending_at: 0,
        payee_key: of.payee_key,
        salt: of.salt,
    };
    assert_eq!(state.terms(state.payer_key), of);
    state
}

pub(crate) fn voucher(cumulative: u64) -> SignedVoucher {
    let voucher = Voucher {
        chain: ChainId::EMBEDDED,
        channel: channel_terms().address(),
        cumulative: Nano(cumulative),
        usage_root: [7; 32],
    };
    voucher.sign(&payer_key())
}

pub(crate) fn charge(seq: u64, cost: u64, cumulative: u64) -> SignedCharge {
    let cap = Cap {
        chain: ChainId::EMBEDDED,
        channel: channel_terms().address(),
        job: [1; 16],
        most: Nano(cost.max(100)),
    };
    let charge = Charge {
        cap: cap.sign(&payer_key()),
        stake: payee().address(),
        receipt_hash: [8; 32],
        seq,
        cost: Nano(cost),
        cumulative: Nano(cumulative),
    };
    charge.sign(&receipt_key())
}

pub(crate) fn keyset(payee: &Payee) -> Keyset {
    let prices = Prices {
        prompt: Nano(1),
        cached: Nano(1),
        completion: Nano(1),
    };
    Keyset {
        version: 1,
        profile: "sim".to_owned(),
        epoch: 0,
        lifetime_s: 600,
        jobs_max: 100,
        kem_keys: vec![KemKey {
            id: 1,
            kem: 0x647a,
            kdf: 1,
            aead: 3,
            public: vec![9; 1216],
        }],
        receipt_key: receipt_key().verifying_key().to_bytes(),
        models: vec![ModelOffer {
            id: "small".to_owned(),
            endpoint: Endpoint::Embeddings,
            root: Digest([1; 32]),
            tokenizer: Digest([2; 32]),
            config: Digest([4; 32]),
            template: None,
            context_tokens: 256,
            quantisation: "f32".to_owned(),
            determinism: "machine".into(),
            prices,
        }],
        price_step: Nano(1),
        exposure_max: Nano(1_000),
        chain: payee.chain(),
        payee: payee.address(),
        payee_key: payee.public_key(),
        stake: payee.address(),
        registers: Digest([3; 32]),
        gpus: Vec::new(),
        padding: Padding {
            step_bytes: 512,
            interval_ms: 10,
        },
    }
}

pub(crate) fn evidence(keyset: &Keyset) -> Vec<u8> {
    evidence_with(keyset, vec![5; 100])
}

fn evidence_with(keyset: &Keyset, quote: Vec<u8>) -> Vec<u8> {
    Evidence::new(keyset.encode(), quote, Vec::new(), None).encode()
}

/// A sealed request as a proxy sees it: bytes of which it knows only where the encapsulated key lies.
pub(crate) fn sealed() -> Vec<u8> {
    vec![6; 7 + 1120 + 300]
}

pub(crate) fn envelope(cost_max: u64, voucher: Option<&SignedVoucher>) -> SignedEnvelope {
    envelope_for(&keyset(&payee()), cost_max, voucher)
}

/// The same, sealed to another keyset.
pub(crate) fn envelope_for(
    keyset: &Keyset,
    cost_max: u64,
    voucher: Option<&SignedVoucher>,
) -> SignedEnvelope {
    let envelope = Envelope {
        version: 1,
        job: [1; 16],
        keyset: keyset.digest(),
        model: "small".to_owned(),
        model_root: Digest([1; 32]),
        endpoint: Endpoint::Embeddings,
        cost_max: Nano(cost_max),
        terms: channel_terms(),
        cap_signature: [0; 64],
        class: "standard".to_owned(),
        deadline_ms: 5_000,
        first_token_ms: 100,
        sealed_bytes: sealed().len() as u32,
        voucher: voucher.map(SignedVoucher::encode),
    };
    envelope.sign(&sealed()[7..7 + 1120], &payer_key())
}

/// A ledger on loopback. It lives as long as the runtime of its test.
pub(crate) async fn node() -> (Ledger, NodeUrl) {
    let ledger = Ledger::in_memory().expect("a ledger");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(ledger::serve(ledger.clone(), listener));
    (ledger, NodeUrl::parse(&url).expect("a url"))
}

/// Passes connections on to a node and counts them: the proxy opens one for each call.
pub(crate) struct CountingNode {
    pub(crate) url: NodeUrl,
    calls: Arc<AtomicUsize>,
}

impl CountingNode {
    pub(crate) async fn start(behind: NodeUrl) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let calls = Arc::<AtomicUsize>::default();
        let counted = calls.clone();
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let mut to = TcpStream::connect(&behind.authority)
                    .await
                    .expect("the node");
                tokio::spawn(async move {
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        let url = NodeUrl::parse(&url).expect("a url");
        CountingNode { url, calls }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

/// Opens the channel of [`channel_terms`] and gives the payee's wallet something to pay fees with.
pub(crate) fn open_channel(ledger: &Ledger) -> Address {
    let payer = Wallet::from_seed(&[2; 32], ChainId::EMBEDDED);
    for wallet in [payer.address(), payee().address()] {
        ledger.faucet(&wallet, Nano(5_000_000_000)).expect("money");
    }
    let deploy = channel_terms()
        .deploy(DEPOSIT, 1)
        .expect("a deposit there can be");
    let boc = payer.transfer(0, FAR, &[deploy]).expect("one transfer");
    ledger.send_external(&boc).expect("accepted");
    channel_terms().address()
}

/// A configuration in `directory`, its files written.
pub(crate) fn config(directory: &Path, toncenter: NodeUrl) -> Config {
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        guests: vec![GuestAddress::Unix(directory.join("guest.sock"))],
        toncenter,
        calls_per_s: None,
        second: None,
        chain: ChainId::EMBEDDED,
        payee_key: payee().public_key(),
        stake: None,
        wallet_key: SecretSource::File(directory.join("wallet.key")),
        endorsing_key: SecretSource::File(directory.join("endorsing.key")),
        delegation: directory.join("delegation"),
        passphrase: None,
        collateral: BundleCollateral::File(directory.join("collateral.json")),
        guest_files: None,
        state: StatePlace::File(directory.join("state.sqlite")),
        credit: Credit::new(Some(Nano(1_000)), Nano(1_000)).expect("within bounds"),
        settle: None,
        service: ServiceConfig::default(),
    };
    let write = |name: &str, text: String| {
        std::fs::write(directory.join(name), text).expect("written");
    };
    let endorsing = endorsing_seed(PAYEE_SEED[0]);
    let public = SigningKey::from_bytes(&endorsing)
        .verifying_key()
        .to_bytes();
    let payee = payee_key(PAYEE_SEED[0]);
    let delegation = Delegation::sign(public, FAR, ChainId::EMBEDDED, &payee);
    write("wallet.key", hex::encode(PAYEE_SEED));
    write("endorsing.key", hex::encode(*endorsing));
    write("delegation", hex::encode(delegation.encode()));
    write("collateral.json", "{}".to_owned());
    config
}

pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Listens where the configuration says and answers each exchange as `answer` does, which gets the frames that came.
pub(crate) fn guest<F, Answer>(config: &Config, answer: F)
where
    F: Fn(Vec<Frame>, UnixStream) -> Answer + Send + 'static,
    Answer: Future<Output = ()> + Send + 'static,
{
    guest_with_quote(config, vec![5; 100], answer);
}

/// The same, with this quote in its evidence.
pub(crate) fn guest_with_quote<F, Answer>(config: &Config, quote: Vec<u8>, answer: F)
where
    F: Fn(Vec<Frame>, UnixStream) -> Answer + Send + 'static,
    Answer: Future<Output = ()> + Send + 'static,
{
    guest_at(
        &config.guests[0],
        evidence_with(&keyset(&payee()), quote),
        answer,
    );
}

/// The same at another address, with other evidence.
pub(crate) fn guest_at<F, Answer>(address: &GuestAddress, evidence: Vec<u8>, answer: F)
where
    F: Fn(Vec<Frame>, UnixStream) -> Answer + Send + 'static,
    Answer: Future<Output = ()> + Send + 'static,
{
    let GuestAddress::Unix(path) = address else {
        panic!("tests use Unix sockets");
    };
    let listener = UnixListener::bind(path).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let frames = read_frames(&mut stream).await;
            if frames.first().map(|f| f.kind) == Some(FrameKind::OpenAttest) {
                let reply = [Frame::data(&evidence), Frame::encode(FrameKind::End, b"")].concat();
                // The test may have ended.
                let _ = stream.write_all(&reply).await;
                continue;
            }
            tokio::spawn(answer(frames, stream));
        }
    });
}

async fn read_frames(stream: &mut UnixStream) -> Vec<Frame> {
    let (mut decoder, mut frames, mut chunk) = (FrameDecoder::default(), Vec::new(), [0; 4096]);
    loop {
        while let Some(frame) = decoder.next_frame().expect("frames") {
            let ended = frame.kind == FrameKind::End;
            frames.push(frame);
            if ended {
                return frames;
            }
        }
        match stream.read(&mut chunk).await {
            Ok(got) if got > 0 => decoder.push(&chunk[..got]),
            _ => return frames,
        }
    }
}

/// One HTTP exchange, to the end of the connection: status, body, and whether the body was whole.
pub(crate) async fn http(
    to: std::net::SocketAddr,
    method: &str,
    path: &str,
    body: &[u8],
) -> (u16, Vec<u8>, bool) {
    http_as(to, method, path, body, "").await
}

/// The same with a header `authorization`, unless it is empty.
pub(crate) async fn http_as(
    to: std::net::SocketAddr,
    method: &str,
    path: &str,
    body: &[u8],
    authorization: &str,
) -> (u16, Vec<u8>, bool) {
    use http_body_util::{BodyExt, Full};
    let stream = TcpStream::connect(to).await.expect("connected");
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .expect("handshake");
    tokio::spawn(connection);
    let mut request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "proxy");
    if !authorization.is_empty() {
        request = request.header("authorization", authorization);
    }
    let request = request
        .body(Full::new(hyper::body::Bytes::copy_from_slice(body)))
        .expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    let status = answer.status().as_u16();
    let mut body = answer.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(frame.data_ref().expect("data")),
            Err(_) => return (status, bytes, false),
        }
    }
    (status, bytes, true)
}

struct CertificateKey(SigningKey, [u8; 32]);

impl rcgen::PublicKeyData for CertificateKey {
    fn der_bytes(&self) -> &[u8] {
        &self.1
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for CertificateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = ed25519_dalek::Signer::sign(&self.0, message);
        Ok(signature.to_bytes().to_vec())
    }
}

/// A certificate for a name, signed by itself: in PEM with its key, and alone.
pub(crate) fn certificate(name: &str) -> ([String; 2], CertificateDer<'static>) {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("randomness");
    let key = SigningKey::from_bytes(&seed);
    let key = CertificateKey(key.clone(), key.verifying_key().to_bytes());
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]);
    let mut params = params.expect("a name");
    params.serial_number = Some(1.into());
    let made = params.self_signed(&key).expect("signed");
    // RFC 8410 section 7.
    let head = hex::decode("302e020100300506032b657004220420").expect("hex");
    let pkcs8 = [&head, &seed[..]].concat();
    let pem = [pem("CERTIFICATE", made.der()), pem("PRIVATE KEY", &pkcs8)];
    (pem, made.der().clone())
}

fn pem(kind: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
}
