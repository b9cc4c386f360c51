//! A loaded model in a conversation.

use std::io::Write;
use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{Context, bail};
use engine::sampling::{Constraints, Logprobs};
use engine::scheduler::{Event, Tokens, complete};
use engine::{BlockTable, EngineError, Forward, ForwardShape, Row};
use model::text::{Detokeniser, Message, Text};
use serde_json::json;

use super::Arguments;
use crate::record::{Completion, digest};

/// A decoder with what makes text of its tokens.
pub struct Speaker {
    pub decoder: Box<dyn Forward>,
    pub text: Text,
    pub tokens: Tokens,
}

/// An answer as it comes.
struct Answer {
    detokeniser: Detokeniser,
    text: String,
    tokens: Vec<u32>,
    logprobs: Vec<Logprobs>,
    /// When the first token came.
    first: Option<Instant>,
    failed: bool,
}

/// A decoder whose scores are digested.
struct Recorded<'a> {
    decoder: &'a mut dyn Forward,
    /// None: nobody wants them.
    digests: Option<Vec<String>>,
}

impl Forward for Recorded<'_> {
    fn shape(&self) -> &ForwardShape {
        self.decoder.shape()
    }

    fn forward(
        &mut self,
        rows: &[Row],
        tables: &[BlockTable],
        scores: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        self.decoder.forward(rows, tables, scores)?;
        if let Some(digests) = &mut self.digests {
            let each = scores.chunks_exact(self.decoder.shape().vocabulary);
            digests.extend(each.map(digest));
        }
        Ok(())
    }
}

impl Speaker {
    /// Completes a conversation and prints it as it comes.
    pub fn answer(
        &mut self,
        turns: &[(String, String)],
        arguments: &Arguments,
    ) -> anyhow::Result<(Completion, String)> {
        let prompt = self.prompt(turns, arguments)?;
        let constraints = Constraints {
            bias: arguments.sampling.bias(),
            ..Constraints::default()
        };
        let sampling = arguments.sampling.sampling();
        let job = { &self.tokens }.job(prompt.clone(), sampling, constraints);
        let mut answer = Answer {
            detokeniser: self.text.detokeniser()?,
            text: String::new(),
            tokens: Vec::new(),
            logprobs: Vec::new(),
            first: None,
            failed: false,
        };
        let mut recorded = Recorded {
            decoder: &mut *self.decoder,
            digests: arguments.record.is_some().then(Vec::new),
        };
        let began = Instant::now();
        let mut told = Ok(());
        complete(&mut recorded, &self.tokens, job?, &mut |event| {
            told = answer.take(event, !arguments.json);
            match told {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        let scores = recorded.digests.unwrap_or_default();
        told.context("writing to standard output")?;
        if answer.failed {
            bail!("a score is not finite: the weights do not fit the kind that they are kept in");
        }
        let rest = answer.detokeniser.finish();
        answer.say(&rest, !arguments.json)?;
        answer.end(prompt.len(), began, arguments.json)?;
        let completion = Completion {
            prompt,
            tokens: answer.tokens,
            scores,
        };
        Ok((completion, answer.text))
    }

    fn prompt(
        &self,
        turns: &[(String, String)],
        arguments: &Arguments,
    ) -> anyhow::Result<Vec<u32>> {
        let system = { arguments.system.iter() }.map(|content| ("system", content.as_str()));
        let turns = { turns.iter() }.map(|(role, content)| (role.as_str(), content.as_str()));
        let messages: Vec<_> = { system.chain(turns) }
            .map(|(role, content)| Message { role, content })
            .collect();
        let (prompt, context) = (self.text.prompt(&messages)?, self.decoder.shape().context);
        if prompt.len() >= context {
            bail!(
                "the conversation has {} tokens; --context allows {context}",
                prompt.len()
            );
        }
        Ok(prompt)
    }
}

impl Answer {
    fn take(&mut self, event: Event, aloud: bool) -> std::io::Result<()> {
        match event {
            Event::Token { token, logprobs } => {
                self.first.get_or_insert_with(Instant::now);
                self.tokens.push(token);
                self.logprobs.extend(logprobs);
                let text = self.detokeniser.push(token);
                self.say(&text, aloud)
            }
            Event::Failed => {
                self.failed = true;
                Ok(())
            }
            Event::Started { .. } | Event::Ended(_) | Event::Refused(_) => Ok(()),
        }
    }

    fn say(&mut self, text: &str, aloud: bool) -> std::io::Result<()> {
        self.text += text;
        if !aloud {
            return Ok(());
        }
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// The line of JSON, or how fast it was.
    fn end(&self, prompt_tokens: usize, began: Instant, as_json: bool) -> std::io::Result<()> {
        let (now, steps) = (Instant::now(), self.tokens.len().saturating_sub(1));
        let first = self.first.unwrap_or(now);
        let a_second = |count: usize, from: Instant, to: Instant| {
            count as f64 / (to - from).as_secs_f64().max(1e-9)
        };
        let prefill = a_second(prompt_tokens, began, first);
        let decode = a_second(steps, first, now);
        let mut stdout = std::io::stdout().lock();
        if !as_json {
            writeln!(stdout)?;
            let count = self.tokens.len();
            eprintln!(
                "engine: {prompt_tokens} tokens of prompt at {prefill:.0} a second, {count} of answer at {decode:.1} a second"
            );
            return Ok(());
        }
        let mut line = json!({
            "text": self.text, "prompt_tokens": prompt_tokens, "tokens": self.tokens,
            "prefill_tokens_per_second": prefill, "decode_tokens_per_second": decode,
        });
        if !self.logprobs.is_empty() {
            let each = { self.logprobs.iter() }
                .map(|logprobs| json!({"logprob": logprobs.chosen, "top": logprobs.top}));
            line["logprobs"] = each.collect();
        }
        writeln!(stdout, "{line}")
    }
}
