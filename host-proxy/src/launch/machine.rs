//! One machine: its programs, from the first start to the end, and what is seen of the guest in between.
//!
//! ```text
//!  swtpm ─► vhost-device-vsock ─► launched.json ─► QEMU ─► watched: QMP, serial port, port 9000
//!                                                            │ ready                │ an end
//!                                                            └─► watched on         ├ asked: QMP quit
//!                                                                                   ├ unfit: KVM, before stage0 spoke
//!                                                                                   └ failed: whose fault, and what was printed
//! ```
//!
//! Time is the host's alone: a guest's clock may be wrong by minutes under TCG, and is the host's to choose anyway.

use super::LaunchError;
use super::accelerator::word;
use super::config_server::ConfigServer;
use super::image::Image;
use super::programs::{Program, ProgramError};
use super::progress::Progress;
use super::qmp::{Event, Qmp, QmpError};
use super::run_directory::{
    LAUNCHED, MONITOR, QMP, RunDirectory, SERIAL, TPM, TPM_LOG, TPM_STATE, VHOST, VSOCK,
};
use super::serial::{Serial, Stage};
use super::tools::{Room, Tools, ToolsError};
use crate::guest::GuestAddress;
use crate::limits::{GUEST_PROBE, QEMU_QUIT, SERIAL_POLL};
use measurements::{Accelerator, Backends, Boot, Vsock, qemu_arguments};
use serde_json::json;
use std::future::{Future, pending};
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};

/// What a machine is made of.
pub(super) struct Parts<'a> {
    pub(super) image: &'a Image,
    pub(super) tools: &'a Tools,
    pub(super) directory: &'a RunDirectory,
    /// The file behind the second disk.
    pub(super) model: Option<&'a Path>,
    pub(super) link: Link,
    pub(super) cid: u32,
}

/// What carries the guest's vsock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// vhost-device-vsock, with Unix sockets on the host's side.
    User,
    /// The kernel's vhost-vsock.
    Kernel,
}

/// A started machine.
pub(super) struct Machine {
    qemu: Program,
    beside: Vec<Program>,
    qmp: Option<Qmp>,
    serial: Serial,
    stage: Stage,
    shutdown: Option<String>,
}

/// What to wait for, and how long.
pub(super) struct Watch<'a> {
    pub(super) guest: GuestAddress,
    /// The guest must answer by then.
    pub(super) deadline: Instant,
    /// With another accelerator to fall back to: its first program must speak by then.
    pub(super) trial: Option<Instant>,
    pub(super) simulated: bool,
    pub(super) config: &'a ConfigServer,
    pub(super) progress: &'a mut Progress,
}

/// How the watching of a machine ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// We were asked to stop.
    Asked,
    /// The accelerator on trial did not bring the guest to its first program.
    Unfit(LaunchError),
    /// The guest, a program or the host is at fault.
    Failed(LaunchError),
}

/// The port on which the agent answers.
pub(super) const GUEST_PORT: u32 = 9000;
/// Devices of the host that a machine may need.
const KVM: &str = "/dev/kvm";
pub(super) const VHOST_VSOCK: &str = "/dev/vhost-vsock";

impl Machine {
    /// Starts every program, QEMU last. What was started is killed when this fails or is given up.
    pub(super) async fn start(
        parts: &Parts<'_>,
        accelerator: Accelerator,
    ) -> Result<Self, LaunchError> {
        parts.directory.clear()?;
        let mut beside = Vec::new();
        if parts.image.is_simulated() {
            beside.push(start_tpm(parts).await?);
        }
        if parts.link == Link::User {
            beside.push(start_vsock(parts).await?);
        }
        let serial = Serial::create(&parts.directory.join(SERIAL))
            .map_err(|source| parts.directory.fault(source))?;
        parts
            .directory
            .write(LAUNCHED, &describe(parts, accelerator))?;
        let mut qemu = start_qemu(parts, accelerator)?;
        let socket = parts.directory.join(QMP);
        qemu.opens(&socket).await?;
        let qmp = match Qmp::connect(&socket).await {
            Ok(qmp) => qmp,
            // A QEMU that has ended says more than its socket does.
            Err(error) => {
                let ended = timeout(Duration::from_secs(1), qemu.ended()).await;
                return Err(ended.map_or(error.into(), LaunchError::from));
            }
        };
        Ok(Machine {
            qemu,
            beside,
            qmp: Some(qmp),
            serial,
            stage: Stage::Started,
            shutdown: None,
        })
    }

