//! A directory with an image, a description of tools that names fake programs, and the launches in it.

use attest::Profile;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use predict::{EventKind, PredictedEvent, Prediction};
use predict::{
    image::{BootRegisters, ImageFile, ImageFiles, ImageManifest, ImageParts},
    qemu::MachineSize,
};
use registers::{Digest32, Digest48, Register, VerityRoot};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub struct Fixture {
    directory: TempDir,
}

pub struct Launch {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: mpsc::Receiver<String>,
}

pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A guest's configuration with every field.
fn config() -> serde_json::Value {
    json!({
        "version": 1, "profile": "sim", "chain": 20241,
        "payee": format!("0:{}", "11".repeat(32)), "payee_key": "22".repeat(32),
        "stake": format!("0:{}", "11".repeat(32)), "lifetime_s": 3600, "jobs_max": 100,
        "price_step_nano": 1000, "exposure_max_nano": 1_000_000_000, "interval_ms": 50,
        "models": [{"id": "tiny-chat", "endpoint": "chat", "root": "33".repeat(32), "context_tokens": 256,
            "prompt_nano": 1_000_000, "completion_nano": 2_000_000}],
    })
}

/// A fixture whose programs act out `scenario`; `None` where there is no shell.
pub fn fixture(scenario: &str) -> Option<Fixture> {
    if !Path::new("/bin/sh").exists() {
        without::skip("fake programs", "there is no /bin/sh to start them with");
        return None;
    }
    let fixture = Fixture {
        directory: tempfile::tempdir().expect("a directory"),
    };
    fs::create_dir(fixture.path("image")).expect("made");
    for (name, _) in files() {
        fs::write(fixture.path("image").join(name), name.repeat(1000)).expect("written");
    }
    fixture.write_manifest(Profile::Sim);
    fs::write(fixture.path("guest.json"), format!("{}\n", config())).expect("written");
    let mut programs = json!({});
    for name in ["qemu", "swtpm", "vhost-device-vsock"] {
        let script = fixture.path(name);
        let this = std::env::current_exe().expect("this program");
        let text = format!(
            "#!/bin/sh\nFAKE_PROGRAM='{name} {scenario}' FAKE_RUN='{}' FAKE_ARGUMENTS=\"$*\" exec '{}' --exact launch::fake_programs::a_program --nocapture >/dev/null\n",
            fixture.run().display(),
            this.display()
        );
        let source = fixture.path(&format!("{name}.sh"));
        fs::write(&source, text).expect("written");
        // Another process writes what is to be run: a test beside this one that starts a program just now would inherit
        // the file, open for writing, and the kernel runs no such file.
        let mut install = Command::new("install");
        install.args(["-m", "755"]).arg(&source).arg(&script);
        assert!(install.status().expect("coreutils").success());
        programs[name] = json!({ "run": [], "program": script });
    }
    fs::write(
        fixture.path("tools.json"),
        json!({ "programs": programs }).to_string(),
    )
    .expect("written");
    Some(fixture)
}

