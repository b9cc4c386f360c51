//! Answers of a form: JSON of a schema, texts of an expression, calls that a model must make; and several answers to one request.
//! The model answers by chance, so what holds is the grammar's doing.

use super::books::usage;
use super::{http, post, sidecar, usual_loop};
use crate::world::{CHAT, FORMS, Fault, World};
use serde_json::{Value, json};

const PATH: &str = "/v1/chat/completions";

fn body(fields: Value) -> Value {
    let mut body =
        json!({"model": FORMS, "messages": [{"role": "user", "content": "go"}], "max_tokens": 800});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

async fn answered(address: &str, fields: Value) -> Value {
    let (status, answer) = post(address, PATH, &body(fields)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["x_job"]["verified"], true);
    answer
}

fn schema(schema: Value) -> Value {
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}});
    json!({"response_format": format})
}

fn order() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string", "minLength": 1}, "count": {"type": "integer", "minimum": 1,
        "maximum": 20}, "kind": {"enum": ["a", "b"]}}, "required": ["city", "count"], "additionalProperties": false})
}

fn is_order(order: &Value) -> bool {
    let fields = order.as_object().unwrap();
    let known = |name: &String| ["city", "count", "kind"].contains(&name.as_str());
    order["city"].as_str().is_some_and(|city| !city.is_empty())
        && order["count"]
            .as_i64()
            .is_some_and(|count| (1..=20).contains(&count))
        && order
            .get("kind")
            .is_none_or(|kind| kind == "a" || kind == "b")
        && fields.keys().all(known)
}

#[tokio::test]
async fn a_raw_completion_has_a_form_too() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let mut body = json!({"model": FORMS, "prompt": "go", "max_tokens": 800, "seed": 3});
    body["response_format"] = schema(order())["response_format"].clone();
    let (status, answer) = post(&address, "/v1/completions", &body).await;
    assert_eq!(status, 200, "{answer}");
    let text = answer["choices"][0]["text"].as_str().unwrap();
    assert!(is_order(&serde_json::from_str(text).unwrap()), "{text}");
    body["guided_regex"] = "a+".into();
    let (status, answer) = post(&address, "/v1/completions", &body).await;
    assert_eq!(
        (status, &answer["error"]["param"]),
        (400, &json!("guided_regex")),
        "{answer}"
    );
}

#[tokio::test]
async fn an_answer_is_json_of_the_schema_and_a_text_of_the_expression() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..8 {
        let mut fields = schema(order());
        fields["seed"] = json!(seed);
        let answer = answered(&address, fields).await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "stop");
        let content = choice["message"]["content"].as_str().unwrap();
        let value: Value = serde_json::from_str(content).unwrap();
        assert!(is_order(&value), "{content}");
        seen.insert(content.to_owned());
    }
    assert!(seen.len() > 4, "it answers by chance: {seen:?}");
    let answer = answered(
        &address,
        json!({"response_format": {"type": "json_object"}}),
    )
    .await;
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(content).unwrap().is_object());
    let answer = answered(&address, json!({"guided_regex": "(red|green) [0-9]{3}"})).await;
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    let (colour, number) = content.split_once(' ').unwrap();
    assert!(
        ["red", "green"].contains(&colour) && number.len() == 3,
        "{content}"
    );
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": order(), "strict": true}})
}

#[tokio::test]
async fn a_model_that_must_call_calls_with_arguments_of_the_schema() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let named = json!({"type": "function", "function": {"name": "g"}});
    for (choice, parallel) in [
        (json!("required"), true),
        (json!("required"), false),
        (named, true),
    ] {
        for seed in 0..4 {
            let answer = answered(
                &address,
                json!({"tools": [tool("f"), tool("g")], "tool_choice": choice,
                "parallel_tool_calls": parallel, "seed": seed}),
            )
            .await;
            let message = &answer["choices"][0]["message"];
            let calls = message["tool_calls"]
                .as_array()
                .unwrap_or_else(|| panic!("{answer}"));
            assert!(message["content"].is_null(), "{answer}");
            assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
            assert!(!calls.is_empty() && (parallel || calls.len() == 1));
            for call in calls {
                let function = &call["function"];
                assert!(
                    function["name"] == "g" || (function["name"] == "f" && choice == "required")
                );
                let arguments = function["arguments"].as_str().unwrap();
                assert!(
                    is_order(&serde_json::from_str(arguments).unwrap()),
                    "{arguments}"
                );
            }
        }
    }
    // Where it may call, it calls or answers in the form.
    let mut called = 0;
    for seed in 0..12 {
        let mut fields = schema(order());
        fields["tools"] = json!([tool("f")]);
        fields["seed"] = json!(seed);
        let message = answered(&address, fields).await["choices"][0]["message"].clone();
        match message["content"].as_str() {
            Some(content) => assert!(is_order(&serde_json::from_str(content).unwrap())),
            None => called += message["tool_calls"].as_array().unwrap().len().min(1),
        }
    }
    assert!((1..12).contains(&called), "{called}");
}

