//! What both binaries do: read the configuration, measure, make keys, listen.

use crate::platform::Platform;
use crate::{BootError, Booted, ListenError, MemoryError, Source, Start, log, memory};
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use gpu::GpuRoots;
use registers::Digest48;
use sha2::{Digest as _, Sha384};
use std::convert::Infallible;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use wire::limits::CONFIG_BYTES_MAX;

/// From a platform to serving. Ends only with an error, which it prints in one line.
pub async fn run<P: Platform>(
    program: &str,
    platform: P,
    start: Start,
    simulated: bool,
) -> ExitCode {
    let Err(error) = serve(platform, start, simulated).await;
    eprintln!("{program}: {}", log::printable(&error.to_string()));
    let_the_line_drain();
    ExitCode::FAILURE
}

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("installing signal handlers: {0}")]
    Signals(io::Error),
    #[error("reading the measured configuration {from}: {error}")]
    Config { from: Source, error: io::Error },
    #[error("the test root of the GPU {}: {error}", from.display())]
    GpuRoot {
        from: PathBuf,
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error("before the first key: {0}")]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Listen(#[from] ListenError),
}

async fn serve<P: Platform>(
    platform: P,
    start: Start,
    simulated: bool,
) -> Result<Infallible, StartError> {
    end_on_signals().map_err(StartError::Signals)?;
    // The program is hashed while the configuration comes.
    let agent = std::thread::spawn(own_digest);
    let config = start.config.read(CONFIG_BYTES_MAX);
    let config = config.map_err(|error| StartError::Config {
        from: start.config,
        error,
    })?;
    let roots = gpu_roots(start.insecure_gpu_root.as_deref())?;
    let booted =
        Booted::new(platform, &config, simulated)?.with_gpu(start.gpu_worker.as_deref(), roots);
    let agent = || agent.join().expect("hashing a file does not panic");
    let measured = booted.measure(agent, &start.models)?;
    memory::lock(simulated)?;
    // getrandom(2) without flags, or, where a static program cannot find it, /dev/urandom after /dev/random was ready to
    // be read: either waits until the kernel's generator is seeded (SECURITY.md 9).
    let attested = measured.attest(&mut UnwrapErr(SysRng))?;
    let keyset = attested.keyset().digest();
    let ready = || println!(r#"{{"ready":true,"keyset":"{keyset}"}}"#);
    Ok(start.listen.serve(attested.serve(), ready).await?)
}

/// NVIDIA's, or the test root of a simulation in their place.
fn gpu_roots(insecure_test: Option<&Path>) -> Result<GpuRoots, StartError> {
    let Some(path) = insecure_test else {
        return Ok(GpuRoots::NVIDIA);
    };
    let refused = |error| StartError::GpuRoot {
        from: path.to_owned(),
        error,
    };
    let der = std::fs::read(path).map_err(|error| refused(error.into()))?;
    // The other root is that of RIMs, which an agent does not judge.
    GpuRoots::insecure_test(&der, &der).map_err(|error| refused(error.into()))
}

/// Prints where a panic happened and never what it said: a message may hold what a prompt held (SECURITY.md 3).
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        match info.location() {
            Some(at) => eprintln!("panic at {}:{}", at.file(), at.line()),
            None => eprintln!("panic"),
        }
        let_the_line_drain();
    }));
}

/// The end of PID 1 is a kernel panic, which drops what the serial line has not sent yet.
fn let_the_line_drain() {
    if std::process::id() == 1 {
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// SIGTERM and SIGINT end the program, with exit code 0. For PID 1 the kernel ignores a signal without a handler.
fn end_on_signals() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // At once, as without a handler: what is under way has no receipt and is not charged.
        std::process::exit(0);
    });
    Ok(())
}

/// SHA-384 of the running program's file.
fn own_digest() -> io::Result<Digest48> {
    let mut file = std::fs::File::open("/proc/self/exe")?;
    let (mut hasher, mut buffer) = (Sha384::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest48(hasher.finalize().into())),
            n => hasher.update(&buffer[..n]),
        }
    }
}
