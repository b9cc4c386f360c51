//! The sidecar's endpoint, driven over HTTP as an SDK drives it.

use super::world::{self, Fault, World, chat_body, embeddings_body};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One HTTP request to the sidecar; the whole answer as text.
async fn http(address: &str, head: &str, body: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn sidecar(world: &World) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(client::serve::serve(
        Arc::new(world.client().unwrap()),
        listener,
    ));
    address
}

fn events(answer: &str) -> Vec<String> {
    let lines = answer
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn the_sidecar_speaks_the_openai_api() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let models = http(&address, "GET /v1/models", "").await;
    assert!(
        models.contains(world::CHAT) && models.contains("\"attestation\":\"verified\""),
        "{models}"
    );
    let embeddings = http(
        &address,
        "POST /v1/embeddings",
        &embeddings_body().to_string(),
    )
    .await;
    assert!(
        embeddings.contains("\"amount\":\"32000\"") && embeddings.contains("\"verified\":true"),
        "{embeddings}"
    );
    let chat = http(
        &address,
        "POST /v1/chat/completions",
        &chat_body(false).to_string(),
    )
    .await;
    assert!(
        chat.contains("\"content\":\"hello world\"") && chat.contains("\"finish_reason\":\"stop\""),
        "{chat}"
    );
    let id = chat
        .split("\"receipt_id\":\"")
        .nth(1)
        .unwrap()
        .get(..64)
        .unwrap();
    let receipt = http(&address, &format!("GET /v1/receipts/{id}"), "").await;
    assert!(receipt.contains("\"amount\":\"32000\""), "{receipt}");
    let attestation = http(&address, "GET /v1/attestation", "").await;
    assert!(
        attestation.contains("\"root\":\"insecure-test\""),
        "{attestation}"
    );
    let unknown = chat_body(false);
    let unknown = unknown.to_string().replacen('{', "{\"logit_bais\":1,", 1);
    let unknown = http(&address, "POST /v1/chat/completions", &unknown).await;
    assert!(
        unknown.starts_with("HTTP/1.1 400") && unknown.contains("\"param\":\"logit_bais\""),
        "{unknown}"
    );
}

#[tokio::test]
async fn a_stream_ends_with_done_only_after_the_receipt_was_verified() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let body = chat_body(true).to_string();
    let good = http(&address, "POST /v1/chat/completions", &body).await;
    assert!(good.contains("content-type: text/event-stream"), "{good}");
    let lines = events(&good);
    assert_eq!(lines.last().map(String::as_str), Some("[DONE]"));
    let last: Value = serde_json::from_str(&lines[lines.len() - 2]).unwrap();
    assert_eq!(
        (
            &last["choices"][0]["finish_reason"],
            &last["x_job"]["verified"]
        ),
        (&json!("stop"), &json!(true))
    );
    assert!(!good.contains("token_ids"));

    world.set(Fault::OtherReceipt);
    let bad = http(&address, "POST /v1/chat/completions", &body).await;
    let lines = events(&bad);
    let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "bad_receipt");
    assert_eq!(last["error"]["x_job"]["executed"], "yes");
    assert!(!bad.contains("[DONE]"));
}

/// The status and the JSON of an answer.
fn read(answer: &str) -> (u16, Value) {
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or_default())
}

async fn post(address: &str, path: &str, body: &Value) -> (u16, Value) {
    read(&http(address, &format!("POST {path}"), &body.to_string()).await)
}

/// What the loop of every tutorial does: `choices[0]` of each chunk.
fn usual_loop(answer: &str) -> (String, Vec<Value>) {
    let mut text = String::new();
    let mut lines = events(answer);
    assert_eq!(lines.pop().as_deref(), Some("[DONE]"), "{answer}");
    let chunks: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for chunk in &chunks {
        let choice = chunk["choices"].get(0);
        let choice = choice.unwrap_or_else(|| panic!("no choices[0] in {chunk}"));
        text += choice["delta"]["content"].as_str().unwrap_or("");
    }
    (text, chunks)
}

#[tokio::test]
async fn the_usual_loop_over_a_stream_reads_every_chunk() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let path = "POST /v1/chat/completions";
    let answer = http(&address, path, &chat_body(true).to_string()).await;
    let (text, chunks) = usual_loop(&answer);
    assert_eq!(text, "hello world");
    let ends = chunks
        .iter()
        .filter(|c| !c["choices"][0]["finish_reason"].is_null());
    let ends: Vec<_> = ends.collect();
    assert_eq!(ends, [chunks.last().unwrap()], "one end, at the end");
    assert_eq!(ends[0]["x_job"]["verified"], json!(true));

    // Only who asks for the usage gets the chunk without choices.
    let mut body = chat_body(true);
    body["stream_options"] = json!({"include_usage": true});
    let answer = http(&address, path, &body.to_string()).await;
    let lines = events(&answer);
    let usage: Value = serde_json::from_str(&lines[lines.len() - 2]).unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["total_tokens"], json!(6));
    let last: Value = serde_json::from_str(&lines[lines.len() - 3]).unwrap();
    assert_eq!(last["x_job"]["verified"], json!(true));
}

#[tokio::test]
async fn a_burst_of_events_reaches_a_reader_whole() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    world.set(Fault::Long);
    let mut body = chat_body(true);
    body["max_tokens"] = json!(world::LONG);
    let answer = http(&address, "POST /v1/chat/completions", &body.to_string()).await;
    let (text, _) = usual_loop(&answer);
    assert_eq!(text.split(' ').count(), world::LONG - 1);
}