    /// Watches until an end, and calls `ready` once, when the guest answers.
    pub(super) async fn watch<S: Future<Output = ()>>(
        &mut self,
        watch: &mut Watch<'_>,
        mut stop: Pin<&mut S>,
        ready: &mut dyn FnMut(f64),
    ) -> Ended {
        let asked_before = watch.config.asked();
        let mut look = interval(SERIAL_POLL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut probe = Probe::new(watch.guest.clone());
        watch.progress.reached(self.stage);
        loop {
            let end = tokio::select! {
                () = stop.as_mut() => return Ended::Asked,
                event = next_event(&mut self.qmp) => self.heard(event).await,
                error = self.qemu.ended() => Some(self.gone(error).await),
                error = first_end(&mut self.beside) => Some(self.abandoned(error).await),
                _ = look.tick() => {
                    let asked = watch.config.asked() > asked_before;
                    self.look(asked, watch)
                }
                up = probe.answer() => {
                    if up {
                        self.stage = Stage::Ready;
                        watch.progress.reached(self.stage);
                        ready(watch.progress.seconds());
                    }
                    None
                }
            };
            if let Some(error) = end {
                return self.judged(error, watch.trial);
            }
            // A guest with a serial port says when it is worth asking; another is asked from the beginning.
            if self.stage != Stage::Ready && (self.stage >= Stage::Stage0 || !watch.simulated) {
                probe.ask();
            }
        }
    }

    /// Ends the guest and every program.
    pub(super) async fn stop(mut self) {
        if let Some(mut qmp) = self.qmp.take() {
            let quitting = async {
                // Whether it is answered or not, only the end counts.
                let _ = qmp.execute("quit").await;
                self.qemu.ended().await
            };
            if timeout(QEMU_QUIT, quitting).await.is_err() {
                tracing::warn!("QEMU does not end; killing it");
            }
        }
        self.qemu.kill().await;
        for program in &mut self.beside {
            program.kill().await;
        }
    }

    fn look(&mut self, asked: bool, watch: &mut Watch<'_>) -> Option<LaunchError> {
        let seen = match self.serial.look() {
            Ok(seen) => seen,
            Err(error) => {
                tracing::warn!(%error, "the guest's serial port cannot be read");
                self.stage
            }
        };
        // Only the agent reads the configuration.
        let seen = if asked { seen.max(Stage::Agent) } else { seen };
        self.stage = self.stage.max(seen);
        if self.stage >= Stage::Stage0 {
            watch.trial = None;
        }
        watch.progress.reached(self.stage);
        let now = Instant::now();
        let begun_s = watch.progress.seconds();
        match self.stage {
            Stage::Ready => None,
            _ if now >= watch.deadline || watch.trial.is_some_and(|trial| now >= trial) => {
                Some(LaunchError::TooSlow {
                    stage: self.stage,
                    seconds: begun_s,
                    lines: self.serial.last_lines(),
                })
            }
            _ => None,
        }
    }

    /// What an event means; `None` if the guest goes on, or if QEMU is about to end and its end will say more.
    async fn heard(&mut self, event: Result<Event, QmpError>) -> Option<LaunchError> {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::debug!(%error, "QMP has ended");
                self.qmp = None;
                return None;
            }
        };
        tracing::debug!(name = event.name, reason = event.reason, "event");
        match event.name.as_str() {
            "SHUTDOWN" => self.shutdown = event.reason,
            "GUEST_PANICKED" => self.shutdown = Some("guest-panic".into()),
            "STOP" => {
                let status = match &mut self.qmp {
                    Some(qmp) => qmp.status().await.ok(),
                    None => None,
                };
                match status.as_deref() {
                    None | Some("running" | "shutdown") => {}
                    Some("guest-panicked") => return Some(self.stopped_itself("guest-panic")),
                    Some(status) => {
                        return Some(LaunchError::Halted {
                            status: status.to_owned(),
                            words: self.qemu.last_words(),
                            lines: self.serial.last_lines(),
                        });
                    }
                }
            }
            _ => {}
        }
        None
    }

    /// QEMU has ended: why, as far as its last events say.
    async fn gone(&mut self, error: ProgramError) -> LaunchError {
        let draining = async {
            while let Some(qmp) = &mut self.qmp {
                match qmp.event().await {
                    Ok(event) if event.name == "SHUTDOWN" => self.shutdown = event.reason,
                    Ok(_) => {}
                    Err(_) => self.qmp = None,
                }
            }
        };
        // All of it was written before QEMU ended; the limit is for a sandbox that keeps the socket open.
        let _ = timeout(Duration::from_secs(1), draining).await;
        // The last words of the guest.
        if let Ok(seen) = self.serial.look() {
            self.stage = self.stage.max(seen);
        }
        match self.shutdown.take() {
            Some(reason) if reason.starts_with("guest-") => self.stopped_itself(&reason),
            reason => LaunchError::QemuEnded {
                error,
                reason,
                lines: self.serial.last_lines(),
            },
        }
    }

    /// A program beside QEMU has ended. When QEMU ends with it, QEMU's reason counts.
    async fn abandoned(&mut self, error: ProgramError) -> LaunchError {
        match timeout(Duration::from_secs(1), self.qemu.ended()).await {
            Ok(error) => self.gone(error).await,
            Err(_elapsed) => error.into(),
        }
    }

    fn stopped_itself(&self, reason: &str) -> LaunchError {
        LaunchError::GuestStopped {
            stage: self.stage,
            how: match reason {
                "guest-reset" => "reset itself, as a kernel does that panics",
                "guest-shutdown" => "switched itself off",
                "guest-panic" => "reported a panic",
                _ => "ended",
            },
            lines: self.serial.last_lines(),
        }
    }

    fn judged(&self, error: LaunchError, trial: Option<Instant>) -> Ended {
        match trial {
            Some(_) if self.stage < Stage::Stage0 => Ended::Unfit(error),
            _ => Ended::Failed(error),
        }
    }
}

