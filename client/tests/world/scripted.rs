//! A scripted engine: it computes nothing and says what a test wrote down. Everything around it is as for any other guest:
//! the test's root of trust, sealed token ids, records, a receipt and its charge. Model, quantisation and receipt say
//! `scripted`.

use super::Guest;
use super::words::{END, Words};
use model::text::Text;
use std::sync::Mutex;
use wire::{AnswerWriter, ChatRequest, Finish, RecordBytes, Usage};

/// The chat model, with a context of 64k tokens.
pub const SCRIPTED: &str = "scripted-64k";
/// Its embedder; each text gets the same vector.
pub const SCRIPTED_EMBEDDER: &str = "scripted-embedder";

/// One line of a script.
struct Rule {
    /// It is said where the prompt has this text; an empty one is in every prompt.
    when: String,
    says: String,
}

/// What an engine says: the first rule that fits a prompt.
pub struct Script {
    rules: Vec<Rule>,
    text: Text,
    end: u32,
    prompts: Mutex<Vec<String>>,
}

impl Script {
    /// Pairs of a text in the prompt, where an empty one is in every prompt, and what is said to it.
    pub fn of(rules: &[(&str, &str)]) -> Self {
        let words = Words::any();
        let text = Text::parse(words.tokenizer.as_bytes(), Some(words.template.as_bytes()));
        let text = text.unwrap();
        let end = text.to_tokens(END).unwrap();
        let [end] = end[..] else {
            panic!("{END} is one token");
        };
        let rules = rules.iter().map(|(when, says)| Rule {
            when: (*when).into(),
            says: (*says).into(),
        });
        Script {
            rules: rules.collect(),
            text,
            end,
            prompts: Mutex::default(),
        }
    }

    /// What receipts say of the engine.
    pub fn engine(&self) -> &'static str {
        "scripted (simulated)"
    }

    /// The tokens that are said to a prompt.
    fn tokens(&self, prompt: &[u32]) -> Vec<u32> {
        let prompt = self.text.decode(prompt).unwrap();
        let rule = self.rules.iter().find(|rule| prompt.contains(&rule.when));
        let says = rule.map_or("The script has no line for this.", |rule| &rule.says);
        let mut tokens = self.text.to_tokens(says).unwrap();
        tokens.push(self.end);
        self.prompts.lock().unwrap().push(prompt);
        tokens
    }
}

impl Guest {
    /// The prompts that a script answered so far.
    pub fn prompts(&self) -> Vec<String> {
        let script = self.script.as_ref();
        script.map_or_else(Vec::new, |script| script.prompts.lock().unwrap().clone())
    }

    /// A completion out of the script, as long as it may be.
    pub(super) fn scripted(
        &self,
        script: &Script,
        chat: &ChatRequest,
        writer: &mut AnswerWriter,
    ) -> (Vec<RecordBytes>, Usage, Finish) {
        let mut ids = script.tokens(&chat.prompt);
        let finish = match ids.len() > chat.tokens_max as usize {
            true => Finish::Length,
            false => Finish::Stop,
        };
        ids.truncate(chat.tokens_max as usize);
        let usage = Usage {
            prompt: chat.prompt.len() as u32,
            cached: 0,
            completion: ids.len() as u32,
        };
        let mut records = vec![writer.empty()];
        let mut parts = ids.chunks(7).peekable();
        while let Some(part) = parts.next() {
            let end = parts.peek().is_none().then_some(finish);
            records.push(writer.ids(part, end));
        }
        (records, usage, finish)
    }
}
