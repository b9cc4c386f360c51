//! Prints how fast the two models load and run on this machine.
//!
//! `cargo run -p engine --example bench -- [DIRECTORY of all-MiniLM-L6-v2]`

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use engine::{Chat, Embedder, Message, ModelFiles, Role, Sampling};

fn main() -> anyhow::Result<()> {
    machine();
    chat()?;
    match std::env::args_os().nth(1).map(PathBuf::from) {
        Some(directory) => embed(&directory),
        None => {
            println!("embeddings: name the directory of all-MiniLM-L6-v2 to measure them");
            Ok(())
        }
    }
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

fn chat() -> anyhow::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-chat");
    let began = Instant::now();
    let chat = Chat::load(&ModelFiles::read(&directory)?)?;
    println!("tiny-chat load: {:.0} ms", ms(began));
    let question = Message {
        role: Role::User,
        content: "What does Chrysalis prove? ".repeat(10),
    };
    let prompt = chat.prompt_tokens(&[question])?;
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
    println!(
        "tiny-chat prefill: {} tokens in {first:.1} ms",
        prompt.len()
    );
    println!("tiny-chat decode: {speed:.0} tokens/s over {decoded} tokens");
    Ok(())
}

fn embed(directory: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    let embedder = Embedder::load(&ModelFiles::read(directory)?)?;
    println!("all-MiniLM-L6-v2 load: {:.0} ms", ms(began));
    for words in [6, 126, 254] {
        let text = "word ".repeat(words);
        let mut best = f64::INFINITY;
        let mut tokens = 0;
        for _ in 0..10 {
            let began = Instant::now();
            tokens = embedder.embed(&text)?.tokens;
            best = best.min(ms(began));
        }
        println!("all-MiniLM-L6-v2 embed: {tokens} tokens in {best:.1} ms");
    }
    Ok(())
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
