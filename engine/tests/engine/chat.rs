//! A chat model that nobody trained, as a guest serves it: how a completion begins and ends. Its arithmetic is looked at family by
//! family.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use engine::sampling::{Constraints, Sampling};
use engine::scheduler::{Event, Finish, Refused, complete};
use engine::{Memory, RequestError, Room, Served, kernels_of, weights};
use model::ModelFiles;
use model::text::{Message, Text};

/// Room for one job of `context_max` tokens.
pub fn room(context_max: usize) -> Room {
    Room {
        kv_bytes: None,
        context_max,
        weights: None,
    }
}

/// Loads as a guest does, with two threads.
pub fn serve(
    files: &ModelFiles,
    room: &Room,
    memory: &Memory,
) -> Result<Served, engine::EngineError> {
    let kernels = kernels_of(Some(2)).expect("two threads");
    Served::load(files, Arc::new(kernels), room, memory)
}

fn directory() -> PathBuf {
    let models = random_model::models(env!("CARGO_TARGET_TMPDIR"), "random-model");
    models.expect("the model is written").join("random-model")
}

const CONTEXT: usize = 512;

/// Loaded once, with what makes text of its tokens.
pub fn model() -> &'static (Mutex<Served>, Text) {
    static MODEL: OnceLock<(Mutex<Served>, Text)> = OnceLock::new();
    MODEL.get_or_init(|| {
        let files = weights::read(&directory()).expect("the model is whole");
        let served = serve(&files, &room(CONTEXT), &Memory::available()).expect("the model loads");
        let text = Text::of_chat(&files).expect("the model chats");
        (Mutex::new(served), text)
    })
}

#[derive(Debug, PartialEq)]
struct Answer {
    text: String,
    tokens: Vec<u32>,
    finish: Finish,
}

/// A completion, of which `tokens_max` are heard before it is broken off.
fn generate(prompt: &[u32], sampling: Sampling, heard: usize) -> Result<Answer, Refused> {
    let (served, text) = model();
    let served = &mut *served.lock().expect("no test fails while it computes");
    let job = { &served.tokens }.job(prompt.to_vec(), sampling, Constraints::default());
    let (mut tokens, mut finish) = (Vec::new(), None);
    let job = job.expect("the options are in range");
    complete(&mut *served.forward, &served.tokens, job, &mut |event| {
        match event {
            Event::Started { .. } => {}
            Event::Token { token, .. } => tokens.push(token),
            Event::Ended(why) => finish = Some(why),
            other => panic!("{other:?}"),
        }
        match tokens.len() < heard {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    Ok(Answer {
        text: text.decode(&tokens).expect("decodes"),
        tokens,
        finish: finish.expect("it ends"),
    })
}

pub fn prompt(question: &str) -> Vec<u32> {
    let message = Message {
        role: "user",
        content: question,
    };
    model().1.prompt(&[message]).expect("the question is fine")
}

fn answer(question: &str, sampling: Sampling) -> Answer {
    generate(&prompt(question), sampling, usize::MAX).expect("it fits")
}

fn warm(temperature: f32, tokens_max: u32, seed: u64) -> Sampling {
    Sampling {
        temperature,
        top_p: 0.95,
        seed,
        ..Sampling::greedy(tokens_max)
    }
}

#[test]
fn the_likeliest_answer_is_the_one_that_its_makers_know() {
    for question in ["Hello", "What is Chrysalis?", "Zażółć 🦋"] {
        let generated = answer(question, Sampling::greedy(64));
        assert_eq!(generated.text, random_model::ANSWER.concat());
        assert_eq!(generated.tokens, random_model::answer());
        assert_eq!(generated.finish, Finish::Stop);
    }
    assert_eq!(prompt("Hello"), random_model::prompt("Hello"));
}

#[test]
fn same_seed_same_text_and_other_seeds_other_texts() {
    let first = answer("Tell me a story.", warm(1.2, 40, 7));
    assert_eq!(first, answer("Tell me a story.", warm(1.2, 40, 7)));
    let others: Vec<_> = (0..8)
        .map(|seed| answer("Qwerty uiop", warm(1.2, 40, seed)).text)
        .collect();
    assert!(others.iter().any(|text| *text != others[0]));
}

#[test]
fn steps_add_up_to_the_answer() {
    for question in ["What is TDX?", "Zażółć 🦋"] {
        let generated = answer(question, warm(2.0, 200, 7));
        let mut detokeniser = model().1.detokeniser().expect("the model chats");
        let text = { generated.tokens.iter() }.map(|token| detokeniser.push(*token));
        let text = text.collect::<String>() + &detokeniser.finish();
        assert_eq!(text, generated.text);
    }
}

#[test]
fn text_is_what_the_tokenizer_decodes() {
    let tokenizer =
        tokenizers::Tokenizer::from_file(directory().join("tokenizer.json")).expect("reads");
    for seed in 0..6 {
        let all = answer("🦋🦋🦋", warm(2.0, 120, seed));
        let decoded = tokenizer.decode(&all.tokens, true);
        assert_eq!(all.text, decoded.expect("decodes"));
    }
}

#[test]
fn the_end_token_counts_and_a_limit_or_a_caller_ends_early() {
    let whole = answer("Hello", Sampling::greedy(64));
    assert_eq!(whole.finish, Finish::Stop);
    let cut = answer("Hello", Sampling::greedy(3));
    assert_eq!(
        (cut.finish, &cut.tokens[..]),
        (Finish::Length, &whole.tokens[..3])
    );
    let broken = generate(&prompt("Hello"), Sampling::greedy(64), 1).expect("it fits");
    assert_eq!((broken.finish, broken.tokens.len()), (Finish::Cancelled, 1));
}

#[test]
fn prompts_out_of_bounds_are_refused_also_a_million_tokens() {
    let refused = |prompt: &[u32]| match generate(prompt, Sampling::greedy(1), usize::MAX) {
        Err(Refused::Request(error)) => error,
        other => panic!("accepted: {other:?}"),
    };
    assert_eq!(refused(&[]), RequestError::PromptEmpty);
    assert!(matches!(
        refused(&[u32::MAX]),
        RequestError::TokenUnknown { .. }
    ));
    for tokens in [CONTEXT, 1_000_000] {
        let error = RequestError::PromptTooLong {
            tokens,
            tokens_max: CONTEXT - 1,
        };
        assert_eq!(refused(&vec![5; tokens]), error);
        // What it would end with makes no difference.
        assert_eq!(refused(&vec![u32::MAX; tokens]), error);
    }
}

#[test]
fn a_completion_ends_where_the_context_ends() {
    let almost = vec![5; CONTEXT - 3];
    let generated = generate(&almost, warm(2.0, 4000, 1), usize::MAX).expect("it fits");
    assert!(generated.tokens.len() <= 3);
    assert!(generated.finish == Finish::Stop || generated.tokens.len() == 3);
}

#[test]
fn models_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<engine::scheduler::Driver>();
    shared::<engine::Embedder>();
    shared::<Text>();
    shared::<ModelFiles>();
}
