//! The cache of embeddings: what is asked, what is paid, and what the application sees of it.

use super::{post, serve, sidecar};
use crate::world::{SCRIPTED_EMBEDDER, Script, World};
use client::config::{Config, VectorsConfig};
use client::serve::Access;
use serde_json::{Value, json};

const PATH: &str = "/v1/embeddings";

async fn with_cache(world: &World) -> String {
    let file = world.directory.path().join("vectors.sqlite");
    let cache = |config: &mut Config| {
        config.embeddings_cache = Some(VectorsConfig { file, mib: 1 });
    };
    serve(world.client_with(cache).unwrap(), Access::Socket).await
}

fn body(texts: &[&str]) -> Value {
    json!({"model": SCRIPTED_EMBEDDER, "input": texts})
}

fn places(kept: &Value) -> Vec<u64> {
    let kept = kept.as_array().unwrap();
    kept.iter()
        .map(|one| one["index"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn a_text_is_asked_and_paid_once() {
    let world = World::scripted(Script::of(&[("", "A plain answer.")])).await;
    let address = with_cache(&world).await;
    let (status, first) = post(&address, PATH, &body(&["a", "b b"])).await;
    assert_eq!(status, 200, "{first}");
    assert_eq!((&first["x_kept"], world.guest.jobs()), (&json!([]), 1));
    let (tokens, paid) = (
        &first["usage"]["prompt_tokens"],
        &first["x_job"]["receipt_id"],
    );
    assert!(tokens.as_u64() > Some(0) && paid.is_string(), "{first}");

    // All of it again: the same vectors, and nothing was asked.
    let (status, again) = post(&address, PATH, &body(&["a", "b b"])).await;
    assert_eq!((status, &again["data"]), (200, &first["data"]));
    assert_eq!(
        again["usage"],
        json!({"prompt_tokens": 0, "total_tokens": 0})
    );
    assert_eq!((again.get("x_job"), world.guest.jobs()), (None, 1));
    assert_eq!(places(&again["x_kept"]), [0, 1]);
    assert!({ again["x_kept"].as_array().unwrap().iter() }.all(|kept| kept["receipt_id"] == *paid));

    // And where the model's digest is pinned. With another one the cache has nothing, and the answer is refused as ever.
    let pinned = async |root: &str| {
        let mut body = body(&["a"]);
        body["model"] = json!(format!("{SCRIPTED_EMBEDDER}@sha256:{root}"));
        post(&address, PATH, &body).await
    };
    let (status, same) = pinned(&"09".repeat(32)).await;
    assert_eq!((status, world.guest.jobs()), (200, 1), "{same}");
    assert_eq!(same["data"][0]["embedding"], first["data"][0]["embedding"]);
    let (status, other) = pinned(&"0".repeat(64)).await;
    assert_eq!((status, world.guest.jobs()), (404, 1), "{other}");

    // A quote says so, too.
    let quoted = async |texts: &[&str]| {
        let asked = json!({"path": PATH, "body": body(texts)});
        let (status, quote) = post(&address, "/v1/quotes", &asked).await;
        assert_eq!(status, 200, "{quote}");
        ["texts_kept", "answers", "prompt_tokens", "cost_max_nano"].map(|name| quote[name].clone())
    };
    let nothing = [json!(2), json!(0), json!(0), json!("0")];
    assert_eq!(quoted(&["a", "b b"]).await, nothing);
    let [kept, jobs, quoted_tokens, quoted_cost] = quoted(&["b b", "c", "a"]).await;
    assert_eq!((kept, jobs), (json!(2), json!(1)));

    // A new text between two old ones: it alone is asked, and each vector is in its place.
    let (status, mixed) = post(&address, PATH, &body(&["b b", "c", "a"])).await;
    assert_eq!((status, world.guest.jobs()), (200, 2), "{mixed}");
    let vector = |answer: &Value, place: usize| answer["data"][place]["embedding"].clone();
    assert_eq!(vector(&mixed, 0), vector(&first, 1));
    assert_eq!(vector(&mixed, 2), vector(&first, 0));
    assert_eq!(mixed["data"][1]["index"], 1);
    assert_eq!(places(&mixed["x_kept"]), [0, 2]);
    assert_eq!(mixed["usage"]["prompt_tokens"], quoted_tokens);
    assert_eq!(mixed["x_job"]["cost"]["amount"], quoted_cost);
    assert!(mixed["usage"]["prompt_tokens"].as_u64() < tokens.as_u64());

    // As base64, too; and an error names the place that the text has in the request.
    let mut asked = body(&["a"]);
    asked["encoding_format"] = json!("base64");
    let (_, encoded) = post(&address, PATH, &asked).await;
    assert!(encoded["data"][0]["embedding"].is_string(), "{encoded}");
    let long = "a ".repeat(100_000);
    let (status, refused) = post(&address, PATH, &body(&["a", "b b", &long])).await;
    assert_eq!(
        (status, &refused["error"]["param"]),
        (400, &json!("input[2]")),
        "{refused}"
    );
}

#[tokio::test]
async fn vectors_are_cut_only_to_what_the_configuration_lists_and_are_kept_whole() {
    let world = World::scripted(Script::of(&[("", "A plain answer.")])).await;
    let file = world.directory.path().join("vectors.sqlite");
    let listed = |config: &mut Config| {
        config.embeddings_cache = Some(VectorsConfig { file, mib: 1 });
        { config.models.iter_mut() }.for_each(|model| model.dimensions = vec![1]);
    };
    let address = serve(world.client_with(listed).unwrap(), Access::Socket).await;
    let ask = async |dimensions: Option<u32>| {
        let mut body = body(&["a", "b b"]);
        body["dimensions"] = json!(dimensions);
        post(&address, PATH, &body).await
    };
    let (status, refused) = ask(Some(2)).await;
    let (param, jobs) = (&refused["error"]["param"], world.guest.jobs());
    assert_eq!((status, param, jobs), (400, &json!("dimensions"), 0));
    let (status, cut) = ask(Some(1)).await;
    assert_eq!(status, 200, "{cut}");
    let (_, whole) = ask(None).await;
    assert_eq!(world.guest.jobs(), 1, "the whole vectors were kept");
    for place in 0..2 {
        let vector = |answer: &Value| answer["data"][place]["embedding"].clone();
        let first = vector(&whole)[0].as_f64().unwrap();
        assert_eq!(vector(&whole).as_array().unwrap().len(), 2);
        let expected = if first == 0.0 { 0.0 } else { first.signum() };
        assert_eq!(vector(&cut), json!([expected]));
    }
}

#[tokio::test]
async fn without_one_nothing_is_kept() {
    let world = World::scripted(Script::of(&[("", "A plain answer.")])).await;
    let address = sidecar(&world).await;
    for jobs in 1..3 {
        let (_, answer) = post(&address, PATH, &body(&["a"])).await;
        assert!(answer.get("x_kept").is_none() && answer["x_job"].is_object());
        assert_eq!(world.guest.jobs(), jobs);
    }
}
