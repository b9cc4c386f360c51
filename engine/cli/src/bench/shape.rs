//! A model with random weights in the shape of a real one, as a GGUF file that every engine reads: what is measured then is the
//! same for all of them, and nothing has to be downloaded.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use clap::ValueEnum;

/// The shape of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// That of Qwen2.5-0.5B, as a Llama: 24 layers of 896, vocabulary of 151,936, tied.
    #[value(name = "0.5b")]
    HalfBillion,
    /// That of TinyLlama-1.1B: 22 layers of 2048, vocabulary of 32,000.
    #[value(name = "1.1b")]
    OneBillion,
    /// A few hundred kilobytes, for tests.
    Tiny,
}

/// How its matrices are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stored {
    Q8,
    Q4,
    Bf16,
    F32,
}

struct Sizes {
    layers: usize,
    hidden: usize,
    feed: usize,
    heads: usize,
    key_value_heads: usize,
    vocabulary: usize,
    tied: bool,
}

impl Shape {
    fn sizes(self) -> Sizes {
        let (layers, hidden, feed, heads, key_value_heads, vocabulary, tied) = match self {
            Shape::HalfBillion => (24, 896, 4864, 14, 2, 151_936, true),
            Shape::OneBillion => (22, 2048, 5632, 32, 4, 32_000, false),
            Shape::Tiny => (2, 128, 256, 2, 1, 512, true),
        };
        Sizes {
            layers,
            hidden,
            feed,
            heads,
            key_value_heads,
            vocabulary,
            tied,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Shape::HalfBillion => "0.5b",
            Shape::OneBillion => "1.1b",
            Shape::Tiny => "tiny",
        }
    }
}

impl Stored {
    pub fn name(self) -> &'static str {
        match self {
            Stored::Q8 => "q8",
            Stored::Q4 => "q4",
            Stored::Bf16 => "bf16",
            Stored::F32 => "f32",
        }
    }

    /// Its number in GGUF.
    fn code(self) -> u32 {
        match self {
            Stored::F32 => 0,
            Stored::Q4 => 2,
            Stored::Q8 => 8,
            Stored::Bf16 => 30,
        }
    }

    /// Bytes of a row of `columns` numbers, a multiple of 32.
    fn row_bytes(self, columns: usize) -> usize {
        match self {
            Stored::F32 => columns * 4,
            Stored::Bf16 => columns * 2,
            Stored::Q8 => columns / 32 * 34,
            Stored::Q4 => columns / 32 * 18,
        }
    }

    /// Appends a row of random numbers, uniform between -`amplitude` and `amplitude`.
    fn row(self, columns: usize, amplitude: f32, random: &mut SplitMix, out: &mut Vec<u8>) {
        match self {
            Stored::F32 | Stored::Bf16 => {
                for _ in 0..columns {
                    let fraction = (random.next() >> 40) as f32 / (1 << 23) as f32 - 1.0;
                    let bytes = (fraction * amplitude).to_le_bytes();
                    out.extend_from_slice(if self == Stored::F32 {
                        &bytes
                    } else {
                        &bytes[2..]
                    });
                }
            }
            Stored::Q8 | Stored::Q4 => {
                let (steps, bytes) = if self == Stored::Q8 {
                    (127.0, 32)
                } else {
                    (8.0, 16)
                };
                for _ in 0..columns / 32 {
                    out.extend_from_slice(&half(amplitude / steps).to_le_bytes());
                    for _ in 0..bytes / 8 {
                        out.extend_from_slice(&random.next().to_le_bytes());
                    }
                }
            }
        }
    }
}

/// A positive, normal number as f16, rounded toward zero.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let exponent = (bits >> 23) as i32 - 127 + 15;
    ((exponent.clamp(1, 30) as u16) << 10) | (bits >> 13 & 0x3ff) as u16
}

struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

struct Tensor {
    name: String,
    rows: usize,
    columns: usize,
    /// A norm, whose numbers are ones.
    norm: bool,
}

fn tensors(sizes: &Sizes) -> Vec<Tensor> {
    let width = sizes.hidden / sizes.heads;
    let pairs = sizes.key_value_heads * width;
    let matrix = |name: String, rows, columns| Tensor {
        name,
        rows,
        columns,
        norm: false,
    };
    let norm = |name: String| Tensor {
        name,
        rows: 1,
        columns: sizes.hidden,
        norm: true,
    };
    let mut all = vec![matrix(
        "token_embd.weight".into(),
        sizes.vocabulary,
        sizes.hidden,
    )];
    for layer in 0..sizes.layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        all.push(norm(name("attn_norm")));
        for (part, rows, columns) in [
            ("attn_q", sizes.hidden, sizes.hidden),
            ("attn_k", pairs, sizes.hidden),
            ("attn_v", pairs, sizes.hidden),
            ("attn_output", sizes.hidden, sizes.hidden),
        ] {
            all.push(matrix(name(part), rows, columns));
        }
        all.push(norm(name("ffn_norm")));
        for (part, rows, columns) in [
            ("ffn_gate", sizes.feed, sizes.hidden),
            ("ffn_up", sizes.feed, sizes.hidden),
            ("ffn_down", sizes.hidden, sizes.feed),
        ] {
            all.push(matrix(name(part), rows, columns));
        }
    }
    all.push(norm("output_norm.weight".into()));
    if !sizes.tied {
        all.push(matrix(
            "output.weight".into(),
            sizes.vocabulary,
            sizes.hidden,
        ));
    }
    all
}

