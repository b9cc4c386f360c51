//! docs/app-developers.md, followed word by word in an empty directory, against a provider made up for tests.

use super::world::World;
use client::config::{Config, read_key};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
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

/// A developer's directory, and what stands on the page for what only a real provider knows.
struct Desk {
    directory: tempfile::TempDir,
    values: Vec<(&'static str, String)>,
}

impl Desk {
    fn filled(&self, text: &str) -> String {
        let fill = |text: String, (name, value): &(&str, String)| text.replace(name, value);
        self.values.iter().fold(text.to_owned(), fill)
    }

    fn command(&self, program: &str) -> Command {
        let built = Path::new(env!("CARGO_BIN_EXE_chrysalis")).parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command.env("PATH", format!("{}:{path}", built.display()));
        command.env("XDG_STATE_HOME", self.directory.path());
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let output = self.command(program).args(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        output
    }

    /// Runs a block in a shell. What it leaves in the background is the one program it starts there.
    fn shell(&self, script: &str) -> Result<Output, Child> {
        match script.trim_end().strip_suffix('&') {
            None => Ok(self.run("bash", &["-euc", script])),
            Some(serve) => {
                let script = format!("exec {serve}");
                Err(self
                    .command("bash")
                    .args(["-euc", &script])
                    .spawn()
                    .unwrap())
            }
        }
    }
}

struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
    let world = World::start(3600).await;
    let directory = tempfile::tempdir().unwrap();
    // What the page says that a developer has from elsewhere.
    fs::create_dir(directory.path().join("model")).unwrap();
    let files = [
        "manifest.json",
        "root.der",
        "model/tokenizer.json",
        "model/tokenizer_config.json",
    ];
    for file in files {
        fs::copy(
            world.directory.path().join(file),
            directory.path().join(file),
        )
        .unwrap();
    }
    let port = free_port();
    let values = vec![
        ("http://provider.example:9000", world.address.clone()),
        ("http://toncenter.example:8081", world.address.clone()),
        (
            "0:1111111111111111111111111111111111111111111111111111111111111111",
            world.guest.terms().payee.to_string(),
        ),
        (
            "2222222222222222222222222222222222222222222222222222222222222222",
            hex::encode(world.guest.terms().payee_key),
        ),
        (
            "3333333333333333333333333333333333333333333333333333333333333333",
            "09".repeat(32),
        ),
        ("127.0.0.1:10000", format!("127.0.0.1:{port}")),
        (
            "proxy: http://",
            format!("listen: 127.0.0.1:{port}\nproxy: http://"),
        ),
    ];
    let desk = Desk { directory, values };
    let mut serving = None;
    for (language, text) in blocks() {
        let text = desk.filled(text);
        match language {
            "yaml" => {
                let path = desk.directory.path().join("client.yaml");
                fs::write(&path, &text).unwrap();
                // The made-up chain knows one channel: this developer's.
                let config = Config::read(&path).unwrap();
                let payer = read_key(&config.payer_key_file).unwrap();
                let terms = config.channel_terms(payer.verifying_key().to_bytes());
                world.expect_channel(terms.unwrap().unwrap());
            }
            "sh" => match desk.shell(&text) {
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stdout);
                    let said_no = said.contains("\"error\"") || said.contains("\"ok\":false");
                    assert!(!said_no, "{text}\n{said}");
                }
                Err(child) => {
                    serving = Some(Serving(child));
                    await_port(port).await;
                }
            },
            // The one that makes a client by itself.
            "python" if sdks && text.contains("from openai") => {
                desk.run("python3", &["-m", "venv", "venv"]);
                desk.run("venv/bin/pip", &["install", "--quiet", "openai"]);
                let output = desk.run("venv/bin/python", &["-c", &text]);
                let said = String::from_utf8_lossy(&output.stdout);
                assert_eq!(said.matches("hello world").count(), 2, "{said}");
            }
            "js" if sdks => {
                fs::write(desk.directory.path().join("first.mjs"), &text).unwrap();
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
                    fs::write(desk.directory.path().join("first.mjs"), &text).unwrap();
                    desk.run("node", &["--check", "first.mjs"]);
                }
                false => skip("Node", "there is no node"),
            },
            other => panic!("the page has a block in {other}, which nothing runs"),
        }
    }
    assert!(serving.is_some());
}

pub async fn await_port(port: u16) {
    for _ in 0..200 {
        if tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_ok()
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the sidecar does not listen");
}
