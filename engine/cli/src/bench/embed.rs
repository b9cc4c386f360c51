//! How fast an embeddings model is: a thousand sentences, as tokens.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use engine::Packing;
use engine::embedder::vector;
use engine::encoder::{Encoder, Text};
use kernels::Kernels;
use model::bert::Config;
use model::pooling::Pooling;
use model::weights::{Part, Weights};
use serde_json::json;

use super::peer::Peer;
use super::rows::{Effort, Line, paired};

/// Sentences that one measurement embeds.
pub const SENTENCES: usize = 1000;

/// Reads an encoder of a directory.
pub fn load(directory: &Path, kernels: Arc<Kernels>, packing: Packing) -> anyhow::Result<Encoder> {
    let config = std::fs::read(directory.join("config.json")).context("reading config.json")?;
    let config = Config::parse(&config)?;
    let name = "model.safetensors";
    let file = File::open(directory.join(name)).context("opening model.safetensors")?;
    let part = Part {
        name: name.into(),
        bytes: file.metadata()?.len(),
        content: Box::new(file),
    };
    Ok(Encoder::load(
        &config,
        Weights::open(vec![part])?,
        kernels,
        packing,
    )?)
}

/// Token lists of 8 to 47 tokens, special ones included: short sentences and long ones, the same for everybody.
fn sentences(vocabulary: usize) -> Vec<Vec<u32>> {
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let sentence = |_| {
        let length = 8 + random(40);
        let words = (0..length - 2).map(|_| (vocabulary / 8 + random(vocabulary / 2)) as u32);
        [
            &[101u32.min(vocabulary as u32 - 1)][..],
            &words.collect::<Vec<_>>(),
            &[102u32.min(vocabulary as u32 - 1)],
        ]
        .concat()
    };
    (0..SENTENCES).map(sentence).collect()
}

/// Sentences per second.
pub fn line(
    encoder: &mut Encoder,
    peer: Option<(&'static str, &mut Peer)>,
    effort: &Effort,
) -> anyhow::Result<Line> {
    let sentences = sentences(encoder.config().vocabulary);
    let mut texts: Vec<Text<'_>> = sentences.iter().map(|tokens| Text::one(tokens)).collect();
    texts.sort_by_key(|text| text.tokens.len());
    let width = encoder.config().hidden;
    let mut own = || {
        let began = Instant::now();
        let mut failed = None;
        encoder.forward(&texts, &mut |_, rows| {
            failed = failed
                .take()
                .or(vector(Pooling::default(), rows, width).err());
        })?;
        failed.map_or(Ok(()), Err)?;
        Ok(SENTENCES as f64 / began.elapsed().as_secs_f64())
    };
    let what = format!("embed {SENTENCES} sentences");
    match peer {
        None => paired(what, "sentences/s", effort.rounds, &mut own, None),
        Some((name, peer)) => {
            let mut other = || {
                let answer = peer.ask("embed", json!({"texts": sentences}))?;
                Ok(SENTENCES as f64 * 1000.0 / Peer::number(&answer, "ms")?)
            };
            paired(
                what,
                "sentences/s",
                effort.rounds,
                &mut own,
                Some((name, &mut other)),
            )
        }
    }
}
