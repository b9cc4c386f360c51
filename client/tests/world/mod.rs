//! A proxy, a guest and a node for tests: real HTTP, real evidence of a simulated module, real seals and receipts; only
//! the model is made up. The proxy misbehaves on demand.

mod bodies;
mod epochs;
mod fault;
mod forms;
mod routes;
mod scripted;
mod words;

pub use bodies::*;
pub use fault::Fault;
pub use scripted::{SCRIPTED, SCRIPTED_EMBEDDER, Script};
use words::Words;

use attest::Manifest;
use client::config::Config;
use client::{Client, ClientError};
use ed25519_dalek::SigningKey;
use getrandom::{SysRng, rand_core::UnwrapErr};
use registers::{Digest48, GpuBinding, ReportData};
use serde_json::{Value, json};
use settlement::{Address, ChainId, ChannelTerms, Charge, Nano, SignedVoucher};
use simulator::{Flaws, SimulatedModule};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::{Barrier, Notify};
use tokio::task::JoinHandle;
use wire::{
    AnswerWriter, Ask, Bundle, CoreDigest, Endorsement, Event, Evidence, Finish, Frame, FrameKind,
    JobFailure, Keyset, KeysetDigest, OpenedJob, Receipt, ReceiptCore, RecordBytes, RefusalCode,
    Request, SealingKey, SignedEnvelope, SignedRefusal, Subject, Timings, Usage,
};

/// Tokens of a long answer.
pub const LONG: usize = 280;
pub const CHAT: &str = "tiny-chat";
pub const EMBEDDER: &str = "tiny-embedder";
/// Gives each document as many points as it has tokens, the query's not counted.
pub const RERANKER: &str = "tiny-reranker";
/// Knows all bytes and calls of tools, and answers by chance whatever the grammar of the request allows.
pub const FORMS: &str = "tiny-forms";

/// Everything behind one address.
pub struct World {
    pub directory: tempfile::TempDir,
    pub guest: Arc<Guest>,
    pub address: String,
    pub server: JoinHandle<()>,
}

pub struct Guest {
    pub fault: Mutex<Fault>,
    pub attestations: Mutex<u32>,
    pub vouchers: Mutex<Vec<SignedVoucher>>,
    pub voucher_came: Notify,
    /// The cancels that came, and by envelope the receipts and charges that are kept.
    pub cancels: Mutex<Vec<Vec<u8>>>,
    kept: Mutex<BTreeMap<String, Vec<u8>>>,
    terms: Mutex<ChannelTerms>,
    pub deposit: Mutex<u64>,
    two: Barrier,
    module: Arc<SimulatedModule>,
    events: Vec<Event>,
    sealing: SealingKey,
    receipt_key: SigningKey,
    pub payee: SigningKey,
    keyset: Keyset,
    words: Words,
    script: Option<Script>,
    /// How many jobs were signed for, and the digest of the last one's core.
    sequence: Mutex<(u64, CoreDigest)>,
    begun: Instant,
}

impl World {
    pub async fn start(lifetime_s: u32) -> World {
        World::start_with(lifetime_s, Flaws::default()).await
    }

    pub async fn start_with(lifetime_s: u32, flaws: Flaws) -> World {
        World::of(Guest::new(lifetime_s, module(flaws), 1, None)).await
    }

    /// With an engine that answers out of a script.
    pub async fn scripted(script: Script) -> World {
        World::of(Guest::new(3600, module(Flaws::default()), 1, Some(script))).await
    }

    /// Another worker on this one's machine, with keys of its own and a keyset as `change` leaves it.
    pub async fn beside(&self, change: impl FnOnce(&mut Keyset)) -> World {
        let mut guest = Guest::new(3600, Arc::clone(&self.guest.module), 11, None);
        change(&mut guest.keyset);
        World::of(guest).await
    }

    async fn of(guest: Guest) -> World {
        let directory = tempfile::tempdir().unwrap();
        let guest = Arc::new(guest);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(routes::serve(listener, Arc::clone(&guest)));
        let world = World {
            directory,
            guest,
            address,
            server,
        };
        world.write_files();
        world
    }

