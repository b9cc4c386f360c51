//! Models that think before they answer, over a scripted engine: what they thought comes apart from what they say.

use super::{events, http, post, sidecar};
use crate::world::{SCRIPTED, Script, World};
use serde_json::{Value, json};

const HALVES: &str = "<think>\nIs 7 odd? It ends in 7.\n</think>\n\nYes, 7 is odd.";
const CALLS: &str = "<think>\nI need the weather.\n</think>\n\n<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>";

fn script() -> Script {
    Script::of(&[
        ("weather", CALLS),
        ("endless", "<think>\nAnd so on and on and on"),
        ("odd", HALVES),
        ("", "A plain answer."),
    ])
}

fn asks(content: &str) -> Value {
    json!({"model": SCRIPTED, "messages": [{"role": "user", "content": content}]})
}

#[tokio::test]
async fn what_a_model_thinks_is_no_part_of_what_it_says() {
    let world = World::scripted(script()).await;
    let address = sidecar(&world).await;
    let path = "/v1/chat/completions";
    let (status, answer) = post(&address, path, &asks("Is 7 odd?")).await;
    assert_eq!(status, 200, "{answer}");
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "Is 7 odd? It ends in 7.");
    assert_eq!(message["content"], "Yes, 7 is odd.");
    let usage = &answer["usage"];
    let thought = usage["completion_tokens_details"]["reasoning_tokens"].as_u64();
    assert!(
        thought > Some(10) && thought < usage["completion_tokens"].as_u64(),
        "{usage}"
    );

    // Streamed, each part has what belongs to it and never a piece of a mark.
    let mut body = asks("Is 7 odd?");
    body["stream"] = json!(true);
    let stream = http(&address, &format!("POST {path}"), &body.to_string()).await;
    let chunks = events(&stream);
    let (mut thought, mut said) = (String::new(), String::new());
    for chunk in chunks.iter().filter(|chunk| *chunk != "[DONE]") {
        let chunk: Value = serde_json::from_str(chunk).unwrap();
        let delta = &chunk["choices"][0]["delta"];
        let more = delta["reasoning_content"].as_str().unwrap_or_default();
        assert!(more.is_empty() || said.is_empty(), "a thought comes first");
        thought += more;
        said += delta["content"].as_str().unwrap_or_default();
    }
    assert_eq!(
        (thought.as_str(), said.as_str()),
        ("Is 7 odd? It ends in 7.", "Yes, 7 is odd.")
    );

    // A thought that is cut short has no answer; a model that does not think has no thought.
    let (_, cut) = post(&address, path, &asks("endless")).await;
    let message = &cut["choices"][0]["message"];
    assert_eq!(message["content"], "");
    assert_eq!(message["reasoning_content"], "And so on and on and on");
    let (_, plain) = post(&address, path, &asks("Hello")).await;
    let message = &plain["choices"][0]["message"];
    assert_eq!(
        message,
        &json!({"role": "assistant", "content": "A plain answer."})
    );
    assert_eq!(plain["usage"].get("completion_tokens_details"), None);

    // A prompt without a template is continued as it is.
    let raw = json!({"model": SCRIPTED, "prompt": "odd", "max_tokens": 99});
    let (_, raw) = post(&address, "/v1/completions", &raw).await;
    assert_eq!(raw["choices"][0]["text"], HALVES);
}

