//! docs/app-developers.md, followed word by word from an empty directory, against a provider made up for tests and a ledger.

mod shell;

use super::world::World;
use client::config::{Config, read_key};
use ledger::Ledger;
use serde_json::Value;
use settlement::{Address, Nano};
use shell::Shell;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::time::sleep;
use without::skip;

const PAGE: &str = include_str!("../../../docs/app-developers.md");

/// The blocks of code on the page, in order: their language and their text.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let parts = PAGE.split("```").collect::<Vec<_>>();
    let blocks = parts.iter().skip(1).step_by(2);
    blocks
        .map(|block| block.split_once('\n').unwrap())
        .collect()
}

/// A command that stands elsewhere is one that nothing runs.
#[test]
fn every_command_of_the_page_stands_in_a_block_that_is_run() {
    let shell = blocks()
        .into_iter()
        .filter(|(language, _)| *language == "sh");
    let run: String = shell.map(|(_, text)| text.replace("\\\n", " ")).collect();
    for prose in PAGE.split("```").step_by(2) {
        let indented = prose.lines().find(|line| line.starts_with("    "));
        assert_eq!(indented, None, "a block without a language");
        let spans = prose.split('`').skip(1).step_by(2);
        for span in spans.filter(|span| span.starts_with("chrysalis ")) {
            let has = |line: &str| span.split_whitespace().all(|word| line.contains(word));
            assert!(run.lines().any(has), "`{span}` is in no block");
        }
    }
}

/// A developer's directory, and what stands on the page for what only a real provider knows.
struct Desk {
    directory: tempfile::TempDir,
    values: Vec<(&'static str, String)>,
    world: World,
    /// Another provider's worker.
    other: World,
    ledger: Ledger,
    /// By how many seconds the ledger's clock is behind.
    behind_s: Arc<AtomicU32>,
    port: u16,
}

/// For one block, on a machine that does other things, too.
const PATIENCE: Duration = Duration::from_secs(120);
/// More than a close delay.
const BEHIND_S: u32 = 4_000;
/// What a wallet is sent that the page says to fund.
const FUNDS: Nano = Nano(1_000_000_000);

impl Desk {
    async fn new() -> Desk {
        let world = World::start(3600).await;
        let other = world.beside(|_| ()).await;
        let ledger = Ledger::in_memory().unwrap();
        let behind_s = Arc::new(AtomicU32::new(BEHIND_S));
        let behind = Arc::clone(&behind_s);
        ledger.set_clock(move || unix_s() - behind.load(Ordering::Relaxed));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(ledger::serve(ledger.clone(), listener));
        let directory = tempfile::tempdir().unwrap();
        given(&world, directory.path());
        let (port, terms) = (free_port(), world.guest.terms());
        let values = vec![
            ("http://provider.example:9000", world.address.clone()),
            ("http://other.example:9000", other.address.clone()),
            ("http://toncenter.example:8081", node),
            (
                "0:1111111111111111111111111111111111111111111111111111111111111111",
                terms.payee.to_string(),
            ),
            (
                "2222222222222222222222222222222222222222222222222222222222222222",
                hex::encode(terms.payee_key),
            ),
            (
                "3333333333333333333333333333333333333333333333333333333333333333",
                "09".repeat(32),
            ),
            ("127.0.0.1:10000", format!("127.0.0.1:{port}")),
            // With the one of the made-up models that keeps to a form.
            (
                "tiny-embedder=model",
                "tiny-embedder=model --model tiny-forms=forms".into(),
            ),
        ];
        Desk {
            directory,
            values,
            world,
            other,
            ledger,
            behind_s,
            port,
        }
    }

    fn filled(&self, text: &str) -> String {
        let fill = |text: String, (name, value): &(&str, String)| text.replace(name, value);
        self.values.iter().fold(text.to_owned(), fill)
    }

    /// Where `init` writes, and most of the page happens.
    fn desk(&self) -> std::path::PathBuf {
        self.directory.path().join("desk")
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.desk());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        output
    }

    /// What happens elsewhere after a block: workers see channels on the chain, money comes, time passes.
    fn elsewhere(&self, block: &str) {
        for (name, world) in [("desk", &self.world), ("other", &self.other)] {
            let path = self.directory.path().join(name).join("client.yaml");
            if let Ok(config) = Config::read(&path) {
                let payer = read_key(&config.payer_key_file).unwrap();
                let terms = config.channel_terms(payer.verifying_key().to_bytes());
                world.is_paid_on(terms.unwrap().unwrap());
            }
        }
        if block.contains("wallet create") {
            let config = Config::read(&self.directory.path().join("client.yaml")).unwrap();
            let wallet: Address = config.wallet().unwrap().address();
            self.ledger.faucet(&wallet, FUNDS).unwrap();
        }
        if block.contains("channel close") {
            self.behind_s.store(0, Ordering::Relaxed);
        }
    }

