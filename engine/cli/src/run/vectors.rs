//! Models that read texts and say nothing: vectors, and scores of pairs.

use anyhow::{Context, bail};
use engine::encoder::{self, Encoder};
use engine::{Embedder, Memory, Packing, weights};
use model::bert::Config;
use model::text::Text;
use serde_json::json;

use super::{Arguments, threads};
use crate::bench::kernels;
use crate::model::Kind;

/// Prints a line of JSON for each prompt, or for each document.
pub fn run(arguments: &Arguments, memory: &Memory) -> anyhow::Result<()> {
    let files = weights::read(&arguments.model)?;
    let config = Config::parse(files.config())?;
    if arguments.record.is_some() || arguments.system.is_some() {
        bail!("--record and --system are for models that chat; this one is BERT");
    }
    let text = Text::of_embedder(&files)?;
    let kernels = kernels(threads(arguments), arguments.path.as_deref())?;
    let packing =
        { arguments.kind }.map_or(Packing::AsStored, |kind| Packing::All(Kind::packed(kind)));
    let asked = &arguments.prompt;
    if !config.scores_pairs {
        if asked.is_empty() || !arguments.document.is_empty() {
            bail!("this model makes vectors of texts: name each with --prompt");
        }
        let embedder = Embedder::load_on(&files, kernels, packing, memory)?;
        for prompt in asked {
            let tokens = text.to_embed(prompt)?;
            let vector = embedder.embed(&tokens)?;
            println!("{}", json!({"tokens": tokens.len(), "vector": vector}));
        }
        return Ok(());
    }
    let ([query], [_, ..]) = (&asked[..], &arguments.document[..]) else {
        bail!(
            "this model scores pairs: one --prompt, and a --document for each text that may answer it"
        );
    };
    let weights = files.open_weights()?;
    memory.take(&Encoder::needs(&config, &weights, packing))?;
    let mut encoder = Encoder::load(&config, weights, kernels, packing)?;
    for (number, document) in arguments.document.iter().enumerate() {
        let (tokens, first) = text.to_score(query, document)?;
        let tokens = &tokens[..];
        let scores = encoder.scores(&[encoder::Text { tokens, first }]);
        let scores =
            scores.with_context(|| format!("document {number}, {} tokens", tokens.len()))?;
        println!(
            "{}",
            json!({"document": number, "tokens": tokens.len(), "score": scores[0]})
        );
    }
    Ok(())
}
