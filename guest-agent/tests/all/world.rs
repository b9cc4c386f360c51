//! An agent over an in-memory stream, attested as a client does it, and jobs for it.

use attest::{Manifest, Policy, Root};
use ed25519_dalek::SigningKey;
use engine::scheduler::{Driver, Limits};
use engine::{Before, Forward, Row};
use guest_agent::platform::{Platform, PlatformError};
use guest_agent::{Booted, Serving};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use registers::{Digest48, Registers, ReportData};
use settlement::{Address, ChainId, ChannelTerms, Nano, SignedCharge, SignedVoucher, Voucher};
use simulator::SimulatedModule;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use wire::*;
use zeroize::Zeroizing;

pub const MODEL: &str = "random-model";
pub const PAYEE: Address = Address {
    workchain: 0,
    hash: [0x11; 32],
};

pub struct InProcess(pub SimulatedModule);

impl Platform for InProcess {
    fn extend(&mut self, digest: &Digest48) -> Result<(), PlatformError> {
        let refused = |e: simulator::SimulatorError| PlatformError::Refused {
            doing: "extending",
            why: e.to_string(),
        };
        self.0.extend(3, digest).map_err(refused)
    }
    fn registers(&mut self) -> Result<Registers, PlatformError> {
        Ok(self.0.registers())
    }
    fn quote(&mut self, report_data: &ReportData) -> Result<Vec<u8>, PlatformError> {
        Ok(self.0.quote(&report_data.0))
    }
}

pub struct Running {
    pub serving: Serving<InProcess>,
    pub worker: AttestedWorker,
    judged: Judged,
}

/// What evidence is judged by.
#[derive(Clone)]
pub struct Judged {
    pub root: Vec<u8>,
    pub collateral: Vec<u8>,
    pub manifest: Vec<u8>,
    pub gpu: Option<(GpuRoots, GpuCollateral)>,
}

/// A directory that holds the model.
pub fn models() -> &'static Path {
    static MODELS: LazyLock<PathBuf> = LazyLock::new(|| {
        random_model::models(env!("CARGO_TARGET_TMPDIR"), MODEL).expect("the model is written")
    });
    &MODELS
}

pub fn config(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let root = engine::weights::read(&models().join(MODEL)).unwrap();
    let root = root.root().unwrap();
    let mut config = serde_json::json!({
        "version": 1, "profile": "sim", "chain": 20241, "payee": PAYEE.to_string(),
        "payee_key": hex::encode(payee().verifying_key().to_bytes()), "stake": PAYEE.to_string(),
        "lifetime_s": 3600, "jobs_max": 5, "price_step_nano": 32_000, "exposure_max_nano": 1_000_000, "interval_ms": 10,
        "models": [{"id": MODEL, "endpoint": "chat", "root": root.to_string(), "context_tokens": 256,
            "prompt_nano": 1_000_000_000, "completion_nano": 2_000_000_000}],
    });
    change(&mut config);
    serde_json::to_vec(&config).unwrap()
}

pub fn payee() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

pub fn payer() -> SigningKey {
    SigningKey::from_bytes(&[6; 32])
}

pub fn terms() -> ChannelTerms {
    ChannelTerms {
        chain: ChainId::EMBEDDED,
        payer: Address {
            workchain: 0,
            hash: [0x22; 32],
        },
        payee: PAYEE,
        payer_key: payer().verifying_key().to_bytes(),
        payee_key: payee().verifying_key().to_bytes(),
        close_delay_s: 3_600,
        claims_until: 2_000_000_000,
        salt: 0,
    }
}

/// A voucher of the payer for its channel.
pub fn voucher(cumulative: u64) -> SignedVoucher {
    let voucher = Voucher {
        chain: ChainId::EMBEDDED,
        channel: terms().address(),
        cumulative: Nano(cumulative),
        usage_root: [0; 32],
    };
    voucher.sign(&payer())
}

pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

pub fn module() -> SimulatedModule {
    let mut counter = 0u8;
    let mut random = |out: &mut [u8]| {
        counter += 1;
        out.iter_mut()
            .enumerate()
            .for_each(|(i, b)| *b = counter.wrapping_mul(37).wrapping_add(i as u8));
    };
    SimulatedModule::new(now(), &mut random).unwrap()
}

/// A test's hold on the steps of a model.
pub struct Hold {
    next: Sender<()>,
    /// The most sequences that a step had.
    pub sequences: Arc<AtomicUsize>,
}

impl Hold {
    /// Lets one step pass.
    pub fn step(&self) {
        self.next.send(()).unwrap();
    }
}

/// Boots an agent whose steps wait for the test.
pub async fn boot_held(config: &[u8]) -> (Running, Hold) {
    let (next, steps) = channel();
    let sequences = Arc::new(AtomicUsize::new(0));
    let (counted, mut steps) = (sequences.clone(), Some(steps));
    let running = boot_wrapped(models(), config, |forward| {
        let (steps, counted) = (steps.take().expect("one model"), counted.clone());
        let wait = move |rows: &[Row]| {
            let _ = steps.recv();
            let sequences: BTreeSet<usize> = rows.iter().map(|row| row.sequence).collect();
            counted.fetch_max(sequences.len(), Ordering::SeqCst);
        };
        Box::new(Before(forward, wait))
    });
    (running.await, Hold { next, sequences })
}

