//! Forms over a small vocabulary of bytes and words: random walks give texts of the form, and every text of it can be written.

mod schemas;

use super::*;
use serde_json::{Value, json};

/// Tokens besides the bytes: words, what stands around values, halves of characters, and lengths of several characters.
const WORDS: [&[u8]; 26] = [
    b"{\"",
    b"\": ",
    b"\":",
    b" \"",
    b"\",",
    b"\", \"",
    b"\"}",
    b"}}",
    b"]}",
    b"name",
    b"na",
    b"age",
    b" true",
    b"true",
    b"alse",
    b"nul",
    b"12",
    b"007",
    b" 1",
    b"hello",
    b" hello\"",
    "é".as_bytes(),
    b"\xc3",
    b"\xf0\x9f",
    "a🦋b".as_bytes(),
    b"\\n",
];
const END: u32 = 0;

/// A chat model's text with bytes, [`WORDS`] and marks, as Qwen writes calls.
pub(super) fn text(marks: &[(&str, bool)], template: &str) -> Text {
    let mut vocabulary = serde_json::Map::new();
    vocabulary.insert("<end>".into(), json!(END));
    let byte = |byte: u8| -> char {
        let plain = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        match plain(byte) {
            true => char::from(byte),
            false => {
                let before = (0..byte).filter(|byte| !plain(*byte)).count() as u32;
                char::from_u32(0x100 + before).unwrap()
            }
        }
    };
    let bytes = (0..=u8::MAX).map(|one| vec![one]);
    let words = WORDS.iter().map(|word| word.to_vec());
    for spelled in bytes.chain(words) {
        let token: String = spelled.iter().map(|one| byte(*one)).collect();
        let id = vocabulary.len();
        vocabulary.entry(token).or_insert(json!(id));
    }
    let added = |id: usize, content: &str, special: bool| {
        json!({"id": id, "content": content, "special": special, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false})
    };
    let mut listed = vec![added(0, "<end>", true)];
    for (mark, special) in marks {
        listed.push(added(vocabulary.len(), mark, *special));
        vocabulary.insert((*mark).into(), json!(vocabulary.len()));
    }
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": listed,
        "normalizer": null, "pre_tokenizer": level, "post_processor": null, "decoder": level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": []}});
    let config = json!({"chat_template": template});
    Text::parse(
        tokenizer.to_string().as_bytes(),
        Some(config.to_string().as_bytes()),
    )
    .unwrap()
}

pub(super) fn plain() -> Text {
    text(&[], "x")
}

/// Tokens to the nearest end from each state.
fn distances(grammar: &Grammar) -> Vec<usize> {
    let states = grammar.rows.len();
    let mut far: Vec<usize> = (0..states as u16)
        .map(|state| {
            if grammar.may_end(state) {
                0
            } else {
                usize::MAX
            }
        })
        .collect();
    for _ in 0..states {
        for state in 0..states {
            let next = grammar.rows[state].iter().filter(|next| **next != NEVER);
            let best = next
                .map(|next| far[usize::from(*next)].saturating_add(1))
                .min();
            far[state] = far[state].min(best.unwrap_or(usize::MAX));
        }
    }
    far
}

/// The tokens of a random walk, which goes straight to an end after so many of them.
pub(super) fn walk(grammar: &Grammar, random: &mut impl FnMut() -> usize, most: usize) -> Vec<u32> {
    let (far, mut state, mut walked) = (distances(grammar), grammar.start(), Vec::new());
    let size = grammar.classes.len() as u32;
    loop {
        let nearer = |next: u16| far[usize::from(next)] < far[usize::from(state)];
        let may = |token: &u32| match grammar.next(state, *token) {
            None => false,
            Some(_) if walked.len() < most => true,
            Some(next) => nearer(next) || grammar.ends.contains(token),
        };
        let mut allowed: Vec<u32> = (0..size).filter(may).collect();
        if walked.len() >= most && grammar.may_end(state) {
            allowed.retain(|token| grammar.ends.contains(token));
        }
        let token = allowed[random() % allowed.len()];
        walked.push(token);
        if grammar.ends.contains(&token) {
            return walked;
        }
        state = grammar.next(state, token).unwrap();
    }
}

pub(super) fn counter(seed: u64) -> impl FnMut() -> usize {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 33) as usize
    }
}

/// Texts of random walks.
pub(super) fn walked(text: &Text, grammar: &Grammar, walks: u64) -> Vec<String> {
    let texts = (0..walks).map(|seed| {
        let ids = walk(grammar, &mut counter(seed), 2 + seed as usize % 60);
        assert_eq!(grammar.check(&ids), Ok(()));
        assert_eq!(text.check_completion(&ids), Ok(()));
        text.decode(&ids).unwrap()
    });
    texts.collect()
}

