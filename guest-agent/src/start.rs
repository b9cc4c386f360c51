//! What both binaries do: read the configuration, measure, make keys, listen.

use crate::platform::Platform;
use crate::{Booted, Listen};
use anyhow::Context;
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use measurements::Digest48;
use nix::sys::mman::{MlockAllFlags, mlockall};
use sha2::{Digest as _, Sha384};
use std::io::Read;
use std::path::PathBuf;

/// What the command line names. Everything else is in the measured configuration.
#[derive(Debug, clap::Args)]
pub struct Start {
    /// Where to listen for the courier: vsock:PORT or unix:PATH.
    #[arg(long)]
    pub listen: Listen,
    /// The measured configuration (JSON). Its SHA-384 is extended into RTMR3.
    #[arg(long)]
    pub config: PathBuf,
    /// The folder that holds one folder per model.
    #[arg(long)]
    pub models: PathBuf,
}

/// From a platform to serving. Returns only with an error.
pub async fn run<P: Platform>(platform: P, start: Start, simulated: bool) -> anyhow::Result<()> {
    let config = std::fs::read(&start.config).with_context(|| {
        format!(
            "reading the measured configuration {}",
            start.config.display()
        )
    })?;
    let booted = Booted::new(platform, &config, simulated)?;
    let measured = booted
        .measure(own_digest()?, &start.models)
        .context("measuring")?;
    lock_memory(simulated)?;
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
    std::panic::set_hook(Box::new(|info| match info.location() {
        Some(at) => eprintln!("panic at {}:{}", at.file(), at.line()),
        None => eprintln!("panic"),
    }));
}

/// Weights and keys must stay in memory that the host cannot page in and out (SECURITY.md 1). Called when the weights are
/// loaded and before the first key is made.
fn lock_memory(simulated: bool) -> anyhow::Result<()> {
    // A demonstration runs without privileges: there, locking the future would turn a low limit into a failed allocation.
    let flags = match simulated {
        true => MlockAllFlags::MCL_CURRENT,
        false => MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE,
    };
    match mlockall(flags) {
        Ok(()) => Ok(()),
        Err(error) if simulated => {
            tracing::warn!(%error, "memory is not locked; acceptable only because everything here is simulated");
            Ok(())
        }
        Err(error) => Err(error).context("locking memory; the image must allow it"),
    }
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
