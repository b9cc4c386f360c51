//! A model that nobody trained answers in the form that it is held to: what `model` compiles, `kernels` reads and follows.

use std::ops::ControlFlow;

use crate::chat::{model, prompt};
use engine::sampling::{Automaton, Constraints, Sampling};
use engine::scheduler::{Event, complete};
use model::text::Json;
use model::text::form::{Form, Grammar};

/// The text of a completion under a grammar, and its tokens.
fn answer(grammar: &Grammar, seed: u64) -> (String, Vec<u32>) {
    let (served, text) = model();
    let served = &mut *served.lock().expect("no test fails while it computes");
    let tokens = &served.tokens;
    let automaton = Automaton::parse(tokens.path, &grammar.words(), tokens.size);
    let automaton = automaton.expect("what is compiled is an automaton");
    let constraints = Constraints {
        grammar: Some(&automaton),
        ..Constraints::default()
    };
    let sampling = Sampling {
        temperature: 1.0,
        seed,
        ..Sampling::greedy(300)
    };
    let job = tokens.job(prompt("Which?"), sampling, constraints);
    let mut made = Vec::new();
    complete(
        &mut *served.forward,
        &served.tokens,
        job.expect("in range"),
        &mut |event| {
            if let Event::Token { token, .. } = event {
                made.push(token);
            }
            ControlFlow::Continue(())
        },
    )
    .expect("it fits");
    (text.decode(&made).expect("decodes"), made)
}

#[test]
fn an_untrained_model_answers_json_that_satisfies_the_schema() {
    let schema = r#"{"type": "object", "properties": {"city": {"type": "string", "maxLength": 12},
        "count": {"type": "integer", "minimum": 3, "maximum": 117}, "kind": {"enum": ["one", "other"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}}, "required": ["city", "count", "kind", "tags"]}"#;
    let schema = Json::parse(schema).expect("is JSON");
    let text = &model().1;
    let grammar = text
        .grammar(&Form::Schema(&schema), "schema")
        .expect("fits");
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..6 {
        let (said, made) = answer(&grammar, seed);
        assert_eq!(grammar.check(&made), Ok(()), "{said}");
        assert_eq!(text.check_completion(&made), Ok(()));
        let value: serde_json::Value = serde_json::from_str(&said).expect(&said);
        let city = value["city"].as_str().expect(&said);
        assert!(city.chars().count() <= 12, "{said}");
        assert!((3..=117).contains(&value["count"].as_i64().expect(&said)));
        assert!(value["kind"] == "one" || value["kind"] == "other", "{said}");
        let tags = value["tags"].as_array().expect(&said);
        assert!(
            tags.len() <= 3 && tags.iter().all(|tag| tag.is_boolean()),
            "{said}"
        );
        seen.insert(said);
    }
    assert!(seen.len() > 3, "at temperature 1 it strays: {seen:?}");
}

#[test]
fn without_the_grammar_the_same_model_answers_otherwise() {
    let text = &model().1;
    let grammar = text
        .grammar(&Form::Regex("[a-c]{4}"), "regex")
        .expect("fits");
    let (said, made) = answer(&grammar, 1);
    assert!(
        said.len() == 4 && said.bytes().all(|byte| (b'a'..=b'c').contains(&byte)),
        "{said}"
    );
    assert_eq!(made.len(), 5, "and the end token");
    assert!(grammar.check(&random_model::answer()).is_err());
}
