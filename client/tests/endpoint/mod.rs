//! The sidecar's endpoint, driven over HTTP as an SDK drives it.

mod apis;
mod books;
mod forms;
mod lengths;
mod rerank;
mod strict;
mod thoughts;
mod vectors;

use super::world::{self, Fault, World, chat_body, embeddings_body};
use client::serve::{Access, Unknown};
use client::{Client, Spender};
use serde_json::{Value, json};
use settlement::Nano;
use simulator::Flaws;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// One HTTP request to the sidecar; the whole answer as text.
async fn http(address: &str, head: &str, body: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    // Evidence is no text.
    String::from_utf8_lossy(&answer).into_owned()
}

async fn sidecar(world: &World) -> String {
    serve(world.client().unwrap(), Access::Socket).await
}

async fn serve(client: Client, access: Access) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = Arc::new(client);
    let unknown = Unknown::Refuse;
    tokio::spawn(client::serve::serve(client, listener, access, unknown));
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
            "messages[1].tool_call_id",
            "missing",
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
        ("tool_choice", json!("required"), "tool_choice", "no tools"),
        (
            "tools",
            json!([{"type": "function", "function": {"name": "f"}}]),
            "tools",
            "the chat template asks for no calls",
        ),
        (
            "response_format",
            json!({"type": "json_object"}),
            "response_format",
            "cannot be written with the tokens",
        ),
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

#[tokio::test]
async fn a_guest_that_restarts_is_attested_again_and_the_job_is_answered() {
    let mut world = World::start(3600).await;
    let address = sidecar(&world).await;
    let path = "/v1/chat/completions";
    assert_eq!(post(&address, path, &chat_body(false)).await.0, 200);
    let keyset = |answer: &str| read(answer).1["keyset"].clone();
    let before = keyset(&http(&address, "GET /v1/attestation", "").await);
    world.reboot_guest().await;
    let (status, answer) = post(&address, path, &chat_body(false)).await;
    assert_eq!(status, 200, "{answer}");
    let after = keyset(&http(&address, "GET /v1/attestation", "").await);
    assert_ne!(
        before, after,
        "what is shown as verified is the guest of now"
    );
}

#[tokio::test]
async fn two_jobs_run_beside_each_other() {
    let world = World::start(3600).await;
    *world.guest.deposit.lock().unwrap() = 1_500_000;
    let address = sidecar(&world).await;
    let body = chat_body(false);
    let ask = || post(&address, "/v1/chat/completions", &body);
    ask().await;
    world.set(Fault::Together);
    let (one, two) = tokio::join!(ask(), ask());
    assert_eq!((one.0, two.0), (200, 200), "{} {}", one.1, two.1);
}

#[tokio::test]
async fn a_job_waits_for_its_turn_and_not_for_ever() {
    let world = World::start(3600).await;
    *world.guest.deposit.lock().unwrap() = 1_500_000;
    let address = sidecar(&world).await;
    // Each may cost 0.98 million of the deposit's 1.5.
    let mut body = chat_body(false);
    body["max_tokens"] = json!(490);
    let ask = || post(&address, "/v1/chat/completions", &body);
    world.set(Fault::Slow);
    let (one, two) = tokio::join!(ask(), ask());
    assert_eq!((one.0, two.0), (200, 200), "{} {}", one.1, two.1);

    let world = World::start(3600).await;
    let mut config = world.config();
    config.queue_ms = 200;
    let client = Client::open(config, true).unwrap();
    let address = serve(client, Access::Socket).await;
    world.set(Fault::Busy);
    let answer = http(&address, "POST /v1/chat/completions", &body.to_string()).await;
    assert!(answer.contains("retry-after: 1"), "{answer}");
    let (status, answer) = read(&answer);
    assert_eq!(
        (status, &answer["error"]["code"]),
        (429, &json!("no_capacity"))
    );
}

