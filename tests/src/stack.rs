//! The whole product on one machine: an embedded ledger in this process; simulator and proxy as their own, and the guest as one
//! or as a virtual machine. Of the client the configuration is written; what starts it is elsewhere.

use crate::Programs;
use crate::Tamper;
use crate::gpu::StackGpu;
use crate::guest::Guest;
use crate::hostile::{self, GuestDoor};
use crate::image::Image;
use crate::machine::{self, Machine};
use crate::recorder;
use anyhow::{Context, bail, ensure};
use attest::Manifest;
use client::model_root;
use ledger::Ledger;
use registers::{Digest48, VerityRoot};
use serde_json::{Value, json};
use settlement::{Address, ChainId, Nano, Wallet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The embeddings model.
pub const EMBEDDER: &str = "all-MiniLM-L6-v2";
/// The chat model.
pub const CHAT: &str = "SmolLM2-135M-Instruct";

const PROFILE: &str = "sim";
const READY_TIME: Duration = Duration::from_secs(120);
const TERMINATE_TIME: Duration = Duration::from_secs(10);
/// What the developer's wallet is given, simulated like everything on this ledger.
const DEVELOPER_FUNDS: Nano = Nano(20_000_000_000);
/// What the provider's wallet holds for fees.
const PROVIDER_FUNDS: Nano = Nano(1_000_000_000);

/// What a stack is made with.
#[derive(Debug, Clone, Default)]
pub struct StackOptions {
    /// Changes bytes between client and proxy.
    pub tamper: Option<Tamper>,
    /// The log filter of the proxy; it logs to a file in the stack's directory.
    pub proxy_log: Option<String>,
    /// More lines of the proxy's configuration.
    pub proxy_config: String,
    /// Everything between proxy and guest is also written to `recorded.bin` in the stack's directory.
    pub record: bool,
    /// The maximum unpaid cost of a channel, if not the usual one.
    pub exposure_max: Option<Nano>,
    /// The guest is a virtual machine with this image; otherwise a process.
    pub image: Option<Image>,
    /// The chat model is on its second disk: a directory that `image-builder model pack` wrote.
    pub volume: Option<PathBuf>,
    /// The guest, a process, attests a GPU that a test plays.
    pub gpu: Option<StackGpu>,
    /// The guest has the embeddings model alone, and starts faster.
    pub without_chat: bool,
    /// Fields of the guest's measured configuration, by JSON pointer, in place of the usual ones.
    pub measured: Vec<(&'static str, Value)>,
}

/// Everything running, in a directory of its own that goes with it.
pub struct Stack {
    /// The ledger, in this process.
    pub ledger: Ledger,
    /// Its toncenter-shaped address.
    pub ledger_url: String,
    /// The proxy's address.
    pub proxy: SocketAddr,
    /// The provider's wallet.
    pub payee: Provider,
    /// What the guest should measure to.
    pub manifest: Manifest,
    programs: Programs,
    options: StackOptions,
    // Dropped in this order: proxies before what they talk to.
    proxy_child: Option<Child>,
    guest: Guest,
    /// The directory of keys, configurations, sockets and logs.
    pub dir: TempDir,
}

/// A program that ends when this value does.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    softly: bool,
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.softly {
            self.terminate();
        }
        self.kill();
    }
}

impl Child {
    /// Starts a program and waits for the line of JSON by which it says that it is ready.
    pub(crate) fn start(
        name: &'static str,
        command: Command,
        log: &Path,
    ) -> anyhow::Result<(Child, Value)> {
        Child::start_within(name, command, log, READY_TIME)
    }

