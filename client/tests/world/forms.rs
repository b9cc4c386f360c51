//! A model that answers by chance whatever a grammar allows: its reader of the words of a request is written for these tests.

use super::FORMS;
use serde_json::{Map, Value, json};
use settlement::Nano;
use wire::{Digest, Endpoint, Finish, ModelOffer, Prices};

/// A template with tools, in the form of Hermes and Qwen.
pub const TEMPLATE: &str = r#"{"chat_template":"{% for t in tools or [] %}{{ t | tojson }}<tool_call>{% endfor %}{% for m in messages %}{{ m.content }}{% endfor %}","eos_token":"<end>"}"#;
/// Beside it `<tool_call>` and `</tool_call>`, which are special tokens, too.
const END: u32 = 0;

/// Bytes, some words, and three special tokens.
pub fn tokenizer() -> String {
    let special = ["<end>", "<tool_call>", "</tool_call>"];
    let added = special.iter().enumerate().map(|(id, content)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    });
    let plain = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = (0x100..).filter_map(char::from_u32);
    let bytes = (0..=u8::MAX).map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => others.next().unwrap().to_string(),
    });
    let words = [
        "{\"", "\":Ġ", "\",", "\"}", "}}", "true", "10", "Ġ\"", "city",
    ];
    let tokens = special.iter().map(|token| (*token).to_owned()).chain(bytes);
    let tokens = tokens.chain(words.map(str::to_owned));
    let vocabulary: Map<String, Value> = { tokens.enumerate() }
        .map(|(id, token)| (token, json!(id)))
        .collect();
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null, "pre_tokenizer": level, "post_processor": null, "decoder": level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": []}});
    tokenizer.to_string()
}

/// How the model is offered.
pub fn offer() -> ModelOffer {
    ModelOffer {
        id: FORMS.into(),
        endpoint: Endpoint::Chat,
        root: Digest([9; 32]),
        tokenizer: Digest::of(tokenizer().as_bytes()),
        config: Digest([8; 32]),
        template: Some(Digest::of(TEMPLATE.as_bytes())),
        context_tokens: 2048,
        quantisation: "f32".into(),
        determinism: "machine".into(),
        // Its tokens are bytes.
        prices: Prices {
            prompt: Nano(50_000_000),
            cached: Nano(0),
            completion: Nano(100_000_000),
        },
    }
}

/// Tokens by chance, up to an end or `most` of them. After some it goes straight to the end.
pub fn walk(words: &[u32], seed: u64, most: usize) -> (Vec<u32>, Finish) {
    let half = |from: usize, place: usize| {
        (words[from + place / 2] >> (16 * (place % 2))) as usize & 0xffff
    };
    let (states, classes) = (words[0] as usize & 0xffff, words[0] as usize >> 16);
    // What is left of the words holds the classes of the tokens.
    let class_words = words.len() - 2 - (states * classes).div_ceil(2);
    let class = |token: usize| half(2, token);
    let next = |state: usize, token: usize| half(2 + class_words, state * classes + class(token));
    let tokens = (3 + 256 + 9).min(2 * class_words);
    let mut far = vec![usize::MAX; states];
    for _ in 0..states {
        for state in 0..states {
            for token in (0..tokens).filter(|token| next(state, *token) != 0xffff) {
                let behind = if token == END as usize {
                    0
                } else {
                    far[next(state, token)]
                };
                far[state] = far[state].min(behind.saturating_add(1));
            }
        }
    }
    let (mut state, mut made, mut random) = (
        words[1] as usize,
        Vec::new(),
        seed.wrapping_mul(0x9e37_79b9) | 1,
    );
    while made.len() < most {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let may = |token: &usize| match next(state, *token) {
            0xffff => false,
            _ if made.len() < 12 => true,
            _ if *token == END as usize => far[state] == 1,
            next => far[next] < far[state],
        };
        let allowed: Vec<usize> = (0..tokens).filter(may).collect();
        let token = allowed[(random >> 33) as usize % allowed.len()];
        made.push(token as u32);
        if token == END as usize {
            return (made, Finish::Stop);
        }
        state = next(state, token);
    }
    (made, Finish::Length)
}
