//! What is taken and what is refused before a job is made: names, fields, headers.

use super::{http, post, read, sidecar};
use crate::world::{self, World, chat_body, embeddings_body};
use client::serve::{Access, Unknown};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;

#[tokio::test]
async fn a_name_with_a_digest_means_these_weights_or_none() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let root = "09".repeat(32);
    for (pin, status) in [
        (format!("@sha256:{root}"), 200),
        (format!("@{root}"), 200),
        (format!("@sha256:{}", "08".repeat(32)), 404),
        ("@sha256:09".into(), 404),
        ("@".into(), 404),
        (format!("@md5:{root}"), 404),
    ] {
        let mut body = chat_body(false);
        body["model"] = json!(format!("{}{pin}", world::CHAT));
        let (got, answer) = post(&address, "/v1/chat/completions", &body).await;
        assert_eq!(got, status, "{pin}: {answer}");
        let path = format!("GET /v1/models/{}{pin}", world::CHAT);
        assert_eq!(read(&http(&address, &path, "").await).0, status, "{path}");
    }
    assert_eq!(world.guest.jobs(), 2);
}

#[tokio::test]
async fn a_lenient_sidecar_names_the_fields_that_it_left_out() {
    let world = World::start(3600).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = Arc::new(world.client().unwrap());
    let serving = client::serve::serve(client, listener, Access::Open, Unknown::Ignore);
    tokio::spawn(serving);
    let path = "POST /v1/chat/completions";
    let ask = async |body: &Value| http(&address, path, &body.to_string()).await;

    let mut body = chat_body(false);
    body["logit_bais"] = json!(1);
    body["messages"][0]["mood"] = json!("good");
    let answer = ask(&body).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let header = "x-ignored-fields: logit_bais, messages[0].mood";
    assert!(answer.contains(header), "{answer}");
    assert!(!ask(&chat_body(false)).await.contains("x-ignored-fields"));

    // What is known and not supported stays refused: it would change the answer.
    let mut body = chat_body(false);
    body["n"] = json!(9);
    let (status, answer) = read(&ask(&body).await);
    assert_eq!(
        (status, &answer["error"]["param"]),
        (400, &json!("n")),
        "{answer}"
    );

    let mut body = chat_body(false);
    for n in 0..=client::limits::IGNORED_FIELDS_MAX {
        body[format!("x{n:03}")] = json!(n);
    }
    let (status, answer) = read(&ask(&body).await);
    assert_eq!(
        (status, &answer["error"]["code"]),
        (400, &json!("unknown_parameter")),
        "{answer}"
    );
}

#[tokio::test]
async fn every_refusal_says_that_nothing_ran_and_whether_to_ask_again() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let origin = "POST /v1/chat/completions HTTP/1.1\r\norigin: http://evil.example\r\nx:";
    for head in ["GET /v1/nothing", "GET /v1/chat/completions", origin] {
        let answer = http(&address, head, &chat_body(false).to_string()).await;
        let (status, object) = read(&answer);
        assert!(status >= 400, "{answer}");
        let expected = json!({"executed": "no", "retryable": false});
        assert_eq!(object["error"]["x_job"], expected, "{answer}");
        assert!(!answer.contains("access-control-"), "{answer}");
    }
    assert_eq!(world.guest.jobs(), 0);
}

#[tokio::test]
async fn a_text_longer_than_an_embedder_takes_is_an_error() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let mut body = embeddings_body();
    body["input"][1] = json!("hello".to_owned() + &" hello".repeat(99));
    let (status, answer) = post(&address, "/v1/embeddings", &body).await;
    let error = &answer["error"];
    assert_eq!(
        (status, &error["code"], &error["param"]),
        (400, &json!("context_length_exceeded"), &json!("input[1]"))
    );
    let told = error["message"].as_str().unwrap();
    assert!(
        told.contains("100 tokens") && told.contains("takes 64"),
        "{told}"
    );
}
