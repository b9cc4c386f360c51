//! How long an agent's requests may be, at the limit and one above it.

use super::{post, sidecar};
use crate::world::{SCRIPTED, SCRIPTED_EMBEDDER, Script, World};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn script() -> Script {
    Script::of(&[("", "A plain answer.")])
}

/// A conversation of so many messages.
fn conversation(messages: usize) -> Value {
    let turn = |place| match place % 2 {
        0 => json!({"role": "user", "content": "go on"}),
        _ => json!({"role": "assistant", "content": "I do"}),
    };
    let messages: Vec<Value> = (0..messages).map(turn).collect();
    json!({"model": SCRIPTED, "messages": messages})
}

fn texts(count: usize) -> Value {
    json!({"model": SCRIPTED_EMBEDDER, "input": vec!["a"; count]})
}

#[tokio::test]
async fn what_agents_send_is_taken() {
    let world = World::scripted(script()).await;
    let address = sidecar(&world).await;
    for messages in [200, 1024] {
        let (status, answer) = post(&address, CHAT, &conversation(messages)).await;
        assert_eq!(status, 200, "{messages} messages: {answer}");
        let text = &answer["choices"][0]["message"]["content"];
        assert_eq!(text, "A plain answer.");
    }
    let (status, answer) = post(&address, "/v1/embeddings", &texts(2048)).await;
    assert_eq!(status, 200, "{}", answer["error"]);
    assert_eq!(answer["data"].as_array().map(Vec::len), Some(2048));
    assert_eq!(answer["x_job"]["verified"], true);
}

#[tokio::test]
async fn one_more_is_refused_and_names_its_field() {
    let world = World::scripted(script()).await;
    let address = sidecar(&world).await;
    let mut long = conversation(3);
    long["messages"][1]["content"] = json!("a".repeat((1 << 20) + 1));
    for (path, body, param, says) in [
        (CHAT, conversation(1025), "messages", "at most 1024"),
        ("/v1/embeddings", texts(2049), "input", "at most 2048"),
        (CHAT, long, "messages[1].content", "at most 1048576"),
    ] {
        let (status, answer) = post(&address, path, &body).await;
        let error = &answer["error"];
        assert_eq!((status, &error["param"]), (400, &json!(param)), "{error}");
        let told = error["message"].as_str().unwrap();
        assert!(told.contains(says), "{told}");
        assert_eq!(error["x_job"]["executed"], "no", "{error}");
    }
}