/// Whether a text can be written in tokens that the grammar allows.
pub(super) fn writes(text: &Text, grammar: &Grammar, wanted: &str) -> bool {
    let spelling = &text.chat().unwrap().spelling;
    let mut reached = vec![vec![false; grammar.rows.len()]; wanted.len() + 1];
    reached[0][usize::from(grammar.start())] = true;
    for at in 0..=wanted.len() {
        for state in 0..grammar.rows.len() as u16 {
            if !reached[at][usize::from(state)] {
                continue;
            }
            if at == wanted.len() && grammar.may_end(state) {
                return true;
            }
            for token in 0..grammar.classes.len() as u32 {
                let bytes = spelling.bytes(token);
                if bytes.is_empty() || !wanted.as_bytes()[at..].starts_with(bytes) {
                    continue;
                }
                if let Some(next) = grammar.next(state, token) {
                    reached[at + bytes.len()][usize::from(next)] = true;
                }
            }
        }
    }
    false
}

pub(super) fn of_schema(text: &Text, schema: &Value) -> Result<Grammar, FormError> {
    let schema = Json::parse(&schema.to_string()).unwrap();
    text.grammar(&Form::Schema(&schema), "s")
}

#[test]
fn an_expression_is_matched_whole_and_nothing_else_is_written() {
    let text = plain();
    for (pattern, good, bad) in [
        (
            "(yes|no)",
            &["yes", "no"][..],
            &["", "y", "yesno", "maybe", "yes "][..],
        ),
        ("^[a-c]{2,3}$", &["ab", "ccc"], &["a", "abca", "abd"]),
        (
            r"\d+(\.\d{2})?",
            &["0", "120.07"],
            &["", "1.", "1.234", "٣"],
        ),
        (
            r"hello (name|é|🦋)+!?",
            &["hello é", "hello 🦋name!"],
            &["hello ", "hello e"],
        ),
        ("(?i)ok", &["OK", "oK"], &["O", "okk"]),
        ("a|^b$", &["a", "b"], &["ab"]),
    ] {
        let grammar = text.grammar(&Form::Regex(pattern), "guided_regex").unwrap();
        for good in good {
            assert!(writes(&text, &grammar, good), "{pattern}: {good}");
        }
        for bad in bad {
            assert!(!writes(&text, &grammar, bad), "{pattern}: {bad}");
        }
        for walked in walked(&text, &grammar, 50) {
            assert!(writes(&text, &grammar, &walked), "{pattern}: {walked}");
        }
    }
}

#[test]
fn an_expression_that_cannot_be_held_to_is_refused() {
    let text = plain();
    let refused = |pattern: &str| {
        text.grammar(&Form::Regex(pattern), "guided_regex")
            .unwrap_err()
    };
    for (pattern, says) in [
        ("(", "unclosed group"),
        ("(?=a)a", "not supported"),
        (r"(a)\1", "not supported"),
        (r"\bword", "looks around inside"),
        ("a$b", "looks around inside"),
        ("[a&&b]", "allows no text"),
        (".{300}", "256 states"),
        ("(a|b)*a(a|b){30}", "too large"),
        ("((((a{500}){500}){500}){500})", "too large"),
        (r"(\p{L}{900}|x)\p{N}{900}", "too large"),
    ] {
        let error = refused(pattern);
        assert_eq!(error.at, "guided_regex");
        assert!(error.to_string().contains(says), "{pattern}: {error}");
    }
    let deep = "(".repeat(1000) + &")".repeat(1000);
    assert!(matches!(refused(&deep).flaw, FormFlaw::Pattern(_)));
    let long = "a".repeat(crate::limits::PATTERN_BYTES_MAX + 1);
    assert!(matches!(refused(&long).flaw, FormFlaw::Bytes { .. }));
}

#[test]
fn an_object_is_json_as_deep_as_it_fits() {
    let text = plain();
    let grammar = text.grammar(&Form::Object, "response_format").unwrap();
    for good in [
        "{}",
        r#"{"a": 1}"#,
        r#"{"a": "é\n\"x", "hello": [1, -2.5, true, null], "b": {"c": {}}}"#,
    ] {
        assert!(writes(&text, &grammar, good), "{good}");
    }
    for bad in [
        "",
        "[]",
        "1",
        r#"{"a": 01}"#,
        r#"{"a": tru}"#,
        r#"{"a": "}"#,
        r#"{"a": 1,}"#,
    ] {
        assert!(!writes(&text, &grammar, bad), "{bad}");
    }
    for walked in walked(&text, &grammar, 200) {
        let value: Value =
            serde_json::from_str(&walked).unwrap_or_else(|e| panic!("{walked}: {e}"));
        assert!(value.is_object(), "{walked}");
    }
}

