//! all-MiniLM-L6-v2 against its reference runtime. The model lies in the store that `image-builder` fills; where it is
//! absent these tests say so and pass, unless `CI=true`.

use std::path::PathBuf;
use std::sync::Arc;

use engine::{Embedder, weights};
use model::limits;
use model::text::{Text, TextError};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    text: String,
    tokens: u32,
    vector: Vec<f32>,
}

/// The model's directory, or `None` after saying that the test is skipped.
fn directory() -> Option<PathBuf> {
    let cache = || {
        std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .map(|cache| cache.join("chrysalis/models"))
    };
    let models = std::env::var_os("CHRYSALIS_MODELS")
        .map(PathBuf::from)
        .or_else(cache);
    let directory = models?.join("all-MiniLM-L6-v2");
    if directory.join("model.safetensors").is_file() {
        return Some(directory);
    }
    without::skip(
        "the model all-MiniLM-L6-v2",
        "`image-builder fetch` fetches it",
    );
    None
}

struct Model {
    embedder: Embedder,
    text: Text,
}

#[derive(Debug, PartialEq)]
struct Embedding {
    vector: Vec<f32>,
    tokens: u32,
}

impl Model {
    fn embed(&self, text: &str) -> Result<Embedding, TextError> {
        let tokens = self.text.to_embed(text)?;
        Ok(Embedding {
            vector: self.embedder.embed(&tokens).expect("the tokens are fine"),
            tokens: tokens.len() as u32,
        })
    }
}

fn embedder() -> Option<Model> {
    let files = weights::read(&directory()?).expect("the store holds whole models");
    Some(Model {
        embedder: Embedder::load(&files).expect("the model loads"),
        text: Text::of_embedder(&files).expect("the model embeds"),
    })
}

#[test]
fn vectors_and_token_counts_are_those_of_the_reference_runtime() {
    let Some(embedder) = embedder() else { return };
    let reference: Reference = serde_json::from_str(include_str!("../reference/minilm.json"))
        .expect("the committed reference is well formed");
    assert!(reference.rows.len() >= 8);
    let mut worst = 0.0f32;
    for row in &reference.rows {
        let ours = embedder.embed(&row.text).expect("the text is fine");
        let start: String = row.text.chars().take(40).collect();
        assert_eq!(ours.tokens, row.tokens, "{start:?}");
        assert_eq!(ours.vector.len(), row.vector.len());
        let difference = ours
            .vector
            .iter()
            .zip(&row.vector)
            .map(|(a, b)| (a - b).abs());
        let difference = difference.fold(0.0, f32::max);
        println!("{difference:e}  {:3} tokens  {start:?}", row.tokens);
        worst = worst.max(difference);
    }
    println!("largest difference {worst:e}");
    assert!(worst <= 1e-5, "{worst:e}");
}

#[test]
fn like_sentences_are_nearer_than_unlike_ones() {
    let Some(embedder) = embedder() else { return };
    let embed = |text| embedder.embed(text).expect("the text is fine").vector;
    let product = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let bread = embed("A man is eating a piece of bread.");
    let like = product(&bread, &embed("Someone eats bread."));
    let unlike = product(&bread, &embed("The stock market fell sharply on Tuesday."));
    assert!(like > 0.5 && unlike < 0.2, "{like} {unlike}");
    assert!((product(&bread, &bread) - 1.0).abs() < 1e-5);
}

#[test]
fn the_same_text_gives_the_same_bits_from_several_threads() {
    let Some(embedder) = embedder() else { return };
    let embedder = Arc::new(embedder);
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let embedder = Arc::clone(&embedder);
            std::thread::spawn(move || embedder.embed("One text.").expect("the text is fine"))
        })
        .collect();
    let first = embedder.embed("One text.").expect("the text is fine");
    for thread in threads {
        assert_eq!(thread.join().expect("no panic"), first);
    }
}

#[test]
fn a_text_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let Some(embedder) = embedder() else { return };
    let most = "a ".repeat(limits::TEXT_BYTES_MAX / 2);
    let embedding = embedder.embed(&most).expect("at the limit");
    assert_eq!(embedding.tokens as usize, limits::EMBEDDING_TOKENS_MAX);
    assert_eq!(
        embedder.embed(&format!("{most}a")),
        Err(TextError::TooLong {
            bytes: limits::TEXT_BYTES_MAX + 1,
            bytes_max: limits::TEXT_BYTES_MAX
        })
    );
}
