//! The other APIs of the sidecar: responses, messages and raw completions, over a scripted engine.

use super::books::usage;
use super::{http, post, read, sidecar};
use crate::world::{Fault, SCRIPTED, Script, World};
use serde_json::{Value, json};

const CALL: &str = r#"I look.<tool_call>{"name": "weather", "arguments": {"city": "Rome", "days": 2}}</tool_call>"#;

fn script() -> Script {
    Script::of(&[
        ("sunny", "It is sunny in Rome."),
        ("weather in Rome", CALL),
        ("My name is Ann", "Hello, Ann."),
        ("count", "one two STOP three"),
        ("", "A plain answer."),
    ])
}

/// The named events of a stream.
fn events(answer: &str) -> Vec<(String, Value)> {
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let mut events = Vec::new();
    let mut name = String::new();
    for line in body.lines() {
        if let Some(event) = line.strip_prefix("event: ") {
            name = event.to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            events.push((name.clone(), serde_json::from_str(data).unwrap()));
        }
    }
    events
}

async fn stream(address: &str, path: &str, body: &Value) -> Vec<(String, Value)> {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let answer = http(address, &format!("POST {path}"), &body.to_string()).await;
    assert!(
        answer.contains("content-type: text/event-stream"),
        "{answer}"
    );
    events(&answer)
}

fn named(events: &[(String, Value)]) -> Vec<&str> {
    let mut names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    names
}

/// That the answer's job has a receipt on file, for the price it names.
async fn paid(address: &str, answer: &Value) {
    let job = &answer["x_job"];
    assert_eq!(job["verified"], true, "{answer}");
    let id = job["receipt_id"].as_str().unwrap();
    let (status, receipt) = read(&http(address, &format!("GET /v1/receipts/{id}"), "").await);
    assert_eq!((status, &receipt["cost"]), (200, &job["cost"]), "{receipt}");
    assert_eq!(receipt["engine"], "scripted (simulated)");
}

fn weather() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}})
}

#[tokio::test]
async fn a_response_has_texts_and_calls_and_goes_on() {
    let world = World::scripted(script()).await;
    let address = sidecar(&world).await;
    let path = "/v1/responses";
    let tool = json!({"type": "function", "name": "weather", "parameters": weather()});
    let mut body = json!({"model": SCRIPTED, "input": "How is the weather in Rome?", "tools": [tool],
        "instructions": "Be brief.", "metadata": {"a": "b"}});
    let (status, first) = post(&address, path, &body).await;
    assert_eq!(
        (status, &first["status"]),
        (200, &json!("completed")),
        "{first}"
    );
    paid(&address, &first).await;
    let output = &first["output"];
    assert_eq!(output[0]["content"][0]["text"], "I look.");
    assert_eq!(
        (&output[1]["type"], &output[1]["name"]),
        (&json!("function_call"), &json!("weather"))
    );
    let arguments: Value = serde_json::from_str(output[1]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"city": "Rome", "days": 2}));
    assert_eq!(
        (&first["metadata"]["a"], &first["instructions"]),
        (&json!("b"), &json!("Be brief."))
    );

    // An item may be named where it was kept, and nowhere else.
    let output_of =
        |id: &Value| json!({"type": "function_call_output", "call_id": id, "output": "sunny"});
    let mut naming = body.clone();
    naming["input"] = json!([{"type": "item_reference", "id": output[1]["id"]}, output_of(&output[1]["call_id"])]);
    let (status, named) = post(&address, path, &naming).await;
    assert_eq!(status, 200, "{named}");
    naming["input"][0]["id"] = json!("fc_00_1");
    let (status, error) = post(&address, path, &naming).await;
    assert_eq!(
        (status, &error["error"]["param"]),
        (400, &json!("input[0].id"))
    );

    // The call's output alone: the rest is kept by the sidecar.
    body["previous_response_id"] = first["id"].clone();
    body["input"] = json!([{"type": "function_call_output", "call_id": output[1]["call_id"], "output": "sunny"}]);
    let (status, second) = post(&address, path, &body).await;
    assert_eq!(status, 200, "{second}");
    assert_eq!(
        second["output"][0]["content"][0]["text"],
        "It is sunny in Rome."
    );
    assert!(
        second["usage"]["input_tokens"].as_u64() > first["usage"]["input_tokens"].as_u64(),
        "the first turn is in the second prompt"
    );

    let id = first["id"].as_str().unwrap();
    let (_, shown) = read(&http(&address, &format!("GET {path}/{id}"), "").await);
    assert_eq!(shown, first);
    let (_, deleted) = read(&http(&address, &format!("DELETE {path}/{id}"), "").await);
    assert_eq!(
        deleted,
        json!({"id": id, "object": "response", "deleted": true})
    );
    for head in [format!("GET {path}/{id}"), format!("DELETE {path}/{id}")] {
        let (status, error) = read(&http(&address, &head, "").await);
        assert_eq!(
            (status, &error["error"]["code"]),
            (404, &json!("response_not_found"))
        );
    }
    let (status, error) = post(&address, path, &body).await;
    assert_eq!(
        (status, &error["error"]["param"]),
        (400, &json!("previous_response_id"))
    );

    // What is not to be stored cannot be continued.
    let (_, passing) = post(
        &address,
        path,
        &json!({"model": SCRIPTED, "input": "hi", "store": false}),
    )
    .await;
    assert_eq!(passing["store"], false);
    body["previous_response_id"] = passing["id"].clone();
    assert_eq!(post(&address, path, &body).await.0, 400);
}

