//! What all stories share and none changes: a machine with its TDX module, a chain with one open channel, a model, keys and files.

use crate::dice::Dice;
use attest::Manifest;
use ed25519_dalek::SigningKey;
use guest_agent::platform::{Platform, PlatformError};
use host_proxy::{BundleCollateral, Config as ProxyConfig, Credit, GuestAddress, GuestFiles};
use host_proxy::{NodeUrl, SecretSource, ServiceConfig, StatePlace};
use ledger::Ledger;
use rand_core::Rng;
use registers::{Digest48, Registers, ReportData};
use serde_json::json;
use settlement::{Address, ChainId, ChannelTerms, Nano, Wallet};
use simulator::SimulatedModule;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use wire::{Delegation, Event};

/// The model.
pub const MODEL: &str = "random-model";
/// What the channel holds.
pub const DEPOSIT: Nano = Nano(1_000_000_000);
/// What a guest lends a channel: W.
pub const WINDOW: u64 = 700_000;
/// The most that a job may cost.
pub const COST_MAX: u64 = 300_000;
/// How long a client believes a keyset, by its own clock.
pub const LIFETIME_S: u32 = 60;
/// Between two records.
pub const INTERVAL_MS: u32 = 10;

const AGENT: Digest48 = Digest48([7; 48]);
/// No message is void before this.
const FAR: u32 = 4_000_000_000;

/// All of it.
pub struct Site {
    /// Files that are only read.
    pub directory: TempDir,
    /// The chain.
    pub ledger: Ledger,
    /// The channel's terms.
    pub terms: ChannelTerms,
    /// The guest's measured configuration.
    pub config: Vec<u8>,
    /// What the guest measures to.
    pub manifest: Manifest,
    /// Where the model lies.
    pub models: PathBuf,
    /// The payer's key.
    pub payer: SigningKey,
    /// The key with which the host endorses keysets, and the payee's word for it.
    pub endorsing: SigningKey,
    /// See there.
    pub delegation: Delegation,
    module: Mutex<SimulatedModule>,
}

/// The one of this process.
pub fn site() -> &'static Site {
    static SITE: LazyLock<Site> = LazyLock::new(Site::build);
    &SITE
}

/// The wall clock, which all certificates and blocks go by.
pub fn now_unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

/// A directory in memory, where there is one: no story waits for a disk.
pub fn directory() -> TempDir {
    let made = match Path::new("/dev/shm").is_dir() {
        true => tempfile::tempdir_in("/dev/shm"),
        false => tempfile::tempdir(),
    };
    made.expect("a directory")
}

impl Site {
    fn build() -> Site {
        let directory = directory();
        let models = directory.path().join("models");
        random_model::write(&models.join(MODEL)).expect("the model's files");
        let (payee_key, endorsing) = (key(101), key(201));
        let wallet = Wallet::from_seed(&[1; 32], ChainId::EMBEDDED);
        let endorser = endorsing.verifying_key().to_bytes();
        let delegation = Delegation::sign(endorser, FAR, ChainId::EMBEDDED, &payee_key);
        let payee = wallet.address();
        let config = measured(&models, payee, &payee_key);
        let manifest = Manifest::process(AGENT, Digest48::of(&config));
        // Sizes of certificates depend on it.
        let mut dice = Dice::new(0, 3);
        let mut random = |bytes: &mut [u8]| dice.rng().fill_bytes(bytes);
        let module = SimulatedModule::new(now_unix_s(), &mut random).expect("a module");
        let payer = key(3);
        let terms = ChannelTerms {
            chain: ChainId::EMBEDDED,
            payer: Wallet::from_seed(&[2; 32], ChainId::EMBEDDED).address(),
            payee,
            payer_key: payer.verifying_key().to_bytes(),
            payee_key: payee_key.verifying_key().to_bytes(),
            close_delay_s: 3_600,
            claims_until: u32::try_from(now_unix_s() + 365 * 86_400).expect("before 2106"),
            salt: 0,
        };
        let site = Site {
            ledger: chain(&terms),
            terms,
            config,
            manifest,
            models,
            payer,
            endorsing,
            delegation,
            module: Mutex::new(module),
            directory,
        };
        site.write_files(&payee_key);
        site
    }

