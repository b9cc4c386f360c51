//! The GPU of a guest that has one: evidence by way of the gate, a process of its own.
//!
//! ```text
//!  boot      any report ─► which GPU: RTMR3 ─► ready ─► models are loaded ─► keys, keyset ─► its report ─► serving
//!  epoch     keys, keyset ─► its report, of the same GPU ─► shown;   none: the GPU is lost, and nothing is served any more
//! ```
//! The driver's library is closed and large, so it never shares memory with keys; the gate loads it, carries bytes and ends. Before
//! anything is made of a report it is verified here that a device under NVIDIA's root signed it for this nonce, and that it is the
//! device that was measured. Whether its firmware is what NVIDIA names, and whether a certificate was revoked, takes RIMs and a clock
//! that can be believed; a guest has neither, so both are for each client to judge.

use crate::devices::{DeviceError, Held};
use crate::log;
use crate::platform::PlatformError;
use gpu::{EvidenceError, GpuEvidence, GpuRefusal, GpuRoots, inspect_without_clock};
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use wire::limits::GATE_BYTES_MAX;
use wire::{Digest, GateAnswer, GateRefusal, GateRequest, GpuReport, KeysetDigest, Malformed};

/// The program that asks the driver. It computes, too (`crate::worker`).
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) program: PathBuf,
    roots: GpuRoots,
}

/// A GPU that was measured into RTMR3.
#[derive(Debug)]
pub(crate) struct Gpu {
    pub(crate) gate: Gate,
    pub(crate) identity: Digest,
    /// Held while the next epoch is made, so that one gate is asked for it and not one for each client that attests.
    pub(crate) turning: tokio::sync::Mutex<()>,
    pub(crate) lost: Lost,
    /// None in a simulation, whose driver is a file.
    held: Option<Held>,
}

/// Why a guest has no GPU to attest. The machine, its driver or its GPU is at fault.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum GpuError {
    #[error("the configuration demands a GPU, and this agent was started without --gpu-worker")]
    NoGate,
    #[error("the GPU gate {program}: {doing}: {error}")]
    Io {
        program: PathBuf,
        doing: &'static str,
        error: io::Error,
    },
    #[error("the GPU gate sent a message of {0} bytes; at most {GATE_BYTES_MAX} are accepted")]
    TooLong(usize),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the GPU gate answered something else than it was asked")]
    OutOfOrder,
    #[error("the GPU gate refuses: {0}")]
    Refused(#[from] GateRefusal),
    #[error("its evidence cannot be read: {0}")]
    Evidence(#[from] EvidenceError),
    #[error(transparent)]
    NotVerified(#[from] GpuRefusal),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Measure(#[from] PlatformError),
    #[error("the GPU is another one than was measured")]
    AnotherGpu,
    #[error("the thread that asked the GPU gate panicked")]
    Panicked,
}

impl Gate {
    /// `roots` are those that a GPU's certificates have to lead to.
    pub(crate) fn new(program: &Path, roots: GpuRoots) -> Self {
        Gate {
            program: program.to_owned(),
            roots,
        }
    }

    /// A GPU's report for a nonce, verified; which GPU it is of; and the gate that waits for the next word.
    fn report(&self, nonce: &[u8; 32]) -> Result<(GpuReport, Digest, OpenGate<'_>), GpuError> {
        let mut gate = self.open()?;
        let report = match gate.ask(&GateRequest::Report(*nonce))? {
            GateAnswer::Report(report) => report,
            GateAnswer::Ready | GateAnswer::Refused(_) => return Err(GpuError::OutOfOrder),
        };
        let certificates: Vec<_> = { report.certificates.iter() }
            .map(|der| der.to_vec())
            .collect();
        let evidence = GpuEvidence::from_der(&report.report, &certificates)?;
        inspect_without_clock(&evidence, &self.roots, nonce)?;
        let identity = report.identity();
        let identity = identity.expect("a chain that was verified has a device above its leaf");
        Ok((report, identity, gate))
    }

    fn open(&self) -> Result<OpenGate<'_>, GpuError> {
        let failed = |doing| move |error| self.failed(doing, error);
        let (ours, theirs) = UnixStream::pair().map_err(failed("making a pair of sockets"))?;
        for timeout in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            timeout(&ours, Some(ANSWER_TIME)).map_err(failed("setting a time"))?;
        }
        let child = spawn(&self.program, "--gate", OwnedFd::from(theirs), None);
        let child = child.map_err(failed("starting it"))?;
        Ok(OpenGate {
            gate: self,
            child,
            socket: ours,
        })
    }

    fn failed(&self, doing: &'static str, error: io::Error) -> GpuError {
        GpuError::Io {
            program: self.program.clone(),
            doing,
            error: match error.kind() {
                // What a socket's time out is called.
                io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
                _ => error,
            },
        }
    }
}

