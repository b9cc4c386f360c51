//! How fast a model is on this machine, alone or against another engine.

mod embed;
mod load;
mod machine;
mod ours;
mod peer;
mod rows;
mod shape;
mod statistics;
mod table;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use engine::Packing;
use engine::decoder::{Decoder, Options, blocks_for};
use kernels::KvKind;
use serde_json::{Value, json};

use crate::model::{Kind, Model};
use ours::Ours;
pub use ours::kernels;
use peer::Peer;
use rows::{Effort, Line};

/// Print how fast a model is on this machine, alone or against other engines.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The model: a GGUF file, or a directory as Hugging Face lays it out or as `engine pack` writes it.
    #[arg(required_unless_present = "shape", conflicts_with = "shape")]
    model: Option<PathBuf>,
    /// Measure random weights in the shape of a real model instead; every engine reads the same file.
    #[arg(long, value_enum)]
    shape: Option<shape::Shape>,
    /// Where the file of random weights is kept between runs; otherwise it is removed.
    #[arg(long, value_name = "DIRECTORY", requires = "shape")]
    keep: Option<PathBuf>,
    /// How weights are kept. Another engine keeps what is in the file, so against one this should be the file's kind.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Engines to measure against, in one run.
    #[arg(long, value_enum, value_delimiter = ',')]
    against: Vec<peer::Kind>,
    /// Numbers of threads, one table each.
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Vec<u16>,
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [What::Decode, What::Prefill, What::Streams])]
    what: Vec<What>,
    /// Compute on this path instead of the best one: portable-1, avx2-1, avx512-1.
    #[arg(long)]
    path: Option<String>,
    /// Read rows of embeddings where they lie: without the pass that keeps their addresses secret, to see what it costs.
    #[arg(long)]
    plain_rows: bool,
    #[command(flatten)]
    effort: Effort,
    #[command(flatten)]
    programs: peer::Programs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Tokens of one stream, and the share of the memory's bandwidth that they use.
    Decode,
    /// A prompt at once.
    Prefill,
    /// Many streams in one batch.
    Streams,
    /// The first token from a file of packed weights, against reading the file once; not against engines.
    Load,
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            What::Decode => "decode",
            What::Prefill => "prefill",
            What::Streams => "streams",
            What::Load => "load",
        };
        f.write_str(name)
    }
}

/// Measures and prints.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let temporary = tempfile::tempdir().context("making a temporary directory")?;
    let path = match (&arguments.model, arguments.shape) {
        (Some(model), _) => model.clone(),
        (None, Some(shape)) => {
            let directory = arguments.keep.as_deref().unwrap_or(temporary.path());
            random(shape, arguments.kind, directory)?
        }
        (None, None) => anyhow::bail!("name a model or a shape"),
    };
    let mut reports = Vec::new();
    for threads in &arguments.threads {
        let threads = usize::from(*threads);
        let report = match crate::model::embeds(&path) {
            true => measure_embedder(arguments, &path, threads)?,
            false => measure(arguments, &path, threads)?,
        };
        if !arguments.json {
            println!("{}", table::text(&report));
        }
        reports.push(report.json());
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    }
    Ok(())
}

/// The file of random weights, made unless it is there.
fn random(shape: shape::Shape, kind: Option<Kind>, directory: &Path) -> anyhow::Result<PathBuf> {
    let stored = match kind {
        Some(Kind::Q4) => shape::Stored::Q4,
        Some(Kind::Bf16) => shape::Stored::Bf16,
        Some(Kind::F32) => shape::Stored::F32,
        Some(Kind::Q8) | None => shape::Stored::Q8,
    };
    std::fs::create_dir_all(directory)
        .with_context(|| format!("making {}", directory.display()))?;
    let path = directory.join(format!("random-{}-{}.gguf", shape.name(), stored.name()));
    if !path.exists() {
        eprintln!("engine: writing {}", path.display());
        let unfinished = path.with_extension("part");
        shape::write(&unfinished, shape, stored, 1).context("writing random weights")?;
        std::fs::rename(&unfinished, &path)?;
    }
    Ok(path)
}

/// The figures of one number of threads.
pub struct Report {
    machine: Value,
    model: String,
    kind: String,
    bandwidth: f64,
    peers: Vec<Value>,
    lines: Vec<Line>,
}

impl Report {
    fn json(&self) -> Value {
        json!({
            "machine": self.machine,
            "model": self.model,
            "kind": self.kind,
            "bandwidth_bytes_per_second": self.bandwidth,
            "peers": self.peers,
            "lines": self.lines,
        })
    }
}

