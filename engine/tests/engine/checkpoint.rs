//! Small random checkpoints of every family, made here and never committed, with what `transformers` computes with them.
//!
//! `../reference/families.py` says how a weight follows from the seed and wrote `../reference/families/*.json`. A checkpoint is a
//! directory as Hugging Face lays it out: `config.json`, `model.safetensors` and a tokenizer. A decoder's tokenizer has one
//! token for each byte; ids from 259 on are rows of the table that are no token. BERT's has letters.

#![allow(dead_code, reason = "not every reader uses all of it")]

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What `transformers` computed, and what the weights are made from.
#[derive(Debug, Clone, Deserialize)]
pub struct Reference {
    /// `config.json` as `transformers` wrote it.
    pub config: Value,
    seed: u64,
    tensors: Vec<(String, Vec<usize>, f32, f32)>,
    /// Tokens of a prompt.
    pub prompt: Vec<u32>,
    /// Positions of the prompt of which `scores` (or `hidden`) has a row.
    #[serde(default)]
    pub rows: Vec<usize>,
    #[serde(default)]
    scores: String,
    #[serde(default)]
    hidden: String,
    #[serde(default)]
    mean: String,
    #[serde(default)]
    score: String,
    #[serde(default)]
    score_in_one_segment: String,
    /// The segment of each token: a cross-encoder's pair.
    #[serde(default)]
    pub segments: Vec<u32>,
    /// How many tokens of the prompt `greedy` continues.
    #[serde(default)]
    pub greedy_prompt: usize,
    /// 64 tokens, each the best of the 256 bytes.
    #[serde(default)]
    pub greedy: Vec<u32>,
    /// The smallest lead of a choice over the next best.
    #[serde(default)]
    pub greedy_lead: f32,
}

/// The token that ends a completion of a decoder made here.
pub const END: u32 = 258;

/// Every decoder: its name and its reference.
pub const DECODERS: [(&str, &str); 10] = [
    ("gemma3", include_str!("../reference/families/gemma3.json")),
    (
        "llama-linear",
        include_str!("../reference/families/llama-linear.json"),
    ),
    (
        "llama-yarn",
        include_str!("../reference/families/llama-yarn.json"),
    ),
    ("llama2", include_str!("../reference/families/llama2.json")),
    ("llama3", include_str!("../reference/families/llama3.json")),
    (
        "mistral",
        include_str!("../reference/families/mistral.json"),
    ),
    ("qwen2", include_str!("../reference/families/qwen2.json")),
    ("qwen3", include_str!("../reference/families/qwen3.json")),
    (
        "smollm2",
        include_str!("../reference/families/smollm2.json"),
    ),
    (
        "smollm3",
        include_str!("../reference/families/smollm3.json"),
    ),
];
/// BERT, which embeds.
pub const BERT: &str = include_str!("../reference/families/bert.json");
/// BERT with a score for a pair of texts.
pub const RERANKER: &str = include_str!("../reference/families/reranker.json");

impl Reference {
    /// Parses one of the texts above.
    pub fn parse(text: &str) -> Reference {
        serde_json::from_str(text).expect("the committed reference is well formed")
    }

    /// The decoder called `name` in [`DECODERS`].
    pub fn decoder(name: &str) -> Reference {
        let found = DECODERS.iter().find(|(other, _)| *other == name);
        Reference::parse(
            found
                .unwrap_or_else(|| panic!("no reference called {name}"))
                .1,
        )
    }

    /// A row of scores for each of `rows`.
    pub fn scores(&self) -> Vec<Vec<f32>> {
        chunked(&self.scores, self.rows.len())
    }

    /// BERT's last hidden state at each of `rows`.
    pub fn hidden(&self) -> Vec<Vec<f32>> {
        chunked(&self.hidden, self.rows.len())
    }

    /// The mean of BERT's last hidden states, before it is made a unit vector.
    pub fn mean(&self) -> Vec<f32> {
        floats(&self.mean)
    }

    /// A cross-encoder's score of the pair, and of the same tokens all in segment 0.
    pub fn pair_scores(&self) -> [f32; 2] {
        [
            floats(&self.score)[0],
            floats(&self.score_in_one_segment)[0],
        ]
    }

