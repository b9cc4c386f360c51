//! Talking to a model, or the vector of a text.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use engine::Sampling;
use engine::decoder::{Decoder, Options, blocks_for};
use engine::forward::{BLOCK_TOKENS, BlockTable, Forward, Row};
use engine::{Embedder, weights};
use kernels::KvKind;
use model::Vocabulary;
use model::text::{Message, Text};
use serde_json::json;

use crate::bench::kernels;
use crate::model::{self as models, Kind, Model};
use crate::progress::Progress;
use crate::record::{Completion, Record, digest};

/// Load a model and talk to it, or print the vector of a text.
///
/// Without --prompt a conversation is read from standard input, a line at a time. A model that embeds prints the unit vector of
/// the prompt as JSON.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A GGUF file, or a directory as Hugging Face lays it out or as `engine pack` writes it.
    model: PathBuf,
    /// What to ask; may stand several times, each is a conversation of its own.
    #[arg(long)]
    prompt: Vec<String>,
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
    /// Tokens of an answer at most.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
    /// 0 always takes the likeliest token.
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// The likeliest tokens that together have this probability are drawn from.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// The same seed gives the same answer.
    #[arg(long, default_value_t = 0)]
    seed: u64,
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

/// A loaded model in a conversation.
struct Speaker {
    decoder: Decoder,
    text: Text,
    vocabulary: Vocabulary,
    ends: Vec<u32>,
    table: [BlockTable; 1],
    sampling: Sampling,
}

/// Rows of one pass.
const CHUNK: usize = 256;