    /// The same guest behind a fresh proxy, for a client that comes back.
    pub async fn restart(&mut self) {
        self.server.abort();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.address = format!("http://{}", listener.local_addr().unwrap());
        self.server = tokio::spawn(routes::serve(listener, Arc::clone(&self.guest)));
    }

    /// Another guest with new keys behind the same address, as after a reboot.
    pub async fn reboot_guest(&mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
        self.guest = Arc::new(Guest::new(3600, Arc::clone(&self.guest.module), 11, None));
        let address = self.address.strip_prefix("http://").unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        self.server = tokio::spawn(routes::serve(listener, Arc::clone(&self.guest)));
    }

    /// Another machine, whose maker has another root, behind the same address.
    pub async fn replace_machine(&mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
        self.guest = Arc::new(Guest::new(3600, module(Flaws::default()), 1, None));
        let root = self.directory.path().join("root.der");
        std::fs::write(root, self.guest.module.root_der()).unwrap();
        let address = self.address.strip_prefix("http://").unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        self.server = tokio::spawn(routes::serve(listener, Arc::clone(&self.guest)));
    }

    pub fn set(&self, fault: Fault) {
        *self.guest.fault.lock().unwrap() = fault;
    }

    pub fn config(&self) -> Config {
        Config::parse(&self.config_text(), self.directory.path()).unwrap()
    }

    /// A configuration file for this world's directory.
    pub fn config_text(&self) -> String {
        let offers = &self.guest.keyset.models;
        let models: Vec<Value> = offers
            .iter()
            .map(|m| {
                let dir = if m.id == FORMS { "forms" } else { "model" };
                json!({"id": m.id, "root": m.root.to_string(), "dir": dir})
            })
            .collect();
        // JSON is YAML, too.
        let config = json!({
            "proxy": self.address, "chain": {"toncenter": self.address, "id": 20241}, "payer_key_file": "payer.key",
            "channel": self.guest.terms().address().to_string(), "manifest": "manifest.json", "profile": "sim",
            "models": models, "state": "state.sqlite", "trust": "trust.sqlite", "cost_max_nano": "1000000", "deadline_ms": 5000,
            "insecure_test_root": "root.der",
        });
        config.to_string()
    }

    pub fn client(&self) -> Result<Client, ClientError> {
        self.client_with(|_| ())
    }

    /// One whose configuration says something besides.
    pub fn client_with(&self, change: impl FnOnce(&mut Config)) -> Result<Client, ClientError> {
        let mut config = self.config();
        change(&mut config);
        Client::open(config, true)
    }

    fn write_files(&self) {
        let put = |name: &str, bytes: &[u8]| {
            std::fs::write(self.directory.path().join(name), bytes).unwrap()
        };
        std::fs::create_dir(self.directory.path().join("model")).unwrap();
        put("payer.key", hex::encode([7; 32]).as_bytes());
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.directory.path().join("payer.key"), private).unwrap();
        put("root.der", self.guest.module.root_der());
        put("manifest.json", &manifest().to_json());
        put(
            "model/tokenizer.json",
            self.guest.words.tokenizer.as_bytes(),
        );
        put(
            "model/tokenizer_config.json",
            self.guest.words.template.as_bytes(),
        );
        std::fs::create_dir(self.directory.path().join("forms")).unwrap();
        put("forms/tokenizer.json", forms::tokenizer().as_bytes());
        put("forms/tokenizer_config.json", forms::TEMPLATE.as_bytes());
    }
}

fn manifest() -> Manifest {
    Manifest::process(Digest48::of(b"agent"), Digest48::of(b"config"))
}

fn module(flaws: Flaws) -> Arc<SimulatedModule> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let mut random = |out: &mut [u8]| getrandom::fill(out).unwrap();
    let mut module = SimulatedModule::with_flaws(now, &mut random, flaws).unwrap();
    for event in manifest().rtmr3_events() {
        module.extend(3, &event.digest).unwrap();
    }
    Arc::new(module)
}

