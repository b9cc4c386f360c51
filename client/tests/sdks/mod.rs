//! SDKs and coding agents as they are published, against `chrysalis serve` over a scripted engine. They are fetched from
//! PyPI and npm, so these tests belong to the long tier; `CHRYSALIS_SDKS` names a directory that keeps what was fetched.

mod agents;

use super::world::{SCRIPTED, SCRIPTED_EMBEDDER, Script, World};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What every program below asks and expects.
fn script() -> Script {
    Script::of(&[
        ("sunny", "It is sunny in Rome."),
        (
            "weather in Rome",
            r#"I look.<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>"#,
        ),
        ("", "A plain answer."),
    ])
}

/// `chrysalis serve` over a world with a script.
struct Served {
    world: World,
    child: Child,
    /// `http://127.0.0.1:PORT/v1`
    url: String,
    key: String,
}

impl Served {
    async fn start(script: Script) -> Served {
        let world = World::scripted(script).await;
        let directory = world.directory.path();
        let mut config: Value = serde_json::from_str(&world.config_text()).unwrap();
        config["listen"] = json!("127.0.0.1:0");
        // JSON is YAML, too.
        std::fs::write(directory.join("client.yaml"), config.to_string()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_chrysalis"))
            .args([
                "serve",
                "--config",
                "client.yaml",
                "--insecure-test-root",
                "root.der",
            ])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let url = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).unwrap();
            line.trim().to_owned()
        });
        let url = url.await.unwrap();
        let key = std::fs::read_to_string(directory.join("api.key")).unwrap();
        Served {
            world,
            child,
            url,
            key,
        }
    }

    /// A program that is told where the sidecar is.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("CHRYSALIS_URL", &self.url)
            .env("CHRYSALIS_KEY", &self.key)
            .env("CHRYSALIS_MODEL", SCRIPTED)
            .env("CHRYSALIS_EMBEDDER", SCRIPTED_EMBEDDER)
            .stdin(Stdio::null());
        command
    }

    async fn get(&self, path: &str) -> Value {
        let host = self
            .url
            .trim_start_matches("http://")
            .trim_end_matches("/v1");
        let mut socket = TcpStream::connect(host).await.unwrap();
        let key = &self.key;
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// That every job was paid, each with a verified receipt on file, and how many there were.
    async fn jobs(&self) -> u64 {
        let usage = self.get("/v1/usage").await;
        let jobs = usage["total"]["jobs"].as_u64().unwrap();
        let cost: u64 = usage["total"]["cost_nano"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        // The last voucher is the sum of the books.
        self.world.guest.promised(cost).await;
        jobs
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where what was fetched lies.
struct Fetched {
    directory: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Fetched {
    fn open() -> Fetched {
        match std::env::var_os("CHRYSALIS_SDKS") {
            Some(directory) => {
                std::fs::create_dir_all(&directory).unwrap();
                Fetched {
                    directory: directory.into(),
                    _temporary: None,
                }
            }
            None => {
                let temporary = tempfile::tempdir().unwrap();
                Fetched {
                    directory: temporary.path().to_owned(),
                    _temporary: Some(temporary),
                }
            }
        }
    }

    /// A Python with these packages.
    fn python(&self, packages: &[&str]) -> PathBuf {
        let venv = self.directory.join("venv");
        let python = venv.join("bin/python");
        if !python.exists() {
            run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        }
        let mut pip = Command::new(&python);
        run(pip.args(["-m", "pip", "install", "--quiet"]).args(packages));
        let mut versions = Command::new(&python);
        let said = run(versions.args(["-m", "pip", "show"]).args(packages));
        let lines = said
            .lines()
            .filter(|line| line.starts_with("Name:") || line.starts_with("Version:"));
        eprintln!("{}", lines.collect::<Vec<_>>().join(" "));
        python
    }

    /// A directory with these packages in `node_modules`.
    fn node(&self, packages: &[&str]) -> &Path {
        let npm = || {
            let mut npm = Command::new("npm");
            npm.current_dir(&self.directory);
            npm
        };
        run(npm()
            .args(["install", "--silent", "--no-audit", "--no-fund"])
            .args(packages));
        eprintln!("{}", run(npm().args(["ls", "--depth=0"])));
        &self.directory
    }
}

/// Runs a program to its good end and gives what it said.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}\n{said}\n{told}");
    said
}

/// Runs a program that prints its receipts, and holds each against the sidecar's books.
async fn check(served: &Served, command: &mut Command, jobs: u64) {
    let said = run(command);
    let receipts: Vec<String> = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    for id in &receipts {
        let receipt = served.get(&format!("/v1/receipts/{id}")).await;
        assert_eq!(receipt["verified"], true, "{receipt}");
        assert_eq!(receipt["engine"], "scripted (simulated)");
    }
    assert_eq!(served.jobs().await, jobs);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it fetches packages from PyPI"]
async fn the_openai_package_of_python_chats_embeds_and_responds() {
    let (served, fetched) = (Served::start(script()).await, Fetched::open());
    let python = fetched.python(&["openai"]);
    let program = ["-c", include_str!("programs/openai_sdk.py")];
    check(&served, served.command(python).args(program), 9).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it fetches packages from PyPI"]
async fn the_anthropic_package_of_python_sends_messages() {
    let (served, fetched) = (Served::start(script()).await, Fetched::open());
    let python = fetched.python(&["anthropic"]);
    let program = ["-c", include_str!("programs/anthropic_sdk.py")];
    check(&served, served.command(python).args(program), 4).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it fetches packages from PyPI"]
async fn langchain_and_llamaindex_work_unchanged() {
    let (served, fetched) = (Served::start(script()).await, Fetched::open());
    let python = fetched.python(&[
        "langchain-openai",
        "llama-index-llms-openai-like",
        "llama-index-embeddings-openai-like",
    ]);
    let program = ["-c", include_str!("programs/frameworks.py")];
    check(&served, served.command(python).args(program), 10).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it fetches packages from npm"]
async fn the_packages_of_node_and_vercels_ai_sdk_work_unchanged() {
    let (served, fetched) = (Served::start(script()).await, Fetched::open());
    let directory = fetched.node(&["openai", "@anthropic-ai/sdk", "ai", "@ai-sdk/openai"]);
    let program = directory.join("node_sdks.mjs");
    std::fs::write(&program, include_str!("programs/node_sdks.mjs")).unwrap();
    check(&served, served.command("node").arg(&program), 15).await;
}
