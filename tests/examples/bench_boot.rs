//! How long a guest takes from the start of QEMU until its agent answers, against the same firmware and kernel with a first
//! program that prints a line.
//!
//!     cargo run -p tests --example bench_boot -- 7
//!
//! Both are launched by `host-proxy launch` as the same machine: the same devices, a TPM among them, the same memory and the same
//! command line. A configuration has at least one model: here a random one of 1.5 MB on a volume, so that it is the boot which is
//! timed. Pairs, one after the other; every second pair starts with the other one.

use std::fs::{self, DirBuilder};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use demo::Guest;
use image_builder::formats::cpio;
use image_builder::model;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tests::{Programs, workspace_root};

const LINE: &str = "the first program has printed a line";
const PATIENCE: Duration = Duration::from_secs(600);

fn main() -> anyhow::Result<()> {
    let pairs = std::env::args().nth(1).unwrap_or("7".into());
    let pairs: usize = pairs.parse().context("the number of pairs")?;
    let programs = Programs::beside_this_one()?;
    programs.build(Guest::Machine)?;
    let bench = Bench::prepare(programs)?;
    let (mut guests, mut peers, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..pairs {
        let (guest, peer) = match pair % 2 {
            0 => (bench.guest()?, bench.peer()?),
            _ => {
                let peer = bench.peer()?;
                (bench.guest()?, peer)
            }
        };
        println!(
            "pair {pair}: agent answered after {guest:.2} s, line printed after {peer:.2} s, {:.3}",
            guest / peer
        );
        guests.push(guest);
        peers.push(peer);
        ratios.push(guest / peer);
    }
    for (what, mut values) in [
        ("agent, s", guests),
        ("line, s", peers),
        ("ratio of a pair", ratios),
    ] {
        values.sort_by(f64::total_cmp);
        let (least, most) = (values[0], values[values.len() - 1]);
        println!(
            "{what}: median {:.3}, {least:.3} to {most:.3}",
            values[values.len() / 2]
        );
    }
    Ok(())
}

struct Bench {
    programs: Programs,
    directory: tempfile::TempDir,
    tools: PathBuf,
    image: PathBuf,
    volume: PathBuf,
    peer: PathBuf,
}

impl Bench {
    fn prepare(programs: Programs) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("chrysalis-").tempdir()?;
        let images = programs.target_dir().join("images");
        fs::create_dir_all(&images)?;
        let recipe = workspace_root().join("image-builder/recipes/sim.yaml");
        let image = images.join("bench-boot");
        let builder = |command: &str| {
            let mut builder = Command::new(programs.path("image-builder"));
            builder.arg(command).arg(&recipe).arg("--json");
            builder
        };
        let tools = directory.path().join("tools.json");
        fs::write(&tools, output(&mut builder("tools"))?)?;
        output(builder("build").arg("--out").arg(&image))?;
        let model = directory.path().join("random-model");
        random_model::write(&model)?;
        let volume = directory.path().join("volume");
        let mut pack = Command::new(programs.path("image-builder"));
        pack.args(["model", "pack", "--json", "--out"]);
        output(pack.arg(&volume).arg(&model))?;
        let bench = Self {
            peer: directory.path().join("peer"),
            tools,
            image,
            volume,
            directory,
            programs,
        };
        bench.write_config()?;
        bench.write_peer()?;
        Ok(bench)
    }

    fn write_config(&self) -> anyhow::Result<()> {
        let text = fs::read(self.volume.join(model::DESCRIPTION))?;
        let volume = model::parse_description(&text)?.volume;
        let payee = format!("0:{}", "11".repeat(32));
        let config = json!({
            "version": 1, "profile": "sim", "chain": settlement::ChainId::EMBEDDED.0,
            "payee": payee, "payee_key": "22".repeat(32), "stake": payee, "lifetime_s": 3600, "jobs_max": 10_000,
            "price_step_nano": 16_000_000, "exposure_max_nano": 1_000_000_000, "interval_ms": 50,
            "models": [{"id": "random-model", "endpoint": "chat", "root": volume.verity_hash.to_string(), "context_tokens": 256,
                        "volume": {"salt": volume.salt, "data_blocks": volume.data_blocks},
                        "prompt_nano": 200_000_000_000u64, "completion_nano": 1_000_000_000_000u64}],
        });
        Ok(fs::write(self.config(), config.to_string())?)
    }

    /// The image with another initrd, under a manifest that says so.
    fn write_peer(&self) -> anyhow::Result<()> {
        fs::create_dir(&self.peer)?;
        for entry in fs::read_dir(&self.image)? {
            let entry = entry?;
            fs::copy(entry.path(), self.peer.join(entry.file_name()))?;
        }
        let initrd = initrd(&first_program(self.directory.path())?)?;
        fs::write(self.peer.join("initrd"), &initrd)?;
        let path = self.peer.join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&fs::read(&path)?)?;
        manifest["files"]["initrd"]["bytes"] = initrd.len().into();
        manifest["files"]["initrd"]["sha256"] = hex::encode(Sha256::digest(&initrd)).into();
        Ok(fs::write(&path, serde_json::to_vec(&manifest)?)?)
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("guest.json")
    }

    /// Seconds until the agent has answered, as the launcher hears it.
    fn guest(&self) -> anyhow::Result<f64> {
        let launched = self.launch(&self.image)?;
        launched.until("its agent answers", || {
            let ready = fs::read_to_string(launched.run.join("ready")).unwrap_or_default();
            ready.contains("\"ready\":true")
        })
    }

    /// Seconds until the line is on the serial port.
    fn peer(&self) -> anyhow::Result<f64> {
        let launched = self.launch(&self.peer)?;
        launched.until("its first program prints a line", || {
            let serial = fs::read(launched.run.join("serial.log")).unwrap_or_default();
            memchr::memmem::find(&serial, LINE.as_bytes()).is_some()
        })
    }

    fn launch(&self, image: &Path) -> anyhow::Result<Launched> {
        let directory = self.directory.path();
        let run = directory.join("run");
        if run.exists() {
            fs::remove_dir_all(&run)?;
        }
        DirBuilder::new().mode(0o700).create(&run)?;
        let mut simulator = Command::new(self.programs.path("chrysalis-simulator"));
        simulator
            .arg("--socket")
            .arg(run.join("vsock.sock_9100"))
            .arg("--out")
            .arg(directory.join("sim"));
        simulator
            .arg("--launched")
            .arg(run.join("launched.json"))
            .arg("--parent-pipe");
        let log = |name: &str| fs::File::create(run.join(name));
        simulator
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log("simulator.log")?);
        let mut simulator = simulator.spawn().context("starting the simulator")?;
        let said = simulator.stdout.take().context("it is piped")?;
        BufReader::new(said).read_line(&mut String::new())?;

        let mut launch = Command::new(self.programs.path("host-proxy"));
        launch
            .args(["launch", "--json", "--manifest"])
            .arg(image.join("manifest.json"));
        launch
            .arg("--tools")
            .arg(&self.tools)
            .arg("--config")
            .arg(self.config())
            .arg("--run")
            .arg(&run);
        launch.arg("--model").arg(self.volume.join(model::VOLUME));
        launch.args(["--accelerator", "tcg"]).stdin(Stdio::null());
        launch.stdout(log("ready")?).stderr(log("launch.log")?);
        let launch = launch.spawn().context("starting host-proxy launch")?;
        Ok(Launched {
            run,
            launch,
            simulator,
        })
    }
}

