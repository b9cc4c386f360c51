//! What both binaries do: read the configuration, measure, make keys, listen.

use crate::config::CONFIG_BYTES_MAX;
use crate::platform::Platform;
use crate::{Booted, Listen, Place, log, memory};
use anyhow::Context;
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use registers::Digest48;
use sha2::{Digest as _, Sha384};
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// What the command line names. Everything else is in the measured configuration.
#[derive(Debug, clap::Args)]
pub struct Start {
    /// Where to listen for the proxy: vsock:PORT or unix:PATH.
    #[arg(long)]
    pub listen: Listen,
    /// The measured configuration (JSON): PATH, or vsock:CID:PORT to read it from. Its SHA-384 is extended into RTMR3,
    /// so it does not matter who hands it over.
    #[arg(long)]
    pub config: Place,
    /// The directory that holds one directory per model.
    #[arg(long)]
    pub models: PathBuf,
}

/// From a platform to serving. Returns only with an error.
pub async fn run<P: Platform>(platform: P, start: Start, simulated: bool) -> anyhow::Result<()> {
    end_on_signals().context("installing signal handlers")?;
    let config = start
        .config
        .read(CONFIG_BYTES_MAX)
        .with_context(|| format!("reading the measured configuration {}", start.config))?;
    let booted = Booted::new(platform, &config, simulated)?;
    let measured = booted
        .measure(own_digest()?, &start.models)
        .context("measuring")?;
    memory::lock(simulated).context("before the first key")?;
    // getrandom(2) without flags, or, where a static program cannot find it, /dev/urandom after /dev/random was ready to
    // be read: either waits until the kernel's generator is seeded (SECURITY.md 9).
    let attested = measured
        .attest(&mut UnwrapErr(SysRng))
        .context("making the keys")?;
    let keyset = attested.keyset().digest();
    let listen = start.listen.clone();
    let ready = || {
        println!(
            "{}",
            serde_json::json!({"ready": true, "keyset": keyset.to_string()})
        )
    };
    start
        .listen
        .serve(attested.serve(), ready)
        .await
        .with_context(|| format!("serving on {listen:?}"))
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

/// Says in one line why `program` ends, with exit code 1.
pub fn stop(program: &str, error: &anyhow::Error) -> ExitCode {
    eprintln!("{program}: {}", one_line(error));
    let_the_line_drain();
    ExitCode::FAILURE
}

/// An error and its causes, but for causes that the text before them already told, and on one line.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        match line.is_empty() {
            true => line = cause,
            false if line.ends_with(&cause) => {}
            false => line = format!("{line}: {cause}"),
        }
    }
    log::printable(&line)
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
fn own_digest() -> anyhow::Result<Digest48> {
    let mut file = std::fs::File::open("/proc/self/exe").context("opening the running program")?;
    let (mut hasher, mut buffer) = (Sha384::new(), vec![0; 1 << 20]);
    loop {
        match file
            .read(&mut buffer)
            .context("reading the running program")?
        {
            0 => return Ok(Digest48(hasher.finalize().into())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_and_says_nothing_twice() {
        let inner = std::io::Error::other("no\nroom\x1b[2J");
        let error = anyhow::Error::from(inner).context("reading a: no\nroom\x1b[2J");
        assert_eq!(one_line(&error), "reading a: no room [2J");
        let error = error.context("starting");
        assert_eq!(one_line(&error), "starting: reading a: no room [2J");
    }
}
