//! How fast models load and run on this machine.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use engine::{Chat, Embedder, Sampling, weights};
use model::text::{Message, Text};

/// Prints the figures of a chat model and, if there is one, of an embeddings model.
pub fn run(chat_model: &Path, embeddings_model: Option<&Path>) -> anyhow::Result<()> {
    machine();
    chat(chat_model)?;
    embeddings_model.map_or(Ok(()), embed)
}

fn machine() {
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    let model = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            line.split(':').nth(1).map(|name| name.trim().to_owned())
        });
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "processor: {} ({threads} threads)",
        model.as_deref().unwrap_or("unknown")
    );
    println!(
        "load before: {}",
        load.split(' ').next().unwrap_or("unknown")
    );
}

fn chat(directory: &Path) -> anyhow::Result<()> {
    let name = name(directory);
    let began = Instant::now();
    let files = weights::read(directory)?;
    let (chat, text) = (Chat::load(&files)?, Text::of_chat(&files)?);
    println!("{name} load: {:.0} ms", ms(began));
    let prompt = text.prompt(&[Message {
        role: "user",
        content: &"What does Chrysalis prove? ".repeat(10),
    }])?;
    // Hot, so that it talks long; several seeds, best of them, so that a busy neighbour counts less.
    let mut best: Option<(f64, usize, f64)> = None;
    for seed in 0..8 {
        let sampling = Sampling {
            temperature: 1.5,
            top_p: 1.0,
            seed,
            tokens_max: 200,
        };
        let began = Instant::now();
        let mut first = None;
        let done = chat.generate(&prompt, &sampling, &mut |_| {
            first.get_or_insert_with(|| ms(began));
            ControlFlow::Continue(())
        })?;
        let first = first.context("no token came")?;
        let decoded = done.tokens.len() - 1;
        let speed = decoded as f64 / (ms(began) - first) * 1000.0;
        if decoded >= 20 && best.is_none_or(|(top, ..)| speed > top) {
            best = Some((speed, decoded, first));
        }
    }
    let (speed, decoded, first) = best.context("every answer was too short to measure")?;
    println!("{name} prefill: {} tokens in {first:.1} ms", prompt.len());
    println!("{name} decode: {speed:.0} tokens/s over {decoded} tokens");
    Ok(())
}

fn embed(directory: &Path) -> anyhow::Result<()> {
    let name = name(directory);
    let began = Instant::now();
    let files = weights::read(directory)?;
    let (embedder, text) = (Embedder::load(&files)?, Text::of_embedder(&files)?);
    println!("{name} load: {:.0} ms", ms(began));
    for words in [6, 126, 254] {
        let content = "word ".repeat(words);
        let mut best = f64::INFINITY;
        let mut tokens = 0;
        for _ in 0..10 {
            let began = Instant::now();
            let input = text.to_embed(&content)?;
            embedder.embed(&input)?;
            tokens = input.len();
            best = best.min(ms(began));
        }
        println!("{name} embed: {tokens} tokens in {best:.1} ms");
    }
    Ok(())
}

fn name(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or(directory.as_os_str());
    name.to_string_lossy().into_owned()
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