/// Boots an agent and attests it as a client does.
pub async fn boot(config: &[u8]) -> Running {
    boot_in(models(), config).await
}

/// The same with the models of another directory.
pub async fn boot_in(models: &Path, config: &[u8]) -> Running {
    boot_wrapped(models, config, |forward| forward).await
}

/// The same with something around what computes.
pub async fn boot_wrapped(
    models: &Path,
    config: &[u8],
    mut wrap: impl FnMut(Box<dyn Forward>) -> Box<dyn Forward>,
) -> Running {
    let module = module();
    let (root, collateral) = (
        module.root_der().to_vec(),
        module.collateral_json().to_vec(),
    );
    let agent = Digest48([7; 48]);
    let booted = Booted::new(InProcess(module), config, true).unwrap();
    let attested = booted
        .measure(|| Ok(agent), models)
        .unwrap()
        .attest_driven(&mut ChaCha20Rng::from_seed([1; 32]), |forward, tokens| {
            Driver::start(wrap(forward), tokens, Limits::default())
        })
        .unwrap();
    let judged = Judged {
        root,
        collateral,
        manifest: Manifest::process(agent, Digest48::of(config)).to_json(),
        gpu: None,
    };
    attested_by(attested.serve(), judged).await
}

/// Asks for evidence and judges it as a client does.
pub async fn attested_by(serving: Serving<InProcess>, judged: Judged) -> Running {
    let nonce = [9; 32];
    let frames = exchange(
        &serving,
        [Frame::encode(FrameKind::OpenAttest, &nonce), end()].concat(),
    )
    .await;
    let worker = judge(body(&frames, FrameKind::Data), &nonce, &judged);
    Running {
        serving,
        worker,
        judged,
    }
}

/// Evidence for a nonce, judged as a client does it.
pub fn judge(evidence: Vec<u8>, nonce: &[u8; 32], judged: &Judged) -> AttestedWorker {
    let keyset = Evidence::decode(&evidence).unwrap().keyset;
    let endorsement = Endorsement::sign(KeysetDigest::of(&keyset), &payee());
    let (gpu_roots, of_gpu) = match judged.gpu.clone() {
        Some((roots, collateral)) => (roots, Some(collateral)),
        None => (GpuRoots::NVIDIA, None),
    };
    let bundle = Bundle::new(evidence, endorsement, judged.collateral.clone(), of_gpu);
    let manifest = Manifest::from_json(&judged.manifest).unwrap();
    let root = Root::insecure_test(judged.root.clone()).unwrap();
    let expected = Expected {
        profile: "sim".into(),
        chain: ChainId::EMBEDDED,
        payee: PAYEE,
        payee_key: payee().verifying_key().to_bytes(),
        gpu_roots,
        appraised_gpus: Default::default(),
    };
    let policy = Policy::from_manifest(&manifest);
    attest(&bundle.encode(), nonce, &policy, &root, &expected, now()).unwrap()
}

pub fn end() -> Vec<u8> {
    Frame::encode(FrameKind::End, b"")
}

pub async fn exchange(serving: &Serving<InProcess>, bytes: Vec<u8>) -> Vec<Frame> {
    let (mut ours, theirs) = tokio::io::duplex(1 << 16);
    let serving = serving.clone();
    let agent = tokio::spawn(async move { serving.exchange(theirs).await });
    ours.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer).await.unwrap();
    let _ = agent.await.unwrap();
    frames(&answer)
}

/// The frames of a whole answer.
pub fn frames(answer: &[u8]) -> Vec<Frame> {
    let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
    decoder.push(answer);
    while let Some(frame) = decoder.next_frame().unwrap() {
        frames.push(frame);
    }
    frames
}

pub fn body(frames: &[Frame], kind: FrameKind) -> Vec<u8> {
    frames
        .iter()
        .filter(|f| f.kind == kind)
        .flat_map(|f| f.payload.clone())
        .collect()
}

/// A short conversation, answered the same each time.
pub fn greeting() -> ChatRequest {
    ChatRequest::new(random_model::prompt("Hello"), 16)
}

pub fn asking(ask: Ask) -> Request {
    let root = engine::weights::read(&models().join(MODEL)).unwrap();
    let root = root.root().unwrap();
    Request {
        model_root: Digest(root.0),
        parent: None,
        ask,
    }
}

/// An envelope for the first model of this worker.
pub fn envelope(worker: &AttestedWorker, job: u8) -> Envelope {
    let offer = &worker.keyset().models[0];
    Envelope {
        version: 1,
        job: [job; 16],
        keyset: KeysetDigest::default(),
        model: offer.id.clone(),
        model_root: offer.root,
        endpoint: Endpoint::Chat,
        cost_max: Nano(1_000_000),
        terms: terms(),
        cap_signature: [0; 64],
        class: "standard".into(),
        deadline_ms: 60_000,
        first_token_ms: 60_000,
        sealed_bytes: 0,
        voucher: None,
    }
}