/// A machine on its way, which ends with the value.
struct Launched {
    run: PathBuf,
    launch: Child,
    simulator: Child,
}

impl Launched {
    /// From the moment that QEMU has opened the serial port's file until something holds.
    fn until(&self, what: &str, holds: impl Fn() -> bool) -> anyhow::Result<f64> {
        let (asked, mut begun) = (Instant::now(), None);
        loop {
            if begun.is_none() && self.run.join("serial.log").exists() {
                begun = Some(Instant::now());
            }
            if let Some(begun) = begun
                && holds()
            {
                return Ok(begun.elapsed().as_secs_f64());
            }
            if asked.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.run.join("launch.log")).unwrap_or_default();
                bail!("waited too long until {what}:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let id = nix::unistd::Pid::from_raw(self.launch.id().cast_signed());
        let _ = nix::sys::signal::kill(id, nix::sys::signal::SIGTERM);
        let _ = self.launch.wait();
        let _ = self.simulator.kill();
        let _ = self.simulator.wait();
    }
}

fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(output.stdout)
}

/// A static program without a library: it prints the line and waits.
fn first_program(directory: &Path) -> anyhow::Result<Vec<u8>> {
    let source = format!(
        ".globl _start\n_start:\n mov $1, %eax\n mov $1, %edi\n lea line(%rip), %rsi\n mov ${}, %edx\n syscall\n\
         wait: mov $34, %eax\n syscall\n jmp wait\nline: .ascii \"{LINE}\\n\"\n",
        LINE.len() + 1
    );
    let (assembly, program) = (directory.join("first.s"), directory.join("first"));
    fs::write(&assembly, source)?;
    let mut compiler = Command::new("cc");
    compiler
        .args(["-static", "-nostdlib", "-o"])
        .arg(&program)
        .arg(&assembly);
    output(&mut compiler)?;
    Ok(fs::read(program)?)
}

fn initrd(init: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut archive = cpio::Writer::new(Vec::new());
    archive.directory("/dev", 0o755)?;
    archive.device("/dev/console", 0o600, (5, 1))?;
    archive.file("/init", 0o755, init)?;
    archive.finish()
}