#[tokio::test]
async fn a_form_that_cannot_be_held_to_is_refused_with_its_path() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let mut bad = order();
    bad["properties"]["city"]["pattern"] = json!("(?=a)");
    bad["properties"]["city"]
        .as_object_mut()
        .unwrap()
        .remove("minLength");
    let at = "response_format.json_schema.schema.properties.city.pattern";
    let mut function = tool("f");
    function["function"]["parameters"] =
        json!({"type": "object", "properties": {"x": {"format": "uri", "type": "string"}}});
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}});
    for (fields, at) in [
        (schema(bad), at),
        (json!({"guided_regex": "("}), "guided_regex"),
        (
            json!({"tools": [tool("g"), function], "tool_choice": allowed}),
            "tools[1].function.parameters.properties.x.format",
        ),
    ] {
        let (status, answer) = post(&address, PATH, &body(fields)).await;
        assert_eq!(
            (status, &answer["error"]["param"]),
            (400, &json!(at)),
            "{answer}"
        );
        assert_eq!(answer["error"]["x_job"]["executed"], "no");
    }
}

#[tokio::test]
async fn an_answer_cut_short_says_so_and_one_of_another_form_is_not_paid() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let mut fields = schema(order());
    fields["max_tokens"] = json!(5);
    let answer = answered(&address, fields).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let paid = usage(&address).await;
    world.set(Fault::Strays);
    let (status, answer) = post(&address, PATH, &body(schema(order()))).await;
    assert!(status >= 500, "{answer}");
    let told = answer["error"]["message"].as_str().unwrap();
    assert!(told.contains("not of the form"), "{told}");
    assert_eq!(usage(&address).await, paid);
}