impl Guest {
    fn new(
        lifetime_s: u32,
        module: Arc<SimulatedModule>,
        seed: u8,
        script: Option<Script>,
    ) -> Guest {
        let words = match &script {
            Some(_) => Words::any(),
            None => Words::few(),
        };
        let manifest = manifest();
        let key = |seed| SigningKey::from_bytes(&[seed; 32]);
        let (receipt_key, payee) = (key(seed), key(2));
        let sealing = SealingKey::generate(1, &mut UnwrapErr(SysRng));
        let keyset = words.keyset(lifetime_s, &sealing, &receipt_key, &payee);
        let terms = ChannelTerms {
            chain: ChainId::EMBEDDED,
            payer: Address {
                workchain: 0,
                hash: [4; 32],
            },
            payee: keyset.payee,
            payer_key: key(7).verifying_key().to_bytes(),
            payee_key: keyset.payee_key,
            close_delay_s: 3_600,
            claims_until: 1_900_000_000,
            salt: 0,
        };
        let events = manifest.rtmr3_events().iter();
        Guest {
            fault: Mutex::new(Fault::None),
            attestations: Mutex::default(),
            vouchers: Mutex::default(),
            voucher_came: Notify::new(),
            cancels: Mutex::default(),
            kept: Mutex::default(),
            events: events
                .map(|e| Event {
                    name: e.name.clone(),
                    digest: e.digest.0,
                })
                .collect(),
            terms: Mutex::new(terms),
            deposit: Mutex::new(100_000_000),
            two: Barrier::new(2),
            module,
            sealing,
            receipt_key,
            payee,
            keyset,
            words,
            script,
            sequence: Mutex::default(),
            begun: Instant::now(),
        }
    }

    pub fn terms(&self) -> ChannelTerms {
        self.terms.lock().unwrap().clone()
    }

    /// How many jobs were signed for.
    pub fn jobs(&self) -> u64 {
        self.sequence.lock().unwrap().0
    }

    fn bundle(&self, nonce: &[u8; 32]) -> Vec<u8> {
        *self.attestations.lock().unwrap() += 1;
        let keyset = self.epoch(self.number()).encode();
        let digest = KeysetDigest::of(&keyset);
        let bound = ReportData::bind(&digest.0, nonce, GpuBinding::None);
        let quote = self.module.quote(&bound.0);
        let evidence = Evidence::new(keyset, quote, self.events.clone(), None);
        let endorsement = Endorsement::sign(digest, &self.payee);
        let collateral = self.module.collateral_json().to_vec();
        Bundle::new(evidence.encode(), endorsement, collateral, None).encode()
    }

    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    /// Frames of an answer, and whether they stop in the middle.
    fn answer(&self, body: &[u8]) -> Vec<u8> {
        let (signed, sealed) = SignedEnvelope::decode_prefix(body).unwrap();
        let end = Frame::encode(FrameKind::End, b"");
        let refuse_with = |code, key| {
            let refusal = SignedRefusal::sign(Subject::Envelope(signed.digest()), code, key);
            [
                Frame::encode(FrameKind::Refused, &refusal.encode()),
                end.clone(),
            ]
            .concat()
        };
        let refuse = |code| refuse_with(code, &self.receipt_key);
        if self.fault() == Fault::RestartedOnce {
            *self.fault.lock().unwrap() = Fault::None;
            return refuse_with(RefusalCode::StaleKeyset, &SigningKey::from_bytes(&[99; 32]));
        }
        if self.fault() == Fault::Busy {
            return refuse(RefusalCode::Busy);
        }
        if !self.is_alive(signed.unverified().keyset) {
            return refuse(RefusalCode::StaleKeyset);
        }
        if self.fault() == Fault::StaleOnce {
            *self.fault.lock().unwrap() = Fault::None;
            return refuse(RefusalCode::StaleKeyset);
        }
        if signed
            .verify(OpenedJob::encapsulated_key(sealed).unwrap())
            .is_err()
        {
            return refuse(RefusalCode::EnvelopeSignature);
        }
        let opened = wire::open_job(
            &self.sealing,
            sealed,
            signed.digest(),
            &mut UnwrapErr(SysRng),
        )
        .unwrap();
        let mut sealer = opened.sealer;
        let envelope = signed.unverified();
        let asked = Request::decode(envelope.endpoint, &opened.request.body).unwrap();
        let mut writer = AnswerWriter::new(envelope.endpoint, signed.digest());
        let mut sealed = Vec::new();
        let mut seal = |records: Vec<RecordBytes>| {
            records
                .iter()
                .for_each(|record| sealed.extend(sealer.seal(record)));
        };
        if self.fault() == Fault::Failure {
            seal(writer.failure(JobFailure::Engine));
            sealed.extend(sealer.finish());
            return [Frame::data(&sealed), end].concat();
        }
        let (records, mut usage, finish) = self.work(&asked.ask, &mut writer);
        seal(records);
        if self.fault() == Fault::OverCount {
            usage.completion += 1;
        }
        let receipt = self.receipt(
            &signed,
            (usage, finish),
            &writer,
            &opened.commitments,
            &opened.request.body,
        );
        seal(writer.receipt(receipt.encode()));
        sealed.extend(sealer.finish());
        let mut charge = receipt.charge().encode();
        let fault = self.fault();
        use Fault::{Cut, CutAndKept, GivenUp, Keeps, UntilCancelled};
        if matches!(fault, CutAndKept | GivenUp | UntilCancelled | Keeps) {
            let receipt = opened.receipt_key.seal(receipt.encode()).unwrap();
            let kept = [
                Frame::encode(FrameKind::Receipt, &receipt),
                Frame::encode(FrameKind::Charge, &charge),
                end.clone(),
            ];
            let mut all = self.kept.lock().unwrap();
            all.insert(signed.digest().to_string(), kept.concat());
        }
        match fault {
            Fault::FlipAnswer => sealed[100] ^= 1,
            Fault::FlipCharge => charge[60] ^= 1,
            Fault::OtherCharge => {
                let other = Charge {
                    cost: Nano(1),
                    ..receipt.charge().charge
                };
                charge = other.sign(&self.receipt_key).encode();
            }
            Cut | CutAndKept | GivenUp | UntilCancelled => {
                sealed.truncate(sealed.len() / 2);
                return Frame::data(&sealed);
            }
            _ => {}
        }
        [
            Frame::data(&sealed),
            Frame::encode(FrameKind::Charge, &charge),
            end,
        ]
        .concat()
    }