/// A job of this payer for a worker.
pub fn seal_to(
    worker: &AttestedWorker,
    payer: &SigningKey,
    job: u8,
    body: &[u8],
    change: impl FnOnce(&mut Envelope),
) -> SealedJob {
    let mut envelope = envelope(worker, job);
    change(&mut envelope);
    let request = JobRequest {
        endpoint: envelope.endpoint,
        body: Zeroizing::new(body.to_vec()),
    };
    // One encapsulation per job: a repeated one is a replay.
    let mut rng = ChaCha20Rng::from_seed([job; 32]);
    seal_job(worker, envelope, &request, payer, &mut rng).unwrap()
}

impl Running {
    /// The same guest with the keyset that it shows now.
    pub async fn attest_again(&self) -> Running {
        attested_by(self.serving.clone(), self.judged.clone()).await
    }

    pub fn seal(&self, job: u8, change: impl FnOnce(&mut Envelope)) -> SealedJob {
        let body = asking(Ask::Chat(greeting())).encode().unwrap();
        self.seal_body(job, &body, change)
    }

    pub fn seal_body(&self, job: u8, body: &[u8], change: impl FnOnce(&mut Envelope)) -> SealedJob {
        self.seal_with(&payer(), job, body, change)
    }

    /// A job that another payer signs.
    pub fn seal_as(
        &self,
        payer: &SigningKey,
        job: u8,
        change: impl FnOnce(&mut Envelope),
    ) -> SealedJob {
        let body = asking(Ask::Chat(greeting())).encode().unwrap();
        self.seal_with(payer, job, &body, change)
    }

    fn seal_with(
        &self,
        payer: &SigningKey,
        job: u8,
        body: &[u8],
        change: impl FnOnce(&mut Envelope),
    ) -> SealedJob {
        seal_to(&self.worker, payer, job, body, change)
    }

    pub async fn send(&self, envelope: &[u8], sealed: &[u8]) -> Vec<Frame> {
        let open = Frame::encode(FrameKind::OpenJob, envelope);
        exchange(&self.serving, [open, Frame::data(sealed), end()].concat()).await
    }

    pub async fn refusal(&self, envelope: &[u8], sealed: &[u8]) -> Option<(Subject, RefusalCode)> {
        let frames = self.send(envelope, sealed).await;
        self.refused(&frames)
    }

    pub fn refused(&self, frames: &[Frame]) -> Option<(Subject, RefusalCode)> {
        let refusal = frames.iter().find(|f| f.kind == FrameKind::Refused)?;
        SignedRefusal::decode(&refusal.payload)
            .unwrap()
            .verify(&self.worker.keyset().receipt_key)
    }

    pub async fn code(&self, job: SealedJob) -> Option<RefusalCode> {
        self.code_with(job, None).await
    }

    /// The code with which a job is refused that comes with a voucher that the payee holds.
    pub async fn code_with(
        &self,
        job: SealedJob,
        held: Option<SignedVoucher>,
    ) -> Option<RefusalCode> {
        let held = held.map(|held| Frame::encode(FrameKind::Voucher, &held.encode()));
        let open = Frame::encode(FrameKind::OpenJob, &job.envelope.encode());
        let request = [
            held.unwrap_or_default(),
            open,
            Frame::data(&job.request),
            end(),
        ];
        let frames = exchange(&self.serving, request.concat()).await;
        let (name, code) = self.refused(&frames)?;
        assert_eq!(
            name,
            Subject::Envelope(job.envelope.digest()),
            "a refusal names the envelope it refuses"
        );
        Some(code)
    }

    /// A stream on which the job was sent, with room for `bytes` that nobody reads. The handle ends with the exchange.
    pub async fn begin(&self, job: &SealedJob, bytes: usize) -> (DuplexStream, JoinHandle<()>) {
        let (mut ours, theirs) = tokio::io::duplex(bytes);
        let serving = self.serving.clone();
        let agent = tokio::spawn(async move {
            // How the exchange ended shows in what was written.
            let _ = serving.exchange(theirs).await;
        });
        let open = Frame::encode(FrameKind::OpenJob, &job.envelope.encode());
        let request = [open, Frame::data(&job.request), end()].concat();
        ours.write_all(&request).await.unwrap();
        (ours, agent)
    }

    /// What the guest keeps of a job that has ended.
    pub async fn fetch(&self, job: &SealedJob) -> Option<(Receipt, SignedCharge)> {
        let ask = Frame::encode(FrameKind::OpenReceipt, &job.envelope.digest().0);
        let frames = exchange(&self.serving, [ask, end()].concat()).await;
        let kinds: Vec<FrameKind> = frames.iter().map(|frame| frame.kind).collect();
        if kinds == [FrameKind::End] {
            return None;
        }
        let expected = [FrameKind::Receipt, FrameKind::Charge, FrameKind::End];
        assert_eq!(kinds, expected);
        let receipt = job.receipt_key.open(&frames[0].payload).unwrap();
        let charge = SignedCharge::decode(&frames[1].payload).unwrap();
        Some((Receipt::decode(&receipt).unwrap(), charge))
    }
}