#[tokio::test]
async fn several_answers_are_several_jobs_and_one_answer() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let mut fields = schema(order());
    fields["n"] = json!(3);
    fields["seed"] = json!(5);
    let answer = answered(&address, fields.clone()).await;
    let choices = answer["choices"].as_array().unwrap();
    let contents: Vec<&str> = choices
        .iter()
        .map(|one| one["message"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(choices.len(), 3);
    for (index, content) in contents.iter().enumerate() {
        assert_eq!(choices[index]["index"], index);
        assert!(
            is_order(&serde_json::from_str(content).unwrap()),
            "{content}"
        );
    }
    assert!(
        contents[0] != contents[1] || contents[1] != contents[2],
        "each has its own seed"
    );
    let jobs = answer["x_job"]["jobs"].as_array().unwrap();
    let mut receipts: Vec<&str> = jobs
        .iter()
        .map(|job| job["receipt_id"].as_str().unwrap())
        .collect();
    receipts.sort_unstable();
    receipts.dedup();
    assert_eq!(receipts.len(), 3);
    // Two tokens of the prompt, three times.
    assert_eq!(answer["usage"]["prompt_tokens"], 6);
    let amount = |cost: &Value| cost["amount"].as_str().unwrap().parse::<u64>().unwrap();
    let sum: u64 = jobs.iter().map(|job| amount(&job["cost"])).sum();
    assert_eq!(amount(&answer["x_job"]["cost"]), sum);
    world.guest.promised(sum).await;

    fields["stream"] = json!(true);
    fields["stream_options"] = json!({"include_usage": true});
    let streamed = http(&address, &format!("POST {PATH}"), &body(fields).to_string()).await;
    let (usage, rest): (Vec<String>, Vec<String>) = super::events(&streamed)
        .into_iter()
        .partition(|line| line.contains("\"choices\":[]"));
    assert_eq!(usage.len(), 1, "{streamed}");
    let rest: String = rest
        .iter()
        .map(|line| format!("data: {line}\n\n"))
        .collect();
    let (_, chunks) = usual_loop(&rest);
    let ids: std::collections::BTreeSet<&str> = chunks
        .iter()
        .map(|chunk| chunk["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 1);
    for (index, content) in contents.iter().enumerate() {
        let own = chunks
            .iter()
            .map(|chunk| &chunk["choices"][0])
            .filter(|one| one["index"] == index);
        let text: String = own
            .clone()
            .filter_map(|one| one["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, *content, "the same seed gives the same answer");
        let ends = own.filter(|one| one["finish_reason"] == "stop").count();
        assert_eq!(ends, 1);
    }
    let ends = chunks
        .iter()
        .filter(|chunk| chunk["x_job"]["verified"] == true);
    assert_eq!(ends.count(), 3);
}

#[tokio::test]
async fn a_response_and_a_message_are_of_a_form_and_call_what_they_must() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let is_order_text =
        |text: &Value| is_order(&serde_json::from_str(text.as_str().unwrap()).unwrap());
    let response = |more: Value| {
        let mut body = json!({"model": FORMS, "input": "go", "max_output_tokens": 800});
        let fields = more.as_object().unwrap().clone();
        fields
            .into_iter()
            .for_each(|(name, value)| body[name] = value);
        body
    };
    let asked = async |path: &str, body: &Value| {
        let (status, answer) = post(&address, path, body).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["x_job"]["verified"], true);
        answer
    };
    let format =
        json!({"format": {"type": "json_schema", "name": "n", "strict": true, "schema": order()}});
    let answer = asked("/v1/responses", &response(json!({"text": format}))).await;
    assert!(
        is_order_text(&answer["output"][0]["content"][0]["text"]),
        "{answer}"
    );
    assert_eq!(answer["text"], format);
    let object = json!({"text": {"format": {"type": "json_object"}}});
    let answer = asked("/v1/responses", &response(object)).await;
    let text = answer["output"][0]["content"][0]["text"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap().is_object());

    let function = |name: &str| json!({"type": "function", "name": name, "parameters": order()});
    let tools = json!([function("f"), function("g")]);
    for choice in [json!("required"), json!({"type": "function", "name": "g"})] {
        let body = response(json!({"tools": tools, "tool_choice": choice}));
        let answer = asked("/v1/responses", &body).await;
        let calls = answer["output"].as_array().unwrap();
        for call in calls {
            assert_eq!(call["type"], "function_call", "{answer}");
            assert!(choice == "required" || call["name"] == "g", "{answer}");
            assert!(is_order_text(&call["arguments"]));
        }
        assert!(!calls.is_empty());
    }

    let tool = |name: &str| json!({"name": name, "input_schema": order()});
    let tools = json!([tool("f"), tool("g")]);
    let any = json!({"type": "any", "disable_parallel_tool_use": true});
    for choice in [any, json!({"type": "tool", "name": "g"})] {
        let body = json!({"model": FORMS, "max_tokens": 800, "tools": tools, "tool_choice": choice,
            "messages": [{"role": "user", "content": "go"}]});
        let answer = asked("/v1/messages", &body).await;
        assert_eq!(answer["stop_reason"], "tool_use", "{answer}");
        let blocks = answer["content"].as_array().unwrap();
        assert_eq!(blocks.len(), 1, "{answer}");
        assert_eq!(blocks[0]["type"], "tool_use");
        assert!(choice["type"] == "any" || blocks[0]["name"] == "g");
        assert!(is_order(&blocks[0]["input"]), "{answer}");
    }
}

#[tokio::test]
async fn each_api_names_a_form_that_cannot_be_held_to_as_it_has_it() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let bad = json!({"type": "object", "properties": {"x": {"format": "uri", "type": "string"}}});
    let said = json!([{"role": "user", "content": "go"}]);
    for (path, body, at) in [
        (
            "/v1/responses",
            json!({"model": FORMS, "input": "go",
                "text": {"format": {"type": "json_schema", "name": "n", "schema": bad}}}),
            "text.format.schema.properties.x.format",
        ),
        (
            "/v1/responses",
            json!({"model": FORMS, "input": "go", "tool_choice": "required",
                "tools": [{"type": "function", "name": "f", "parameters": bad}]}),
            "tools[0].parameters.properties.x.format",
        ),
        (
            "/v1/messages",
            json!({"model": FORMS, "max_tokens": 9, "messages": said, "tool_choice": {"type": "any"},
                "tools": [{"name": "f", "input_schema": bad}]}),
            "tools[0].input_schema.properties.x.format",
        ),
        (
            "/v1/responses",
            json!({"model": FORMS, "input": "go", "n": 2}),
            "n",
        ),
        (
            "/v1/messages",
            json!({"model": FORMS, "max_tokens": 9, "messages": said, "n": 2}),
            "n",
        ),
    ] {
        for stream in [false, true] {
            let mut body = body.clone();
            body["stream"] = json!(stream);
            let (status, answer) = post(&address, path, &body).await;
            let param = &answer["error"]["param"];
            assert_eq!((status, param), (400, &json!(at)), "{answer}");
        }
        let (status, answer) =
            post(&address, "/v1/quotes", &json!({"path": path, "body": body})).await;
        let param = &answer["error"]["param"];
        assert_eq!((status, param), (400, &json!(at)), "{answer}");
    }
    assert_eq!(world.guest.jobs(), 0);
}

#[tokio::test]
async fn several_completions_and_quotes_count_each_job() {
    let world = World::start(3600).await;
    let address = sidecar(&world).await;
    let raw = json!({"model": CHAT, "prompt": "hello", "n": 2, "max_tokens": 40});
    let mut chat = body(schema(order()));
    chat["n"] = json!(3);
    for (path, body, answers) in [("/v1/completions", raw.clone(), 2), (PATH, chat, 3)] {
        let quoted = json!({"path": path, "body": body});
        let (_, quote) = post(&address, "/v1/quotes", &quoted).await;
        let mut one = quoted;
        one["body"]["n"] = json!(1);
        let (_, one) = post(&address, "/v1/quotes", &one).await;
        assert_eq!(
            (&quote["answers"], &one["answers"]),
            (&json!(answers), &json!(1))
        );
        let nano =
            |quote: &Value, name: &str| quote[name].as_str().unwrap().parse::<u64>().unwrap();
        for name in ["cost_min_nano", "cost_estimate_nano", "cost_max_nano"] {
            assert_eq!(nano(&quote, name), answers * nano(&one, name), "{name}");
        }
        for name in [
            "prompt_tokens",
            "completion_tokens_max",
            "completion_tokens_estimate",
        ] {
            let tokens = |quote: &Value| quote[name].as_u64().unwrap();
            assert_eq!(tokens(&quote), answers * tokens(&one), "{name}");
        }
        let (status, answer) = post(&address, path, &body).await;
        assert_eq!(status, 200, "{answer}");
        let cost = answer["x_job"]["cost"]["amount"].as_str().unwrap();
        let bounds = nano(&quote, "cost_min_nano")..=nano(&quote, "cost_max_nano");
        assert!(bounds.contains(&cost.parse().unwrap()), "{cost} in {quote}");
        assert_eq!(answer["usage"]["prompt_tokens"], quote["prompt_tokens"]);
        let choices = answer["choices"].as_array().unwrap();
        let indices: Vec<u64> = choices
            .iter()
            .filter_map(|one| one["index"].as_u64())
            .collect();
        assert_eq!(indices, (0..answers).collect::<Vec<u64>>());
        assert_eq!(
            answer["x_job"]["jobs"].as_array().unwrap().len() as u64,
            answers
        );
    }

    let mut streamed = raw;
    streamed["stream"] = json!(true);
    let answer = http(&address, "POST /v1/completions", &streamed.to_string()).await;
    let chunks: Vec<Value> = { super::events(&answer).into_iter() }
        .filter(|line| line != "[DONE]")
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect();
    let (last, parts) = chunks.split_last().unwrap();
    assert_eq!(last["choices"].as_array().unwrap().len(), 2, "{last}");
    assert_eq!(last["x_job"]["jobs"].as_array().unwrap().len(), 2);
    for index in 0..2 {
        assert_eq!(last["choices"][index]["index"], index);
        assert!(!last["choices"][index]["finish_reason"].is_null());
        let own = |part: &&Value| part["choices"][0]["index"] == index;
        assert!(parts.iter().any(|part| own(&part)), "{answer}");
        assert!(parts.iter().all(|part| part["id"] == last["id"]));
    }
}