    fn work(&self, ask: &Ask, writer: &mut AnswerWriter) -> (Vec<RecordBytes>, Usage, Finish) {
        let usage = |prompt: usize, completion| Usage {
            prompt: prompt as u32,
            cached: 0,
            completion,
        };
        match ask {
            Ask::Embeddings(inputs) => {
                let mut records = vec![writer.empty()];
                let made = match self.fault() {
                    Fault::OutOfTime | Fault::Missing => 1,
                    _ => inputs.len(),
                };
                let vectors = [[0.6, 0.8], [1.0, 0.0]].concat().repeat(made);
                records.extend(writer.vectors(&vectors[..2 * made], 2, self.finish()));
                let prompt = inputs[..made].iter().map(Vec::len).sum();
                (records, usage(prompt, 0), self.finish())
            }
            Ask::Rerank(pairs) => {
                let made = match self.fault() {
                    Fault::OutOfTime | Fault::Missing => 1,
                    _ => pairs.len(),
                };
                let points = |pair: &wire::Pair| pair.tokens.len() as f32 - pair.first as f32;
                let scores: Vec<f32> = pairs[..made].iter().map(points).collect();
                let records = writer.vectors(&scores, 1, self.finish());
                let prompt = pairs[..made].iter().map(|pair| pair.tokens.len()).sum();
                (records, usage(prompt, 0), self.finish())
            }
            Ask::Chat(chat) if let Some(script) = &self.script => {
                self.scripted(script, chat, writer)
            }
            Ask::Chat(chat) if !chat.grammar.is_empty() && self.fault() != Fault::Strays => {
                let seed = chat.seed.unwrap_or(self.sequence.lock().unwrap().0);
                let (ids, finish) = forms::walk(&chat.grammar, seed, chat.tokens_max as usize);
                let (last, others) = ids.split_last().unwrap();
                let mut records = vec![writer.empty()];
                records.extend(others.iter().map(|id| writer.ids(&[*id], None)));
                records.push(writer.ids(&[*last], Some(finish)));
                (records, usage(chat.prompt.len(), ids.len() as u32), finish)
            }
            Ask::Chat(chat) => {
                let second = match self.fault() {
                    Fault::ForeignToken => 77,
                    Fault::ControlTokenInside => 0,
                    Fault::OtherToken => 4,
                    _ => 2,
                };
                let finish = match self.fault() {
                    Fault::OtherFinish => Finish::Length,
                    _ => Finish::Stop,
                };
                let more = match self.fault() {
                    Fault::Long => LONG - 3,
                    _ => 0,
                };
                let mut records = vec![
                    writer.empty(),
                    writer.ids(&[1], None),
                    writer.empty(),
                    writer.ids(&[second], None),
                ];
                records.extend((0..more).map(|_| writer.ids(&[2], None)));
                records.push(writer.ids(&[0], Some(finish)));
                (
                    records,
                    usage(chat.prompt.len(), 3 + more as u32),
                    self.finish(),
                )
            }
        }
    }