    /// What a block printed, as far as it must be something.
    fn judge(&self, block: &str, said: &str) {
        let said_no = said.contains("\"error\"") || said.contains("\"ok\":false");
        assert!(!said_no, "{block}\n{said}");
        for (command, says) in [
            ("chrysalis verify", "verified"),
            ("| tee answer.json", "\"content\":\"hello world\""),
            ("--at ", "verified"),
            ("--dry-run", "nothing was sent"),
            ("chrysalis check", "same: 3 tokens agree bit for bit"),
            (
                "chrysalis chat --config client.yaml --insecure-test-root root.der\n",
                "hello world",
            ),
            ("/v1/models", "\"id\":\"tiny-chat\""),
            ("user_tier", "x-ignored-fields: user_tier"),
            ("/healthz", "\"ok\":true"),
            ("wallet fund", "ton://transfer/"),
            ("channel withdraw", "withdraw"),
        ] {
            let dry_job = command == "--dry-run" && block.contains("check");
            if block.contains(command) && !dry_job {
                assert!(said.contains(says), "no `{says}` of {block}\n{said}");
            }
        }
    }
}

/// What the page says that a developer has from elsewhere.
fn given(world: &World, directory: &Path) {
    for model in ["model", "forms"] {
        fs::create_dir(directory.join(model)).unwrap();
    }
    for file in [
        "manifest.json",
        "root.der",
        "model/tokenizer.json",
        "model/tokenizer_config.json",
        "forms/tokenizer.json",
        "forms/tokenizer_config.json",
    ] {
        fs::copy(world.directory.path().join(file), directory.join(file)).unwrap();
    }
}

fn unix_s() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs().try_into().unwrap()
}

fn has(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.status.success())
}

pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_of_the_page_for_app_developers_works() {
    follow(false).await;
}

/// With the SDKs, which it fetches from PyPI and npm.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it fetches the openai packages of Python and Node"]
async fn the_first_calls_of_the_page_work_with_the_sdks() {
    follow(true).await;
}

async fn follow(sdks: bool) {
    let desk = Desk::new().await;
    let programs = Path::new(env!("CARGO_BIN_EXE_chrysalis")).parent().unwrap();
    let here = desk.directory.path();
    let mut shell = Shell::start(here, programs, &[("XDG_STATE_HOME", here)]);
    let mut served = 0;
    for (language, text) in blocks() {
        let text = desk.filled(text);
        match language {
            "yaml" => fs::write(desk.directory.path().join("client.yaml"), &text).unwrap(),
            "sh" => {
                let mut said = shell.run(&text, PATIENCE).await;
                if text.trim_end().ends_with('&') {
                    // It says where it listens.
                    let place = match text.contains("unix:") {
                        true => "unix:run/chrysalis.sock\n".into(),
                        false => format!("http://127.0.0.1:{}/v1\n", desk.port),
                    };
                    let until = Instant::now() + PATIENCE;
                    while !said.contains(&place) {
                        assert!(Instant::now() < until, "no {place}: {said}");
                        sleep(Duration::from_millis(20)).await;
                        said += &shell.said();
                    }
                    served += 1;
                }
                desk.elsewhere(&text);
                desk.judge(&text, &said);
            }
            // The one that makes a client by itself, and then the one that goes on with it.
            "python" if sdks && text.contains("from openai") => {
                let form = |(language, text): &&(&str, &str)| {
                    *language == "python" && text.contains("response_format")
                };
                let blocks = blocks();
                let (_, form) = blocks.iter().find(form).unwrap();
                let form = form.replace("tiny-chat", "tiny-forms");
                desk.run("python3", &["-m", "venv", "venv"]);
                desk.run("venv/bin/pip", &["install", "--quiet", "openai"]);
                let both = format!("{text}{form}print(sorted(city))\n");
                let output = desk.run("venv/bin/python", &["-c", &both]);
                let said = String::from_utf8_lossy(&output.stdout);
                assert_eq!(said.matches("hello world").count(), 2, "{said}");
                assert!(said.contains("['city', 'people']"), "{said}");
            }
            "js" if sdks => {
                fs::write(desk.desk().join("first.mjs"), &text).unwrap();
                desk.run("npm", &["install", "--silent", "openai"]);
                let output = desk.run("node", &["first.mjs"]);
                let said = String::from_utf8_lossy(&output.stdout);
                assert_eq!(said.matches("hello world").count(), 2, "{said}");
            }
            "python" => match has("python3", &["--version"]) {
                true => drop(desk.run(
                    "python3",
                    &["-c", "import ast, sys; ast.parse(sys.argv[1])", &text],
                )),
                false => skip("Python", "there is no python3"),
            },
            "js" => match has("node", &["--version"]) {
                true => {
                    fs::write(desk.desk().join("first.mjs"), &text).unwrap();
                    desk.run("node", &["--check", "first.mjs"]);
                }
                false => skip("Node", "there is no node"),
            },
            other => panic!("the page has a block in {other:?}, which nothing runs"),
        }
    }
    assert_eq!(served, 3);
    // The job that was asked again was itself verified.
    let kept: Value =
        serde_json::from_slice(&fs::read(desk.desk().join("kept.json")).unwrap()).unwrap();
    assert_eq!(kept["x_job"]["verified"], true, "{kept}");
}

pub async fn await_port(port: u16) {
    for _ in 0..200 {
        if tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_ok()
        {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("the sidecar does not listen");
}
