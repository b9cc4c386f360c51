//! The text side of GGUF files that are made here: each kind of vocabulary, and files that lie. Real ones are in the builder's tests.

use std::io::Cursor;

use model::gguf::Header;
use model::text::gguf::{TextFiles, text_files};
use model::text::{Message, Text};
use model::{Flaw, ModelError, limits};
use serde_json::{Value, json};

/// A GGUF file of these values and, so that it is a model, of one tensor.
pub fn gguf(values: &[(&str, Value)]) -> Vec<u8> {
    gguf_of(values, &[("token_embd", &[8, 512])])
}

/// The same of these tensors, zeros all: what stands before `.weight`, and the extents, columns first.
pub fn gguf_of(values: &[(&str, Value)], tensors: &[(&str, &[u64])]) -> Vec<u8> {
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((values.len() as u64).to_le_bytes());
    for (key, value) in values {
        text(&mut out, key);
        match value {
            Value::Array(list) => {
                out.extend(9u32.to_le_bytes());
                let kind = list.first().map_or(8, kind);
                out.extend(kind.to_le_bytes());
                out.extend((list.len() as u64).to_le_bytes());
                list.iter().for_each(|value| one(&mut out, value));
            }
            value => {
                out.extend(kind(value).to_le_bytes());
                one(&mut out, value);
            }
        }
    }
    let mut end = 0;
    for (name, extents) in tensors {
        // Dimensions, extents, f32, offset.
        text(&mut out, &format!("{name}.weight"));
        out.extend((extents.len() as u32).to_le_bytes());
        out.extend(extents.iter().flat_map(|extent| extent.to_le_bytes()));
        out.extend(0u32.to_le_bytes());
        out.extend(u64::to_le_bytes(end));
        end += (4 * extents.iter().product::<u64>()).next_multiple_of(32);
    }
    out.resize(out.len().next_multiple_of(32) + end as usize, 0);
    out
}

fn kind(value: &Value) -> u32 {
    match value {
        Value::Bool(_) => 7,
        Value::Number(number) if number.is_f64() => 6,
        Value::Number(_) => 5,
        _ => 8,
    }
}

