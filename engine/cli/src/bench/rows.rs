//! What is measured, in pairs: each round measures one side and the other, in turn first.

use serde::Serialize;
use serde_json::json;

use super::ours::Ours;
use super::peer::Peer;
use super::statistics::{Samples, ratios};

/// How much is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Effort {
    /// Pairs of measurements for each row of the table.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Tokens decoded in one measurement.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(2..=4096))]
    pub tokens: u32,
    /// Tokens of the prompt whose prefill is measured.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub prompt: u32,
    /// Sequences that decode together in the row of streams; llama.cpp puts as many into one batch.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub streams: u32,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// Its unit: more is better.
    pub unit: &'static str,
    /// The median of this engine.
    pub ours: f64,
    /// The name of the other side, if there is one.
    pub against: Option<&'static str>,
    /// Its median.
    pub theirs: Option<f64>,
    /// The median of the ratios of the rounds: above 1 this engine is faster.
    pub ratio: Option<f64>,
    /// Half of the ratios lie between these.
    pub spread: Option<(f64, f64)>,
    /// A remark: what share of the bandwidth, what is not comparable.
    pub note: String,
}

/// The tokens before what is decoded.
pub const CONTEXT: usize = 32;

/// A prompt that means nothing, the same for everybody.
pub fn tokens(count: usize, vocabulary: usize, salt: usize) -> Vec<u32> {
    (0..count)
        .map(|index| ((index * 7919 + salt * 104_729 + 13) % vocabulary) as u32)
        .collect()
}

/// A thing that both sides do: each gives rates, more is better.
pub type Side<'a> = dyn FnMut() -> anyhow::Result<f64> + 'a;

/// Measures in pairs and makes a line.
pub fn paired(
    what: String,
    unit: &'static str,
    rounds: u32,
    ours: &mut Side<'_>,
    theirs: Option<(&'static str, &mut Side<'_>)>,
) -> anyhow::Result<Line> {
    let (mut own, mut other) = (Vec::new(), Vec::new());
    let Some((against, theirs)) = theirs else {
        for _ in 0..rounds {
            own.push(ours()?);
        }
        return Ok(Line::alone(what, unit, own.into_iter().collect()));
    };
    // Once without a look at the clock: pages are touched and caches filled.
    ours()?;
    theirs()?;
    for round in 0..rounds {
        if round % 2 == 0 {
            own.push(ours()?);
            other.push(theirs()?);
        } else {
            other.push(theirs()?);
            own.push(ours()?);
        }
    }
    let ratios = ratios(&own, &other);
    let (own, other): (Samples, Samples) = (own.into_iter().collect(), other.into_iter().collect());
    Ok(Line {
        against: Some(against),
        theirs: Some(other.median()),
        ratio: Some(ratios.median()),
        spread: Some(ratios.quarters()),
        ..Line::alone(what, unit, own)
    })
}

impl Line {
    fn alone(what: String, unit: &'static str, samples: Samples) -> Self {
        Line {
            what,
            unit,
            ours: samples.median(),
            against: None,
            theirs: None,
            ratio: None,
            spread: None,
            note: String::new(),
        }
    }
}

/// Tokens per second from the milliseconds of the steps of one round: their median, so that one interruption does not count.
fn rate(each_ms: Vec<f64>, tokens_per_step: usize) -> f64 {
    let samples: Samples = each_ms.into_iter().collect();
    1000.0 * tokens_per_step as f64 / samples.median()
}

/// Decoding one stream.
pub fn decode(
    ours: &mut Ours,
    peer: Option<(&'static str, &mut Peer)>,
    effort: &Effort,
) -> anyhow::Result<Line> {
    let (prompt, fed) = (
        tokens(CONTEXT, ours.vocabulary(), 0),
        tokens(effort.tokens as usize, ours.vocabulary(), 1),
    );
    let mut own = || {
        ours.prefill(&prompt)?;
        Ok(rate(ours.decode(&fed, CONTEXT)?, 1))
    };
    let what = "decode, one stream".to_owned();
    match peer {
        None => paired(what, "tokens/s", effort.rounds, &mut own, None),
        Some((name, peer)) => {
            let mut other = || {
                peer.ask("prefill", json!({"tokens": prompt}))?;
                let answer = peer.ask("decode", json!({"tokens": fed, "position": CONTEXT}))?;
                Ok(rate(Peer::numbers(&answer, "each_ms")?, 1))
            };
            paired(
                what,
                "tokens/s",
                effort.rounds,
                &mut own,
                Some((name, &mut other)),
            )
        }
    }
}

/// A whole prompt.
pub fn prefill(
    ours: &mut Ours,
    peer: Option<(&'static str, &mut Peer)>,
    effort: &Effort,
) -> anyhow::Result<Line> {
    let prompt = tokens(effort.prompt as usize, ours.vocabulary(), 2);
    let count = prompt.len() as f64 * 1000.0;
    let mut own = || Ok(count / ours.prefill(&prompt)?);
    let what = format!("prefill of {} tokens", effort.prompt);
    match peer {
        None => paired(what, "tokens/s", effort.rounds, &mut own, None),
        Some((name, peer)) => {
            let mut other = || {
                let answer = peer.ask("prefill", json!({"tokens": prompt}))?;
                Ok(count / Peer::number(&answer, "ms")?)
            };
            paired(
                what,
                "tokens/s",
                effort.rounds,
                &mut own,
                Some((name, &mut other)),
            )
        }
    }
}

/// Many streams together; the note says how many times one stream that is.
pub fn streams(
    ours: &mut Ours,
    peer: Option<(&'static str, &mut Peer)>,
    effort: &Effort,
    one: Option<f64>,
) -> anyhow::Result<Line> {
    let (count, vocabulary) = (effort.streams as usize, ours.vocabulary());
    let prompts: Vec<_> = (0..count)
        .map(|stream| tokens(CONTEXT, vocabulary, stream))
        .collect();
    let steps: Vec<_> = (0..effort.tokens as usize)
        .map(|step| tokens(count, vocabulary, 100 + step))
        .collect();
    let mut own = || Ok(rate(ours.streams(&prompts, &steps)?, count));
    let what = format!("decode, {count} streams, total");
    let mut line = match peer {
        None => paired(what, "tokens/s", effort.rounds, &mut own, None)?,
        Some((name, peer)) => {
            let mut other = || {
                let answer = peer.ask("streams", json!({"prompts": prompts, "tokens": steps}))?;
                Ok(rate(Peer::numbers(&answer, "each_ms")?, count))
            };
            paired(
                what,
                "tokens/s",
                effort.rounds,
                &mut own,
                Some((name, &mut other)),
            )?
        }
    };
    if let Some(one) = one {
        line.note = format!("{:.1} x one stream", line.ours / one);
    }
    Ok(line)
}
