//! Forms of answers: a schema or an expression becomes an automaton that leads to an end from everywhere, or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::text::form::Form;
use model::text::{Json, Text};
use std::sync::LazyLock;

/// Printable ASCII and an end token, in SentencePiece's form.
static TEXT: LazyLock<Text> = LazyLock::new(|| {
    let characters = (b' '..=b'~').map(|byte| match byte {
        b' ' => "\"\u{2581}\"".to_owned(),
        b'"' | b'\\' => format!("\"\\{}\"", char::from(byte)),
        _ => format!("\"{}\"", char::from(byte)),
    });
    let vocabulary = (1..).zip(characters).map(|(id, token)| format!("{token}:{id}"));
    let vocabulary = vocabulary.collect::<Vec<_>>().join(",");
    let tokenizer = format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"normalizer":null,"pre_tokenizer":null,"post_processor":null,
        "added_tokens":[{{"id":0,"content":"</s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}}],
        "decoder":{{"type":"Sequence","decoders":[{{"type":"Replace","pattern":{{"String":"\u{2581}"}},"content":" "}},
            {{"type":"ByteFallback"}},{{"type":"Fuse"}}]}},
        "model":{{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,
            "fuse_unk":false,"byte_fallback":true,"vocab":{{"</s>":0,{vocabulary}}},"merges":[]}}}}"#
    );
    Text::parse(tokenizer.as_bytes(), Some(&br#"{"chat_template": "x"}"#[..])).expect("is a tokenizer")
});

fuzz_target!(|input: &str| {
    let schema = Json::parse(input);
    let form = match &schema {
        Ok(schema) => Form::Schema(schema),
        Err(_) => Form::Regex(input),
    };
    if let Ok(grammar) = TEXT.grammar(&form, "form") {
        let (states, classes) = grammar.size();
        assert!((1..=256).contains(&states) && (1..=512).contains(&classes));
        let ends = |state: u16| grammar.may_end(state) || (1..96).any(|token| grammar.next(state, token).is_some());
        assert!((0..states as u16).all(ends), "no state is a dead end");
    }
});