#[test]
fn fixed_text_is_written_in_the_longest_tokens() {
    let text = plain();
    let schema =
        json!({"type": "object", "properties": {"name": {"const": "hello"}}, "required": ["name"]});
    let grammar = of_schema(&text, &schema).unwrap();
    let ids = walk(&grammar, &mut counter(1), 100);
    let spelled: Vec<String> = ids.iter().map(|id| text.decode(&[*id]).unwrap()).collect();
    assert_eq!(spelled, ["{\"", "name", "\": ", "\"", "hello", "\"}", ""]);
    // One way to write it, and no state besides.
    assert_eq!(grammar.size().0, ids.len());
}

#[test]
fn calls_are_forced_in_the_models_form() {
    let schema = Json::parse(
        r#"{"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}"#,
    );
    let schema = schema.unwrap();
    let tools = [
        CallForm {
            name: "f",
            parameters: Some(&schema),
            path: "tools[0].function.parameters",
        },
        CallForm {
            name: "g",
            parameters: None,
            path: "tools[1].function.parameters",
        },
    ];
    let hermes = &[("<tool_call>", false), ("</tool_call>", false)][..];
    let special = &[("<tool_call>", true), ("</tool_call>", true)][..];
    let llama = "<|start_header_id|> \"parameters\"";
    for (marks, template) in [
        (&[][..], "<tool_call>"),
        (hermes, "<tool_call>"),
        (special, "<tool_call>"),
        (&[][..], llama),
        (&[("[TOOL_CALLS]", true)][..], "[TOOL_CALLS]"),
        (
            &[("[TOOL_CALLS]", true), ("[ARGS]", true)][..],
            "[TOOL_CALLS]",
        ),
    ] {
        let text = text(marks, template);
        let format = text.calls().unwrap();
        let mut most = 0;
        for several in [false, true] {
            let form = Form::Calls {
                tools: &tools,
                several,
            };
            let grammar = text.grammar(&form, "tool_choice").unwrap();
            for seed in 0..60 {
                let ids = walk(&grammar, &mut counter(seed), 20 + 10 * seed as usize);
                assert_eq!(text.check_completion(&ids), Ok(()), "{marks:?}");
                let said = text.decode(&ids).unwrap();
                let mut parser = crate::text::tools::Parser::new(format);
                let mut pieces = parser.push(&said);
                pieces.extend(parser.finish());
                let calls = pieces.iter().map(|piece| match piece {
                    crate::text::tools::Piece::Call(call) => call.clone(),
                    other => panic!("{said}: {other:?}"),
                });
                let calls: Vec<_> = calls.collect();
                most = most.max(calls.len());
                assert!(!calls.is_empty() && (several || calls.len() == 1), "{said}");
                for call in calls {
                    let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
                    match call.name.as_str() {
                        "f" => assert!(arguments["age"].is_i64(), "{said}"),
                        name => assert_eq!((name, arguments), ("g", json!({}))),
                    }
                }
            }
        }
        assert_eq!(most > 1, template != llama, "{template}");
    }
    let plain = plain();
    let form = Form::Calls {
        tools: &tools,
        several: false,
    };
    let error = plain.grammar(&form, "tool_choice").unwrap_err();
    assert_eq!(error.flaw, FormFlaw::Model(TextError::NoCalls));
    let bad = Json::parse(r#"{"type": "object", "properties": {"a": {"not": {}}}}"#).unwrap();
    let tools = [CallForm {
        name: "f",
        parameters: Some(&bad),
        path: "tools[3].function.parameters",
    }];
    let text = text(&[], "<tool_call>");
    let form = Form::Calls {
        tools: &tools,
        several: false,
    };
    let error = text.grammar(&form, "tool_choice").unwrap_err();
    assert_eq!(error.at, "tools[3].function.parameters.properties.a.not");
}

#[test]
fn a_completion_is_held_against_the_grammar_token_by_token() {
    let text = plain();
    let grammar = text.grammar(&Form::Regex("ab?"), "guided_regex").unwrap();
    let (a, b) = (1 + u32::from(b'a'), 1 + u32::from(b'b'));
    for good in [&[][..], &[a], &[a, b], &[a, END], &[a, b, END]] {
        assert_eq!(grammar.check(good), Ok(()), "{good:?}");
    }
    for (bad, place) in [
        (&[b][..], 0),
        (&[END], 0),
        (&[a, a], 1),
        (&[a, END, b], 1),
        (&[a, 9999], 1),
    ] {
        assert_eq!(grammar.check(bad), Err(place), "{bad:?}");
    }
}