    fn write_files(&self, payee_key: &SigningKey) {
        let module = self.module.lock().unwrap_or_else(PoisonError::into_inner);
        let put = |name: &str, bytes: &[u8]| {
            std::fs::write(self.path(name), bytes).expect("written");
        };
        put("payer.key", hex::encode(self.payer.to_bytes()).as_bytes());
        put("wallet.key", hex::encode([1; 32]).as_bytes());
        put(
            "endorsing.key",
            hex::encode(self.endorsing.to_bytes()).as_bytes(),
        );
        put(
            "delegation",
            hex::encode(self.delegation.encode()).as_bytes(),
        );
        put("collateral.json", module.collateral_json());
        put("root.der", module.root_der());
        put("manifest.json", &self.manifest.to_json());
        assert_ne!(payee_key.to_bytes(), self.endorsing.to_bytes());
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(self.path("payer.key"), private).expect("private");
    }

    /// One of the files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A quote of the guest, or, with other registers, of another one on the same machine.
    pub fn quote(&self, registers: &Registers, report_data: &[u8; 64]) -> Vec<u8> {
        let mut module = self.module.lock().unwrap_or_else(PoisonError::into_inner);
        module.boot(*registers);
        module.quote(report_data)
    }

    /// The collateral of the machine.
    pub fn collateral(&self) -> Vec<u8> {
        let module = self.module.lock().unwrap_or_else(PoisonError::into_inner);
        module.collateral_json().to_vec()
    }

    /// What the guest's log says, as evidence shows it.
    pub fn events(manifest: &Manifest) -> Vec<Event> {
        let events = manifest.rtmr3_events().iter();
        let event = |event: &registers::RuntimeEvent| Event {
            name: event.name.clone(),
            digest: event.digest.0,
        };
        events.map(event).collect()
    }

    /// The digest of the agent, as the manifest has it.
    pub fn agent(&self) -> Digest48 {
        AGENT
    }

    /// A proxy's configuration with its state in `directory`. `checks` says whether it verifies its guest.
    pub fn proxy_config(&self, directory: &Path, guest: GuestAddress, checks: bool) -> ProxyConfig {
        let file = |name: &str| SecretSource::File(self.path(name));
        // More than the guest lends, so that the guest's word is the one that counts.
        let credit = Nano(3 * WINDOW);
        let files = || GuestFiles {
            manifest: self.path("manifest.json"),
            insecure_test_root: Some(self.path("root.der")),
        };
        ProxyConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            guests: vec![guest],
            toncenter: NodeUrl::parse("http://node:80").expect("a URL"),
            calls_per_s: None,
            second: None,
            chain: ChainId::EMBEDDED,
            payee_key: self.terms.payee_key,
            stake: None,
            wallet_key: file("wallet.key"),
            endorsing_key: file("endorsing.key"),
            delegation: self.path("delegation"),
            passphrase: None,
            collateral: BundleCollateral::File(self.path("collateral.json")),
            guest_files: checks.then(files),
            state: StatePlace::File(directory.join("proxy.sqlite")),
            credit: Credit::new(Some(credit), credit).expect("within bounds"),
            settle: None,
            service: ServiceConfig::default(),
        }
    }

    /// A client's configuration with its state in `directory`, demanding a profile.
    pub fn client_config(&self, directory: &Path, profile: &str) -> client::Config {
        let root = engine::weights::read(&self.models.join(MODEL)).expect("the model");
        let root = root.root().expect("its root");
        let own = |name: &str| directory.join(name).display().to_string();
        let shared = |name: &str| self.path(name).display().to_string();
        // JSON is YAML, too.
        let config = json!({
            "proxy": "http://proxy:80", "chain": {"toncenter": "http://node:80", "id": ChainId::EMBEDDED.0},
            "payer_key_file": shared("payer.key"), "channel": self.terms.address().to_string(),
            "manifest": shared("manifest.json"), "profile": profile,
            "models": [{"id": MODEL, "root": root.to_string(), "dir": shared("models/random-model")}],
            "state": own("client.sqlite"), "trust": own("trust.sqlite"), "cost_max_nano": COST_MAX.to_string(),
            "deadline_ms": 5_000, "first_token_ms": 3_000, "insecure_test_root": shared("root.der"),
        });
        client::Config::parse(&config.to_string(), directory).expect("a configuration")
    }
}

