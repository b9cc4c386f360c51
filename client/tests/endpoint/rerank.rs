//! `/v1/rerank` as Cohere's and Jina's clients ask it.

use super::{http, post, read, sidecar};
use crate::world::{CHAT, Fault, RERANKER, World};
use serde_json::{Value, json};

fn body() -> Value {
    json!({"model": RERANKER, "query": "hello", "documents": ["hello", {"text": "hello world hello"}, "hello world"]})
}

#[tokio::test]
async fn documents_come_back_the_best_first_with_their_places_and_a_receipt() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let (status, answer) = post(&address, "/v1/rerank", &body()).await;
    assert_eq!(status, 200, "{answer}");
    let results = answer["results"].as_array().unwrap();
    let places: Vec<u64> = results
        .iter()
        .map(|one| one["index"].as_u64().unwrap())
        .collect();
    assert_eq!(places, [1, 2, 0]);
    let score = |place: usize| results[place]["relevance_score"].as_f64().unwrap();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for (place, points) in [(0, 3.0), (1, 2.0), (2, 1.0)] {
        assert!((score(place) - sigmoid(points)).abs() < 1e-12, "{answer}");
    }
    assert!(results.iter().all(|one| one.get("document").is_none()));
    assert_eq!(answer["usage"]["total_tokens"], 9, "each pair counts");
    assert_eq!(answer["x_job"]["verified"], true);
    let id = answer["x_job"]["receipt_id"].as_str().unwrap();
    let (status, receipt) = read(&http(&address, &format!("GET /v1/receipts/{id}"), "").await);
    assert_eq!((status, &receipt["cost"]), (200, &answer["x_job"]["cost"]));

    let mut some = body();
    some["top_n"] = json!(2);
    some["return_documents"] = json!(true);
    let (_, answer) = post(&address, "/v1/rerank", &some).await;
    let documents: Vec<&Value> = answer["results"].as_array().unwrap().iter().collect();
    assert_eq!(documents.len(), 2);
    assert_eq!(
        documents[0]["document"],
        json!({"text": "hello world hello"})
    );

    let (_, quote) = post(
        &address,
        "/v1/quotes",
        &json!({"path": "/v1/rerank", "body": body()}),
    )
    .await;
    assert_eq!(quote["prompt_tokens"], 9, "{quote}");
    assert_eq!(quote["cost_max_nano"], answer["x_job"]["cost"]["amount"]);
}

#[tokio::test]
async fn what_cannot_be_ranked_is_refused_by_name_and_a_short_answer_is_none() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let refused = async |change: fn(&mut Value)| {
        let mut body = body();
        change(&mut body);
        let (status, answer) = post(&address, "/v1/rerank", &body).await;
        (
            status,
            answer["error"]["param"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    assert_eq!(
        refused(|b| b["model"] = CHAT.into()).await,
        (404, "model".into())
    );
    let long = "hello ".repeat(9);
    assert_eq!(
        refused(|b| b["documents"] = json!(["hello", "hello ".repeat(9)])).await,
        (400, "documents[1]".into()),
        "{long}"
    );
    assert_eq!(
        refused(|b| b["documents"] = json!([])).await,
        (400, "documents".into())
    );
    assert_eq!(world.guest.jobs(), 0);
    for (fault, code) in [
        (Fault::OutOfTime, "deadline"),
        (Fault::Missing, "bad_answer"),
    ] {
        world.set(fault);
        let (_, answer) = post(&address, "/v1/rerank", &body()).await;
        assert_eq!(answer["error"]["code"], code, "{answer}");
    }
}
