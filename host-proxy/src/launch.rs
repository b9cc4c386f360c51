//! Launching a guest: from an image and its manifest to a machine that answers, and to its end.
//!
//! Promises: nothing is started from an image that is damaged; what is started is stopped, whether this program is asked to
//! end or is killed; no waiting without a deadline on the host's clock; a guest that stops itself is told from a host that
//! fails. An image runs as its profile says or not at all.
//!
//! Lacks: influence on the guest's identity. The processor (or its simulation) makes the registers, and clients check them.

mod accelerator;
mod config_server;
mod gpu;
mod image;
mod kvm_failures;
mod machine;
mod program;
mod progress;
mod qmp;
mod run_directory;
mod serial;

use crate::check::{Host, can_open};
use crate::error::{Context, Error, Fault};
use crate::guest::GuestAddress;
use crate::limits::KVM_TRIAL;
use crate::tools::Tools;
use accelerator::Plan;
use config_server::{ConfigServer, Listener};
use gpu::Gpu;
use image::Image;
use kvm_failures::KvmFailures;
use machine::{GUEST_PORT, Machine, MachineSpec, Outcome, VHOST_VSOCK, VsockBackend, Watch};
use predict::qemu::Accelerator;
use progress::Progress;
use run_directory::{RunDirectory, VSOCK};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::time::Duration;
use tokio::time::Instant;

pub(crate) use accelerator::{AcceleratorChoice, name as accelerator_name};
pub(crate) use gpu::GpuChoice;
pub(crate) use program::{EXEC_TIED, exec_tied};

/// The options of `host-proxy launch`.
#[derive(Debug, Clone)]
pub struct Launch {
    pub manifest: PathBuf,
    pub tools: PathBuf,
    pub config: PathBuf,
    pub model: Option<PathBuf>,
    pub run: PathBuf,
    pub accelerator: AcceleratorChoice,
    /// KVM is tried if this can be opened: `/dev/kvm`.
    pub kvm_device: PathBuf,
    pub vsock: VsockChoice,
    pub cid: u32,
    pub boot_timeout: Duration,
    /// Starts a simulated TDX module with each machine.
    pub simulate: bool,
    pub gpu: Option<GpuChoice>,
    /// Where the host's `/sys` and `/dev` are looked at for a GPU.
    pub host_root: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum VsockChoice {
    /// `user` for a simulated image, whose TDX module listens there; for another one `kernel` if this host has it.
    Auto,
    /// vhost-device-vsock.
    User,
    /// The kernel's vhost-vsock.
    Kernel,
}

/// A guest that answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Ready {
    pub guest: GuestAddress,
    pub accelerator: Accelerator,
    /// Since the start of QEMU, by the host's clock.
    pub boot_s: f64,
}

/// Launches a guest and stays with it until `stop`. `ready` is called once, when it answers.
///
/// Call it on the thread that lives longest: the kernel kills its programs when the thread that started them ends.
pub async fn launch(
    launch: &Launch,
    stop: impl Future<Output = ()>,
    mut ready: impl FnMut(&Ready),
) -> Result<(), Error> {
    let mut stop = pin!(stop);
    let mut progress = Progress::new();
    let prepared = tokio::select! {
        () = stop.as_mut() => return Ok(()),
        prepared = Prepared::of(launch, &mut progress) => prepared?,
    };
    let spec = prepared.spec(launch);
    let (listener, guest) = endpoints(spec.vsock, spec.directory, launch.cid)?;
    let config = ConfigServer::start(listener, prepared.config.clone());
    let (plan, program) = (prepared.plan, prepared.tools.qemu.identity());
    let mut kvm_failures = KvmFailures::of_the_user();
    let (mut accelerator, mut fallback) = (plan.first, plan.fallback);
    let mut failed = false;
    loop {
        let attempt = Attempt {
            spec: &spec,
            accelerator,
            guest: &guest,
            timeout: launch.boot_timeout,
            on_trial: fallback.is_some(),
        };
        let mut ready = |boot_s| {
            // Only now is it certain that the image was not to blame.
            if failed && let Err(error) = kvm_failures.remember(&program) {
                tracing::warn!(%error, "the next launch will try KVM again");
            }
            ready(&Ready {
                guest: guest.clone(),
                accelerator,
                boot_s,
            });
        };
        let ended = attempt
            .run(&config, &mut progress, stop.as_mut(), &mut ready)
            .await;
        match (ended, fallback.take()) {
            (Outcome::Stopped, _) => return Ok(()),
            (Outcome::AcceleratorFailed(error), Some(next)) => {
                let (this, other) = (accelerator_name(accelerator), accelerator_name(next));
                // Without what the guest printed.
                let why = error.to_string();
                let why = why.lines().next().unwrap_or_default();
                progress.print(&format!(
                    "{this} does not boot this guest here ({why}); starting over with {other}"
                ));
                (accelerator, failed) = (next, true);
            }
            (Outcome::AcceleratorFailed(error) | Outcome::Failed(error), _) => return Err(error),
        }
    }
}

/// The command of QEMU that [`launch`] would start first. Nothing is started; the run directory is made.
pub async fn dry_run(launch: &Launch) -> Result<Vec<String>, Error> {
    let prepared = Prepared::of(launch, &mut Progress::new()).await?;
    let spec = prepared.spec(launch);
    Ok(machine::qemu_words(&spec, prepared.plan.first))
}

/// A launch whose options and files were checked.
struct Prepared {
    config: Vec<u8>,
    tools: Tools,
    image: Image,
    plan: Plan,
    model: Option<PathBuf>,
    module: Option<PathBuf>,
    gpu: Option<Gpu>,
    directory: RunDirectory,
}

