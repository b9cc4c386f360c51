//! The ACPI tables of a machine, read from the QEMU that will run it.
//!
//! An image's tables are made from its machine's shape (`predict::acpi`). This is what holds them against the locked
//! QEMU, and what a build falls back to, and says so, when the lock has a QEMU whose tables nobody proved.
//!
//! QEMU makes the tables when the firmware first asks for them, and from then on gives everybody the same bytes. So the
//! machine is started with the firmware alone; once that has gone past ACPI, the same files are read through QEMU's test
//! port (`-qtest`), which reaches the fw_cfg device as the guest's processor would (QEMU, docs/specs/fw_cfg.rst). No kernel
//! runs, and nothing of the image is needed but its firmware.
//!
//! Trusts the locked QEMU, as whoever launches with it does. A guest whose host runs another one measures another RTMR0
//! and is refused.

mod fw_cfg;
mod qemu_line;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use predict::qemu::{Accelerator, Backends, MachineSize, Vsock, qemu_arguments};

use crate::error::{Error, Fault, error};
use crate::files;
use crate::sandbox::Sandbox;
use fw_cfg::FwCfg;
use qemu_line::Line;

/// fw_cfg files by name, in the order of QEMU's directory.
pub type AcpiFiles = Vec<(String, Vec<u8>)>;

/// Where the firmware is inside.
const FIRMWARE: &str = "/image/firmware.fd";
/// Where the directory of sockets and logs is inside.
const DIRECTORY: &str = "/run/chrysalis";

/// Starts the machine with nothing but its firmware and reads the tables it is given. `tools` is a sandbox with the run tools;
/// `tpm` gives the machine one, as a simulated guest's has.
pub fn read(
    tools: &Sandbox,
    firmware: &Path,
    size: MachineSize,
    tpm: bool,
) -> Result<AcpiFiles, Error> {
    let inside = |name: &str| format!("{DIRECTORY}/{name}");
    let (socket, serial) = (inside("tpm.sock"), inside("serial"));
    let arguments = qemu_arguments(
        size,
        Accelerator::Tcg,
        &Backends {
            firmware: FIRMWARE,
            boot: None,
            root: None,
            model: None,
            vsock: Vsock::StandIn,
            gpu: None,
            tpm: tpm.then_some(socket.as_str()),
            serial: Some(&serial),
            qmp: &[],
        },
    );
    let line = Line {
        arguments,
        serial: true,
        tpm,
    };
    ask(tools, firmware, &line)
}

/// The same of any machine, given as QEMU's arguments. It runs without the host's help, with nothing behind its devices and
/// nothing to boot.
pub fn read_machine(
    tools: &Sandbox,
    firmware: &Path,
    words: &[String],
) -> Result<AcpiFiles, Error> {
    let mut line = qemu_line::prepared(words);
    for word in ["-accel", "tcg", "-bios", FIRMWARE] {
        line.arguments.push(word.to_owned());
    }
    ask(tools, firmware, &line)
}

fn ask(tools: &Sandbox, firmware: &Path, line: &Line) -> Result<AcpiFiles, Error> {
    let directory = tempfile::Builder::new()
        .prefix("chrysalis-acpi-")
        .tempdir()
        .map_err(Error::of(Fault::Disk, "making a directory: "))?;
    let at = |name: &str| directory.path().join(name);
    files::create_directory(&at("tpm"))?;

    let sandbox = tools
        .clone()
        .read(firmware, FIRMWARE)
        .write(directory.path(), DIRECTORY);
    let start = |program: &'static str, arguments: &[String]| {
        let command = sandbox.command(format!("/usr/bin/{program}"), arguments);
        Program::start(program, command, at(&format!("{program}.log")))
    };
    let mut swtpm = None;
    if line.tpm {
        let program = swtpm.insert(start("swtpm", &swtpm_arguments())?);
        program.wait_for("made no socket", || at("tpm.sock").exists())?;
    }
    let mut arguments = line.arguments.clone();
    let port = format!("unix:{DIRECTORY}/qtest.sock,server=on,wait=off");
    arguments.extend(["-qtest".into(), port]);
    arguments.extend(["-qtest-log".into(), "/dev/null".into()]);
    let mut qemu = start("qemu-system-x86_64", &arguments)?;
    // The boot device selection starts after the tables are installed; its first words are on the serial port. A machine
    // without one says nothing, and reading too early would freeze other tables, so it gets time.
    let started = Instant::now();
    qemu.wait_for("did not get its firmware past ACPI", || match line.serial {
        true => fs::read(at("serial"))
            .is_ok_and(|text| text.windows(PAST_ACPI.len()).any(|w| w == PAST_ACPI)),
        false => started.elapsed() > SILENT_TIME,
    })?;
    FwCfg::connect(&at("qtest.sock"))?.acpi_files()
}

/// A TPM in a fresh state that answers from the start and logs every command.
fn swtpm_arguments() -> Vec<String> {
    let socket = format!("type=unixio,path={DIRECTORY}/tpm.sock");
    let state = format!("dir={DIRECTORY}/tpm");
    let words = [
        "socket",
        "--tpm2",
        "--tpmstate",
        &state,
        "--ctrl",
        &socket,
        "--seccomp",
        "action=none",
        "--flags",
        "not-need-init,startup-clear",
    ];
    words.map(str::to_owned).to_vec()
}

/// A program that ends when this value does.
struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    fn start(name: &'static str, mut command: Command, log: PathBuf) -> Result<Self, Error> {
        let begin = format!("starting {name}: ");
        let mut spawn = || {
            let output = fs::File::create(&log)?;
            command.stdin(Stdio::null()).stdout(output.try_clone()?);
            command.stderr(output).spawn()
        };
        let child = spawn().map_err(Error::of(Fault::Tool, &begin))?;
        Ok(Self { name, child, log })
    }

    /// Waits on the host's clock until `reached`, or the program ends, or too long.
    fn wait_for(
        &mut self,
        what: &'static str,
        mut reached: impl FnMut() -> bool,
    ) -> Result<(), Error> {
        let until = Instant::now() + PATIENCE;
        while !reached() {
            // What cannot be asked for its status is as good as gone.
            if !matches!(self.child.try_wait(), Ok(None)) {
                return Err(self.stopped("ended early"));
            }
            if Instant::now() > until {
                return Err(self.stopped(what));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn stopped(&self, what: &'static str) -> Error {
        let said = fs::read(&self.log).unwrap_or_default();
        let end = said.len().saturating_sub(SAID_BYTES_MAX);
        let said = String::from_utf8_lossy(&said[end..]);
        error!(Tool, "{} {what}; it said: {}", self.name, said.trim())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PAST_ACPI: &[u8] = b"BdsDxe";
/// The firmware takes some five seconds here; a machine that is busy with other work takes longer.
const PATIENCE: Duration = Duration::from_secs(180);
/// Ten times what the firmware takes.
const SILENT_TIME: Duration = Duration::from_secs(60);
const SAID_BYTES_MAX: usize = 2000;
