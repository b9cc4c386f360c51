//! One machine: its programs, from the first start to the end, and what is seen of the guest in between.
//!
//! ```text
//!  swtpm ─► vhost-device-vsock ─► launched.json ─► QEMU ─► watched: QMP, serial port, port 9000
//!                                                            │ ready                │ an end
//!                                                            └─► watched on         ├ stopped: asked to, QMP quit
//!                                                                                   ├ accelerator failed: before stage0 ran
//!                                                                                   └ failed: whose fault, and what was printed
//! ```
//!
//! Time is the host's alone: a guest's clock may be wrong by minutes under TCG, and is the host's to choose anyway.

use super::accelerator::name;
use super::config_server::ConfigServer;
use super::gpu::Gpu;
use super::image::Image;
use super::program::Program;
use super::progress::Progress;
use super::qmp::{Event, Qmp};
use super::run_directory::{
    LAUNCHED, MODULE, MONITOR, QMP, RunDirectory, SERIAL, TPM, TPM_LOG, TPM_STATE, VHOST, VSOCK,
};
use super::serial::{Serial, Stage};
use crate::error::{Error, Fault};
use crate::guest::GuestAddress;
use crate::limits::{GUEST_PROBE, QEMU_QUIT, SERIAL_POLL};
use crate::tools::{Sandbox, Tools, missing};
use predict::qemu::{Accelerator, Backends, Boot, Vsock, qemu_arguments};
use serde_json::json;
use std::future::{Future, pending};
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};

/// What a machine is made of.
pub(super) struct MachineSpec<'a> {
    pub(super) image: &'a Image,
    pub(super) tools: &'a Tools,
    pub(super) directory: &'a RunDirectory,
    /// The file behind the second disk.
    pub(super) model: Option<&'a Path>,
    /// The program of the simulated TDX module, if it is started with the machine.
    pub(super) module: Option<&'a Path>,
    pub(super) vsock: VsockBackend,
    pub(super) cid: u32,
    pub(super) gpu: Option<&'a Gpu>,
}

/// What carries the guest's vsock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VsockBackend {
    /// vhost-device-vsock, with Unix sockets on the host's side.
    User,
    /// The kernel's vhost-vsock.
    Kernel,
}

pub(super) struct Machine {
    qemu: Program,
    /// swtpm, vhost-device-vsock.
    helpers: Vec<Program>,
    qmp: Option<Qmp>,
    serial: Serial,
    stage: Stage,
    /// Why QEMU said that it would end.
    shutdown_reason: Option<String>,
}

pub(super) struct Watch<'a> {
    pub(super) guest: GuestAddress,
    /// The guest must answer by then.
    pub(super) deadline: Instant,
    /// With another accelerator to fall back to: stage0 must have printed something by then.
    pub(super) trial: Option<Instant>,
    pub(super) simulated: bool,
    pub(super) config: &'a ConfigServer,
    pub(super) progress: &'a mut Progress,
}

/// How a machine ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// As requested.
    Stopped,
    /// The accelerator on trial did not bring the guest to its first program.
    AcceleratorFailed(Error),
    /// The guest, a program or the host failed.
    Failed(Error),
}

/// The port on which the agent answers.
pub(super) const GUEST_PORT: u32 = 9000;
/// Devices of the host that a machine may need.
const KVM: &str = "/dev/kvm";
pub(super) const VHOST_VSOCK: &str = "/dev/vhost-vsock";

impl Machine {
    /// Starts every program, QEMU last. What was started is killed when this fails or is given up. Only a QEMU that
    /// fails is a failure of the accelerator.
    pub(super) async fn start(
        spec: &MachineSpec<'_>,
        accelerator: Accelerator,
    ) -> Result<Self, Outcome> {
        let prepared = Self::prepare(spec, accelerator).await;
        let (helpers, serial) = prepared.map_err(Outcome::Failed)?;
        Self::start_qemu(spec, accelerator, helpers, serial)
            .await
            .map_err(Outcome::AcceleratorFailed)
    }

