//! **What it is.** A chat model for tests, made where it is needed and the same everywhere: a Llama checkpoint in Hugging Face's form
//! with weights from a counter, and a tokenizer of bytes with the ChatML template. Nobody trained it.
//!
//! Its layers compute what layers compute, and weigh little. The output layer has for each token the embedding of one other, so the
//! likeliest token after each is known: after the line end with which a prompt ends come the words of [`ANSWER`], then the end token.
//! At temperature 1 it strays.
//!
//! **Trusts.** Nothing; it reads nothing.
//!
//! **Promises.** The same bytes on every machine.
//!
//! **Lacks.** Any use outside of tests.

#![forbid(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// What it says at temperature 0, a token a word.
pub const ANSWER: [&str; 10] = [
    "Nobody", " trained", " this", " model", ",", " a", " test", " made", " its", " weights",
];
/// The token that begins a message, in ChatML.
pub const START: u32 = 1;
/// The token that ends a message.
pub const END: u32 = 2;
/// One more than the largest id of its tokenizer.
pub const VOCABULARY: u32 = FIRST_WORD + ANSWER.len() as u32;

/// Rows of its tables: some more than there are tokens.
const ROWS: usize = 288;
const FIRST_BYTE: u32 = 3;
const FIRST_WORD: u32 = FIRST_BYTE + 256;
const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const WIDTH: usize = 192;
const INNER: usize = 256;
const LAYERS: usize = 2;
const HEADS: usize = 6;
const KEY_VALUE_HEADS: usize = 2;
const HEAD_WIDTH: usize = 32;

/// Its four files: names and contents.
pub fn files() -> [(&'static str, Vec<u8>); 4] {
    [
        ("config.json", config().to_string().into_bytes()),
        ("model.safetensors", weights()),
        ("tokenizer.json", tokenizer().to_string().into_bytes()),
        ("tokenizer_config.json", template().to_string().into_bytes()),
    ]
}

/// Writes its files into a directory, which is made.
pub fn write(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut files = files().into_iter();
    files.try_for_each(|(name, content)| std::fs::write(directory.join(name), content))
}

/// Writes its files into the directory `id` of a directory of models below `temporary` (`CARGO_TARGET_TMPDIR`), and gives that
/// directory: one directory per model, as a guest expects it.
pub fn models(temporary: &str, id: &str) -> io::Result<PathBuf> {
    // FNV-1a: another version of this crate writes elsewhere.
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = files()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, (_, content)| {
            content.iter().fold(hash, mix)
        });
    let models = Path::new(temporary).join(format!("random-model-{hash:016x}"));
    if models.join(id).is_dir() {
        return Ok(models);
    }
    // Tests of several programs write the same bytes; a reader must never see half of them.
    let new = models.join(format!(".new-{}-{id}", std::process::id()));
    write(&new)?;
    match std::fs::rename(&new, models.join(id)) {
        Ok(()) => Ok(models),
        Err(_) if models.join(id).is_dir() => std::fs::remove_dir_all(&new).map(|()| models),
        Err(error) => Err(error),
    }
}

/// The tokens of one question.
pub fn prompt(question: &str) -> Vec<u32> {
    let bytes = |text: &str| text.bytes().map(byte).collect::<Vec<u32>>();
    let mut tokens = vec![START];
    tokens.extend(bytes("user\n"));
    tokens.extend(bytes(question));
    tokens.extend([END, byte(b'\n'), START]);
    tokens.extend(bytes("assistant\n"));
    tokens
}

/// The tokens of its answer at temperature 0, the end token included.
pub fn answer() -> Vec<u32> {
    let mut tokens: Vec<u32> = (FIRST_WORD..).take(ANSWER.len()).collect();
    // A comma is a byte.
    tokens[4] = byte(b',');
    tokens.push(END);
    tokens
}

fn byte(byte: u8) -> u32 {
    FIRST_BYTE + u32::from(byte)
}

fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": false,
        "bos_token_id": null,
        "eos_token_id": [END, 0],
        "head_dim": HEAD_WIDTH,
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "max_position_embeddings": 512,
        "mlp_bias": false,
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "pad_token_id": 0,
        "rms_norm_eps": 0.00001,
        "rope_theta": 10000.0,
        "tie_word_embeddings": false,
        "torch_dtype": "float32",
        "vocab_size": ROWS,
    })
}

fn template() -> Value {
    json!({
        "chat_template": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}\
            {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "clean_up_tokenization_spaces": false,
        "eos_token": "<|im_end|>",
        "model_max_length": 512,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    })
}

/// Bytes without merges, and words that no text becomes.
fn tokenizer() -> Value {
    let special = SPECIAL.iter().enumerate().map(|(id, token)| {
        json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    });
    let mut vocabulary: Map<String, Value> = Map::new();
    for (id, token) in SPECIAL.iter().enumerate() {
        vocabulary.insert((*token).into(), json!(id));
    }
    for (id, character) in alphabet().into_iter().enumerate() {
        vocabulary.insert(character.into(), json!(FIRST_BYTE as usize + id));
    }
    for (id, word) in ANSWER.iter().enumerate() {
        let word = match *word {
            // That one is a byte.
            "," => "Ġcomma".to_owned(),
            word => word.replace(' ', "Ġ"),
        };
        vocabulary.insert(word, json!(FIRST_WORD as usize + id));
    }
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": special.collect::<Vec<_>>(),
        "normalizer": null, "pre_tokenizer": level, "post_processor": null, "decoder": level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": []},
    })
}