/// Runs.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.prompt.is_empty() && (arguments.record.is_some() || arguments.json) {
        bail!("--record and --json need --prompt");
    }
    if models::embeds(&arguments.model) {
        return embed(arguments);
    }
    let threads = arguments.threads.map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        usize::from,
    );
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
    let decoder = model.load(kernels.clone(), &options)?;
    if !arguments.json {
        eprintln!(
            "engine: {} loaded in {:.2} s, path {}, {threads} thread(s)",
            model.name,
            began.elapsed().as_secs_f64(),
            kernels.path().name()
        );
    }
    let sources = decoder.sources().iter();
    let sources = sources.map(|(name, digest)| (name.clone(), hex::encode(digest.sha256)));
    let sources = sources.collect();
    let tokenizer = model
        .tokenizer_json
        .as_deref()
        .context("the model has no tokenizer.json")?;
    let mut speaker = Speaker {
        decoder,
        text: model.text()?,
        vocabulary: Vocabulary::parse(tokenizer, model.config.vocabulary)?,
        ends: model.config.end_tokens.clone(),
        table: [BlockTable(
            (0..context.div_ceil(BLOCK_TOKENS) as u32).collect(),
        )],
        sampling: Sampling {
            temperature: arguments.temperature,
            top_p: arguments.top_p,
            seed: arguments.seed,
            tokens_max: arguments.tokens,
        },
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
            path: kernels.path().name().into(),
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

impl Speaker {
    /// Completes a conversation and prints it as it comes.
    fn answer(
        &mut self,
        turns: &[(String, String)],
        arguments: &Arguments,
    ) -> anyhow::Result<(Completion, String)> {
        let system = arguments
            .system
            .iter()
            .map(|content| ("system", content.as_str()));
        let turns = turns
            .iter()
            .map(|(role, content)| (role.as_str(), content.as_str()));
        let messages: Vec<_> = system
            .chain(turns)
            .map(|(role, content)| Message { role, content })
            .collect();
        let prompt = self.text.prompt(&messages)?;
        let room = self.decoder.shape().context.saturating_sub(prompt.len());
        if room == 0 {
            bail!(
                "the conversation has {} tokens; --context allows {}",
                prompt.len(),
                self.decoder.shape().context
            );
        }
        let mut detokeniser = self.text.detokeniser()?;
        let mut completion = Completion {
            prompt: prompt.clone(),
            tokens: Vec::new(),
            scores: Vec::new(),
        };
        let mut answer = String::new();
        let mut stdout = std::io::stdout().lock();
        let mut say = |text: String| -> anyhow::Result<()> {
            if !arguments.json {
                write!(stdout, "{text}")?;
                stdout.flush()?;
            }
            answer += &text;
            Ok(())
        };
        let began = Instant::now();
        let mut scores = self.prefill(&prompt)?;
        let first = began.elapsed();
        let tokens_max = room.min(arguments.tokens as usize);
        while completion.tokens.len() < tokens_max {
            self.forbid(&mut scores);
            if arguments.record.is_some() {
                completion.scores.push(digest(&scores));
            }
            let chosen = self
                .sampling
                .choose(&scores, completion.tokens.len() as u64);
            let token = chosen.context("a score is not finite")?;
            completion.tokens.push(token);
            say(detokeniser.push(token))?;
            if self.ends.contains(&token) {
                break;
            }
            if completion.tokens.len() < tokens_max {
                let position = prompt.len() + completion.tokens.len() - 1;
                self.pass(&[token], position, &mut scores)?;
            }
        }
        let decoded = began.elapsed() - first;
        say(detokeniser.finish())?;
        let steps = completion.tokens.len().saturating_sub(1) as f64;
        let speeds = [
            prompt.len() as f64 / first.as_secs_f64(),
            steps / decoded.as_secs_f64().max(1e-9),
        ];
        if arguments.json {
            let line = json!({
                "text": answer, "prompt_tokens": prompt.len(), "tokens": completion.tokens,
                "prefill_tokens_per_second": speeds[0], "decode_tokens_per_second": speeds[1],
            });
            writeln!(stdout, "{line}")?;
        } else {
            writeln!(stdout)?;
            eprintln!(
                "engine: {} tokens of prompt at {:.0} a second, {} of answer at {:.1} a second",
                prompt.len(),
                speeds[0],
                completion.tokens.len(),
                speeds[1]
            );
        }
        Ok((completion, answer))
    }

    fn prefill(&mut self, prompt: &[u32]) -> anyhow::Result<Vec<f32>> {
        let mut scores = Vec::new();
        for (index, chunk) in prompt.chunks(CHUNK).enumerate() {
            self.pass(chunk, index * CHUNK, &mut scores)?;
        }
        Ok(scores)
    }

    /// Computes tokens that follow one another; the scores are those after the last.
    fn pass(
        &mut self,
        tokens: &[u32],
        position: usize,
        scores: &mut Vec<f32>,
    ) -> anyhow::Result<()> {
        let last = tokens.len() - 1;
        let rows = tokens.iter().enumerate().map(|(index, token)| Row {
            sequence: 0,
            token: *token,
            position: (position + index) as u32,
            scored: index == last,
        });
        let rows: Vec<Row> = rows.collect();
        Ok(self.decoder.forward(&rows, &self.table, scores)?)
    }

    /// Leaves out what no completion holds: rows of the table that are no token, and special tokens that do not end it.
    fn forbid(&self, scores: &mut Vec<f32>) {
        scores.truncate(self.vocabulary.size());
        let special = self.vocabulary.special().iter();
        for token in special.filter(|token| !self.ends.contains(token)) {
            if let Some(score) = scores.get_mut(*token as usize) {
                *score = f32::MIN;
            }
        }
    }
}

fn embed(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.prompt.is_empty() {
        bail!("this model embeds: name a text with --prompt");
    }
    let files = weights::read(&arguments.model)?;
    let (embedder, text) = (Embedder::load(&files)?, Text::of_embedder(&files)?);
    for prompt in &arguments.prompt {
        let tokens = text.to_embed(prompt)?;
        let vector = embedder.embed(&tokens)?;
        println!("{}", json!({"tokens": tokens.len(), "vector": vector}));
    }
    Ok(())
}
