//! Launching a guest: from an image and its manifest to a machine that answers, and to its end.
//!
//! Promises: nothing is started from an image that is damaged; what is started is stopped, whether this program is asked to
//! end or is killed; no waiting without a deadline on the host's clock; a guest that stops itself is told from a host that
//! fails. An image runs as its profile says or not at all.
//!
//! Lacks: any say in what a guest is. The registers are made by the processor (or its simulation), and clients judge them.

mod accelerator;
mod config_server;
mod image;
mod machine;
mod programs;
mod progress;
mod qmp;
mod run_directory;
mod serial;
mod tools;

use crate::guest::GuestAddress;
use crate::limits::KVM_TRIAL;
use config_server::{ConfigServer, Listener};
use image::Image;
use machine::{Ended, GUEST_PORT, Link, Machine, Parts, VHOST_VSOCK, Watch};
use measurements::Accelerator;
use progress::Progress;
use run_directory::{RunDirectory, VSOCK};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::time::Duration;
use tokio::time::Instant;

pub(crate) use accelerator::opens;
pub use accelerator::{Choice, NoAccelerator, word};
pub use config_server::GuestConfigError;
pub use image::ImageFault;
pub use programs::ProgramError;
pub(crate) use programs::{HELD, become_held};
pub use qmp::QmpError;
pub use run_directory::RunDirectoryError;
pub use serial::Stage;
pub use tools::{Tool, Tools, ToolsError};

/// What to launch, and how.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The image's manifest, beside its files.
    pub manifest: PathBuf,
    /// What `image-builder tools` describes.
    pub tools: PathBuf,
    /// The guest's measured configuration.
    pub config: PathBuf,
    /// The volume of a model, as `image-builder model pack` writes it.
    pub model: Option<PathBuf>,
    /// A directory for sockets and logs.
    pub run: PathBuf,
    /// What runs the guest's instructions.
    pub accelerator: Choice,
    /// The device whose opening says that KVM is worth trying: `/dev/kvm`.
    pub kvm_device: PathBuf,
    /// What carries its vsock.
    pub vsock: VsockChoice,
    /// Its number on that vsock.
    pub cid: u32,
    /// How long a boot may take.
    pub boot_timeout: Duration,
}

/// What carries the guest's vsock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum VsockChoice {
    /// `user` for a simulated image, whose module listens there; for another `kernel` if this host has it.
    Auto,
    /// vhost-device-vsock of the tools.
    User,
    /// The kernel's vhost-vsock.
    Kernel,
}

/// A guest that answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Ready {
    /// Where.
    pub guest: GuestAddress,
    /// What runs it.
    pub accelerator: Accelerator,
    /// Host seconds from the start of QEMU.
    pub boot_s: f64,
}

