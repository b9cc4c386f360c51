//! The guest as a virtual machine: the simulated TDX module, and `host-proxy launch`, as a provider starts it.

use crate::Programs;
use crate::guest::start_simulator;
use crate::image::Image;
use crate::stack::Child;
use anyhow::Context;
use attest::Manifest;
use registers::Digest48;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A running machine, its module and its tools, which end with this value.
pub struct Machine {
    /// The directory of its sockets and logs.
    pub run: PathBuf,
    /// Seconds from the start of QEMU until the agent answered, on the host's clock.
    pub boot_s: f64,
    /// What runs the machine's instructions, as the launcher says.
    pub accelerator: String,
    launch: Child,
    _simulator: Child,
}

/// A boot takes half a minute on a quiet machine without KVM, and longer on a busy one.
const BOOT_TIME: Duration = Duration::from_secs(600);

impl Machine {
    /// Starts `image` with a configuration, and `model` on its second disk. `dir` is the stack's directory, which holds `guest.json`.
    pub fn start(
        programs: &Programs,
        dir: &Path,
        image: &Image,
        model: Option<&Path>,
    ) -> anyhow::Result<Machine> {
        let run = dir.join("run");
        // As `launch` would make it: it refuses one that others may enter.
        DirBuilder::new().recursive(true).mode(0o700).create(&run)?;
        let launched = run.join("launched.json");
        let socket = run.join("vsock.sock_9100");
        let simulator = start_simulator(programs, dir, &socket, Some(&launched))?;

        let mut command = Command::new(programs.path("host-proxy"));
        command.args(["launch", "--json", "--manifest"]);
        command.arg(image.manifest_path());
        command.arg("--tools").arg(&image.tools);
        command.arg("--config").arg(dir.join("guest.json"));
        command.arg("--run").arg(&run);
        if let Some(model) = model {
            command.arg("--model").arg(model);
        }
        command
            .args(["--boot-timeout-s", &BOOT_TIME.as_secs().to_string()])
            .stdin(Stdio::null());
        let patience = BOOT_TIME + Duration::from_secs(60);
        let (launch, ready) = Child::start_within(
            "host-proxy launch",
            command,
            &dir.join("launch.log"),
            patience,
        )?;
        Ok(Machine {
            boot_s: ready["boot_s"]
                .as_f64()
                .context("launch says how long the boot took")?,
            accelerator: ready["accelerator"]
                .as_str()
                .unwrap_or("unknown")
                .to_owned(),
            run,
            launch: launch.ended_softly(),
            _simulator: simulator,
        })
    }

    /// The guest's address for a proxy.
    pub fn guest(&self) -> String {
        format!("hybrid:{}:9000", self.run.join("vsock.sock").display())
    }

    /// The launcher's process id.
    pub fn launch_id(&self) -> u32 {
        self.launch.id()
    }
}

/// What a guest of this image with this configuration should measure to.
pub fn manifest(image: &Image, config: &[u8]) -> Manifest {
    image.manifest.guest(Digest48::of(config), &[])
}
