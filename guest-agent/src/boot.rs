//! The boot of an agent, as types that consume each other:
//!
//! ```text
//!  Booted ── measure ──► Measured ── attest ──► Attested ── serve ──► Serving
//!  platform and          RTMR3 holds agent,     keys exist, the       jobs
//!  configuration         configuration and      keyset names the
//!                        GPU; models are        registers and the
//!                        loaded                 GPU
//! ```
//!
//! A key cannot exist before the measurement, because only [`Measured`] makes keys; nothing is served before the keyset
//! exists, because only [`Attested`] serves. There is no way back and no state that is half of two.

use crate::Serving;
use crate::devices::Kernel;
use crate::epochs::Epoch;
use crate::gpu::{Gate, Gpu, GpuError};
use crate::log::Stages;
use crate::models::{Loaded, Means, ModelError, Models};
use crate::platform::{Platform, PlatformError};
use ed25519_dalek::SigningKey;
use engine::Forward;
use engine::scheduler::{Driver, Limits, Tokens};
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use gpu::GpuRoots;
use rand_core::CryptoRng;
use registers::{Digest48, Registers, RuntimeEvent};
use settlement::Nano;
use sha2::{Digest as _, Sha384};
use std::path::Path;
use wire::{
    ConfigError, Event, GpuReport, KemKey, Keyset, MeasuredConfig, ModelOffer, Padding, Random,
    SealingKey, registers_digest,
};
use zeroize::{Zeroize, Zeroizing};

/// A platform and a configuration that parses; nothing is measured yet.
pub struct Booted<P> {
    platform: P,
    config: MeasuredConfig,
    config_digest: Digest48,
    gate: Option<Gate>,
    stages: Stages,
}

/// Everything that is to be measured is in RTMR3, and the models it names are loaded.
pub struct Measured<P> {
    platform: P,
    config: MeasuredConfig,
    events: Vec<RuntimeEvent>,
    models: Loaded,
    gpu: Option<Gpu>,
    stages: Stages,
}

/// Keys exist, and the keyset that a quote will vouch for first.
pub struct Attested<P> {
    pub(crate) platform: P,
    pub(crate) events: Vec<Event>,
    pub(crate) models: Models,
    pub(crate) registers: Registers,
    pub(crate) epoch: Epoch,
    pub(crate) gpu: Option<Gpu>,
    pub(crate) stages: Stages,
}

/// The secrets of one epoch. No `Debug`, no encoding; erased when dropped.
pub(crate) struct Keys {
    // Boxed, so that moving them leaves no copy behind.
    pub(crate) sealing: Box<SealingKey>,
    pub(crate) receipt: Box<SigningKey>,
}

impl Keys {
    /// Draws them.
    pub(crate) fn make(rng: &mut impl CryptoRng) -> Self {
        let keys = Keys::draw(rng);
        clear_stack();
        keys
    }

    #[inline(never)]
    fn draw(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut seed[..]);
        Keys {
            sealing: Box::new(SealingKey::generate(1, rng)),
            receipt: Box::new(SigningKey::from_bytes(&seed)),
        }
    }
}

/// Overwrites what earlier calls left on this thread's stack: a key is on its way to the heap there, and moves leave copies.
#[inline(never)]
pub(crate) fn clear_stack() {
    let mut left = [0u64; 32 * 1024];
    left.zeroize();
    std::hint::black_box(&left);
}