    fn finish(&self) -> Finish {
        match self.fault() {
            Fault::OutOfTime => Finish::Deadline,
            _ => Finish::Stop,
        }
    }

    fn receipt(
        &self,
        signed: &SignedEnvelope,
        (usage, finish): (Usage, Finish),
        writer: &AnswerWriter,
        commitments: &wire::Commitments,
        body: &[u8],
    ) -> Receipt {
        let envelope = signed.unverified();
        let offer = self.keyset.model(&envelope.model).unwrap();
        let cost = offer.prices.cost(&usage, self.keyset.price_step).unwrap();
        let mut last = self.sequence.lock().unwrap();
        let (mut sequence, mut previous) = *last;
        match self.fault() {
            Fault::Repeats => sequence -= 1,
            Fault::Forgets => previous = CoreDigest([7; 32]),
            _ => {}
        }
        let core = ReceiptCore {
            version: 1,
            sequence,
            previous,
            keyset: envelope.keyset,
            registers: self.keyset.registers,
            gpus: Vec::new(),
            engine: self.script.as_ref().map_or("test", Script::engine).into(),
            job: if self.fault() == Fault::OtherReceipt {
                [0; 16]
            } else {
                envelope.job
            },
            parent: None,
            envelope: signed.digest(),
            endpoint: envelope.endpoint,
            model: envelope.model.clone(),
            model_root: offer.root,
            tokenizer: offer.tokenizer,
            quantisation: offer.quantisation.clone(),
            request: commitments.request(body),
            response: commitments.response(writer.chain()),
            events: writer.chained(),
            frames: writer.chain(),
            finish,
            usage,
            prices: offer.prices,
            cost,
            cost_max: envelope.cost_max,
            chain: envelope.terms.chain,
            channel: envelope.channel(),
            voucher_high: Nano(0),
            timings: Timings {
                queue_ms: 0,
                first_token_ms: 1,
                total_ms: 2,
            },
            claimed_at_unix_s: 0,
            class: envelope.class.clone(),
            seed: None,
            determinism: offer.determinism.clone(),
        };
        let charged = match self.fault() {
            Fault::AboveCap => Nano(envelope.cap().cap.most.0 + 1),
            _ => cost,
        };
        let charge = Charge {
            cap: envelope.cap(),
            stake: self.keyset.stake,
            receipt_hash: [0; 32],
            seq: sequence,
            cost: charged,
            cumulative: cost,
        };
        *last = (sequence + 1, wire::core_digest(&core));
        Receipt::sign(core, charge, &self.receipt_key)
    }

    fn channel_stack(&self) -> Value {
        let t = &self.terms();
        let num = |n: String| json!(["num", n]);
        let small = |n: u64| num(format!("{n:#x}"));
        let big = |b: &[u8; 32]| num(format!("0x{}", hex::encode(b)));
        json!([
            small(0),
            small(20241),
            small(*self.deposit.lock().unwrap()),
            small(0),
            small(0),
            small(t.claims_until.into()),
            small(t.close_delay_s.into()),
            small(0),
            big(&t.payer.hash),
            small(0),
            big(&t.payee.hash),
            big(&t.payer_key),
            small(0),
            small(0),
            big(&t.payee_key),
            small(t.salt)
        ])
    }
}