/// The guest's platform: the machine's module with the registers that the manifest demands, so that a reboot is the same machine.
pub struct Machine(pub Registers);

impl Platform for Machine {
    const QUOTES_BLOCK: bool = false;

    fn extend(&mut self, digest: &Digest48) -> Result<(), PlatformError> {
        let register = &mut self.0.rtmr[3];
        *register = register.extended_by(digest);
        Ok(())
    }

    fn registers(&mut self) -> Result<Registers, PlatformError> {
        Ok(self.0)
    }

    fn quote(&mut self, report_data: &ReportData) -> Result<Vec<u8>, PlatformError> {
        Ok(site().quote(&self.0, &report_data.0))
    }
}

impl Machine {
    /// Before anything is measured.
    pub fn new() -> Machine {
        let zero = Digest48::ZERO;
        Machine(Registers {
            mrtd: zero,
            rtmr: [zero; 4],
        })
    }
}

impl Default for Machine {
    fn default() -> Self {
        Machine::new()
    }
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn measured(models: &Path, payee: Address, payee_key: &SigningKey) -> Vec<u8> {
    let root = engine::weights::read(&models.join(MODEL)).expect("the model");
    let root = root.root().expect("its root");
    let config = json!({
        "version": 1, "profile": "sim", "chain": ChainId::EMBEDDED.0, "payee": payee.to_string(),
        "payee_key": hex::encode(payee_key.verifying_key().to_bytes()), "stake": payee.to_string(),
        "lifetime_s": LIFETIME_S, "jobs_max": 1_000, "price_step_nano": 32_000, "exposure_max_nano": WINDOW,
        "interval_ms": INTERVAL_MS, "threads": 1,
        "models": [{"id": MODEL, "endpoint": "chat", "root": root.to_string(), "context_tokens": 256,
            "prompt_nano": 1_000_000_000, "completion_nano": 2_000_000_000}],
    });
    serde_json::to_vec(&config).expect("JSON")
}

/// A chain on which the channel is open.
fn chain(terms: &ChannelTerms) -> Ledger {
    let ledger = Ledger::in_memory().expect("a ledger");
    let payer = Wallet::from_seed(&[2; 32], ChainId::EMBEDDED);
    for wallet in [payer.address(), terms.payee] {
        ledger.faucet(&wallet, Nano(5_000_000_000)).expect("money");
    }
    let deploy = terms.deploy(DEPOSIT, 1).expect("a deposit there can be");
    let boc = payer.transfer(0, FAR, &[deploy]).expect("one transfer");
    ledger.send_external(&boc).expect("accepted");
    ledger
}

const METHODS: [&str; 3] = [
    "/api/v2/runGetMethod",
    "/api/v2/getAddressInformation",
    "/api/v2/sendBoc",
];

/// The node, on one connection: HTTP by hyper, answers by the ledger.
pub async fn serve_node(stream: tokio::io::DuplexStream) {
    use http_body_util::{BodyExt, Full};
    use hyper::body::{Bytes, Incoming};
    use hyper::{Request, Response};
    let service = hyper::service::service_fn(async |request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let asked = settlement::toncenter::Request {
            method: "POST",
            path: { METHODS.into_iter() }
                .find(|path| *path == parts.uri.path())
                .unwrap_or_default(),
            body: body.collect().await?.to_bytes().to_vec(),
        };
        let (status, body) = site().ledger.answer(&asked);
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
        Ok::<_, hyper::Error>(response)
    });
    let stream = hyper_util::rt::TokioIo::new(stream);
    // Whoever asked may have left.
    let _ = { hyper::server::conn::http1::Builder::new() }
        .serve_connection(stream, service)
        .await;
}

/// Answers a dial with a connection to the node.
pub fn dial_node() -> std::io::Result<tokio::io::DuplexStream> {
    let (ours, theirs) = tokio::io::duplex(crate::links::BUFFER_BYTES);
    tokio::spawn(serve_node(theirs));
    Ok(ours)
}

/// [`dial_node`] for a client.
pub fn client_node() -> client::Transport {
    client::Transport::dialled("node:80", client::transport::Dial(Arc::new(dial_node)))
}
