//! The guest of a stack: a machine, or a process above a simulated module.

use crate::Programs;
use crate::machine::Machine;
use crate::stack::{Child, StackOptions};
use anyhow::{bail, ensure};
use simulator::protocol::{Request, encode};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

/// The guest and the simulated module beneath it.
pub(crate) enum Guest {
    Process { agent: Child, _simulator: Child },
    Machine(Machine),
}

impl Guest {
    /// Starts it, and waits until it answers.
    pub(crate) fn start(
        programs: &Programs,
        dir: &Path,
        options: &StackOptions,
    ) -> anyhow::Result<Guest> {
        if let Some(image) = &options.image {
            let tampered = match options.tamper {
                Some(tamper) if tamper.is_in_image() => {
                    Some(image.tampered(tamper, &dir.join("tampered"))?)
                }
                _ => None,
            };
            let launched = tampered.as_ref().unwrap_or(image);
            let model = options.volume.as_deref();
            let model = model.map(|directory| directory.join(image_builder::model::VOLUME));
            let machine = Machine::start(programs, dir, launched, model.as_deref())?;
            return Ok(Guest::Machine(machine));
        }
        let simulator = start_simulator(programs, dir, &dir.join("tdx.sock"), None)?;
        Ok(Guest::Process {
            agent: start_agent(programs, dir, options)?,
            _simulator: simulator,
        })
    }

    /// Ends it as a crash would, if it is a process.
    pub(crate) fn kill(&mut self) {
        if let Guest::Process { agent, .. } = self {
            agent.kill();
        }
    }

    /// Starts a process anew: its registers begin at zero, and its keys are others.
    pub(crate) fn restart(
        &mut self,
        programs: &Programs,
        dir: &Path,
        options: &StackOptions,
    ) -> anyhow::Result<()> {
        let Guest::Process { agent, .. } = self else {
            bail!("the guest is a machine");
        };
        agent.kill();
        fs::remove_file(dir.join("guest.sock"))?;
        let mut simulator = UnixStream::connect(dir.join("tdx.sock"))?;
        simulator.write_all(&encode(&Request::Reset))?;
        let mut done = [1; 5];
        simulator.read_exact(&mut done)?;
        ensure!(done == [0; 5], "the simulated module was not reset");
        *agent = start_agent(programs, dir, options)?;
        Ok(())
    }
}

/// Starts the simulated module on `socket`. With `launched`, its registers are those of the machine described there.
pub(crate) fn start_simulator(
    programs: &Programs,
    dir: &Path,
    socket: &Path,
    launched: Option<&Path>,
) -> anyhow::Result<Child> {
    let mut command = Command::new(programs.path("chrysalis-simulator"));
    command.arg("--socket").arg(socket);
    command.arg("--out").arg(dir.join("sim"));
    if let Some(launched) = launched {
        command.arg("--launched").arg(launched);
    }
    command.arg("--parent-pipe").stdin(Stdio::piped());
    let (child, _) = Child::start("simulator", command, &dir.join("simulator.log"))?;
    Ok(child)
}

fn start_agent(programs: &Programs, dir: &Path, options: &StackOptions) -> anyhow::Result<Child> {
    let mut command = Command::new(programs.path("guest-agent-sim"));
    let listen = format!("unix:{}", dir.join("guest.sock").display());
    command.arg("--listen").arg(listen);
    command.arg("--simulator").arg(dir.join("tdx.sock"));
    command.arg("--config").arg(dir.join("guest.json"));
    command
        .arg("--models")
        .arg(dir.join("models"))
        .stdin(Stdio::null());
    if let Some(gpu) = &options.gpu {
        command.arg("--gpu-worker").arg(&gpu.worker);
        command.arg("--insecure-gpu-root").arg(&gpu.root);
    }
    let (agent, _) = Child::start("guest-agent-sim", command, &dir.join("guest.log"))?;
    Ok(agent)
}