    /// What QEMU needs before it starts.
    async fn prepare(
        spec: &MachineSpec<'_>,
        accelerator: Accelerator,
    ) -> Result<(Vec<Program>, Serial), Error> {
        spec.directory.clear()?;
        let mut helpers = Vec::new();
        if spec.image.is_simulated() {
            helpers.push(start_tpm(spec).await?);
        }
        if spec.vsock == VsockBackend::User {
            helpers.push(start_vsock(spec).await?);
        }
        if let Some(program) = spec.module {
            helpers.push(start_module(spec, program).await?);
        }
        let serial = Serial::create(&spec.directory.join(SERIAL));
        let serial = spec.directory.checked(serial)?;
        let description = describe(spec, accelerator);
        spec.directory.write(LAUNCHED, &description)?;
        Ok((helpers, serial))
    }

    async fn start_qemu(
        spec: &MachineSpec<'_>,
        accelerator: Accelerator,
        helpers: Vec<Program>,
        serial: Serial,
    ) -> Result<Self, Error> {
        let mut qemu = start_qemu(spec, accelerator)?;
        let socket = spec.directory.join(QMP);
        qemu.opens(&socket).await?;
        let qmp = match Qmp::connect(&socket).await {
            Ok(qmp) => qmp,
            // A QEMU that has ended says more than its socket does.
            Err(error) => {
                let ended = timeout(Duration::from_secs(1), qemu.ended()).await;
                return Err(ended.unwrap_or(error));
            }
        };
        Ok(Machine {
            qemu,
            helpers,
            qmp: Some(qmp),
            serial,
            stage: Stage::Started,
            shutdown_reason: None,
        })
    }