/// The head of a GGUF file, little-endian.
#[derive(Default)]
struct Head {
    pairs: u64,
    bytes: Vec<u8>,
}

impl Head {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }

    fn pair(&mut self, key: &str, kind: u32, value: &[u8]) {
        self.pairs += 1;
        Self::text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(value);
    }

    fn number(&mut self, key: &str, value: usize) {
        self.pair(key, 4, &(value as u32).to_le_bytes());
    }

    fn float(&mut self, key: &str, value: f32) {
        self.pair(key, 6, &value.to_le_bytes());
    }

    fn string(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::new();
        Self::text(&mut bytes, value);
        self.pair(key, 8, &bytes);
    }

    /// A list whose elements have this kind and are written one after another in `bytes`.
    fn list(&mut self, key: &str, kind: u32, count: usize, bytes: &[u8]) {
        let head = [&kind.to_le_bytes()[..], &(count as u64).to_le_bytes()].concat();
        self.pair(key, 9, &[&head, bytes].concat());
    }
}

fn head(shape: Shape, sizes: &Sizes) -> Head {
    let mut head = Head::default();
    head.string("general.architecture", "llama");
    head.string("general.name", &format!("random {}", shape.name()));
    for (key, value) in [
        ("llama.block_count", sizes.layers),
        ("llama.context_length", 8192),
        ("llama.embedding_length", sizes.hidden),
        ("llama.feed_forward_length", sizes.feed),
        ("llama.attention.head_count", sizes.heads),
        ("llama.attention.head_count_kv", sizes.key_value_heads),
        ("llama.rope.dimension_count", sizes.hidden / sizes.heads),
        ("llama.vocab_size", sizes.vocabulary),
    ] {
        head.number(key, value);
    }
    head.float("llama.attention.layer_norm_rms_epsilon", 1e-5);
    head.float("llama.rope.freq_base", 1e6);
    // Tokens that mean nothing, since every engine wants some; no text is ever made of them.
    let (mut tokens, mut kinds) = (Vec::new(), Vec::new());
    for index in 0..sizes.vocabulary {
        Head::text(&mut tokens, &format!("t{index}"));
        kinds.extend(1i32.to_le_bytes());
    }
    let mut merge = Vec::new();
    Head::text(&mut merge, "t 0");
    head.string("tokenizer.ggml.model", "gpt2");
    head.string("tokenizer.ggml.pre", "qwen2");
    head.list("tokenizer.ggml.tokens", 8, sizes.vocabulary, &tokens);
    head.list("tokenizer.ggml.token_type", 5, sizes.vocabulary, &kinds);
    head.list("tokenizer.ggml.merges", 8, 1, &merge);
    head.number("tokenizer.ggml.eos_token_id", 1);
    head.number("tokenizer.ggml.bos_token_id", 1);
    head
}

/// Writes the file. The same shape, kind and seed give the same bytes.
pub fn write(path: &Path, shape: Shape, stored: Stored, seed: u64) -> std::io::Result<()> {
    let sizes = shape.sizes();
    let tensors = tensors(&sizes);
    let head = head(shape, &sizes);
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(head.pairs.to_le_bytes());
    out.extend(head.bytes);
    let mut offset = 0;
    for tensor in &tensors {
        Head::text(&mut out, &tensor.name);
        let stored = if tensor.norm { Stored::F32 } else { stored };
        let extents = if tensor.norm {
            &[tensor.columns][..]
        } else {
            &[tensor.columns, tensor.rows]
        };
        out.extend((extents.len() as u32).to_le_bytes());
        extents
            .iter()
            .for_each(|extent| out.extend((*extent as u64).to_le_bytes()));
        out.extend(stored.code().to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += (tensor.rows * stored.row_bytes(tensor.columns)).next_multiple_of(32);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&out)?;
    let mut random = SplitMix(seed);
    let mut row = Vec::new();
    for tensor in &tensors {
        let amplitude = (3.0 / tensor.columns as f32).sqrt();
        let mut written = 0;
        for _ in 0..tensor.rows {
            row.clear();
            match tensor.norm {
                true => (0..tensor.columns).for_each(|_| row.extend(1f32.to_le_bytes())),
                false => stored.row(tensor.columns, amplitude, &mut random, &mut row),
            }
            file.write_all(&row)?;
            written += row.len();
        }
        file.write_all(&vec![0; written.next_multiple_of(32) - written])?;
    }
    file.flush()
}