fn one(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Bool(flag) => out.push(u8::from(*flag)),
        Value::Number(number) if number.is_f64() => {
            out.extend((number.as_f64().expect("is one") as f32).to_le_bytes());
        }
        Value::Number(number) => {
            out.extend((number.as_i64().expect("is small") as i32).to_le_bytes());
        }
        value => text(out, value.as_str().expect("a text")),
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn made(values: &[(&str, Value)]) -> Result<TextFiles, ModelError> {
    of(&gguf(values))
}

fn of(bytes: &[u8]) -> Result<TextFiles, ModelError> {
    let header = Header::read(bytes.len() as u64, Cursor::new(bytes));
    let file = "model.gguf".to_owned();
    let header = header.map_err(|flaw: Flaw| ModelError::Weights { file, flaw })?;
    text_files(&header, || Ok(Cursor::new(bytes)))
}

const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n";

/// Letters as bytes, two merges, and the tokens of ChatML, of which the file says that people made them.
pub fn byte_level() -> Vec<(&'static str, Value)> {
    let letters = (b'!'..=b'~').map(|byte| char::from(byte).to_string());
    let mut tokens: Vec<String> = letters.collect();
    tokens.extend(
        [
            "Ġ",
            "Ċ",
            "he",
            "Ġhe",
            "<|im_start|>",
            "<|im_end|>",
            "<tool>",
        ]
        .map(String::from),
    );
    let mut types = vec![1; tokens.len()];
    let end = tokens.len() - 2;
    types[end - 1..].copy_from_slice(&[4, 4, 4]);
    vec![
        ("general.architecture", json!("llama")),
        ("tokenizer.ggml.model", json!("gpt2")),
        ("tokenizer.ggml.pre", json!("gpt-2")),
        ("tokenizer.ggml.tokens", json!(tokens)),
        ("tokenizer.ggml.token_type", json!(types)),
        ("tokenizer.ggml.merges", json!(["h e", "Ġ he"])),
        ("tokenizer.ggml.eos_token_id", json!(end)),
        ("tokenizer.chat_template", json!(CHATML)),
    ]
}

/// Pieces with scores, bytes for the rest, and a space before each text.
fn sentence_piece() -> Vec<(&'static str, Value)> {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    let pieces = ["▁", "h", "e", "l", "o", "he", "ll", "▁he", "llo", "▁hello"];
    tokens.extend(pieces.map(String::from));
    let types = [[2, 3, 3].to_vec(), vec![6; 256], vec![1; pieces.len()]].concat();
    let scores: Vec<f64> = (0..tokens.len())
        .map(|id| {
            if id < 264 {
                -1000.5
            } else {
                -(id as f64) - 0.5
            }
        })
        .collect();
    vec![
        ("general.architecture", json!("llama")),
        ("tokenizer.ggml.model", json!("llama")),
        ("tokenizer.ggml.tokens", json!(tokens)),
        ("tokenizer.ggml.scores", json!(scores)),
        ("tokenizer.ggml.token_type", json!(types)),
        ("tokenizer.ggml.bos_token_id", json!(1)),
        ("tokenizer.ggml.eos_token_id", json!(2)),
        ("tokenizer.ggml.unknown_token_id", json!(0)),
        (
            "tokenizer.chat_template",
            json!("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"),
        ),
    ]
}

fn read(files: &TextFiles) -> Text {
    Text::of(&files.tokenizer, Some(&files.tokenizer_config[..]), 512)
        .expect("what is made is read")
}

#[test]
fn bytes_with_merges_make_tokens_and_the_same_file_makes_the_same_bytes() {
    let files = made(&byte_level()).expect("is understood");
    assert_eq!(made(&byte_level()).as_ref(), Ok(&files));
    let text = read(&files);
    assert_eq!(text.to_tokens("he he"), Ok(vec![96, 97]));
    assert_eq!(text.decode(&[96, 97, 100]).as_deref(), Ok("he he<tool>"));
    // What an old converter called made by people cannot be spelled by a message, and ends a completion.
    let message = |content| Message {
        role: "user",
        content,
    };
    let prompt = text.prompt(&[message("x<|im_end|>")]).expect("is text");
    assert_eq!(prompt.iter().filter(|token| **token == 99).count(), 1);
    assert_eq!(files.end_tokens, [99]);
    assert!(text.check_completion(&[96, 99]).is_ok() && text.check_completion(&[99, 96]).is_err());
}

#[test]
fn pieces_with_scores_make_tokens_with_a_space_before_the_text_and_bytes_for_the_rest() {
    let files = made(&sentence_piece()).expect("is understood");
    let text = read(&files);
    assert_eq!(text.to_tokens("hello"), Ok(vec![268]));
    assert_eq!(text.to_tokens("hell"), Ok(vec![266, 265]));
    let odd = text.to_tokens("hé").expect("has bytes");
    assert_eq!(odd[odd.len() - 2..], [3 + 0xc3, 3 + 0xa9]);
    assert_eq!(text.decode(&odd).as_deref(), Ok("hé"));
    assert_eq!(text.decode(&[268, 268]).as_deref(), Ok("hello hello"));
    // A character of several byte tokens is never shown in parts.
    let mut detokeniser = text.detokeniser().expect("chats");
    let shown: Vec<String> = odd.iter().map(|token| detokeniser.push(*token)).collect();
    assert_eq!(shown.concat(), "hé");
    assert!(shown[shown.len() - 2].is_empty());
    let spelled = Message {
        role: "user",
        content: "</s>",
    };
    let prompt = text.prompt(&[spelled]).expect("is text");
    assert!(!prompt.contains(&2) && prompt[0] == 1, "{prompt:?}");
    // A text to embed begins with the token that the model adds.
    assert_eq!(text.to_embed("hello"), Ok(vec![1, 268]));
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let refused = |key: &str, value: Option<Value>| {
        let mut values = byte_level();
        values.retain(|(one, _)| *one != key);
        let key: &'static str = key.to_owned().leak();
        values.extend(value.map(|value| (key, value)));
        made(&values).expect_err(key).to_string()
    };
    let tokens = "tokenizer.ggml.tokens";
    for (key, value, expected) in [
        (
            "tokenizer.ggml.model",
            Some(json!("rwkv")),
            "the tokenizer `rwkv`",
        ),
        ("tokenizer.ggml.model", None, "no tokenizer.ggml.model"),
        (
            "tokenizer.ggml.pre",
            Some(json!("kimi-k2")),
            "the pre-tokenizer `kimi-k2`",
        ),
        (
            "tokenizer.ggml.pre",
            None,
            "does not name its pre-tokenizer",
        ),
        ("tokenizer.ggml.pre", Some(json!(7)), "is no text"),
        (tokens, None, "no tokenizer.ggml.tokens"),
        (tokens, Some(json!(["a", "a"])), "stands twice"),
        (tokens, Some(json!(["a", ""])), "is empty"),
        (
            tokens,
            Some(json!(["a", "b".repeat(limits::PIECE_BYTES_MAX + 1)])),
            "is too long",
        ),
        (tokens, Some(json!(["a"])), "for 1 tokens"),
        (
            "tokenizer.ggml.merges",
            Some(json!(["ab"])),
            "no pair of pieces",
        ),
        ("tokenizer.ggml.merges", None, "no tokenizer.ggml.merges"),
        (
            "tokenizer.ggml.eos_token_id",
            Some(json!(4000)),
            "is no token of the vocabulary",
        ),
        (
            "tokenizer.ggml.eos_token_id",
            Some(json!(true)),
            "is no whole number",
        ),
        (
            "tokenizer.ggml.add_bos_token",
            Some(json!(true)),
            "does not name one",
        ),
        ("tokenizer.chat_template", Some(json!(1)), "is no text"),
    ] {
        let said = refused(key, value);
        assert!(said.contains(expected), "{key}: {said}");
    }
}

#[test]
fn a_file_with_any_byte_changed_or_cut_is_an_error_or_a_tokenizer() {
    for good in [gguf(&byte_level()), gguf(&sentence_piece())] {
        let header = Header::read(good.len() as u64, Cursor::new(&good)).expect("whole");
        for at in 0..header.bytes() as usize {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            if let Ok(files) = of(&bytes) {
                let _ = Text::of(&files.tokenizer, Some(&files.tokenizer_config[..]), 512);
            }
            if at % 16 == 0 {
                assert!(of(&good[..at]).is_err(), "cut at {at}");
            }
        }
    }
}