/// The character that byte-level vocabularies write for each byte: printable Latin-1 for itself, the other 68 from U+0100 on.
fn alphabet() -> Vec<char> {
    let plain = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = (0x100..).filter_map(char::from_u32);
    let character = |byte| match plain(byte) {
        true => char::from(byte),
        false => others.next().unwrap_or_default(),
    };
    (0..=u8::MAX).map(character).collect()
}

/// `model.safetensors`
fn weights() -> Vec<u8> {
    let embeddings = numbers(0, ROWS * WIDTH, 1.0);
    let mut tensors = vec![(
        "model.embed_tokens.weight".to_owned(),
        vec![ROWS, WIDTH],
        embeddings.clone(),
    )];
    let queries = HEADS * HEAD_WIDTH;
    let keys = KEY_VALUE_HEADS * HEAD_WIDTH;
    for layer in 0..LAYERS {
        // The last of each pair weighs little, so that what a layer adds does not hide which token it was.
        for (number, (name, rows, columns, scale)) in [
            ("self_attn.q_proj", queries, WIDTH, 0.1),
            ("self_attn.k_proj", keys, WIDTH, 0.1),
            ("self_attn.v_proj", keys, WIDTH, 0.07),
            ("self_attn.o_proj", WIDTH, queries, 0.02),
            ("mlp.gate_proj", INNER, WIDTH, 0.07),
            ("mlp.up_proj", INNER, WIDTH, 0.07),
            ("mlp.down_proj", WIDTH, INNER, 0.02),
        ]
        .into_iter()
        .enumerate()
        {
            let numbers = numbers((layer * 7 + number + 1) as u64, rows * columns, scale);
            tensors.push((
                format!("model.layers.{layer}.{name}.weight"),
                vec![rows, columns],
                numbers,
            ));
        }
        for name in ["input_layernorm", "post_attention_layernorm"] {
            tensors.push((
                format!("model.layers.{layer}.{name}.weight"),
                vec![WIDTH],
                vec![1.0; WIDTH],
            ));
        }
    }
    tensors.push(("model.norm.weight".into(), vec![WIDTH], vec![1.0; WIDTH]));
    let mut head = vec![0.0; ROWS * WIDTH];
    for (token, before) in before().into_iter().enumerate() {
        for column in 0..WIDTH {
            // A share of the likeliest token's score of about 6, where others have some tenths.
            head[token * WIDTH + column] = embeddings[before * WIDTH + column] / 32.0;
        }
    }
    tensors.push(("lm_head.weight".into(), vec![ROWS, WIDTH], head));
    safetensors(&tensors)
}

/// For each token the one that it is likeliest to follow.
fn before() -> Vec<usize> {
    let answer = answer();
    let line_end = byte(b'\n');
    let chain: Vec<usize> = [line_end]
        .iter()
        .chain(&answer)
        .map(|token| *token as usize)
        .collect();
    let mut before: Vec<Option<usize>> = vec![None; ROWS];
    for pair in chain.windows(2) {
        before[pair[1]] = Some(pair[0]);
    }
    // The others follow one another in a circle of their own, in steps that meet each of them.
    let free: Vec<usize> = (0..ROWS)
        .filter(|token| !chain[..chain.len() - 1].contains(token))
        .collect();
    let mut unused = free.iter().cycle().skip(free.len() / 2);
    let mut next = || unused.next().copied().unwrap_or_default();
    before
        .into_iter()
        .map(|before| before.unwrap_or_else(&mut next))
        .collect()
}

/// Numbers with about this standard deviation, from a counter (SplitMix64).
fn numbers(stream: u64, count: usize, scale: f32) -> Vec<f32> {
    let mut state = stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
    let mut uniform = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 40) as f32 / (1u32 << 24) as f32 - 0.5
    };
    // A uniform number of width 1 has a deviation of 0.2887.
    (0..count).map(|_| uniform() * scale * 3.4641).collect()
}

fn safetensors(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let (mut header, mut data) = (String::new(), Vec::new());
    for (name, shape, numbers) in tensors {
        let start = data.len();
        data.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        let separator = if header.is_empty() { '{' } else { ',' };
        let about = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header += &format!("{separator}{}:{about}", json!(name));
    }
    header.push('}');
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &data,
    ]
    .concat()
}

#[test]
fn it_is_the_same_everywhere_and_its_answer_is_one_of_its_tokens() {
    assert_eq!(files(), files());
    assert_eq!(answer().len(), ANSWER.len() + 1);
    assert!(
        answer()
            .iter()
            .chain(&prompt("é"))
            .all(|token| *token < VOCABULARY)
    );
    let mut seen = before();
    seen.sort_unstable();
    seen.dedup();
    assert!(
        seen.len() > ROWS - 16,
        "few tokens are behind several others"
    );
}
