//! SmolLM2-135M-Instruct as it comes: one GGUF, and the small files that the builder makes of it. Where it is absent these tests say
//! so and pass, unless `CI=true`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use crate::chat::{room, serve};
use engine::sampling::{Constraints, Sampling};
use engine::scheduler::{Event, complete};
use engine::{Memory, weights};
use model::File;
use model::text::{Message, Text};

/// The model's directory, or `None` after saying that the test is skipped.
pub fn directory() -> Option<PathBuf> {
    let cache = || {
        std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .map(|cache| cache.join("chrysalis/models"))
    };
    let models = std::env::var_os("CHRYSALIS_MODELS").map(PathBuf::from);
    let directory = models.or_else(cache)?.join("SmolLM2-135M-Instruct");
    if directory.join(File::Gguf.name()).is_file() {
        return Some(directory);
    }
    let why = "`image-builder fetch` fetches it";
    without::skip("the model SmolLM2-135M-Instruct", why);
    None
}

#[test]
fn it_answers_from_its_gguf() {
    let Some(directory) = directory() else { return };
    let files = weights::read(&directory).expect("the store holds whole models");
    let served = serve(&files, &room(2048), &Memory::available());
    let (mut served, text) = (
        served.expect("loads"),
        Text::of_chat(&files).expect("chats"),
    );
    let question = Message {
        role: "user",
        content: "What is the capital of France?",
    };
    let prompt = text.prompt(&[question]).expect("the question is fine");
    assert_eq!(prompt.len(), 37, "with the template's own system message");
    let job = { &served.tokens }.job(prompt, Sampling::greedy(24), Constraints::default());
    let (mut tokens, job) = (Vec::new(), job.expect("greedy"));
    let done = complete(&mut *served.forward, &served.tokens, job, &mut |event| {
        if let Event::Token { token, .. } = event {
            tokens.push(token);
        }
        ControlFlow::Continue(())
    });
    done.expect("it fits");
    let said = text.decode(&tokens).expect("decodes");
    // What it says depends on near ties; that it is text, and one that a guest may send, does not.
    assert!(said.len() > 10, "{said}");
    assert_eq!(text.check_completion(&tokens), Ok(()), "{said}");
}