#[tokio::test]
async fn a_streamed_response_has_the_apis_events_in_order() {
    let world = World::scripted(script()).await;
    let address = sidecar(&world).await;
    let tool = json!({"type": "function", "name": "weather", "parameters": weather()});
    let body = json!({"model": SCRIPTED, "input": "How is the weather in Rome?", "tools": [tool]});
    let events = stream(&address, "/v1/responses", &body).await;
    let expected = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(named(&events), expected);
    for (number, (name, event)) in events.iter().enumerate() {
        assert_eq!(
            (&event["type"], &event["sequence_number"]),
            (&json!(name), &json!(number))
        );
    }
    let deltas = |name: &str| -> String {
        let deltas = events.iter().filter(|(kind, _)| kind == name);
        deltas
            .map(|(_, event)| event["delta"].as_str().unwrap())
            .collect()
    };
    assert_eq!(deltas("response.output_text.delta"), "I look.");
    let last = &events.last().unwrap().1["response"];
    assert_eq!(
        last["output"][1]["arguments"],
        deltas("response.function_call_arguments.delta")
    );
    paid(&address, last).await;
    // What was streamed can be continued as well.
    let next = json!({"model": SCRIPTED, "previous_response_id": last["id"],
        "input": [{"type": "function_call_output", "call_id": last["output"][1]["call_id"], "output": "sunny"}]});
    let (_, next) = post(&address, "/v1/responses", &next).await;
    assert_eq!(
        next["output"][0]["content"][0]["text"],
        "It is sunny in Rome."
    );

    let cut = json!({"model": SCRIPTED, "input": "hi", "max_output_tokens": 2});
    let events = stream(&address, "/v1/responses", &cut).await;
    let (name, last) = events.last().unwrap();
    assert_eq!(name, "response.incomplete");
    assert_eq!(
        last["response"]["incomplete_details"]["reason"],
        "max_output_tokens"
    );
}

#[tokio::test]
async fn nothing_that_an_agent_acts_on_comes_before_the_receipt_is_verified() {
    let world = World::scripted(script()).await;
    let address = sidecar(&world).await;
    world.set(Fault::OtherReceipt);
    let tool = json!({"type": "function", "name": "weather", "parameters": weather()});
    let body = json!({"model": SCRIPTED, "input": "How is the weather in Rome?", "tools": [tool]});
    let got = stream(&address, "/v1/responses", &body).await;
    let names = named(&got);
    assert!(
        names.contains(&"response.function_call_arguments.delta"),
        "{names:?}"
    );
    assert!(
        !names
            .iter()
            .any(|name| name.ends_with(".done") || name.ends_with("completed")),
        "{names:?}"
    );
    let (name, last) = got.last().unwrap();
    assert_eq!(
        (name.as_str(), &last["code"]),
        ("error", &json!("bad_receipt"))
    );

    let body = json!({"model": SCRIPTED, "max_tokens": 200,
        "messages": [{"role": "user", "content": "How is the weather in Rome?"}],
        "tools": [{"name": "weather", "input_schema": weather()}]});
    let got = stream(&address, "/v1/messages", &body).await;
    let names = named(&got);
    assert!(names.contains(&"content_block_delta"), "{names:?}");
    assert!(
        !names.contains(&"message_delta") && !names.contains(&"message_stop"),
        "{names:?}"
    );
    let (name, last) = got.last().unwrap();
    assert_eq!((name.as_str(), &last["type"]), ("error", &json!("error")));
    assert_eq!(last["error"]["code"], "bad_receipt");
    assert_eq!(usage(&address).await["jobs"], 0);
}

