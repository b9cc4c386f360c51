//! What the sidecar says of money and of itself: quotes, usage, limits, receipts, metrics, its own description.

use super::{http, post, read, serve, sidecar};
use crate::world::{Fault, SCRIPTED, SCRIPTED_EMBEDDER, Script, World, chat_body};
use client::serve::Access;
use client::{Client, Spender};
use serde_json::{Value, json};
use settlement::Nano;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

fn script() -> Script {
    Script::of(&[("", "A plain answer.")])
}

fn question() -> Value {
    json!({"model": SCRIPTED, "max_tokens": 50, "messages": [{"role": "user", "content": "Why?"}]})
}

async fn get(address: &str, path: &str) -> (u16, Value) {
    read(&http(address, &format!("GET {path}"), "").await)
}

fn nano(value: &Value) -> u64 {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .parse()
        .unwrap()
}

/// What was paid in all, by the sidecar's books.
pub(super) async fn usage(address: &str) -> Value {
    read(&http(address, "GET /v1/usage", "").await).1["total"].clone()
}

#[tokio::test]
async fn a_quote_is_what_a_job_may_cost_and_costs_nothing() {
    let world = World::scripted(script()).await;
    let address = sidecar(&world).await;
    let asked = json!({"path": "/v1/chat/completions", "body": question()});
    let (status, quote) = post(&address, "/v1/quotes", &asked).await;
    assert_eq!(
        (status, &quote["estimate_from_jobs"]),
        (200, &json!(0)),
        "{quote}"
    );
    assert_eq!(world.guest.jobs(), 0, "nothing was asked");
    let (_, answer) = post(&address, "/v1/chat/completions", &question()).await;
    assert_eq!(quote["prompt_tokens"], answer["usage"]["prompt_tokens"]);
    assert_eq!(quote["completion_tokens_max"], 50);
    let cost = nano(&answer["x_job"]["cost"]["amount"]);
    let bounds = nano(&quote["cost_min_nano"])..=nano(&quote["cost_max_nano"]);
    assert!(bounds.contains(&cost), "{cost} in {quote}");
    // With one job in the books the next is expected to be as long.
    let (_, quote) = post(&address, "/v1/quotes", &asked).await;
    assert_eq!(
        quote["completion_tokens_estimate"],
        answer["usage"]["completion_tokens"]
    );
    assert_eq!(quote["estimate_from_jobs"], 1);

    let text = format!("/v1/quotes?model={SCRIPTED}&text=Why%3F&max_tokens=50");
    let (_, same) = get(&address, &text).await;
    assert_eq!(same["prompt_tokens"], quote["prompt_tokens"], "{same}");
    let (status, texts) = get(
        &address,
        &format!("/v1/quotes?model={SCRIPTED_EMBEDDER}&text=Why"),
    )
    .await;
    assert_eq!((status, &texts["completion_tokens_max"]), (200, &json!(0)));
    for bad in [
        "model=none&text=a",
        "text=a",
        "model=scripted-64k",
        "model=scripted-64k&text=a&x=1",
    ] {
        let (status, error) = get(&address, &format!("/v1/quotes?{bad}")).await;
        assert!(matches!(status, 400 | 404), "{bad}: {error}");
    }
    let (status, _) = post(
        &address,
        "/v1/quotes",
        &json!({"path": "/v1/other", "body": {}}),
    )
    .await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_receipt_is_verified_offline_and_a_changed_one_is_not() {
    let world = World::scripted(script()).await;
    let address = sidecar(&world).await;
    let (_, answer) = post(&address, "/v1/chat/completions", &question()).await;
    let id = answer["x_job"]["receipt_id"].as_str().unwrap();
    let (_, receipt) = get(&address, &format!("/v1/receipts/{id}")).await;
    let bytes = receipt["receipt"].as_str().unwrap().to_owned();
    // Nobody is asked: the worker and its proxy are gone.
    world.server.abort();
    let path = "/v1/receipts/verify";
    let verify = async |receipt: &str| post(&address, path, &json!({"receipt": receipt})).await;
    let (status, good) = verify(&bytes).await;
    assert_eq!((status, &good["verified"]), (200, &json!(true)), "{good}");
    assert_eq!(
        (&good["id"], &good["root"]),
        (&json!(id), &json!("insecure-test"))
    );
    assert_eq!(good["cost_nano"], answer["x_job"]["cost"]["amount"]);
    assert_eq!(good["paid_by_this_sidecar"], true);
    // One flipped bit anywhere.
    let raw = hex::decode(&bytes).unwrap();
    for at in (0..raw.len()).step_by(raw.len() / 16) {
        let mut changed = raw.clone();
        changed[at] ^= 1;
        let (_, bad) = verify(&hex::encode(changed)).await;
        assert_eq!(bad["verified"], false, "byte {at}: {bad}");
    }
    let other = json!({"receipt": bytes, "payer_key": "11".repeat(32)});
    let (_, bad) = post(&address, path, &other).await;
    assert_eq!(bad["verified"], false, "{bad}");
    for bad in [
        json!({}),
        json!({"receipt": "xy"}),
        json!({"receipt": bytes, "payer_key": "11"}),
        json!({"receipt": bytes, "x": 1}),
    ] {
        assert_eq!(post(&address, path, &bad).await.0, 400);
    }
    // A sidecar that never met the worker does not believe it.
    let other = World::scripted(script()).await;
    let newcomer = sidecar(&other).await;
    let (_, unknown) = post(&newcomer, path, &json!({"receipt": bytes})).await;
    assert_eq!(unknown["verified"], false);
    assert!(
        unknown["reason"]
            .as_str()
            .unwrap()
            .contains("never verified"),
        "{unknown}"
    );
}

/// A sidecar with two keys, whose headers come with it.
async fn with_keys(world: &World, more: Value) -> (String, [String; 2]) {
    let mut config: Value = serde_json::from_str(&world.config_text()).unwrap();
    for (name, value) in more.as_object().unwrap() {
        config[name] = value.clone();
    }
    let config = client::Config::parse(&config.to_string(), world.directory.path()).unwrap();
    let key = |name: &str| (Spender::named(name), Zeroizing::new(format!("sk-{name}")));
    let access = Access::Keys(vec![key("default"), key("ci")]);
    let client = Client::open(config, true).unwrap();
    let headers =
        ["default", "ci"].map(|name| format!("HTTP/1.1\r\nauthorization: Bearer sk-{name}\r\nx:"));
    (serve(client, access).await, headers)
}

#[tokio::test]
async fn a_day_a_key_and_a_job_have_their_limits_across_restarts() {
    let world = World::scripted(script()).await;
    // One job costs a price step of 32,000 and may cost as much.
    let keys =
        json!([{"name": "ci", "file": "ci.key", "day_max_nano": 64_000, "job_max_nano": 40_000}]);
    let limits = json!({"keys": keys, "day_max_nano": 128_000});
    let (address, [owner, ci]) = with_keys(&world, limits.clone()).await;
    let ask = async |address: &str, headers: &str, body: &Value| {
        let head = format!("POST /v1/chat/completions {headers}");
        http(address, &head, &body.to_string()).await
    };
    let code = |answer: &str| {
        let (status, body) = read(answer);
        (
            status,
            body["error"]["code"].as_str().unwrap_or("none").to_owned(),
        )
    };
    let mut long = question();
    long["max_tokens"] = json!(30_000);
    assert_eq!(
        code(&ask(&address, &ci, &long).await),
        (402, "budget_exceeded".into())
    );
    assert_eq!(
        code(&ask(&address, &ci, &question()).await),
        (200, "none".into())
    );
    assert_eq!(
        code(&ask(&address, &ci, &question()).await),
        (200, "none".into())
    );
    let reached = ask(&address, &ci, &question()).await;
    assert_eq!(code(&reached), (429, "day_limit_reached".into()));
    assert!(
        reached.contains("x-should-retry: false") && reached.contains("retry-after: "),
        "{reached}"
    );
    assert!(reached.contains("the key `ci`"), "{reached}");
    assert_eq!(
        code(&ask(&address, &owner, &question()).await),
        (200, "none".into())
    );

    // Each key sees its own, the owner's sees all.
    let usage = async |address: &str, headers: &str| {
        read(&http(address, &format!("GET /v1/usage {headers}"), "").await).1
    };
    let all = usage(&address, &owner).await;
    assert_eq!(
        (&all["total"]["jobs"], &all["total"]["cost_nano"]),
        (&json!(3), &json!("96000"))
    );
    let rows: Vec<(&Value, &Value)> = { all["data"].as_array().unwrap().iter() }
        .map(|row| (&row["key"], &row["jobs"]))
        .collect();
    assert_eq!(
        rows,
        [(&json!("ci"), &json!(2)), (&json!("default"), &json!(1))]
    );
    let own = usage(&address, &ci).await;
    assert_eq!(
        (&own["total"]["jobs"], &own["data"][0]["model"]),
        (&json!(2), &json!(SCRIPTED))
    );
    assert!(own["data"][0]["tokens"]["completion"].as_u64() > Some(0));

    // Another sidecar over the same file goes on where this one was: a second world has no such file.
    for behind in ["", "-wal"] {
        let path = |name| {
            world
                .directory
                .path()
                .join(format!("{name}.sqlite{behind}"))
        };
        std::fs::copy(path("state"), path("copy")).unwrap();
    }
    let mut again = limits;
    again["state"] = json!("copy.sqlite");
    let (address, [owner, ci]) = with_keys(&world, again).await;
    assert_eq!(
        code(&ask(&address, &ci, &question()).await),
        (429, "day_limit_reached".into())
    );
    assert_eq!(
        code(&ask(&address, &owner, &question()).await),
        (200, "none".into())
    );
    let reached = ask(&address, &owner, &question()).await;
    assert_eq!(code(&reached), (429, "day_limit_reached".into()));
    assert!(reached.contains("all keys together"), "{reached}");
}

#[tokio::test]
async fn several_answers_keep_to_a_limit_together_and_none_is_asked_where_not_all_fit() {
    let world = World::scripted(script()).await;
    // Each of the three jobs costs a price step of 32,000.
    let keys = json!([{"name": "ci", "file": "ci.key", "day_max_nano": 64_000}]);
    let (address, [_, ci]) = with_keys(&world, json!({"keys": keys})).await;
    let mut body = question();
    let ci = format!("{ci} 1\r\nidempotency-key: k\r\ny:");
    for (n, fits) in [(3, false), (2, true)] {
        body["n"] = json!(n);
        let head = format!("POST /v1/chat/completions {ci}");
        let (status, error) = read(&http(&address, &head, &body.to_string()).await);
        if fits {
            assert_eq!(status, 200, "{error}");
            assert_eq!(world.guest.jobs(), 2);
            continue;
        }
        let error = &error["error"];
        assert_eq!(
            (status, &error["code"], &error["x_job"]["executed"]),
            (429, &json!("day_limit_reached"), &json!("no")),
            "{error}"
        );
        assert_eq!(world.guest.jobs(), 0, "two would have fitted");
    }
}

#[tokio::test]
async fn what_an_abandoned_job_may_cost_stays_set_aside_until_it_is_paid() {
    let world = World::start(3600).await;
    let client = Arc::new(world.client().unwrap());
    client.attest().await.unwrap();
    world.set(Fault::UntilCancelled);
    let (body, mut sink) = (chat_body(false), |_: &Value| ());
    let asked = client.chat(&body, &mut sink);
    let gone = tokio::time::timeout(Duration::from_millis(300), asked).await;
    assert!(gone.is_err(), "nobody waits for it any more");
    let budget = client.budget();
    assert_eq!(budget.in_flight(), Nano(32_000));
    assert_eq!(budget.cumulative(), Ok(Nano(0)));
    for _ in 0..100 {
        if budget.in_flight() == Nano(0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(budget.in_flight(), Nano(0));
    assert_eq!(budget.cumulative(), Ok(Nano(32_000)));
    let spent = budget.spent_since(0).unwrap();
    assert_eq!((spent.len(), spent[0].cost), (1, Nano(32_000)));
}

#[tokio::test]
async fn what_is_kept_for_one_key_is_not_for_another() {
    let world = World::scripted(script()).await;
    let (address, [owner, ci]) = with_keys(&world, json!({})).await;
    let body = json!({"model": SCRIPTED, "input": "Why?"}).to_string();
    let (_, kept) = read(&http(&address, &format!("POST /v1/responses {ci}"), &body).await);
    let path = format!("/v1/responses/{}", kept["id"].as_str().unwrap());
    for (method, headers, status) in [
        ("GET", &owner, 404),
        ("DELETE", &owner, 404),
        ("GET", &ci, 200),
        ("DELETE", &ci, 200),
    ] {
        let (got, _) = read(&http(&address, &format!("{method} {path} {headers}"), "").await);
        assert_eq!(got, status, "{method} {headers}");
    }
}

#[tokio::test]
async fn metrics_tell_nothing_of_prompts() {
    let world = World::scripted(script()).await;
    let address = sidecar(&world).await;
    let before = http(&address, "GET /metrics", "").await;
    assert!(before.contains("chrysalis_promised_nano 0\n"), "{before}");
    post(&address, "/v1/chat/completions", &question()).await;
    get(&address, "/v1/Why").await;
    let after = http(&address, "GET /metrics", "").await;
    for line in [
        "chrysalis_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 1\n",
        "chrysalis_requests_total{route=\"none\",status=\"404\"} 1\n",
        "chrysalis_promised_nano 32000\n",
        "chrysalis_in_flight_nano 0\n",
        "chrysalis_deposit_nano 100000000\n",
        "# TYPE chrysalis_attestation_age_seconds gauge\n",
    ] {
        assert!(after.contains(line), "{line} in {after}");
    }
    assert!(
        !after.contains("Why") && !after.contains("token"),
        "{after}"
    );
}

#[tokio::test]
async fn each_described_route_is_served_and_each_documented_one_described() {
    let world = World::scripted(script()).await;
    let address = sidecar(&world).await;
    let (_, document) = get(&address, "/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut described = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let filled = path.replace("{id}", "none");
            let body = if method == "POST" { "{}" } else { "" };
            let answer = http(&address, &format!("{method} {filled}"), body).await;
            let (_, body) = read(&answer);
            let code = body["error"]["code"].as_str().unwrap_or_default();
            assert!(
                !matches!(code, "unknown_url" | "method_not_supported"),
                "{method} {path}: {answer}"
            );
            described.push(format!("{method} {path}"));
        }
    }
    let page = include_str!("../../../docs/app-developers.md");
    for route in described {
        assert!(
            page.contains(&format!("`{route}`")),
            "docs/app-developers.md lacks {route}"
        );
    }
}