#[tokio::test]
async fn what_the_sdks_send_is_taken() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    for (field, value) in [
        ("tools", json!(null)),
        ("tool_choice", json!("none")),
        ("stop", json!(null)),
        ("reasoning_effort", json!(null)),
        ("parallel_tool_calls", json!(true)),
        ("top_logprobs", json!(null)),
        ("metadata", json!({"a": "b"})),
        ("max_completion_tokens", json!(200_000)),
        ("stream_options", json!({"include_obfuscation": false})),
        (
            "messages",
            json!([{"role": "user", "name": "ann", "content": [{"type": "text", "text": "hello world hello"}]}]),
        ),
        (
            "messages",
            json!([{"role": "user", "content": "hello"}, {"role": "assistant", "content": " world", "refusal": null,
                "annotations": [], "audio": null, "function_call": null, "tool_calls": null},
                {"role": "user", "content": " hello"}]),
        ),
        (
            "messages",
            json!([{"role": "user", "content": "hello"}, {"role": "assistant", "content": null, "refusal": " world"},
                {"role": "user", "content": " hello"}]),
        ),
    ] {
        let mut body = chat_body(false);
        body[field] = value;
        let (status, answer) = post(&address, "/v1/chat/completions", &body).await;
        assert_eq!(status, 200, "{body}: {answer}");
    }
    let mut body = embeddings_body();
    body["dimensions"] = json!(null);
    body["user"] = json!(null);
    body["encoding_format"] = json!(null);
    let (status, answer) = post(&address, "/v1/embeddings", &body).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn a_refusal_names_its_field_and_what_is_allowed() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let message = |message: Value| json!([{"role": "user", "content": "hello"}, message]);
    for (field, value, param, says) in [
        ("messages", json!([]), "messages", "a list of messages"),
        (
            "messages",
            message(json!({"role": "user"})),
            "messages[1].content",
            "missing",
        ),
        (
            "messages",
            message(json!({"content": "a"})),
            "messages[1].role",
            "missing",
        ),
        (
            "messages",
            message(json!({"role": "tool", "content": "a"})),
            "messages[1].role",
            "tools",
        ),
        (
            "messages",
            message(json!({"role": "user", "content": 5})),
            "messages[1].content",
            "5",
        ),
        (
            "messages",
            message(json!({"role": "user", "content": [{"type": "image_url", "image_url": {}}]})),
            "messages[1].content[0]",
            "image_url",
        ),
        (
            "messages",
            message(json!({"role": "user", "content": "a", "x": 1})),
            "messages[1].x",
            "not supported",
        ),
        (
            "max_tokens",
            json!(0),
            "max_tokens",
            "a whole number from 1",
        ),
        ("tool_choice", json!("required"), "tool_choice", "none"),
        (
            "stream_options",
            json!({"x": 1}),
            "stream_options.x",
            "not supported",
        ),
    ] {
        let mut body = chat_body(false);
        body[field] = value;
        let (status, answer) = post(&address, "/v1/chat/completions", &body).await;
        assert_eq!(
            (status, &answer["error"]["param"]),
            (400, &json!(param)),
            "{answer}"
        );
        let told = answer["error"]["message"].as_str().unwrap();
        assert!(told.contains(says), "{told}");
    }
    for (input, param, says) in [
        (json!([1, 2, 3]), "input", "token ids"),
        (json!([[1, 2], [3]]), "input", "token ids"),
        (json!(["a", 5]), "input[1]", "5"),
        (json!([]), "input", "a list of texts"),
    ] {
        let mut body = embeddings_body();
        body["input"] = input;
        let (status, answer) = post(&address, "/v1/embeddings", &body).await;
        assert_eq!(
            (status, &answer["error"]["param"]),
            (400, &json!(param)),
            "{answer}"
        );
        let told = answer["error"]["message"].as_str().unwrap();
        assert!(told.contains(says), "{told}");
    }
}

#[tokio::test]
async fn every_error_has_the_apis_shape() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let long = json!({"model": world::CHAT, "messages": [{"role": "user", "content": "hello".to_owned() + &" hello".repeat(600)}]});
    let large = json!({"model": world::CHAT, "x": "x".repeat(client::limits::REQUEST_BYTES_MAX)});
    for (head, body, status, code) in [
        ("GET /v1/nothing", "", 404, "unknown_url"),
        ("GET /v1/chat/completions", "", 405, "method_not_supported"),
        ("DELETE /v1/models", "", 405, "method_not_supported"),
        ("GET /v1/models/other", "", 404, "model_not_found"),
        ("POST /v1/chat/completions", "{", 400, "invalid_request"),
        (
            "POST /v1/chat/completions",
            &long.to_string(),
            400,
            "context_length_exceeded",
        ),
        (
            "POST /v1/chat/completions",
            &large.to_string(),
            413,
            "request_too_large",
        ),
    ] {
        let answer = http(&address, head, body).await;
        let (got, answer) = read(&answer);
        assert_eq!(
            (got, &answer["error"]["code"]),
            (status, &json!(code)),
            "{head}: {answer}"
        );
        assert!(answer["error"]["message"].is_string() && answer["error"]["type"].is_string());
    }
    let (status, model) =
        read(&http(&address, &format!("GET /v1/models/{}", world::CHAT), "").await);
    assert_eq!(
        (status, &model["id"], &model["object"]),
        (200, &json!(world::CHAT), &json!("model"))
    );
}
