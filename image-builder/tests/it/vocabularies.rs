//! Real vocabularies in GGUF, with texts and the tokens that the models' own tokenizers make of them.
//!
//! From the source archive of the PyPI package llama-cpp-python 0.3.36 (MIT), which has llama.cpp's: `ggml-vocab-NAME.gguf`,
//! `….inp` (texts with a line between them) and `….out` (a line of ids for each). Fetched by digest, never committed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use image_builder::lock::{InputKind, LockedInput};
use image_builder::store::Store;
use image_builder::store::inputs::{InputSources, ensure_input};
use model::gguf::Header;
use model::text::Text;
use model::text::gguf::{TextFiles, text_files};
use model::{ModelError, limits};

/// Files below `vendor/llama.cpp/models`.
static SAMPLES: LazyLock<Result<BTreeMap<String, Vec<u8>>, String>> = LazyLock::new(samples);

fn samples() -> Result<BTreeMap<String, Vec<u8>>, String> {
    let input = LockedInput {
        kind: InputKind::Url,
        name: "vocabularies".into(),
        version: None,
        bytes: 76_589_250,
        sha256: "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
            .parse()
            .expect("a digest"),
        seen: "https://files.pythonhosted.org/packages/ec/e9/e7de2b0463ea3ffbf0ede6cb21b58c1258a8f6521aae45ca773a59fe7cf3/\
               llama_cpp_python-0.3.36.tar.gz"
            .into(),
    };
    let store = Store::from_environment().ok_or("no home directory")?;
    let places = InputSources {
        store: &store,
        directory: Path::new("."),
        pypi_files_url: None,
    };
    let directory = ensure_input(places, &input, &mut |_| ()).map_err(|error| error.to_string())?;
    let archive = directory.join("llama_cpp_python-0.3.36.tar.gz");
    let archive = std::fs::File::open(archive).map_err(|error| error.to_string())?;
    let mut found = BTreeMap::new();
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an archive");
        let path = entry.path().expect("a path").display().to_string();
        if let Some((_, name)) = path.split_once("/vendor/llama.cpp/models/") {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("a whole archive");
            found.insert(name.to_owned(), bytes);
        }
    }
    Ok(found)
}

/// The samples, or `None` after saying that the test is skipped.
pub fn files() -> Option<&'static BTreeMap<String, Vec<u8>>> {
    match &*SAMPLES {
        Ok(samples) => Some(samples),
        Err(error) => {
            without::skip("vocabularies and templates of real models", error);
            None
        }
    }
}

fn made(gguf: &[u8]) -> Result<TextFiles, ModelError> {
    let header = Header::read(gguf.len() as u64, Cursor::new(gguf)).expect("a GGUF");
    text_files(&header, || Ok(Cursor::new(gguf)))
}

#[test]
fn every_real_vocabulary_makes_the_tokens_of_its_own_tokenizer() {
    let Some(files) = files() else { return };
    let mut done = BTreeSet::new();
    for (name, gguf) in files {
        let Some(family) = name.strip_prefix("ggml-vocab-") else {
            continue;
        };
        let Some(family) = family.strip_suffix(".gguf") else {
            continue;
        };
        let Some(texts) = files.get(&format!("{name}.inp")) else {
            continue;
        };
        let made = made(gguf).unwrap_or_else(|error| panic!("{family}: {error}"));
        let config = Some(made.tokenizer_config.as_slice());
        let text = Text::of(&made.tokenizer, config, limits::VOCABULARY_MAX);
        let text = text.unwrap_or_else(|error| panic!("{family}: {error}"));
        let texts = std::str::from_utf8(texts).expect("UTF-8");
        let texts = texts.split("\n__ggml_vocab_test__\n");
        let expected = String::from_utf8_lossy(&files[&format!("{name}.out")]).into_owned();
        let mut compared = 0;
        for (input, expected) in texts.zip(expected.split('\n')) {
            let expected: Vec<u32> = { expected.split_whitespace() }
                .map(|id| id.parse().expect("an id"))
                .collect();
            assert_eq!(text.to_tokens(input), Ok(expected), "{family}: {input:?}");
            compared += 1;
        }
        assert!(compared > 40, "{family}: {compared} texts");
        done.insert(family);
    }
    let expected = BTreeSet::from(FAMILIES);
    assert_eq!(done, expected);
}

#[test]
fn a_vocabulary_that_is_not_understood_is_refused_by_name() {
    let Some(files) = files() else { return };
    for (name, expected) in [
        ("aquila", "does not name its pre-tokenizer"),
        ("gpt-neox", "does not name its pre-tokenizer"),
        ("nomic-bert-moe", "the tokenizer `t5`"),
    ] {
        let refused = made(&files[&format!("ggml-vocab-{name}.gguf")]);
        let refused = refused.expect_err(name).to_string();
        assert!(refused.contains(expected), "{name}: {refused}");
    }
}

/// All that have texts.
const FAMILIES: [&str; 15] = [
    "bert-bge",
    "command-r",
    "deepseek-coder",
    "deepseek-llm",
    "falcon",
    "gemma-4",
    "gpt-2",
    "llama-bpe",
    "llama-spm",
    "mpt",
    "phi-3",
    "qwen2",
    "qwen35",
    "refact",
    "starcoder",
];
