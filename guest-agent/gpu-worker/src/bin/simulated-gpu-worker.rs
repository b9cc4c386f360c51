//! SIMULATED: what stands where `gpu-worker --serve` does in tests and demonstrations, and computes on the processor. In no image.

use engine::scheduler::Limits;
use engine::{Before, Memory, Room, Row, Served, kernels_of, served};
use gpu_worker::Computing;
use nix::sys::socket::{MsgFlags, send};
use std::error::Error;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{sleep, spawn};
use std::time::Duration;
use wire::LoadPlan;

const USAGE: &str = "\
SIMULATED: runs jobs on the processor for a guest agent whose GPU is simulated.

Usage: simulated-gpu-worker --serve [--step MILLISECONDS] [--noise MILLISECONDS FILE]

Options:
      --serve              Load one model and run its jobs, for the agent on standard input
      --step MILLISECONDS  Take so much longer for a step
      --noise MILLISECONDS FILE  So long after the model is loaded, send what the file has as a packet: a test of the agent";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let time = |text: &str| text.parse().ok().map(Duration::from_millis);
    let (step, noise) = match words[..] {
        ["--serve"] => (Some(Duration::ZERO), None),
        ["--serve", "--step", step] => (time(step), None),
        ["--serve", "--noise", after, file] => (time(after), std::fs::read(file).ok()),
        _ => (None, None),
    };
    let Some(step) = step else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let load = |plan: &LoadPlan| {
        let computing = match noise {
            None => load(plan, step),
            Some(packet) => {
                let computing = load(plan, Duration::ZERO);
                spawn(move || {
                    sleep(step);
                    let socket = std::io::stdin().as_raw_fd();
                    send(socket, &packet, MsgFlags::MSG_NOSIGNAL)
                });
                computing
            }
        };
        computing.map_err(|error| error.to_string())
    };
    let agent = std::io::stdin().as_fd().try_clone_to_owned();
    let agent = agent.expect("a program has a standard input");
    match gpu_worker::serve_jobs(agent, load) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simulated-gpu-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn load(plan: &LoadPlan, step: Duration) -> Result<Computing, Box<dyn Error>> {
    let files = engine::weights::read(Path::new(&plan.directory))?;
    let kernels = Arc::new(kernels_of(None)?);
    let path = kernels.path();
    let room = Room {
        kv_bytes: plan.kv_mib.map(|mib| u64::from(mib) << 20),
        context_max: plan.context_max as usize,
        weights: plan.weights.map(gpu_jobs::kind),
    };
    let served = Served::load(&files, kernels, &room, &Memory::unlimited())?;
    let determinism = served::determinism(path, served.quantisation);
    Ok(Computing {
        // It takes so much longer for a step.
        forward: Box::new(Before(served.forward, move |_: &[Row]| sleep(step))),
        tokens: served.tokens,
        limits: Limits::default(),
        root: files.root()?.0,
        quantisation: served.quantisation.into(),
        determinism: format!("simulated-gpu/{determinism}"),
    })
}
