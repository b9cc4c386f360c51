//! Another engine in a process of its own: a line of JSON asks, a line of JSON answers. `engine/bench/README.md` has the words.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde_json::{Value, json};

/// An engine to be measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// llama.cpp by llama-cpp-python, built on this machine.
    #[value(name = "llama.cpp")]
    LlamaCpp,
    /// candle, built from engine/bench/candle.
    Candle,
    /// torch by transformers: embeddings only.
    Torch,
}

/// A running peer with a model loaded.
pub struct Peer {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// What it said of itself when it had loaded the model.
    pub about: Value,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::LlamaCpp => "llama.cpp",
            Kind::Candle => "candle",
            Kind::Torch => "torch",
        }
    }

    fn command(self, programs: &Programs) -> Command {
        let script = |name: &str| {
            let mut command = Command::new(&programs.python);
            command.arg(programs.scripts.join(name));
            command
        };
        match self {
            Kind::LlamaCpp => script("llama_cpp_peer.py"),
            Kind::Torch => script("torch_peer.py"),
            Kind::Candle => Command::new(&programs.candle),
        }
    }
}

/// Where the peers are.
#[derive(Debug, Clone, clap::Args)]
pub struct Programs {
    /// Python with the packages of the peers.
    #[arg(long, default_value = "python3", value_name = "PROGRAM")]
    pub python: PathBuf,
    /// Directory of the peers' scripts.
    #[arg(long, default_value = "engine/bench", value_name = "DIRECTORY")]
    pub scripts: PathBuf,
    /// The built candle peer.
    #[arg(
        long,
        default_value = "engine/bench/candle/target/release/candle-peer",
        value_name = "PROGRAM"
    )]
    pub candle: PathBuf,
}

impl Peer {
    /// Starts a peer and lets it load a model.
    pub fn start(
        kind: Kind,
        programs: &Programs,
        model: &Path,
        threads: usize,
        more: Value,
    ) -> anyhow::Result<Peer> {
        let mut command = kind.command(programs);
        let threads_text = threads.to_string();
        let child = command
            .env("RAYON_NUM_THREADS", &threads_text)
            .env("OMP_NUM_THREADS", &threads_text)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}: {:?}", kind.name(), command.get_program()))?;
        let mut peer = Peer::of(child).context("the peer has no pipes")?;
        let mut asked = json!({"model": model});
        if kind != Kind::Candle {
            asked["threads"] = threads.into();
        }
        for (key, value) in more.as_object().into_iter().flatten() {
            asked[key] = value.clone();
        }
        peer.about = peer.ask("load", asked)?;
        Ok(peer)
    }

    fn of(mut child: Child) -> Option<Peer> {
        Some(Peer {
            asks: child.stdin.take()?,
            answers: BufReader::new(child.stdout.take()?),
            child,
            about: Value::Null,
        })
    }

    /// Asks one thing.
    pub fn ask(&mut self, verb: &str, arguments: Value) -> anyhow::Result<Value> {
        writeln!(self.asks, "{}", json!({ verb: arguments })).context("the peer has gone")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let answer: Value =
            serde_json::from_str(&line).with_context(|| format!("the peer said {line:?}"))?;
        match answer.get("error") {
            Some(error) => bail!("the peer cannot {verb}: {error}"),
            None => Ok(answer),
        }
    }

    /// A number of an answer.
    pub fn number(answer: &Value, key: &str) -> anyhow::Result<f64> {
        answer[key]
            .as_f64()
            .with_context(|| format!("the peer's answer has no {key}: {answer}"))
    }

    /// A list of numbers of an answer.
    pub fn numbers(answer: &Value, key: &str) -> anyhow::Result<Vec<f64>> {
        let list = answer[key].as_array().into_iter().flatten();
        let numbers: Option<Vec<f64>> = list.map(Value::as_f64).collect();
        numbers
            .filter(|numbers| !numbers.is_empty())
            .with_context(|| format!("the peer's answer has no {key}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends when its input does; a peer that hangs is not waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