impl Prepared {
    async fn of(launch: &Launch, progress: &mut Progress) -> Result<Self, Error> {
        let (config, parsed) = config_server::read(&launch.config)?;
        let tools = Tools::read(&launch.tools)?;
        tools.check(&launch.tools)?;
        progress.doing("checking the image's files");
        let manifest = launch.manifest.clone();
        let checking = tokio::task::spawn_blocking(move || Image::read(&manifest));
        let image = checking.await.expect("digesting files does not panic")?;
        let profile = image.manifest.profile;
        let (kvm_failures, program) = (KvmFailures::of_the_user(), tools.qemu.identity());
        let plan = accelerator::plan(
            launch.accelerator,
            profile,
            || Host::this().seems_able(),
            || can_open(&launch.kvm_device) && !kvm_failures.kvm_fails(&program),
        );
        let plan = plan.context(Fault::Configuration, || launch.manifest.display())?;
        let gpu = gpu::find(launch.gpu.as_ref(), profile, &launch.host_root);
        let gpu = gpu.context(Fault::Host, || launch.manifest.display())?;
        run_directory::check_name(&image.directory)?;
        let model = launch.model.as_deref().map(volume).transpose()?;
        let simulated = image.is_simulated();
        config_server::fits(&parsed, &launch.config, simulated, model.is_some())?;
        let module = launch.simulate.then(|| simulated_module(simulated, launch));
        Ok(Prepared {
            config,
            tools,
            plan,
            model,
            module: module.transpose()?,
            gpu,
            directory: RunDirectory::open(&launch.run)?,
            image,
        })
    }

    fn spec(&self, launch: &Launch) -> MachineSpec<'_> {
        MachineSpec {
            image: &self.image,
            tools: &self.tools,
            directory: &self.directory,
            model: self.model.as_deref(),
            module: self.module.as_deref(),
            vsock: vsock_backend(launch.vsock, &self.image),
            cid: launch.cid,
            gpu: self.gpu.as_ref(),
        }
    }
}

/// The volume's real path, if it is a file that can be read.
fn volume(path: &Path) -> Result<PathBuf, Error> {
    let real = path.canonicalize().and_then(|real| {
        match std::fs::File::open(&real)?.metadata()?.is_file() {
            true => Ok(real),
            false => Err(io::Error::other("it is not a file")),
        }
    });
    real.context(Fault::Configuration, || {
        format!("the model's volume {}", path.display())
    })
}

/// The program of the simulated TDX module: beside this one, else found in PATH.
fn simulated_module(simulated_image: bool, launch: &Launch) -> Result<PathBuf, Error> {
    if !simulated_image {
        let words = format!(
            "{}: --simulate is for images of the profile `sim`; this one needs a real TDX module",
            launch.manifest.display()
        );
        return Err(Error::new(Fault::Configuration, words));
    }
    if launch.vsock == VsockChoice::Kernel {
        let words = "--simulate needs --vsock user: the module listens beside its socket";
        return Err(Error::new(Fault::Configuration, words));
    }
    const PROGRAM: &str = "chrysalis-simulator";
    let beside = std::env::current_exe().context(Fault::Host, || "finding this program")?;
    let beside = beside.with_file_name(PROGRAM);
    Ok(match beside.is_file() {
        true => beside,
        false => PROGRAM.into(),
    })
}

/// One machine, from start to end.
struct Attempt<'a> {
    spec: &'a MachineSpec<'a>,
    accelerator: Accelerator,
    guest: &'a GuestAddress,
    timeout: Duration,
    /// Whether there is another accelerator to fall back to.
    on_trial: bool,
}

impl Attempt<'_> {
    async fn run<S: Future<Output = ()>>(
        &self,
        config: &ConfigServer,
        progress: &mut Progress,
        mut stop: Pin<&mut S>,
        ready: &mut dyn FnMut(f64),
    ) -> Outcome {
        progress.restart();
        progress.doing("starting the machine's programs");
        let started = tokio::select! {
            () = stop.as_mut() => return Outcome::Stopped,
            started = Machine::start(self.spec, self.accelerator) => started,
        };
        let mut machine = match started {
            Ok(machine) => machine,
            Err(outcome) => return outcome,
        };
        progress.restart();
        let begun = Instant::now();
        let mut watch = Watch {
            guest: self.guest.clone(),
            deadline: begun + self.timeout,
            trial: self.on_trial.then(|| begun + KVM_TRIAL),
            simulated: self.spec.image.is_simulated(),
            config,
            progress,
        };
        let ended = machine.watch(&mut watch, stop, ready).await;
        machine.stop().await;
        ended
    }
}

fn vsock_backend(choice: VsockChoice, image: &Image) -> VsockBackend {
    match choice {
        VsockChoice::User => VsockBackend::User,
        VsockChoice::Kernel => VsockBackend::Kernel,
        VsockChoice::Auto if image.is_simulated() || !can_open(Path::new(VHOST_VSOCK)) => {
            VsockBackend::User
        }
        VsockChoice::Auto => VsockBackend::Kernel,
    }
}

/// Where the guest asks for its configuration, and where it is reached.
fn endpoints(
    vsock: VsockBackend,
    directory: &RunDirectory,
    cid: u32,
) -> Result<(Listener, GuestAddress), Error> {
    match vsock {
        VsockBackend::User => {
            let path = directory.join(VSOCK);
            let listener = Listener::unix(&path)?;
            let port = GUEST_PORT;
            Ok((listener, GuestAddress::Hybrid { path, port }))
        }
        VsockBackend::Kernel => {
            let port = GUEST_PORT;
            Ok((Listener::vsock(cid)?, GuestAddress::Vsock { cid, port }))
        }
    }
}