#[tokio::test]
async fn a_fresh_session_does_not_wait_for_a_challenge() {
    let world = World::start(3600).await;
    let client = Arc::new(world.client().unwrap());
    client.attest().await.unwrap();
    world.set(Fault::SilentOnChallenges);
    let challenging = tokio::spawn({
        let client = Arc::clone(&client);
        async move { client.attest().await.map(drop) }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (body, mut sink) = (chat_body(false), |_: &Value| ());
    let answer = timeout(Duration::from_secs(2), client.chat(&body, &mut sink));
    assert!(answer.await.expect("in time").is_ok());
    challenging.abort();
}

#[tokio::test]
async fn health_is_of_guest_collateral_and_channel() {
    for (another, fault, says) in [
        (false, Fault::None, ""),
        (false, Fault::NoEvidence, "the guest does not answer"),
        (true, Fault::None, "collateral"),
        (false, Fault::NoChannel, "channel"),
    ] {
        let flaws = Flaws {
            collateral_for_another_platform: another,
            ..Flaws::default()
        };
        let world = World::start_with(3600, flaws).await;
        let address = sidecar(&world).await;
        world.set(fault);
        let (status, health) = read(&http(&address, "GET /healthz", "").await);
        let expected = if says.is_empty() { 200 } else { 503 };
        assert_eq!(status, expected, "{health}");
        assert_eq!(health["ok"], says.is_empty(), "{health}");
        assert!(health.to_string().contains(says), "{health}");
    }
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    world.server.abort();
    let (status, _) = read(&http(&address, "GET /healthz", "").await);
    assert_eq!(status, 503);
}

#[tokio::test]
async fn health_is_checked_again_while_the_keys_are_fresh() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let healthy = async || read(&http(&address, "GET /healthz", "").await).0;
    assert_eq!(healthy().await, 200);
    world.set(Fault::NoEvidence);
    tokio::time::sleep(client::limits::HEALTH_TIME).await;
    assert_eq!(healthy().await, 503);
    world.set(Fault::None);
    assert_eq!(healthy().await, 200);
}

/// The same as [`http`] with more header lines.
async fn with_headers(address: &str, headers: &str, body: &Value) -> (u16, Value, String) {
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\n{headers}x:");
    let answer = http(address, &head, &body.to_string()).await;
    let (status, json) = read(&answer);
    (status, json, answer)
}

#[tokio::test]
async fn a_key_gives_one_answer_that_is_paid_once() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let key = "idempotency-key: one\r\n";
    world.set(Fault::Slow);
    // The second comes while the first is on its way, as after a time-out of the application.
    let body = chat_body(false);
    let (one, two) = tokio::join!(
        with_headers(&address, key, &body),
        with_headers(&address, key, &body)
    );
    let three = with_headers(&address, key, &chat_body(false)).await;
    assert_eq!(one.0, 200, "{}", one.2);
    assert_eq!((&one.1, &one.1), (&two.1, &three.1));
    assert_eq!(world.guest.jobs(), 1);

    let mut other = chat_body(false);
    other["seed"] = json!(1);
    let (status, conflict, _) = with_headers(&address, key, &other).await;
    assert_eq!(
        (status, &conflict["error"]["code"]),
        (409, &json!("idempotency_conflict"))
    );

    let key = "idempotency-key: two\r\n";
    let one = with_headers(&address, key, &chat_body(true)).await.2;
    let two = with_headers(&address, key, &chat_body(true)).await.2;
    assert_eq!(usual_loop(&one), usual_loop(&two));
    assert_eq!(world.guest.jobs(), 2);

    // A job that did not start leaves its key free.
    let key = "idempotency-key: three\r\n";
    let mut long = chat_body(false);
    long["messages"][0]["content"] = json!("hello".to_owned() + &" hello".repeat(600));
    assert_eq!(with_headers(&address, key, &long).await.0, 400);
    assert_eq!(with_headers(&address, key, &chat_body(false)).await.0, 200);
}

#[tokio::test]
async fn an_address_is_for_who_shows_the_key() {
    let world = World::start(3600).await;
    let path = world.directory.path().join("api.key");
    let key = client::api_key(&path).unwrap();
    let address = serve(
        world.client().unwrap(),
        Access::Keys(vec![(Spender::default(), key.clone())]),
    )
    .await;
    for (headers, status) in [
        (String::new(), 401),
        ("authorization: Bearer sk-other\r\n".into(), 401),
        ("x-api-key: sk-other\r\n".into(), 401),
        (format!("authorization: Bearer {}\r\n", *key), 200),
        (format!("x-api-key: {}\r\n", *key), 200),
    ] {
        let (got, answer, _) = with_headers(&address, &headers, &chat_body(false)).await;
        assert_eq!(got, status, "{answer}");
    }
    assert_eq!(world.guest.jobs(), 2);
    let (status, _) = read(&http(&address, "GET /healthz", "").await);
    assert_eq!(status, 200, "health is asked without a key");
}

#[tokio::test]
async fn who_hangs_up_cancels_and_pays_for_what_was_made() {
    for stream in [false, true] {
        let world = World::start(3600).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let client = Arc::new(world.client().unwrap());
        let served = Arc::clone(&client);
        let serving = client::serve::serve(served, listener, Access::Socket, Unknown::default());
        tokio::spawn(serving);
        world.set(Fault::UntilCancelled);
        let body = chat_body(stream).to_string();
        let asked = http(&address, "POST /v1/chat/completions", &body);
        assert!(timeout(Duration::from_millis(1500), asked).await.is_err());
        let paid = async {
            while client.budget().cumulative() == Ok(Nano(0)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let paid = timeout(Duration::from_secs(5), paid).await;
        assert!(paid.is_ok(), "cancelled, verified and paid: {stream}");
        assert!(!world.guest.cancels.lock().unwrap().is_empty());
    }
}