/// Starts what speaks to the driver, as `user` if it may not be this one. It gets nothing of this process but the socket: what steers a
/// loader would come by the environment (SECURITY.md 11).
pub(crate) fn spawn(
    program: &Path,
    mode: &str,
    socket: OwnedFd,
    user: Option<u32>,
) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.arg(mode).env_clear().stdin(Stdio::from(socket));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(user) = user {
        // The user last: who is no longer root has no groups to choose from.
        command.gid(user).uid(user);
    }
    command.spawn()
}

/// A gate that runs. It ends with this value.
struct OpenGate<'a> {
    gate: &'a Gate,
    child: Child,
    socket: UnixStream,
}

impl OpenGate<'_> {
    fn ask(&mut self, request: &GateRequest) -> Result<GateAnswer, GpuError> {
        let sent = self.socket.write_all(&request.encode());
        sent.map_err(|error| self.gate.failed("asking it", error))?;
        let failed = |error| self.gate.failed("reading its answer", error);
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).map_err(failed)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > GATE_BYTES_MAX {
            return Err(GpuError::TooLong(length));
        }
        let mut answer = vec![0; length];
        self.socket.read_exact(&mut answer).map_err(failed)?;
        match GateAnswer::decode(&answer)? {
            GateAnswer::Refused(refusal) => Err(refusal.into()),
            answer => Ok(answer),
        }
    }
}

impl Drop for OpenGate<'_> {
    fn drop(&mut self) {
        // It may have ended by itself. Waiting leaves no zombie, also below PID 1.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gpu {
    /// Finds out which GPU this guest has, has it measured, and lets it take work: weights, which are no secret. What is, is sealed to
    /// keys that exist only later.
    pub(crate) fn find(
        gate: Gate,
        held: Option<Held>,
        nonce: &[u8; 32],
        measure: impl FnOnce(&Digest) -> Result<(), PlatformError>,
    ) -> Result<Self, GpuError> {
        let (_, identity, mut open) = gate.report(nonce)?;
        measure(&identity)?;
        match open.ask(&GateRequest::SetReady)? {
            GateAnswer::Ready => {}
            GateAnswer::Report(_) | GateAnswer::Refused(_) => return Err(GpuError::OutOfOrder),
        }
        drop(open);
        Ok(Gpu {
            identity,
            held,
            gate,
            turning: tokio::sync::Mutex::default(),
            lost: Lost::default(),
        })
    }

    /// The user that computes on it, of which only a simulation, which may have no other, has none.
    pub(crate) fn worker_user(&self) -> Option<u32> {
        self.held.as_ref().map(|_| WORKER_USER)
    }

    /// Its evidence for a keyset.
    pub(crate) fn attest(&self, keyset: KeysetDigest) -> Result<GpuReport, GpuError> {
        let (report, identity, _) = self.gate.report(&GpuReport::nonce(keyset))?;
        match identity == self.identity {
            true => Ok(report),
            false => Err(GpuError::AnotherGpu),
        }
    }
}

/// Whether the guest serves nothing any more, and why: of whoever can find that out, the first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lost(Arc<OnceLock<String>>);

impl Lost {
    /// From now on the guest serves nothing.
    pub(crate) fn because(&self, error: &dyn Display) {
        if self.0.set(error.to_string()).is_ok() {
            log::line(format_args!(
                "the GPU is lost, nothing is served any more: {error}"
            ));
        }
    }

    /// Why, if it is so. Nothing brings the GPU back but a boot.
    pub(crate) fn why(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

/// No file of a guest belongs to it, and the devices of the GPU are for everybody (`devices`).
const WORKER_USER: u32 = 1_000;
/// How long the gate may take for an answer: the first one of a boot starts the driver and its session with the GPU.
const ANSWER_TIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_speaks_to_the_driver_gets_a_user_and_no_environment() {
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let user = nix::unistd::geteuid().is_root().then_some(WORKER_USER);
        if user.is_none() {
            without::skip("another user", "this test is not run by root");
        }
        let spawned = spawn(Path::new("/bin/sleep"), "60", theirs.into(), user);
        let mut child = spawned.unwrap();
        let of = |file: &str| format!("/proc/{}/{file}", child.id());
        let status = std::fs::read_to_string(of("status")).unwrap();
        let environment = std::fs::read(of("environ")).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        if let Some(user) = user {
            for name in ["Uid", "Gid"] {
                let all = format!("{name}:\t{user}\t{user}\t{user}\t{user}\n");
                assert!(status.contains(&all), "{status}");
            }
            assert!(status.contains("Groups:\t \n"), "{status}");
        }
        assert!(environment.is_empty(), "{} bytes", environment.len());
    }
}
