//! Chat templates of real models render as Jinja2 renders them in `transformers`, or are refused by name.
//!
//! The templates come with the vocabularies; `engine/tests/reference/templates.py` wrote down what Jinja2 makes of them.

use std::collections::BTreeMap;

use model::text::{Call, Conversation, Date, Json, Role, Text, Turn};
use sha2::{Digest, Sha256};

use crate::vocabularies::files;

const CONVERSATIONS: &str = include_str!("../../../engine/tests/reference/conversations.json");
const TOOLS: &str = include_str!("../../../engine/tests/reference/tools.json");
const REFERENCE: &str = include_str!("../../../engine/tests/reference/templates.json");

/// Templates that Jinja2 refuses without tools (or with them), because they iterate over none, and that are rendered here as if there
/// were an empty list.
const LENIENT: [&str; 4] = [
    "CohereForAI-c4ai-command-r-plus-tool_use.jinja",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja",
    "llama-cpp-deepseek-r1.jinja",
];
/// Templates of no family that is served, which are rendered otherwise.
const DIFFERENT: [&str; 2] = [
    // `json_spec.items` is the method of a dictionary to Python, and its key `items` here, as the template's author meant.
    "CohereForAI-c4ai-command-r-plus-tool_use.jinja",
    // It joins a text that is `safe` to others, which Python's markupsafe then escapes as HTML; here nothing is escaped.
    "meetkai-functionary-medium-v3.1.jinja",
];

fn list(json: &Json) -> &[Json] {
    match json {
        Json::List(list) => list,
        _ => &[],
    }
}

fn text(json: &Json, key: &str) -> Option<String> {
    json.get(key).and_then(Json::as_str).map(str::to_owned)
}

fn turn(message: &Json) -> Turn {
    let call = |call: &Json| {
        let function = call.get("function").expect("a function");
        Call {
            id: text(call, "id").expect("an id"),
            name: text(function, "name").expect("a name"),
            arguments: function.get("arguments").expect("arguments").clone(),
        }
    };
    let role = Role::of(&text(message, "role").expect("a role")).expect("a role");
    let calls = message.get("tool_calls").map(list).unwrap_or_default();
    Turn {
        reasoning: text(message, "reasoning_content"),
        calls: calls.iter().map(call).collect(),
        answers: text(message, "tool_call_id"),
        name: text(message, "name"),
        ..Turn::says(role, text(message, "content").expect("a content"))
    }
}

/// By name.
fn conversations() -> Vec<(String, Conversation)> {
    let (all, tools) = (Json::parse(CONVERSATIONS), Json::parse(TOOLS));
    let (all, tools) = (all.expect("is JSON"), tools.expect("is JSON"));
    let conversation = |said: &Json| {
        let conversation = Conversation {
            turns: list(said.get("messages").expect("messages"))
                .iter()
                .map(turn)
                .collect(),
            tools: match said.get("tools") {
                Some(_) => list(&tools).to_vec(),
                None => Vec::new(),
            },
            thinking: match said.get("thinking") {
                Some(Json::Bool(thinking)) => Some(*thinking),
                _ => None,
            },
            today: Some(Date {
                year: 2026,
                month: 2,
                day: 3,
            }),
        };
        (text(said, "name").expect("a name"), conversation)
    };
    list(&all).iter().map(conversation).collect()
}

/// A tokenizer that knows one word, with this template.
fn with(template: &str) -> Result<Text, model::ModelError> {
    let tokenizer = serde_json::json!({"version": "1.0", "added_tokens": [], "normalizer": null, "truncation": null,
        "padding": null, "post_processor": null, "pre_tokenizer": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}});
    let config = serde_json::json!({"chat_template": template, "bos_token": "<BOS>", "eos_token": {"content": "<EOS>"}});
    let config = config.to_string();
    Text::parse(tokenizer.to_string().as_bytes(), Some(config.as_bytes()))
}

#[test]
fn every_real_template_renders_as_jinja2_does_or_is_refused_by_name() {
    let Some(files) = files() else { return };
    let reference: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_str(REFERENCE).expect("is JSON");
    assert!(reference.len() > 60);
    let conversations = conversations();
    let (mut wrong, mut same) = (Vec::new(), 0);
    let shown = std::env::var("CHRYSALIS_SHOW_TEMPLATE").ok();
    for (name, expected) in &reference {
        let template = std::str::from_utf8(&files[&format!("templates/{name}")]).expect("UTF-8");
        let text = with(template);
        for (which, conversation) in &conversations {
            let rendered = { text.as_ref() }
                .map_err(|error| error.to_string())
                .and_then(|text| {
                    text.rendered(conversation)
                        .map_err(|error| error.to_string())
                });
            if shown.as_deref() == Some(&format!("{name}/{which}")) {
                eprintln!("{rendered:?}");
                if let Ok(rendered) = &rendered {
                    println!("{rendered}");
                }
            }
            let digest = match &rendered {
                Ok(rendered) => hex::encode(Sha256::digest(rendered)),
                Err(_) => "refused".to_owned(),
            };
            let lenient = expected[which] == "refused" && LENIENT.contains(&name.as_str());
            match digest == expected[which] {
                true => same += 1,
                false if lenient || DIFFERENT.contains(&name.as_str()) => {}
                false => wrong.push(format!("{name}, {which}: {:?}", rendered.err())),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{same} are the same\n{}",
        wrong.join("\n")
    );
    assert!(same > 790, "{same} are the same");
}