    /// Watches until an end, and calls `ready` once, when the guest answers.
    pub(super) async fn watch<S: Future<Output = ()>>(
        &mut self,
        watch: &mut Watch<'_>,
        mut stop: Pin<&mut S>,
        ready: &mut dyn FnMut(f64),
    ) -> Outcome {
        let asked_before = watch.config.asked();
        let mut look = interval(SERIAL_POLL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut probe = Probe::new(watch.guest.clone());
        watch.progress.reached(self.stage);
        loop {
            let end = tokio::select! {
                () = stop.as_mut() => return Outcome::Stopped,
                event = next_event(&mut self.qmp) => self.handle(event).await,
                error = self.qemu.ended() => Some(self.qemu_ended(error).await),
                error = first_end(&mut self.helpers) => Some(self.helper_ended(error).await),
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
                return self.outcome(error, watch.trial);
            }
            // A guest with a serial port shows when it is worth asking; another is asked from the beginning.
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
        for program in &mut self.helpers {
            program.kill().await;
        }
    }

    fn look(&mut self, asked: bool, watch: &mut Watch<'_>) -> Option<Error> {
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
        if self.stage == Stage::Ready {
            return None;
        }
        let (now, seconds, stage) = (Instant::now(), watch.progress.seconds(), self.stage.name());
        let words = if now >= watch.deadline {
            format!(
                "the guest came no further than {stage} in {seconds} s; --boot-timeout-s extends that"
            )
        } else if watch.trial.is_some_and(|trial| now >= trial) {
            format!("the guest came no further than {stage} in {seconds} s")
        } else {
            return None;
        };
        Some(self.error(Fault::Guest, words))
    }

    /// `None` if the guest goes on, or if QEMU is about to end, which will tell more.
    async fn handle(&mut self, event: Result<Event, Error>) -> Option<Error> {
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
            "SHUTDOWN" => self.shutdown_reason = event.reason,
            "GUEST_PANICKED" => self.shutdown_reason = Some("guest-panic".into()),
            "STOP" => {
                let status = match &mut self.qmp {
                    Some(qmp) => qmp.status().await.ok(),
                    None => None,
                };
                match status.as_deref() {
                    None | Some("running" | "shutdown") => {}
                    Some("guest-panicked") => return Some(self.stopped_itself("guest-panic")),
                    Some(status) => {
                        let output = self.qemu.last_output();
                        let words = format!(
                            "QEMU stopped the guest's processors ({status}); its last output: {output}"
                        );
                        return Some(self.error(Fault::Host, words));
                    }
                }
            }
            _ => {}
        }
        None
    }

    /// QEMU has ended: its last events may say why.
    async fn qemu_ended(&mut self, error: Error) -> Error {
        let draining = async {
            while let Some(qmp) = &mut self.qmp {
                match qmp.event().await {
                    Ok(event) if event.name == "SHUTDOWN" => self.shutdown_reason = event.reason,
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
        match self.shutdown_reason.take() {
            Some(reason) if reason.starts_with("guest-") => self.stopped_itself(&reason),
            Some(reason) => self.error(error.fault, format!("{error} because of {reason}")),
            None => self.error(error.fault, error.to_string()),
        }
    }

    /// If QEMU ends with it, QEMU's reason counts.
    async fn helper_ended(&mut self, error: Error) -> Error {
        match timeout(Duration::from_secs(1), self.qemu.ended()).await {
            Ok(error) => self.qemu_ended(error).await,
            Err(_elapsed) => error,
        }
    }

    fn stopped_itself(&self, reason: &str) -> Error {
        let how = match reason {
            "guest-reset" => "reset itself, as a kernel does that panics",
            "guest-shutdown" => "switched itself off",
            "guest-panic" => "reported a panic",
            _ => "ended",
        };
        let stage = self.stage.name();
        let words = format!("the guest stopped itself at {stage}: it {how}");
        self.error(Fault::Guest, words)
    }

    /// An error in one line, followed by what the guest printed last.
    fn error(&self, fault: Fault, line: String) -> Error {
        let printed = match &self.serial.last_lines()[..] {
            [] => "it printed nothing".into(),
            lines => format!("the last it printed:\n  | {}", lines.join("\n  | ")),
        };
        Error::new(fault, format!("{line}\n{printed}"))
    }

    fn outcome(&self, error: Error, trial: Option<Instant>) -> Outcome {
        match trial {
            Some(_) if self.stage < Stage::Stage0 => Outcome::AcceleratorFailed(error),
            _ => Outcome::Failed(error),
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

async fn next_event(qmp: &mut Option<Qmp>) -> Result<Event, Error> {
    match qmp {
        Some(qmp) => qmp.event().await,
        None => pending().await,
    }
}

async fn first_end(programs: &mut [Program]) -> Error {
    match programs {
        [] => pending().await,
        [one] => one.ended().await,
        [one, others @ ..] => tokio::select! {
            error = one.ended() => error,
            error = Box::pin(first_end(others)) => error,
        },
    }
}

/// A software TPM that has measured nothing yet. A simulated TDX module takes its registers from the TPM's log.
async fn start_tpm(spec: &MachineSpec<'_>) -> Result<Program, Error> {
    let tool = spec.tools.swtpm.as_ref().ok_or_else(|| missing("swtpm"))?;
    spec.directory.make_tpm_state()?;
    let run = tool.run_path(spec.directory.path());
    let arguments = [
        "socket".into(),
        "--tpm2".into(),
        "--tpmstate".into(),
        format!("dir={run}/{TPM_STATE}"),
        "--ctrl".into(),
        format!("type=unixio,path={run}/{TPM}"),
        "--log".into(),
        format!("file={run}/{TPM_LOG},level=20,truncate"),
        // It is confined already, perhaps by a kernel that does not know its list of system calls.
        "--seccomp".into(),
        "action=none".into(),
        "--flags".into(),
        "not-need-init,startup-clear".into(),
    ];
    let words = tool.command_line(Some(&run_only(spec)), arguments.into());
    let mut program = Program::start("swtpm", &words, spec.directory.join("swtpm.out"))?;
    program.opens(&spec.directory.join(TPM)).await?;
    Ok(program)
}

/// vhost-device-vsock with its default buffer sizes: with larger ones it stalls.
async fn start_vsock(spec: &MachineSpec<'_>) -> Result<Program, Error> {
    let tool = spec.tools.vhost_device_vsock.as_ref();
    let tool = tool.ok_or_else(|| missing("vhost-device-vsock"))?;
    let run = tool.run_path(spec.directory.path());
    let arguments = [
        "--guest-cid".into(),
        spec.cid.to_string(),
        "--socket".into(),
        format!("{run}/{VHOST}"),
        "--uds-path".into(),
        format!("{run}/{VSOCK}"),
    ];
    let words = tool.command_line(Some(&run_only(spec)), arguments.into());
    let log = spec.directory.join("vsock.log");
    let mut program = Program::start("vhost-device-vsock", &words, log)?;
    program.opens(&spec.directory.join(VHOST)).await?;
    program.opens(&spec.directory.join(VSOCK)).await?;
    Ok(program)
}

/// The simulated TDX module: its registers are those of the machine that `launched.json` describes.
async fn start_module(spec: &MachineSpec<'_>, program: &Path) -> Result<Program, Error> {
    spec.directory.remove_socket(MODULE)?;
    let socket = spec.directory.join(MODULE);
    let words = [
        program.to_path_buf(),
        "--socket".into(),
        socket.clone(),
        "--out".into(),
        spec.directory.join("sim"),
        "--launched".into(),
        spec.directory.join(LAUNCHED),
    ];
    let words = words.map(|word| word.to_string_lossy().into_owned());
    let log = spec.directory.join("simulator.log");
    let mut module = Program::start("chrysalis-simulator", &words, log)?;
    module.opens(&socket).await?;
    Ok(module)
}

/// What the helpers may see.
fn run_only<'a>(spec: &MachineSpec<'a>) -> Sandbox<'a> {
    Sandbox {
        image: None,
        model: None,
        run: spec.directory.path(),
        devices: &[],
        sysfs: false,
    }
}

fn start_qemu(spec: &MachineSpec<'_>, accelerator: Accelerator) -> Result<Program, Error> {
    let words = qemu_words(spec, accelerator);
    Program::start("QEMU", &words, spec.directory.join("qemu.log"))
}

/// The whole command of QEMU.
pub(super) fn qemu_words(spec: &MachineSpec<'_>, accelerator: Accelerator) -> Vec<String> {
    let manifest = &spec.image.manifest;
    let tool = &spec.tools.qemu;
    let image_path = tool.image_path(&spec.image.directory);
    let run_path = tool.run_path(spec.directory.path());
    let image = |name: &str| format!("{image_path}/{name}");
    let run = |name: &str| format!("{run_path}/{name}");
    let files = &manifest.files;
    let (firmware, kernel, initrd) = (
        image(&files.firmware.name),
        image(&files.kernel.name),
        image(&files.initrd.name),
    );
    let (root, vhost, tpm) = (image(&files.root.name), run(VHOST), run(TPM));
    let (serial, qmp, monitor) = (run(SERIAL), run(QMP), run(MONITOR));
    let model = spec.model.map(|model| tool.model_path(model));
    let backends = Backends {
        firmware: &firmware,
        boot: Some(Boot {
            kernel: &kernel,
            initrd: Some(&initrd),
            cmdline: &manifest.cmdline,
        }),
        root: Some(&root),
        model: model.as_deref(),
        vsock: match spec.vsock {
            VsockBackend::User => Vsock::VhostUser(&vhost),
            VsockBackend::Kernel => Vsock::Kernel(spec.cid),
        },
        gpu: spec.gpu.map(|gpu| gpu.address.as_str()),
        tpm: spec.image.is_simulated().then_some(tpm.as_str()),
        serial: Some(&serial),
        qmp: &[&qmp, &monitor],
    };
    let mut devices = Vec::new();
    if accelerator != Accelerator::Tcg {
        devices.push(KVM);
    }
    if spec.vsock == VsockBackend::Kernel {
        devices.push(VHOST_VSOCK);
    }
    let of_gpu = spec.gpu.iter().flat_map(|gpu| &gpu.devices);
    devices.extend(of_gpu.filter_map(|path| path.to_str()));
    let sandbox = Sandbox {
        image: Some(&spec.image.directory),
        model: spec.model,
        run: spec.directory.path(),
        devices: &devices,
        sysfs: spec.gpu.is_some(),
    };
    let arguments = qemu_arguments(manifest.machine, accelerator, &backends);
    tool.command_line(Some(&sandbox), arguments)
}

/// `launched.json`: what QEMU was given, by the host's paths. The simulated TDX module reads it.
fn describe(spec: &MachineSpec<'_>, accelerator: Accelerator) -> Vec<u8> {
    let (image, manifest) = (spec.image, &spec.image.manifest);
    let mut described = json!({
        "version": 1,
        "accelerator": name(accelerator),
        "memory_mib": manifest.machine.memory_mib,
        "vcpus": manifest.machine.vcpus,
        "firmware": image.path(&manifest.files.firmware),
        "kernel": image.path(&manifest.files.kernel),
        "initrd": image.path(&manifest.files.initrd),
        "cmdline": manifest.cmdline,
        "root": image.path(&manifest.files.root),
    });
    if image.is_simulated() {
        described["tpm_log"] = json!(spec.directory.join(TPM_LOG));
    }
    format!("{described}\n").into_bytes()
}
