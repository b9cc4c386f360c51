//! The small files of a model that comes as one GGUF: configuration, tokenizer and template, written as Hugging Face has them.
//!
//! Clients make tokens by them and never see the weights; whoever runs the model reads the same configuration. The rules are the
//! crate `model`'s, so the same GGUF makes the same bytes everywhere.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use ::model::File as Part;
use ::model::gguf::config::{Beside, ROPE_FACTORS, config_json};
use ::model::gguf::{Header, Tensor};
use ::model::text::Text;
use ::model::text::gguf::text_files;
use ::model::{Dtype, Flaw, ModelError, vocabulary};

/// Name and content of each: `config.json`, `tokenizer.json`, `tokenizer_config.json`.
pub fn small_files(gguf: &Path) -> Result<[(&'static str, Vec<u8>); 3], ModelError> {
    let unreadable = |error: std::io::Error| ModelError::Weights {
        file: gguf.display().to_string(),
        flaw: Flaw::Unreadable(error.kind()),
    };
    let open = || File::open(gguf);
    let file = open().map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    let header =
        Header::read(bytes, BufReader::new(&file)).map_err(|flaw| ModelError::Weights {
            file: gguf.display().to_string(),
            flaw,
        })?;
    let factors = match header.tensor(ROPE_FACTORS) {
        Some(tensor) => Some(numbers(&file, &header, tensor).map_err(unreadable)?),
        None => None,
    };
    let text = text_files(&header, || open().map(BufReader::new))?;
    let beside = Beside {
        rope_factors: factors.as_deref(),
        end_tokens: &text.end_tokens,
    };
    let config = config_json(&header, beside)?;
    // What is written must be read.
    let rows = vocabulary::rows(&config)?;
    Text::of(&text.tokenizer, Some(&text.tokenizer_config[..]), rows)?;
    Ok([
        (Part::Config.name(), config),
        (Part::Tokenizer.name(), text.tokenizer),
        (Part::TokenizerConfig.name(), text.tokenizer_config),
    ])
}

/// A short tensor of f32; of any other, nothing.
fn numbers(mut file: &File, header: &Header, tensor: &Tensor) -> std::io::Result<Vec<f32>> {
    let bytes = tensor.data.end - tensor.data.start;
    if tensor.dtype != Dtype::F32 || bytes > NUMBERS_BYTES_MAX {
        return Ok(Vec::new());
    }
    file.seek(SeekFrom::Start(header.bytes() + tensor.data.start))?;
    let mut held = Vec::new();
    file.take(bytes).read_to_end(&mut held)?;
    let numbers = held.as_chunks::<4>().0.iter();
    Ok(numbers.map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// Half the width of a head.
const NUMBERS_BYTES_MAX: u64 = 64 * 1024;