    /// The same with its own patience.
    pub(crate) fn start_within(
        name: &'static str,
        mut command: Command,
        log: &Path,
        patience: Duration,
    ) -> anyhow::Result<(Child, Value)> {
        let log_file =
            fs::File::create(log).with_context(|| format!("making {}", log.display()))?;
        command.stdout(Stdio::piped()).stderr(log_file);
        let mut process = command
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let stdout = process
            .stdout
            .take()
            .context("its standard output is piped")?;
        let child = Child {
            process,
            softly: false,
        };
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let mut stdout = BufReader::new(stdout);
            let read = stdout.read_line(&mut line).map(|_| line);
            let _ = sender.send(read);
            // Whatever it prints later must not fill the pipe.
            let _ = std::io::copy(&mut stdout, &mut std::io::sink());
        });
        let line = receiver
            .recv_timeout(patience)
            .with_context(|| format!("{name} did not become ready"))??;
        // An error is an object, too.
        match serde_json::from_str::<Value>(&line) {
            Ok(ready) if ready["error"].is_null() => Ok((child, ready)),
            _ => bail!(
                "{name} did not start:\n{}",
                fs::read_to_string(log).unwrap_or_default()
            ),
        }
    }

    /// Starts a program that says nothing.
    pub(crate) fn start_silent(mut command: Command) -> std::io::Result<Child> {
        let process = command.spawn()?;
        Ok(Child {
            process,
            softly: false,
        })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// From now on it is asked to end (SIGTERM) before it is killed, so that it can end what it started.
    pub(crate) fn ended_softly(mut self) -> Child {
        self.softly = true;
        self
    }

    /// Asks it to end and waits a few seconds for that.
    fn terminate(&mut self) {
        let id = i32::try_from(self.id()).unwrap_or_default();
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::SIGTERM);
        let until = Instant::now() + TERMINATE_TIME;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it at once (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Stack {
    /// Starts everything, with programs that were built. `models` holds a directory for each of the two models.
    pub async fn start(
        programs: Programs,
        models: &Path,
        options: StackOptions,
    ) -> anyhow::Result<Stack> {
        let dir = TempDir::with_prefix("chrysalis-").context("making a directory")?;
        let at = |name: &str| dir.path().join(name);
        place_models(models, &at("models"))?;

        let ledger = Ledger::open(&at("ledger.sqlite")).context("opening the ledger")?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .context("binding the ledger")?;
        let ledger_url = format!("http://{}", listener.local_addr()?);
        tokio::spawn(ledger::serve(ledger.clone(), listener));

        let developer = new_wallet(&at("developer.key"))?;
        let payee = new_provider(&programs, &at("keys"))?;
        new_seed(&at("payer.key"))?;
        ledger.faucet(&developer.address(), DEVELOPER_FUNDS)?;
        ledger.faucet(&payee.address, PROVIDER_FUNDS)?;

        let config = measured_config(&at("models"), &payee, &options)?;
        fs::write(at("guest.json"), &config)?;
        let manifest = match &options.image {
            Some(image) => machine::manifest(image, &config),
            None => Manifest::process(
                Digest48::of(&fs::read(programs.path("guest-agent-sim"))?),
                Digest48::of(&config),
            ),
        };
        let manifest = match &options.gpu {
            Some(gpu) => gpu.measured(&manifest),
            None => manifest,
        };
        fs::write(at("manifest.json"), manifest.to_json())?;
        // A boot takes a while, and whoever waits for it may also wait for Ctrl-C.
        let (for_guest, directory, chosen) =
            (programs.clone(), dir.path().to_owned(), options.clone());
        let guest =
            tokio::task::spawn_blocking(move || Guest::start(&for_guest, &directory, &chosen));
        let guest = guest.await.context("starting the guest")??;

        let mut stack = Stack {
            ledger,
            ledger_url,
            proxy: SocketAddr::from(([127, 0, 0, 1], 0)),
            payee,
            manifest,
            programs,
            options,
            proxy_child: None,
            guest,
            dir,
        };
        stack.start_between_proxy_and_guest().await?;
        stack.start_proxy()?;
        stack.write_client_config().await?;
        Ok(stack)
    }

    async fn start_between_proxy_and_guest(&self) -> anyhow::Result<()> {
        let guest = match self.machine() {
            Some(machine) => GuestDoor::Machine(machine.run.join("vsock.sock")),
            None => GuestDoor::Process(self.path("guest.sock")),
        };
        if self.options.tamper == Some(Tamper::Envelope) {
            hostile::start_before_guest(&self.path("between.sock"), guest)?;
        } else if self.options.record {
            recorder::start(&self.path("between.sock"), guest, self.path("recorded.bin")).await?;
        }
        Ok(())
    }

    /// Starts the proxy, on the port it had before if it ran before.
    pub fn start_proxy(&mut self) -> anyhow::Result<()> {
        let exposure = self.options.exposure_max.unwrap_or(EXPOSURE_MAX);
        let is_between = self.options.record || self.options.tamper == Some(Tamper::Envelope);
        let guest = match &self.guest {
            _ if is_between => "unix:between.sock".into(),
            Guest::Machine(machine) => machine.guest(),
            Guest::Process { .. } => "unix:guest.sock".into(),
        };
        let collateral = match &self.options.gpu {
            None => "collateral: sim/collateral.json",
            Some(gpu) => {
                gpu.write_sources(self.dir.path())?;
                "collateral_sources: sources.yaml"
            }
        };
        let text = format!(
            "listen: {}\nguest: \"{guest}\"\nchain: {{toncenter: \"{}\", id: {}}}\npayee_key: {4}\n\
             wallet_key: file:keys/wallet.key\nendorsing_key: file:keys/endorsing.key\ndelegation: keys/delegation\n\
             {collateral}\nstate: proxy.sqlite\n\
             exposure_start_nano: {3}\nexposure_max_nano: {3}\n{5}",
            self.proxy,
            self.ledger_url,
            ChainId::EMBEDDED.0,
            exposure.0,
            self.payee.key,
            self.options.proxy_config
        );
        fs::write(self.path("proxy.yaml"), text)?;
        let mut command = Command::new(self.programs.path("host-proxy"));
        command
            .args(["serve", "--json", "--config"])
            .arg(self.path("proxy.yaml"))
            .stdin(Stdio::null());
        if let Some(filter) = &self.options.proxy_log {
            command.env("RUST_LOG", filter);
        }
        let (child, ready) = Child::start("host-proxy", command, &self.path("proxy.log"))?;
        let listen = ready["listen"]
            .as_str()
            .context("host-proxy says where it listens")?;
        self.proxy = listen.parse().context("host-proxy says where it listens")?;
        self.proxy_child = Some(child);
        Ok(())
    }

    /// Ends the proxy as a crash would.
    pub fn kill_proxy(&mut self) {
        self.proxy_child = None;
    }

    /// Ends the guest as a crash would, when it is a process of this host.
    pub fn kill_guest(&mut self) {
        self.guest.kill();
    }

    /// Starts the same guest anew, when it is a process of this host.
    pub fn restart_guest(&mut self) -> anyhow::Result<()> {
        let (programs, dir) = (&self.programs, self.dir.path());
        self.guest.restart(programs, dir, &self.options)
    }

    /// The proxy's process id, while it runs.
    pub fn proxy_id(&self) -> Option<u32> {
        self.proxy_child.as_ref().map(Child::id)
    }

    /// The guest agent's process id, when it is a process of this host.
    pub fn guest_id(&self) -> Option<u32> {
        match &self.guest {
            Guest::Process { agent, .. } => Some(agent.id()),
            Guest::Machine(_) => None,
        }
    }

    /// The guest, when it is a machine.
    pub fn machine(&self) -> Option<&Machine> {
        match &self.guest {
            Guest::Machine(machine) => Some(machine),
            Guest::Process { .. } => None,
        }
    }

    /// A file of this stack.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program of this stack.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.path(name)
    }

    /// The client's configuration file.
    pub fn client_config(&self) -> PathBuf {
        self.path("client.yaml")
    }

    /// Settles a channel as the provider would, by command.
    pub fn settle(&self, channel: &Address) -> anyhow::Result<Value> {
        let mut command = Command::new(self.programs.path("host-proxy"));
        command
            .args(["payouts", "settle", "--json", "--config"])
            .arg(self.path("proxy.yaml"));
        command.arg("--channel").arg(channel.to_string());
        let output = command
            .stdin(Stdio::null())
            .output()
            .context("starting host-proxy payouts settle")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        serde_json::from_slice(&output.stdout)
            .context("reading what host-proxy payouts settle printed")
    }

    async fn write_client_config(&self) -> anyhow::Result<()> {
        let proxy = match self.options.tamper {
            Some(tamper) if tamper.is_before_proxy() => hostile::start(self.proxy, tamper).await?,
            _ => self.proxy,
        };
        let models = [EMBEDDER, CHAT].map(|id| {
            let (root, volume) = match &self.options.volume {
                Some(volume) if id == CHAT => {
                    let file = volume.join(image_builder::model::DESCRIPTION);
                    let named = format!(", volume: \"{}\"", file.display());
                    (described(volume)?.verity_hash.to_string(), named)
                }
                _ => {
                    let root = model_root(&self.path("models").join(id))?;
                    (root.to_string(), String::new())
                }
            };
            anyhow::Ok(format!(
                "  - {{id: \"{id}\", root: \"{root}\", dir: \"models/{id}\"{volume}}}\n"
            ))
        });
        let [embedder, chat] = models;
        // An emulated processor on a busy machine takes a minute for what a real one does in a tenth of a second.
        let text = format!(
            "listen: 127.0.0.1:10000\nproxy: http://{proxy}\nchain: {{toncenter: \"{}\", id: {}}}\npayer_key_file: payer.key\n\
             wallet_key_file: developer.key\nterms: {{payee: \"{}\", payee_key: \"{}\", close_delay_s: 3600, claims_until: {}, salt: 1}}\n\
             manifest: manifest.json\nprofile: {PROFILE}\nmodels:\n{}{}state: client.sqlite\ntrust: trust.sqlite\ncost_max_nano: 400000000\n\
             deadline_ms: 600000\nfirst_token_ms: 300000\ninsecure_test_root: sim/root.der\n",
            self.ledger_url,
            ChainId::EMBEDDED.0,
            self.payee.address,
            self.payee.key,
            self.ledger.now().saturating_add(30 * 86_400),
            embedder?,
            chat?,
        );
        fs::write(self.client_config(), text)?;
        Ok(())
    }
}

/// The maximum unpaid cost: enough for two jobs of the greatest length at once.
const EXPOSURE_MAX: Nano = Nano(1_000_000_000);

fn measured_config(
    models: &Path,
    payee: &Provider,
    options: &StackOptions,
) -> anyhow::Result<Vec<u8>> {
    let root = |id: &str| -> anyhow::Result<String> {
        let root = model_root(&models.join(id)).with_context(|| format!("reading model {id}"))?;
        Ok(root.to_string())
    };
    let address = payee.address.to_string();
    let volume = options.volume.as_deref().map(described).transpose()?;
    let chat_root = match &volume {
        Some(volume) => volume.verity_hash.to_string(),
        None => root(CHAT)?,
    };
    let mut config = json!({
        "version": 1,
        "profile": PROFILE,
        "chain": ChainId::EMBEDDED.0,
        "payee": address,
        "payee_key": payee.key,
        "stake": address,
        "lifetime_s": 3600,
        "jobs_max": 10_000,
        "price_step_nano": 16_000_000,
        "exposure_max_nano": options.exposure_max.unwrap_or(EXPOSURE_MAX).0,
        "interval_ms": 50,
        "models": [
            {"id": EMBEDDER, "endpoint": "embeddings", "root": root(EMBEDDER)?, "context_tokens": 256,
             "prompt_nano": 100_000_000_000u64, "completion_nano": 0},
            {"id": CHAT, "endpoint": "chat", "root": chat_root, "context_tokens": 256,
             "prompt_nano": 200_000_000_000u64, "completion_nano": 1_000_000_000_000u64},
        ],
    });
    if let Some(volume) = volume {
        config["models"][1]["volume"] =
            json!({"salt": volume.salt, "data_blocks": volume.data_blocks});
    }
    if let Some(gpu) = &options.gpu {
        config["gpu"] = json!(true);
        config["lifetime_s"] = json!(gpu.lifetime_s);
    }
    if options.without_chat
        && let Some(models) = config["models"].as_array_mut()
    {
        models.truncate(1);
    }
    for (pointer, value) in &options.measured {
        let field = config.pointer_mut(pointer);
        *field.with_context(|| format!("no field {pointer}"))? = value.clone();
    }
    Ok(serde_json::to_vec_pretty(&config)?)
}

/// What the description of a volume says that a guest has to be told.
fn described(volume: &Path) -> anyhow::Result<VerityRoot> {
    let text = fs::read(volume.join(image_builder::model::DESCRIPTION))?;
    Ok(image_builder::model::parse_description(&text)?.volume)
}

/// One directory per model, as the guest expects it.
fn place_models(models: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for id in [EMBEDDER, CHAT] {
        let from = models.join(id);
        let from = from
            .canonicalize()
            .with_context(|| format!("finding model {id} at {}", from.display()))?;
        std::os::unix::fs::symlink(from, to.join(id))?;
    }
    Ok(())
}

/// Who is paid.
pub struct Provider {
    /// Its wallet.
    pub address: Address,
    /// The payee's public key, in hex.
    pub key: String,
}

/// Makes the provider's keys as an operator does.
fn new_provider(programs: &Programs, out: &Path) -> anyhow::Result<Provider> {
    let mut keygen = Command::new(programs.path("host-proxy"));
    keygen.args(["keygen", "--json", "--out"]).arg(out);
    let output = keygen.stdin(Stdio::null()).output();
    let output = output.context("starting host-proxy keygen")?;
    let said: Value = serde_json::from_slice(&output.stdout).context("host-proxy keygen")?;
    let field = |name: &str| said[name].as_str().context("host-proxy keygen says it");
    Ok(Provider {
        address: field("address")?.parse()?,
        key: field("public_key")?.to_owned(),
    })
}

fn new_wallet(path: &Path) -> anyhow::Result<Wallet> {
    new_seed(path)?;
    read_wallet(path)
}

fn new_seed(path: &Path) -> anyhow::Result<()> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("asking for randomness")?;
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(hex::encode(seed).as_bytes())?;
    Ok(())
}

fn read_wallet(path: &Path) -> anyhow::Result<Wallet> {
    let mut seed = [0; 32];
    hex::decode_to_slice(fs::read_to_string(path)?.trim(), &mut seed)?;
    Ok(Wallet::from_seed(&seed, ChainId::EMBEDDED))
}

/// Seconds since `start`, to the millisecond.
pub(crate) fn seconds(start: Instant) -> f64 {
    (start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}