#[tokio::test]
async fn a_message_has_texts_and_calls_in_anthropics_shape() {
    let world = World::scripted(script()).await;
    let address = sidecar(&world).await;
    let path = "/v1/messages";
    let mut body = json!({"model": SCRIPTED, "max_tokens": 200, "system": "Be brief.",
        "messages": [{"role": "user", "content": "How is the weather in Rome?"}],
        "tools": [{"name": "weather", "description": "d", "input_schema": weather()}]});
    let (status, first) = post(&address, path, &body).await;
    assert_eq!(
        (status, &first["stop_reason"]),
        (200, &json!("tool_use")),
        "{first}"
    );
    paid(&address, &first).await;
    let content = &first["content"];
    assert_eq!(content[0], json!({"type": "text", "text": "I look."}));
    assert_eq!(content[1]["input"], json!({"city": "Rome", "days": 2}));
    let mut counting = body.clone();
    counting.as_object_mut().unwrap().remove("max_tokens");
    let (_, counted) = post(&address, "/v1/messages/count_tokens", &counting).await;
    assert_eq!(
        counted["input_tokens"], first["usage"]["input_tokens"],
        "counting is exact"
    );

    let streamed = stream(&address, path, &body).await;
    let expected = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(named(&streamed), expected);
    let begin = &streamed[0].1["message"]["usage"];
    assert_eq!(begin["input_tokens"], counted["input_tokens"]);
    let end = &streamed[streamed.len() - 2].1;
    assert_eq!(
        (&end["delta"]["stop_reason"], &end["usage"]),
        (&json!("tool_use"), &first["usage"])
    );
    paid(&address, end).await;

    let result =
        json!({"type": "tool_result", "tool_use_id": content[1]["id"], "content": "sunny"});
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": content}));
    messages.push(json!({"role": "user", "content": [result]}));
    let (_, second) = post(&address, path, &body).await;
    assert_eq!(second["content"][0]["text"], "It is sunny in Rome.");
    assert_eq!(second["stop_reason"], "end_turn");

    let stops = json!({"model": SCRIPTED, "max_tokens": 99, "stop_sequences": ["STOP"],
        "messages": [{"role": "user", "content": "count"}]});
    let (_, stopped) = post(&address, path, &stops).await;
    assert_eq!(stopped["content"][0]["text"], "one two ");
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("stop_sequence"), &json!("STOP"))
    );
}

#[tokio::test]
async fn errors_below_messages_have_anthropics_shape() {
    let world = World::scripted(script()).await;
    let address = sidecar(&world).await;
    let good =
        json!({"model": SCRIPTED, "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]});
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body.to_string()
    };
    let version =
        |version: &str| format!("POST /v1/messages HTTP/1.1\r\nanthropic-version: {version}\r\nx:");
    let plain = "POST /v1/messages".to_owned();
    for (head, body, status, kind) in [
        (
            plain.clone(),
            with("max_tokens", json!(null)),
            400,
            "invalid_request_error",
        ),
        (
            plain.clone(),
            with("models", json!("m")),
            400,
            "invalid_request_error",
        ),
        (
            plain.clone(),
            with("model", json!("m")),
            404,
            "not_found_error",
        ),
        (plain, "{".into(), 400, "invalid_request_error"),
        (
            "GET /v1/messages".into(),
            String::new(),
            405,
            "not_found_error",
        ),
        (
            version("2021-01-01"),
            good.to_string(),
            400,
            "invalid_request_error",
        ),
    ] {
        let answer = http(&address, &head, &body).await;
        let (got, error) = read(&answer);
        assert_eq!((got, &error["type"]), (status, &json!("error")), "{answer}");
        assert_eq!(error["error"]["type"], kind, "{answer}");
        assert!(error["error"]["message"].is_string(), "{answer}");
        assert_eq!(error["error"]["x_job"]["executed"], "no", "{answer}");
    }
    for known in ["2023-06-01", "2026-10-21"] {
        let answer = http(&address, &version(known), &good.to_string()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn a_raw_prompt_is_continued_without_a_template() {
    let world = World::scripted(script()).await;
    let address = sidecar(&world).await;
    let path = "/v1/completions";
    let body = json!({"model": SCRIPTED, "prompt": "My name is Ann", "max_tokens": 99});
    let (status, answer) = post(&address, path, &body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["choices"][0]["text"], "Hello, Ann.");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    paid(&address, &answer).await;
    let chat =
        json!({"model": SCRIPTED, "messages": [{"role": "user", "content": "My name is Ann"}]});
    let (_, chat) = post(&address, "/v1/chat/completions", &chat).await;
    assert!(
        chat["usage"]["prompt_tokens"].as_u64() > answer["usage"]["prompt_tokens"].as_u64(),
        "a template adds tokens"
    );
    // Ids are taken as they are: "My" is one pair of letters.
    let (status, ids) = post(
        &address,
        path,
        &json!({"model": SCRIPTED, "prompt": [77, 121]}),
    )
    .await;
    assert_eq!(
        (status, &ids["usage"]["prompt_tokens"]),
        (200, &json!(2)),
        "{ids}"
    );
    let (status, error) = post(
        &address,
        path,
        &json!({"model": SCRIPTED, "prompt": [9_999_999]}),
    )
    .await;
    assert_eq!(
        (status, &error["error"]["param"]),
        (400, &json!("prompt")),
        "{error}"
    );

    let mut body = body;
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let answer = http(&address, &format!("POST {path}"), &body.to_string()).await;
    let lines: Vec<&str> = answer
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    assert_eq!(lines.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> = { lines[..lines.len() - 1].iter() }
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["text"].as_str())
        .collect();
    assert_eq!(text, "Hello, Ann.");
    assert_eq!(chunks[chunks.len() - 1]["choices"], json!([]));
    paid(&address, &chunks[chunks.len() - 2]).await;
}