fn measure(arguments: &Arguments, path: &Path, threads: usize) -> anyhow::Result<Report> {
    let kernels = ours::kernels(threads, arguments.path.as_deref())?;
    let machine = machine::report(kernels.path(), threads);
    let effort = &arguments.effort;
    let streams = effort.streams as usize;
    // Every sequence could hold the long prompt; only the first one does.
    let context = (effort.prompt as usize)
        .max(rows::CONTEXT + effort.tokens as usize)
        .next_multiple_of(32);
    let model = Model::open(path, &crate::progress::Progress::none())?;
    let options = Options {
        // A file of random weights is in the kind that was asked for.
        packing: model.packing(arguments.kind.filter(|_| arguments.shape.is_none())),
        blocks: blocks_for(streams, context),
        context_max: context,
        rows_max: ours::ROWS,
        scored_max: streams,
        cache: KvKind::F32,
    };
    let (name, kind) = (model.name.clone(), arguments.kind);
    let mut lines = Vec::new();
    if arguments.what.contains(&What::Load) {
        let [file] = &model.files[..] else {
            anyhow::bail!("--what load needs a model that `engine pack` wrote");
        };
        anyhow::ensure!(
            model.is_packed(),
            "--what load needs a model that `engine pack` wrote"
        );
        lines.extend(load::lines(
            file,
            &model.config,
            &kernels,
            &options,
            effort,
        )?);
    }
    let mut decoder: Decoder = model.load(kernels, &options)?;
    decoder.packed().read_rows_plainly(arguments.plain_rows);
    let mut ours = Ours::new(decoder, !arguments.plain_rows, streams, context);
    let bandwidth = machine::Bandwidth::new(threads);
    let mut before = bandwidth.measure(6);
    let mut peers = Vec::new();
    let sides: Vec<Option<peer::Kind>> = match arguments.against.is_empty() {
        true => vec![None],
        false => arguments.against.iter().copied().map(Some).collect(),
    };
    for side in sides {
        let more = json!({"context": context, "sequences": streams});
        let started = side.map(|side| Peer::start(side, &arguments.programs, path, threads, more));
        let mut peer = started.transpose()?;
        let mut one = None;
        for what in &arguments.what {
            let other = side.map(peer::Kind::name).zip(peer.as_mut());
            // candle has neither a batch of sequences nor a place for one.
            let other = other.filter(|(name, _)| !(*name == "candle" && *what == What::Streams));
            if side.is_some() && other.is_none() {
                continue;
            }
            let mut line = match what {
                What::Decode => rows::decode(&mut ours, other, effort)?,
                What::Prefill => rows::prefill(&mut ours, other, effort)?,
                What::Streams => rows::streams(&mut ours, other, effort, one)?,
                What::Load => continue,
            };
            if *what == What::Decode {
                one = Some(line.ours);
                before = before.max(bandwidth.measure(6));
                let read = line.ours * ours.weight_bytes() as f64;
                line.note = format!(
                    "{:.1} GB/s, {:.0} % of the bandwidth",
                    read / 1e9,
                    100.0 * read / before
                );
            }
            lines.push(line);
        }
        peers.extend(peer.map(|peer| peer.about.clone()));
    }
    Ok(Report {
        machine,
        model: name,
        kind: kind.map_or("as stored".into(), |kind| kind.name().into()),
        bandwidth: before,
        peers,
        lines,
    })
}

fn measure_embedder(arguments: &Arguments, path: &Path, threads: usize) -> anyhow::Result<Report> {
    let kernels = ours::kernels(threads, arguments.path.as_deref())?;
    let machine = machine::report(kernels.path(), threads);
    let packing = arguments
        .kind
        .map_or(Packing::AsStored, |kind| Packing::All(kind.packed()));
    let mut encoder = embed::load(path, kernels, packing)?;
    let (mut lines, mut peers) = (Vec::new(), Vec::new());
    for side in &arguments.against {
        let mut peer = Peer::start(*side, &arguments.programs, path, threads, json!({}))?;
        lines.push(embed::line(
            &mut encoder,
            Some((side.name(), &mut peer)),
            &arguments.effort,
        )?);
        peers.push(peer.about.clone());
    }
    if arguments.against.is_empty() {
        lines.push(embed::line(&mut encoder, None, &arguments.effort)?);
    }
    Ok(Report {
        machine,
        model: crate::model::name(path),
        kind: arguments
            .kind
            .map_or("as stored".into(), |kind| kind.name().into()),
        bandwidth: machine::Bandwidth::new(threads).measure(6),
        peers,
        lines,
    })
}