fn files() -> [(&'static str, ImageFile); 4] {
    ["firmware.fd", "kernel", "initrd", "root.img"].map(|name| {
        let bytes = name.repeat(1000);
        let file = ImageFile {
            name: name.into(),
            bytes: bytes.len() as u64,
            sha256: Digest32::of(bytes.as_bytes()),
        };
        (name, file)
    })
}

fn root() -> VerityRoot {
    VerityRoot {
        verity_hash: Digest32([1; 32]),
        salt: Digest32([2; 32]),
        data_blocks: 7,
    }
}

pub fn cmdline() -> String {
    format!("console=ttyS0 {}", root().argument())
}

impl Fixture {
    pub fn path(&self, name: &str) -> PathBuf {
        // As the program names it: temporary directories may lie behind a link.
        self.directory
            .path()
            .canonicalize()
            .expect("it is there")
            .join(name)
    }

    pub fn run(&self) -> PathBuf {
        self.path("run")
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).expect("JSON")
    }

    pub fn write_manifest(&self, profile: Profile) {
        let registers = [Register::Rtmr0, Register::Rtmr1, Register::Rtmr2];
        let prediction = Prediction {
            mrtd: Digest48([3; 48]),
            events: registers
                .map(|register| PredictedEvent {
                    register,
                    kind: EventKind::Separator,
                    digest: Digest48([4; 48]),
                    from: "nothing real".into(),
                })
                .into(),
        };
        let [firmware, kernel, initrd, root_file] = files().map(|(_, file)| file);
        let parts = ImageParts {
            version: ImageManifest::VERSION,
            profile,
            lock_sha256: Digest32([5; 32]),
            compiler: "rustc".into(),
            files: ImageFiles {
                firmware,
                kernel,
                initrd,
                root: root_file,
                uki: None,
                disk: None,
            },
            cmdline: cmdline(),
            root: root(),
            agent_sha384: Digest48([6; 48]),
            contents: Vec::new(),
            packages: Vec::new(),
            machine: MachineSize {
                vcpus: 1,
                memory_mib: 64,
            },
            registers: BootRegisters::from(&prediction),
            events: prediction.events,
            uki: None,
        };
        let manifest = ImageManifest::new(parts).expect("it agrees with itself");
        fs::write(self.path("image/manifest.json"), manifest.to_json()).expect("written");
    }

    /// Starts `launch`, with TCG unless `arguments` name another accelerator.
    pub fn launch(&self, arguments: &[&str]) -> Launch {
        let mut command = self.command("launch");
        command.arg("--json");
        for (option, name) in [
            ("--manifest", "image/manifest.json"),
            ("--tools", "tools.json"),
            ("--config", "guest.json"),
            ("--run", "run"),
        ] {
            command.arg(option).arg(self.path(name));
        }
        if !arguments.contains(&"--accelerator") {
            command.args(["--accelerator", "tcg"]);
        }
        Launch::start(command.args(arguments))
    }

    pub fn check(&self, arguments: &[&str]) -> Ended {
        Launch::start(self.command("check").args(arguments)).ended(Duration::from_secs(60))
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_host-proxy"));
        command.arg(name).env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    /// The names of the sockets in the run directory.
    pub fn sockets(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.run()) else {
            return Vec::new();
        };
        let sockets = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
        sockets
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// The fake programs of this fixture that run now.
    pub fn programs(&self) -> Vec<u32> {
        let ours = format!("FAKE_RUN={}", self.run().display()).into_bytes();
        let numbers = fs::read_dir("/proc").expect("a Linux").flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        numbers
            .filter(|number| {
                let environment = fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
                environment
                    .split(|&byte| byte == 0)
                    .any(|variable| variable == ours)
            })
            .collect()
    }

    /// Waits until no program of this fixture is left.
    pub fn wait_for_exit(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        while !self.programs().is_empty() {
            assert!(
                Instant::now() < until,
                "{:?} are still running",
                self.programs()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn wait_for(&self, name: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.path(name).exists() {
            assert!(Instant::now() < until, "{name} does not appear");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Launch {
    fn start(command: &mut Command) -> Self {
        let piped = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped.spawn().expect("starts");
        let mut stderr = child.stderr.take().expect("piped");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut said = String::new();
            stderr.read_to_string(&mut said).expect("text");
            // The test may have failed already.
            let _ = sender.send(said);
        });
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Launch {
            child,
            stdout,
            stderr: receiver,
        }
    }

    /// The line that announces the guest.
    pub fn ready(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("read");
        if line.is_empty() {
            let said = self
                .stderr
                .recv_timeout(Duration::from_secs(60))
                .expect("it has ended");
            panic!("it is not ready: {said}");
        }
        let ready: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(ready["ready"], true);
        ready
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("signalled");
    }

    pub fn ended(mut self, within: Duration) -> Ended {
        let until = Instant::now() + within;
        let code = loop {
            if let Some(status) = self.child.try_wait().expect("ours") {
                break status.code();
            }
            assert!(
                Instant::now() < until,
                "it is still running after {within:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut stdout = String::new();
        self.stdout.read_to_string(&mut stdout).expect("text");
        Ended {
            code,
            stdout,
            stderr: self.stderr.recv_timeout(within).expect("its end"),
        }
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        // Also when a test fails: nothing may go on running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