/// Why an agent did not come up. The operator or the machine is at fault; nothing was served.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum BootError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("reading the running program: {0}")]
    Program(std::io::Error),
    #[error("starting a thread: {0}")]
    Thread(#[from] std::io::Error),
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error(transparent)]
    Models(#[from] ModelError),
    #[error(transparent)]
    Gpu(#[from] GpuError),
    #[error("the configuration's profile is `{got}`; this agent serves {want}")]
    Profile { got: String, want: &'static str },
    #[error("a simulated platform may not be paid on a live TON chain")]
    SimulatedOnLiveChain,
}

impl<P: Platform> Booted<P> {
    /// Parses the configuration. `simulated` says which binary this is; it must agree with the measured profile.
    pub fn new(platform: P, config: &[u8], simulated: bool) -> Result<Self, BootError> {
        let config_digest = Digest48(Sha384::digest(config).into());
        let config = MeasuredConfig::parse(config)?;
        if simulated != (config.profile == "sim") {
            let want = if simulated { "`sim`" } else { "real hardware" };
            return Err(BootError::Profile {
                got: config.profile,
                want,
            });
        }
        if simulated && config.chain().is_live() {
            return Err(BootError::SimulatedOnLiveChain);
        }
        Ok(Booted {
            platform,
            config,
            config_digest,
            gate: None,
            stages: Stages::begin("booted"),
        })
    }

    /// The program that asks a GPU for evidence and computes on it, and the roots that the evidence has to lead to. It is started only
    /// if the configuration demands a GPU.
    pub fn with_gpu(mut self, program: Option<&Path>, roots: GpuRoots) -> Self {
        self.gate = program.map(|program| Gate::new(program, roots));
        self
    }

    /// Extends RTMR3 with the agent and its configuration, and loads the models that the configuration names by digest.
    ///
    /// `agent` is the digest of the running program, which may still be computed. Beside that, models in the image are
    /// loaded: they are part of the measured root. A model's volume is vouched for by the configuration alone, so it is
    /// opened only when RTMR3 holds the configuration. What a GPU computes is loaded when RTMR3 holds the GPU.
    pub fn measure(
        mut self,
        agent: impl FnOnce() -> std::io::Result<Digest48>,
        models: &Path,
    ) -> Result<Measured<P>, BootError> {
        let config = &self.config;
        let means = &Means::of(config)?;
        let (events, gpu, models) = std::thread::scope(|scope| {
            let in_image = scope.spawn(|| Loaded::from_image(models, config, None, means));
            let mut events = vec![
                RuntimeEvent {
                    name: "agent".into(),
                    digest: agent().map_err(BootError::Program)?,
                },
                RuntimeEvent {
                    name: "config".into(),
                    digest: self.config_digest,
                },
            ];
            for event in &events {
                self.platform.extend(&event.digest)?;
            }
            let gpu = match config.gpu {
                true => Some(self.gate.ok_or(GpuError::NoGate)?),
                false => None,
            };
            let gpu = gpu.map(|gate| {
                let digest = &self.config_digest;
                measure_gpu(
                    gate,
                    &config.profile,
                    digest,
                    &mut self.platform,
                    &mut events,
                )
            });
            let gpu = gpu.transpose()?;
            let mut loaded = Loaded::from_volumes(config, gpu.as_ref(), means)?;
            if gpu.is_some() {
                loaded = loaded.and(Loaded::from_image(models, config, gpu.as_ref(), means)?);
            }
            let in_image = in_image
                .join()
                .expect("the engine does not panic on files")?;
            Ok::<_, BootError>((events, gpu, in_image.and(loaded)))
        })?;
        self.stages.pass("measured");
        Ok(Measured {
            platform: self.platform,
            config: self.config,
            events,
            models,
            gpu,
            stages: self.stages,
        })
    }
}

impl<P: Platform> Measured<P> {
    /// Makes the keys of this boot and the keyset that names them.
    pub fn attest(self, rng: &mut impl CryptoRng) -> Result<Attested<P>, BootError> {
        self.attest_driven(rng, |forward, tokens| {
            Driver::start(forward, tokens, Limits::default())
        })
    }

    /// The same, with each chat model driven by what `drive` makes: in a test that holds a step or counts them, computes something
    /// else, or has a clock of its own.
    pub fn attest_driven(
        mut self,
        rng: &mut impl CryptoRng,
        drive: impl FnMut(Box<dyn Forward>, Tokens) -> std::io::Result<Driver>,
    ) -> Result<Attested<P>, BootError> {
        let keys = Keys::make(rng);
        let registers = self.platform.registers()?;
        let models = self.models.start(drive)?;
        let receipt_key = keys.receipt.verifying_key().to_bytes();
        let keyset = keyset(
            &self.config,
            &models,
            keys.sealing.public(),
            receipt_key,
            registers_digest(&registers),
            self.gpu.iter().map(|gpu| gpu.identity).collect(),
        );
        let mut epoch = Epoch::new(keyset, keys, tokio::time::Instant::now());
        if let Some(gpu) = &self.gpu {
            epoch.report = Some(gpu.attest(epoch.digest)?);
        }
        let events = self
            .events
            .into_iter()
            .map(|e| Event {
                name: e.name,
                digest: e.digest.0,
            })
            .collect();
        self.stages.pass("attested");
        Ok(Attested {
            platform: self.platform,
            events,
            models,
            registers,
            epoch,
            gpu: self.gpu,
            stages: self.stages,
        })
    }
}

impl<P: Platform> Attested<P> {
    /// The keyset that quotes will vouch for first.
    pub fn keyset(&self) -> &Keyset {
        &self.epoch.keyset
    }

    /// Ready for jobs, and for the epochs that follow: to be called where tasks can be started.
    pub fn serve(self) -> Serving<P> {
        self.serve_drawing(Random::new(|| UnwrapErr(SysRng)))
    }

    /// The same, with keys and seals drawn from there: in a simulation that tells its story again.
    pub fn serve_drawing(self, random: Random) -> Serving<P> {
        Serving::new(self, random)
    }
}

/// Finds the GPU that the configuration demands, and extends RTMR3 with it.
fn measure_gpu(
    gate: Gate,
    profile: &str,
    config: &Digest48,
    platform: &mut impl Platform,
    events: &mut Vec<RuntimeEvent>,
) -> Result<Gpu, GpuError> {
    let held = match profile {
        "sim" => None,
        _ => Some(Kernel::default().hold()?),
    };
    // Whichever evidence comes: the question is only which GPU there is. What clients see answers a keyset's nonce.
    let nonce = wire::sha256("chrysalis/gpu-found/v1", &[&config.0]).0;
    Gpu::find(gate, held, &nonce, |identity| {
        let event = GpuReport::event(identity);
        let digest = Digest48(event.digest);
        platform.extend(&digest)?;
        events.push(RuntimeEvent {
            name: event.name,
            digest,
        });
        Ok(())
    })
}

fn keyset(
    config: &MeasuredConfig,
    models: &Models,
    kem_key: KemKey,
    receipt_key: [u8; 32],
    registers: wire::Digest,
    gpus: Vec<wire::Digest>,
) -> Keyset {
    let offers = config.models.iter().map(|model| {
        let facts = models.facts(&model.id);
        ModelOffer {
            id: model.id.clone(),
            endpoint: model.endpoint(),
            root: wire::Digest(model.root()),
            tokenizer: facts.tokenizer,
            config: facts.config,
            template: facts.template,
            context_tokens: model.context_tokens,
            quantisation: facts.quantisation,
            determinism: facts.determinism,
            prices: model.prices(),
        }
    });
    Keyset {
        version: 1,
        profile: config.profile.clone(),
        epoch: 0,
        lifetime_s: config.lifetime_s,
        jobs_max: config.jobs_max,
        kem_keys: vec![kem_key],
        receipt_key,
        models: offers.collect(),
        price_step: Nano(config.price_step_nano),
        exposure_max: config.exposure_max(),
        chain: config.chain(),
        payee: config.payee(),
        payee_key: config.payee_key(),
        stake: config.stake(),
        registers,
        gpus,
        padding: Padding {
            step_bytes: wire::limits::RECORD_BYTES as u16,
            interval_ms: config.interval_ms,
        },
    }
}