    /// The tensors: name, shape and values, in the order of the names.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let mut drawn = 0;
        let tensors = self.tensors.iter();
        let made = tensors.map(|(name, shape, centre, amplitude)| {
            let count: usize = shape.iter().product();
            let values = (drawn + 1..=drawn + count as u64).map(|index| {
                let fraction = ((mix(self.seed, index) >> 40) as i32 - (1 << 23)) as f32;
                fraction * f32::powi(2.0, -23) * amplitude + centre
            });
            let values = values.collect();
            drawn += count as u64;
            (name.clone(), shape.clone(), values)
        });
        made.collect()
    }

    /// `model.safetensors`, in 32-bit floats.
    pub fn safetensors(&self) -> Vec<u8> {
        let (mut header, mut data) = (Map::new(), Vec::new());
        for (name, shape, values) in self.tensors() {
            let begin = data.len();
            data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            let entry =
                json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]});
            header.insert(name, entry);
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let length = (header.len() as u64).to_le_bytes();
        [&length[..], &header, &data].concat()
    }

    /// Writes the checkpoint into a directory.
    pub fn write(&self, directory: &Path) {
        let tokenizer = match self.config["model_type"] == "bert" {
            true => letters(),
            false => bytes(),
        };
        for (name, content) in [
            ("config.json", self.config.to_string().into_bytes()),
            ("model.safetensors", self.safetensors()),
            ("tokenizer.json", tokenizer.to_string().into_bytes()),
            (
                "tokenizer_config.json",
                tokenizer_config().to_string().into_bytes(),
            ),
        ] {
            std::fs::write(directory.join(name), content).expect("the directory can be written");
        }
    }

    /// The checkpoint in a directory of its own, which goes when the value does.
    pub fn directory(&self) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("there is room for a directory");
        self.write(directory.path());
        directory
    }
}

/// SplitMix64's output number `index`, counted from one.
fn mix(seed: u64, index: u64) -> u64 {
    let z = seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn chunked(text: &str, rows: usize) -> Vec<Vec<f32>> {
    let all = floats(text);
    all.chunks(all.len() / rows).map(<[f32]>::to_vec).collect()
}

/// Little-endian floats in base64.
fn floats(text: &str) -> Vec<f32> {
    let digits = text
        .bytes()
        .filter(|byte| *byte != b'=')
        .map(|byte| match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            other => panic!("{other} is no digit of base64"),
        });
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for digit in digits {
        held = held << 6 | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    let floats = bytes.chunks_exact(4);
    floats
        .map(|four| f32::from_le_bytes(four.try_into().expect("four bytes")))
        .collect()
}

/// One token for each byte, in the letters that byte-level tokenizers write bytes in, and three special ones.
fn bytes() -> Value {
    let plain = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100;
    let mut letter = |byte: u32| match plain(byte) {
        true => byte,
        false => {
            next += 1;
            next - 1
        }
    };
    let mut vocabulary = Map::new();
    for byte in 0..256 {
        let letter = char::from_u32(letter(byte))
            .expect("is a letter")
            .to_string();
        vocabulary.insert(letter, byte.into());
    }
    let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    let added = special.iter().zip(256..).map(|(text, id)| added(text, id));
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null, "pre_tokenizer": level, "post_processor": null, "decoder": level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": [],
        },
    })
}

/// WordPiece over letters and digits.
fn letters() -> Value {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let letters = ('a'..='z').chain('0'..='9').map(String::from);
    let parts = letters.clone().map(|letter| format!("##{letter}"));
    let all = special
        .map(String::from)
        .into_iter()
        .chain(letters)
        .chain(parts);
    let vocabulary: Map<String, Value> = all
        .zip(0u32..)
        .map(|(text, id)| (text, id.into()))
        .collect();
    let added = special.iter().zip(0..).map(|(text, id)| added(text, id));
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary,
        },
    })
}

fn added(content: &str, id: u32) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true,
    })
}

/// ChatML.
fn tokenizer_config() -> Value {
    json!({
        "chat_template": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] \
            + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    })
}