/// Attempts to reach the guest, one at a time. A stream that is accepted is closed at once; the agent takes that for a
/// proxy that changed its mind.
struct Probe {
    guest: GuestAddress,
    attempt: Option<JoinHandle<bool>>,
    again: Instant,
}

impl Probe {
    fn new(guest: GuestAddress) -> Self {
        Probe {
            guest,
            attempt: None,
            again: Instant::now(),
        }
    }

    fn ask(&mut self) {
        if self.attempt.is_none() && Instant::now() >= self.again {
            let guest = self.guest.clone();
            self.again = Instant::now() + GUEST_PROBE;
            self.attempt = Some(tokio::spawn(async move { guest.connect().await.is_ok() }));
        }
    }

    async fn answer(&mut self) -> bool {
        let Some(attempt) = &mut self.attempt else {
            return pending().await;
        };
        let up = attempt.await.unwrap_or(false);
        self.attempt = None;
        up
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(attempt) = &self.attempt {
            attempt.abort();
        }
    }
}

async fn next_event(qmp: &mut Option<Qmp>) -> Result<Event, QmpError> {
    match qmp {
        Some(qmp) => qmp.event().await,
        None => pending().await,
    }
}

async fn first_end(programs: &mut [Program]) -> ProgramError {
    match programs {
        [] => pending().await,
        [one] => one.ended().await,
        [one, others @ ..] => tokio::select! {
            error = one.ended() => error,
            error = Box::pin(first_end(others)) => error,
        },
    }
}

/// A software TPM that has measured nothing yet. Its log is what a simulated module takes its registers from.
async fn start_tpm(parts: &Parts<'_>) -> Result<Program, LaunchError> {
    let tool = parts
        .tools
        .swtpm
        .as_ref()
        .ok_or(ToolsError::Missing("swtpm"))?;
    parts.directory.make_tpm_state()?;
    let run = tool
        .places(&parts.image.directory, parts.directory.path())
        .run;
    let arguments = [
        "socket".into(),
        "--tpm2".into(),
        "--tpmstate".into(),
        format!("dir={run}/{TPM_STATE}"),
        "--ctrl".into(),
        format!("type=unixio,path={run}/{TPM}"),
        "--log".into(),
        format!("file={run}/{TPM_LOG},level=20,truncate"),
        // It runs in a sandbox of ours already, whose kernel may not know its list of system calls.
        "--seccomp".into(),
        "action=none".into(),
        "--flags".into(),
        "not-need-init,startup-clear".into(),
    ];
    let room = Room {
        image: None,
        model: None,
        run: parts.directory.path(),
        devices: &[],
    };
    let words = tool.words(&room, arguments.into());
    let mut program = Program::start("swtpm", &words, parts.directory.join("swtpm.out"))?;
    program.opens(&parts.directory.join(TPM)).await?;
    Ok(program)
}