/// Why a launch ended otherwise than by request.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageFault),
    /// The description of tools.
    #[error(transparent)]
    Tools(#[from] ToolsError),
    /// The measured configuration.
    #[error(transparent)]
    Config(#[from] GuestConfigError),
    /// The volume of a model. What is in it, the guest judges.
    #[error("cannot read the model's volume {path}: {source}")]
    Model {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The run directory.
    #[error(transparent)]
    RunDirectory(#[from] RunDirectoryError),
    /// The accelerator.
    #[error(transparent)]
    Accelerator(#[from] NoAccelerator),
    /// A program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// QEMU's control socket.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The guest ended of its own accord. The image, its configuration or its agent is at fault.
    #[error("the guest stopped itself at {}: it {how}{}", stage.word(), printed(lines))]
    GuestStopped {
        /// How far it had come.
        stage: Stage,
        /// How it ended.
        how: &'static str,
        /// The last of what it printed.
        lines: Vec<String>,
    },
    /// QEMU ended, and not because the guest did.
    #[error("{error}{}{}", because(reason), printed(lines))]
    QemuEnded {
        /// How.
        error: ProgramError,
        /// QEMU's reason, if it gave one.
        reason: Option<String>,
        /// The last of what the guest printed.
        lines: Vec<String>,
    },
    /// QEMU does not go on with the guest.
    #[error(
        "QEMU stopped the guest's processors ({status}); it said: {words}{}",
        printed(lines)
    )]
    Halted {
        /// QEMU's state.
        status: String,
        /// The end of what QEMU printed.
        words: String,
        /// The last of what the guest printed.
        lines: Vec<String>,
    },
    /// A boot that takes too long.
    #[error("the guest came no further than {} in {seconds} s; --boot-timeout-s gives it longer{}", stage.word(), printed(lines))]
    TooSlow {
        /// How far it has come.
        stage: Stage,
        /// Host seconds since QEMU was started.
        seconds: f64,
        /// The last of what the guest printed.
        lines: Vec<String>,
    },
}

impl LaunchError {
    /// The first line, without what the guest printed.
    fn in_short(&self) -> String {
        match self {
            LaunchError::TooSlow { stage, seconds, .. } => {
                format!(
                    "no word from stage0 in {seconds} s, no further than {}",
                    stage.word()
                )
            }
            other => other
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        }
    }
}

/// Launches a guest and stays with it until `stop`. `ready` is called once, when it answers.
///
/// Run it on the thread that lives longest: its programs are killed by the kernel when the thread that started them ends.
pub async fn launch(
    launch: &Launch,
    stop: impl Future<Output = ()>,
    mut ready: impl FnMut(&Ready),
) -> Result<(), LaunchError> {
    let mut stop = pin!(stop);
    let mut progress = Progress::new();
    let config = config_server::read(&launch.config)?;
    let tools = Tools::read(&launch.tools)?;
    progress.doing("checking the image's files");
    let manifest = launch.manifest.clone();
    let checking = tokio::task::spawn_blocking(move || Image::read(&manifest));
    let image = tokio::select! {
        () = stop.as_mut() => return Ok(()),
        image = checking => image.expect("digesting files does not panic")?,
    };
    let mut memory = accelerator::Memory::of_the_user();
    let program = tools.qemu().identity();
    let plan = accelerator::plan(
        launch.accelerator,
        image.manifest.profile,
        || crate::check::Host::this().seems_able(),
        || opens(&launch.kvm_device) && !memory.kvm_fails(&program),
    )?;
    run_directory::check_name(&image.directory)?;
    let model = launch.model.as_deref().map(volume).transpose()?;
    let directory = RunDirectory::open(&launch.run)?;
    let link = link(launch.vsock, &image);
    let (listener, guest) = ends(link, &directory, launch.cid)?;
    let config = ConfigServer::start(listener, config);
    let parts = Parts {
        image: &image,
        tools: &tools,
        directory: &directory,
        model: model.as_deref(),
        link,
        cid: launch.cid,
    };
    let (mut accelerator, mut fallback) = (plan.first, plan.fallback);
    let mut failed = false;
    loop {
        let attempt = Attempt {
            parts: &parts,
            accelerator,
            guest: &guest,
            timeout: launch.boot_timeout,
            on_trial: fallback.is_some(),
        };
        let mut ready = |boot_s| {
            // Only now is it certain that not the image was to blame.
            if failed && let Err(error) = memory.remember(&program) {
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
            (Ended::Asked, _) => return Ok(()),
            (Ended::Unfit(error), Some(next)) => {
                let (this, why) = (word(accelerator), error.in_short());
                progress.say(&format!(
                    "{this} does not boot this guest here ({why}); starting over with {}",
                    word(next)
                ));
                (accelerator, failed) = (next, true);
            }
            (Ended::Unfit(error) | Ended::Failed(error), _) => return Err(error),
        }
    }
}

/// The volume's real path, if it is a file that can be read.
fn volume(path: &Path) -> Result<PathBuf, LaunchError> {
    let refuse = |source| LaunchError::Model {
        path: path.to_owned(),
        source,
    };
    let real = path.canonicalize().map_err(refuse)?;
    let file = std::fs::File::open(&real).map_err(refuse)?;
    match file.metadata().map_err(refuse)?.is_file() {
        true => Ok(real),
        false => Err(refuse(std::io::ErrorKind::InvalidInput.into())),
    }
}

/// One machine, from start to end.
struct Attempt<'a> {
    parts: &'a Parts<'a>,
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
    ) -> Ended {
        progress.restart();
        progress.doing("starting the machine's programs");
        let started = tokio::select! {
            () = stop.as_mut() => return Ended::Asked,
            started = Machine::start(self.parts, self.accelerator) => started,
        };
        let mut machine = match started {
            Ok(machine) => machine,
            Err(error) => return Ended::Unfit(error),
        };
        progress.restart();
        let begun = Instant::now();
        let mut watch = Watch {
            guest: self.guest.clone(),
            deadline: begun + self.timeout,
            trial: self.on_trial.then(|| begun + KVM_TRIAL),
            simulated: self.parts.image.is_simulated(),
            config,
            progress,
        };
        let ended = machine.watch(&mut watch, stop, ready).await;
        machine.stop().await;
        ended
    }
}

fn link(choice: VsockChoice, image: &Image) -> Link {
    match choice {
        VsockChoice::User => Link::User,
        VsockChoice::Kernel => Link::Kernel,
        VsockChoice::Auto if image.is_simulated() || !opens(Path::new(VHOST_VSOCK)) => Link::User,
        VsockChoice::Auto => Link::Kernel,
    }
}

/// Where the guest asks for its configuration, and where it is reached.
fn ends(
    link: Link,
    directory: &RunDirectory,
    cid: u32,
) -> Result<(Listener, GuestAddress), GuestConfigError> {
    match link {
        Link::User => {
            let path = directory.join(VSOCK);
            let listener = Listener::unix(&path)?;
            Ok((
                listener,
                GuestAddress::Hybrid {
                    path,
                    port: GUEST_PORT,
                },
            ))
        }
        Link::Kernel => {
            let guest = GuestAddress::Vsock {
                cid,
                port: GUEST_PORT,
            };
            Ok((Listener::vsock(cid)?, guest))
        }
    }
}

fn because(reason: &Option<String>) -> String {
    match reason {
        Some(reason) => format!(" because of {reason}"),
        None => String::new(),
    }
}

/// What a guest printed, line by line, told apart from our own words.
fn printed(lines: &[String]) -> String {
    match lines {
        [] => "; it printed nothing".into(),
        lines => format!(". The last it printed:\n  | {}", lines.join("\n  | ")),
    }
}
