//! A chat model that nobody trained: how a completion begins and ends. Its arithmetic is looked at family by family.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::OnceLock;

use engine::{Chat, EngineError, Finish, RequestError, Sampling, Step, weights};
use model::text::{Message, Text};

fn directory() -> PathBuf {
    let models = random_model::models(env!("CARGO_TARGET_TMPDIR"), "random-model");
    models.expect("the model is written").join("random-model")
}

fn model() -> &'static (Chat, Text) {
    static MODEL: OnceLock<(Chat, Text)> = OnceLock::new();
    MODEL.get_or_init(|| {
        let files = weights::read(&directory()).expect("the model is whole");
        let chat = Chat::load(&files).expect("the model loads");
        (chat, Text::of_chat(&files).expect("the model chats"))
    })
}

fn chat() -> &'static Chat {
    &model().0
}

#[derive(Debug, PartialEq)]
struct Answer {
    text: String,
    tokens: Vec<u32>,
    finish: Finish,
}

fn prompt(question: &str) -> Vec<u32> {
    let message = Message {
        role: "user",
        content: question,
    };
    model().1.prompt(&[message]).expect("the question is fine")
}

fn answer(question: &str, sampling: &Sampling) -> Answer {
    let generated = chat().generate(&prompt(question), sampling, &mut |_| {
        ControlFlow::Continue(())
    });
    let generated = generated.expect("generation works");
    Answer {
        text: model().1.decode(&generated.tokens).expect("decodes"),
        tokens: generated.tokens,
        finish: generated.finish,
    }
}

fn largest_difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let differences = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

const WARM: Sampling = Sampling {
    temperature: 1.2,
    top_p: 0.95,
    seed: 7,
    tokens_max: 40,
};

#[test]
fn the_likeliest_answer_is_the_one_that_its_makers_know() {
    for question in ["Hello", "What is Chrysalis?", "Zażółć 🦋"] {
        let generated = answer(question, &Sampling::greedy(64));
        assert_eq!(generated.text, random_model::ANSWER.concat());
        assert_eq!(generated.tokens, random_model::answer());
        assert_eq!(generated.finish, Finish::Stop);
    }
    assert_eq!(prompt("Hello"), random_model::prompt("Hello"));
}

#[test]
fn scores_over_the_cache_are_those_of_the_whole_prompt() {
    let long = prompt(&"What does Chrysalis prove? ".repeat(12));
    assert!(long.len() > engine::chat::CHUNK / 2);
    let [whole, stepped] = chat().scores(&long).expect("scores");
    assert_eq!(whole.len(), stepped.len());
    let worst = whole
        .iter()
        .zip(&stepped)
        .map(|(a, b)| largest_difference(a, b));
    let worst = worst.fold(0.0, f32::max);
    println!("largest difference {worst:e}");
    assert!(worst <= 1e-4, "{worst:e}");
}

#[test]
fn same_seed_same_text_and_other_seeds_other_texts() {
    let first = answer("Tell me a story.", &WARM);
    assert_eq!(first, answer("Tell me a story.", &WARM));
    let others: Vec<_> = (0..8)
        .map(|seed| answer("Qwerty uiop", &Sampling { seed, ..WARM }).text)
        .collect();
    assert!(others.iter().any(|text| *text != others[0]));
}

#[test]
fn steps_add_up_to_the_answer() {
    for question in ["What is TDX?", "Zażółć 🦋"] {
        let (mut text, mut tokens) = (String::new(), Vec::new());
        let mut detokeniser = model().1.detokeniser().expect("the model chats");
        let mut collect = |step: Step| {
            text += &detokeniser.push(step.token);
            tokens.push(step.token);
            ControlFlow::Continue(())
        };
        let sampling = Sampling {
            temperature: 2.0,
            tokens_max: 200,
            ..WARM
        };
        let all = chat().generate(&prompt(question), &sampling, &mut collect);
        let all = all.expect("generation works").tokens;
        text += &detokeniser.finish();
        assert_eq!((Ok(text), &tokens), (model().1.decode(&all), &all));
    }
}

#[test]
fn text_is_what_the_tokenizer_decodes() {
    let tokenizer =
        tokenizers::Tokenizer::from_file(directory().join("tokenizer.json")).expect("reads");
    let hot = Sampling {
        temperature: 2.0,
        top_p: 1.0,
        tokens_max: 120,
        ..WARM
    };
    for seed in 0..6 {
        let all = answer("🦋🦋🦋", &Sampling { seed, ..hot });
        assert_eq!(
            all.text,
            tokenizer.decode(&all.tokens, true).expect("decodes")
        );
    }
}

#[test]
fn the_end_token_counts_and_a_limit_or_a_caller_ends_early() {
    let whole = answer("Hello", &Sampling::greedy(64));
    assert_eq!(whole.finish, Finish::Stop);
    let cut = answer("Hello", &Sampling::greedy(3));
    assert_eq!(
        (cut.finish, &cut.tokens[..]),
        (Finish::Length, &whole.tokens[..3])
    );
    let broken = chat().generate(&prompt("Hello"), &Sampling::greedy(64), &mut |_| {
        ControlFlow::Break(())
    });
    let broken = broken.expect("generation works");
    assert_eq!((broken.finish, broken.tokens.len()), (Finish::Cancelled, 1));
}

#[test]
fn requests_out_of_bounds_are_refused() {
    let context_max = chat().context_max();
    let full = prompt(&"word ".repeat(context_max));
    assert_eq!(
        chat().check_prompt(&full),
        Err(RequestError::PromptTooLong {
            tokens: full.len(),
            tokens_max: context_max - 1
        })
    );

    let generate = |prompt: &[u32], sampling| {
        let never = &mut |_: Step| panic!("nothing is generated");
        match chat().generate(prompt, &sampling, never) {
            Err(EngineError::Request(error)) => error,
            other => panic!("accepted: {other:?}"),
        }
    };
    let greedy = Sampling::greedy(1);
    assert_eq!(generate(&[], greedy), RequestError::PromptEmpty);
    assert!(matches!(
        generate(&[u32::MAX], greedy),
        RequestError::TokenUnknown { .. }
    ));
    assert!(matches!(
        generate(&vec![5; context_max], greedy),
        RequestError::PromptTooLong { .. }
    ));
    let bad = Sampling {
        top_p: 2.0,
        ..greedy
    };
    assert_eq!(generate(&[5], bad), RequestError::Sampling("top_p"));
}

#[test]
fn a_completion_ends_where_the_context_ends() {
    let context_max = chat().context_max();
    let hot = Sampling {
        temperature: 2.0,
        top_p: 1.0,
        seed: 1,
        tokens_max: 4000,
    };
    let almost = vec![5; context_max - 3];
    let generated = chat().generate(&almost, &hot, &mut |_| ControlFlow::Continue(()));
    let generated = generated.expect("generation works");
    assert!(generated.tokens.len() <= 3);
    assert!(generated.finish == Finish::Stop || generated.tokens.len() == 3);
}

#[test]
fn models_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Chat>();
    shared::<engine::Embedder>();
    shared::<Text>();
    shared::<model::ModelFiles>();
}