#[tokio::test]
async fn thoughts_come_before_calls_and_go_back_to_the_template() {
    let world = World::scripted(script()).await;
    let address = sidecar(&world).await;
    let path = "/v1/chat/completions";
    let mut body = asks("How is the weather?");
    body["tools"] = json!([{"type": "function", "function": {"name": "weather"}}]);
    let (_, answer) = post(&address, path, &body).await;
    let message = answer["choices"][0]["message"].clone();
    assert_eq!(message["reasoning_content"], "I need the weather.");
    assert_eq!(message["tool_calls"][0]["function"]["name"], "weather");
    let result =
        json!({"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "sunny"});
    let messages = body["messages"].as_array_mut().unwrap();
    messages.extend([message, result]);
    body["chat_template_kwargs"] = json!({"enable_thinking": false});
    assert_eq!(post(&address, path, &body).await.0, 200);
    let prompt = world.guest.prompts().pop().unwrap();
    assert!(
        prompt.contains("<think>\nI need the weather.\n</think>\n\n<tool_call>"),
        "{prompt}"
    );
    assert!(
        prompt.ends_with("assistant\n<think>\n\n</think>\n\n"),
        "{prompt}"
    );
}

#[tokio::test]
async fn the_other_apis_have_thoughts_as_they_write_them() {
    let world = World::scripted(script()).await;
    let address = sidecar(&world).await;
    let thought = "Is 7 odd? It ends in 7.";
    let mut body = json!({"model": SCRIPTED, "input": "Is 7 odd?"});
    let (_, response) = post(&address, "/v1/responses", &body).await;
    let part = json!({"type": "reasoning_text", "text": thought});
    assert_eq!(
        response["output"][0]["content"],
        json!([part]),
        "{response}"
    );
    assert_eq!(
        response["output"][1]["content"][0]["text"],
        "Yes, 7 is odd."
    );
    assert!(response["usage"]["output_tokens_details"]["reasoning_tokens"].as_u64() > Some(10));
    // What is kept goes on with its thought, and the item may be sent back.
    let next =
        json!({"model": SCRIPTED, "input": "And 8?", "previous_response_id": response["id"]});
    assert_eq!(post(&address, "/v1/responses", &next).await.0, 200);
    let kept = world.guest.prompts().pop().unwrap();
    assert!(
        kept.contains(&format!("<think>\n{thought}\n</think>")),
        "{kept}"
    );
    let output = response["output"].as_array().unwrap().iter().cloned();
    let items = output.chain([json!({"role": "user", "content": "And 8?"})]);
    let sent = json!({"model": SCRIPTED, "input": items.collect::<Vec<_>>()});
    let (status, sent) = post(&address, "/v1/responses", &sent).await;
    assert_eq!(status, 200, "{sent}");
    assert!(
        world
            .guest
            .prompts()
            .pop()
            .unwrap()
            .contains(&format!("<think>\n{thought}\n</think>"))
    );
    body["stream"] = json!(true);
    let stream = http(&address, "POST /v1/responses", &body.to_string()).await;
    let deltas = |stream: &str, kind: &str, field: &str| -> String {
        let all = events(stream).into_iter();
        let all = all.map(|event| serde_json::from_str::<Value>(&event).unwrap());
        let all = all.filter(|event| event["type"] == kind || event["delta"]["type"] == kind);
        all.filter_map(|event| {
            event
                .pointer(field)
                .and_then(Value::as_str)
                .map(str::to_owned)
        })
        .collect()
    };
    assert_eq!(
        deltas(&stream, "response.reasoning_text.delta", "/delta"),
        thought
    );
    assert_eq!(
        deltas(&stream, "response.output_text.delta", "/delta"),
        "Yes, 7 is odd."
    );
    assert_eq!(
        deltas(&stream, "response.reasoning_text.done", "/text"),
        thought
    );

    let mut body = asks("Is 7 odd?");
    body["max_tokens"] = json!(200);
    let (_, message) = post(&address, "/v1/messages", &body).await;
    let block = json!({"type": "thinking", "thinking": thought, "signature": ""});
    assert_eq!(
        message["content"],
        json!([block, {"type": "text", "text": "Yes, 7 is odd."}])
    );
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": message["content"]}));
    messages.push(json!({"role": "user", "content": "And 8?"}));
    assert_eq!(post(&address, "/v1/messages", &body).await.0, 200);
    assert!(
        world
            .guest
            .prompts()
            .pop()
            .unwrap()
            .contains(&format!("<think>\n{thought}\n</think>"))
    );
    body["stream"] = json!(true);
    let stream = http(&address, "POST /v1/messages", &body.to_string()).await;
    assert_eq!(
        deltas(&stream, "thinking_delta", "/delta/thinking"),
        thought
    );
    assert_eq!(
        deltas(&stream, "text_delta", "/delta/text"),
        "Yes, 7 is odd."
    );
}
