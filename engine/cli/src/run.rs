//! Talking to a model, the vector of a text, or the score of a pair.

mod sampling;
mod speaker;
mod vectors;

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, bail};
use engine::decoder::{Options, blocks_for};
use engine::scheduler::Tokens;
use engine::{Forward, Memory};
use kernels::KvKind;
use model::Vocabulary;

use crate::bench::kernels;
use crate::model::{self as models, Kind, Model};
use crate::progress::Progress;
use crate::record::Record;
use speaker::Speaker;

/// Load a model and talk to it, or print the vector of a text.
///
/// Without --prompt a conversation is read from standard input, a line at a time. A model that embeds (BERT) prints the vector of each
/// prompt as JSON, a cross-encoder the score of the prompt with each --document.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A GGUF file, or a directory as Hugging Face lays it out or as `engine pack` writes it.
    model: PathBuf,
    /// What to ask; may stand several times, each is a conversation of its own.
    #[arg(long)]
    prompt: Vec<String>,
    /// A text that may answer the prompt, for a model that scores pairs; may stand several times.
    #[arg(long, value_name = "TEXT", requires = "prompt")]
    document: Vec<String>,
    /// What the system says first, in place of what the model's template says.
    #[arg(long)]
    system: Option<String>,
    /// How weights are kept; as the file has them where absent.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Threads that compute; all processors where absent.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Compute on this path instead of the best one: portable-1, avx2-1, avx512-1.
    #[arg(long)]
    path: Option<String>,
    /// What computes: cpu, or cuda or cuda:NUMBER for an NVIDIA GPU, in single precision and slowly (unverified on hardware).
    #[arg(long, default_value = "cpu", value_name = "DEVICE", conflicts_with_all = ["kind", "path", "threads"])]
    device: Device,
    #[command(flatten)]
    sampling: sampling::Options,
    /// Memory that the model may take, in MiB: weights, keys and values, and what it computes in; what the machine has available where
    /// absent. A model that needs more is refused before it is loaded, with the figures.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    memory: Option<u64>,
    /// Tokens that a conversation can have; memory is taken for all of them.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(32..))]
    context: u32,
    /// Write tokens and digests of all scores to this file, for `engine compare`.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Print one line of JSON for each answer.
    #[arg(long)]
    json: bool,
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Device {
    Cpu,
    /// An NVIDIA GPU, by number.
    Cuda(usize),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("cuda:").map(str::parse);
        match (text, number) {
            ("cpu", _) => Ok(Device::Cpu),
            ("cuda", _) => Ok(Device::Cuda(0)),
            (_, Some(Ok(index))) => Ok(Device::Cuda(index)),
            _ => Err("it may be cpu, cuda or cuda:NUMBER".into()),
        }
    }
}

/// Rows of one pass.
const CHUNK: usize = 256;

/// Runs.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.prompt.is_empty() && (arguments.record.is_some() || arguments.json) {
        bail!("--record and --json need --prompt");
    }
    let memory = Memory::available().at_most(arguments.memory.map(|mib| mib << 20));
    if models::embeds(&arguments.model) {
        return vectors::run(arguments, &memory);
    }
    if !arguments.document.is_empty() {
        bail!("--document is for a model that scores pairs; this one chats");
    }
    arguments.sampling.sampling().check()?;
    let threads = threads(arguments);
    let progress = Progress::new("loading");
    let model = Model::open(&arguments.model, &progress)?;
    let kernels = kernels(threads, arguments.path.as_deref())?;
    let context = model.config.context.min(arguments.context as usize);
    let options = Options {
        packing: model.packing(arguments.kind),
        blocks: blocks_for(1, context),
        context_max: context,
        rows_max: CHUNK,
        scored_max: 1,
        cache: KvKind::F32,
    };
    let began = Instant::now();
    let (decoder, sources): (Box<dyn Forward>, _) = match arguments.device {
        Device::Cpu => {
            let decoder = model.load_within(kernels.clone(), &options, &memory)?;
            let sources = decoder.sources().clone();
            (Box::new(decoder), sources)
        }
        Device::Cuda(index) => model.load_on_gpu(index, &options)?,
    };
    if !arguments.json {
        let took = began.elapsed().as_secs_f64();
        let computes = match arguments.device {
            Device::Cpu => format!("path {}, {threads} thread(s)", kernels.path().name()),
            Device::Cuda(index) => format!("GPU {index}, unverified on hardware"),
        };
        eprintln!("engine: {} loaded in {took:.2} s, {computes}", model.name);
    }
    let sources = sources.iter();
    let sources = sources.map(|(name, digest)| (name.clone(), hex::encode(digest.sha256)));
    let sources = sources.collect();
    let tokenizer = model
        .tokenizer_json
        .as_deref()
        .context("the model has no tokenizer.json")?;
    let vocabulary = Vocabulary::parse(tokenizer, model.config.vocabulary)?;
    let mut speaker = Speaker {
        decoder,
        text: model.text()?,
        tokens: Tokens::of(kernels.path(), &vocabulary, &model.config.end_tokens),
    };
    if arguments.prompt.is_empty() {
        return converse(&mut speaker, arguments);
    }
    let mut completions = Vec::new();
    for prompt in &arguments.prompt {
        let turns = [("user".to_owned(), prompt.clone())];
        completions.push(speaker.answer(&turns, arguments)?.0);
    }
    if let Some(path) = &arguments.record {
        let record = Record {
            engine: env!("CHRYSALIS_VERSION").into(),
            path: match arguments.device {
                Device::Cpu => kernels.path().name().into(),
                Device::Cuda(_) => "cuda".into(),
            },
            threads,
            kind: arguments.kind.map_or("as stored", Kind::name).into(),
            weights: sources,
            completions,
        };
        let text = serde_json::to_string_pretty(&record)?;
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Threads that compute.
fn threads(arguments: &Arguments) -> usize {
    let all = || std::thread::available_parallelism().map_or(1, usize::from);
    arguments.threads.map_or_else(all, usize::from)
}

/// A conversation with a person, until the input ends.
fn converse(speaker: &mut Speaker, arguments: &Arguments) -> anyhow::Result<()> {
    let person = std::io::stdin().is_terminal();
    let mut turns = Vec::new();
    let ask = || {
        if person {
            eprint!("> ");
            let _ = std::io::stderr().flush();
        }
    };
    ask();
    for line in std::io::stdin().lock().lines() {
        let line = line.context("reading standard input")?;
        if !line.trim().is_empty() {
            turns.push(("user".to_owned(), line));
            let (_, answer) = speaker.answer(&turns, arguments)?;
            turns.push(("assistant".to_owned(), answer));
        }
        ask();
    }
    Ok(())
}