/// vhost-device-vsock with its own sizes of buffers: with larger ones it stalls.
async fn start_vsock(parts: &Parts<'_>) -> Result<Program, LaunchError> {
    let missing = ToolsError::Missing("vhost-device-vsock");
    let tool = parts.tools.vhost_device_vsock.as_ref().ok_or(missing)?;
    let run = tool
        .places(&parts.image.directory, parts.directory.path())
        .run;
    let arguments = [
        "--guest-cid".into(),
        parts.cid.to_string(),
        "--socket".into(),
        format!("{run}/{VHOST}"),
        "--uds-path".into(),
        format!("{run}/{VSOCK}"),
    ];
    let room = Room {
        image: None,
        model: None,
        run: parts.directory.path(),
        devices: &[],
    };
    let words = tool.words(&room, arguments.into());
    let mut program = Program::start(
        "vhost-device-vsock",
        &words,
        parts.directory.join("vsock.log"),
    )?;
    program.opens(&parts.directory.join(VHOST)).await?;
    program.opens(&parts.directory.join(VSOCK)).await?;
    Ok(program)
}

fn start_qemu(parts: &Parts<'_>, accelerator: Accelerator) -> Result<Program, LaunchError> {
    let manifest = &parts.image.manifest;
    let tool = &parts.tools.qemu;
    let places = tool.places(&parts.image.directory, parts.directory.path());
    let image = |name: &str| format!("{}/{name}", places.image);
    let run = |name: &str| format!("{}/{name}", places.run);
    let files = &manifest.files;
    let (firmware, kernel, initrd) = (
        image(&files.firmware.name),
        image(&files.kernel.name),
        image(&files.initrd.name),
    );
    let (root, vhost, tpm) = (image(&files.root.name), run(VHOST), run(TPM));
    let (serial, qmp, monitor) = (run(SERIAL), run(QMP), run(MONITOR));
    let model = parts.model.map(|model| tool.model_place(model));
    let backends = Backends {
        firmware: &firmware,
        boot: Some(Boot {
            kernel: &kernel,
            initrd: Some(&initrd),
            cmdline: &manifest.cmdline,
        }),
        root: Some(&root),
        model: model.as_deref(),
        vsock: match parts.link {
            Link::User => Vsock::VhostUser(&vhost),
            Link::Kernel => Vsock::Kernel(parts.cid),
        },
        tpm: parts.image.is_simulated().then_some(tpm.as_str()),
        serial: Some(&serial),
        qmp: &[&qmp, &monitor],
    };
    let mut devices = Vec::new();
    if accelerator != Accelerator::Tcg {
        devices.push(KVM);
    }
    if parts.link == Link::Kernel {
        devices.push(VHOST_VSOCK);
    }
    let room = Room {
        image: Some(&parts.image.directory),
        model: parts.model,
        run: parts.directory.path(),
        devices: &devices,
    };
    let words = tool.words(
        &room,
        qemu_arguments(manifest.machine, accelerator, &backends),
    );
    Ok(Program::start(
        "QEMU",
        &words,
        parts.directory.join("qemu.log"),
    )?)
}

/// What QEMU was given, in the host's paths: `launched.json`, which the simulated module reads.
fn describe(parts: &Parts<'_>, accelerator: Accelerator) -> Vec<u8> {
    let (image, manifest) = (parts.image, &parts.image.manifest);
    let mut described = json!({
        "version": 1,
        "accelerator": word(accelerator),
        "memory_mib": manifest.machine.memory_mib,
        "vcpus": manifest.machine.vcpus,
        "firmware": image.path(&manifest.files.firmware),
        "kernel": image.path(&manifest.files.kernel),
        "initrd": image.path(&manifest.files.initrd),
        "cmdline": manifest.cmdline,
        "root": image.path(&manifest.files.root),
    });
    if image.is_simulated() {
        described["tpm_log"] = json!(parts.directory.join(TPM_LOG));
    }
    format!("{described}\n").into_bytes()
}
