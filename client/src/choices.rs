//! Several answers to one request (`n`): a job for each, with a receipt and a price of its own, joined to one answer.

use crate::ask::Ask;
use crate::budget::Spender;
use crate::client::{Answer, Client, Sink};
use crate::error::{ClientError, Executed};
use crate::limits::CHOICES_MAX;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

impl Client {
    /// As many answers as are asked for, at least one, in order. Their jobs run beside each other, what all may cost is set aside
    /// before the first is sent; if one fails, the others are cancelled, and what was made of them is paid. Events arrive in any order, each
    /// with the `index` of its answer and the id of the first. An error says that nothing ran only if no other job may have run.
    pub async fn answers(
        &self,
        ask: &Ask,
        spender: &Spender,
        sink: Sink<'_>,
    ) -> Result<Vec<Answer>, ClientError> {
        match ask.choices() {
            1 => return Ok(vec![self.answer(ask, spender, sink).await?]),
            2..=CHOICES_MAX => {}
            other => {
                return Err(ClientError::Request {
                    param: Some("n".into()),
                    message: format!("`n` is {other}; 1 to {CHOICES_MAX} is allowed"),
                });
            }
        }
        // All of them or none: no answer is paid for that stays alone because there was no money for the next.
        let held = self.reserve_answers(ask, spender).await?;
        let each = ask.each();
        let joined = Mutex::new(Joined { sink, id: None });
        let begun: Vec<AtomicBool> = each.iter().map(|_| AtomicBool::default()).collect();
        let jobs = each.iter().zip(&begun).zip(held).enumerate();
        let jobs = jobs.map(|(index, ((ask, own), held))| {
            let joined = &joined;
            async move {
                let mut sink = |event: &Value| {
                    let joined = joined.lock();
                    joined
                        .unwrap_or_else(PoisonError::into_inner)
                        .take(index, event);
                };
                let answer = self.answer_noting(ask, spender, &mut sink, own, Some(held));
                answer.await.map_err(|error| (index, error))
            }
        });
        let mut answers = { try_join_all(jobs).await }.map_err(|(index, error)| {
            let mut others = begun
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index);
            let others = others.any(|(_, begun)| begun.load(Ordering::Relaxed));
            match others && error.executed() == Executed::No {
                true => ClientError::OneOfSeveral(Box::new(error)),
                false => error,
            }
        })?;
        let joined = joined.into_inner();
        let id = joined.unwrap_or_else(PoisonError::into_inner).id;
        for (index, answer) in answers.iter_mut().enumerate() {
            answer
                .events
                .iter_mut()
                .for_each(|event| mark(event, index, &id));
        }
        Ok(answers)
    }
}

/// Where the events of all answers go.
struct Joined<'a> {
    sink: Sink<'a>,
    id: Option<Value>,
}

impl Joined<'_> {
    fn take(&mut self, index: usize, event: &Value) {
        let mut event = event.clone();
        self.id.get_or_insert_with(|| event["id"].clone());
        mark(&mut event, index, &self.id);
        (self.sink)(&event);
    }
}

fn mark(event: &mut Value, index: usize, id: &Option<Value>) {
    event["choices"][0]["index"] = json!(index);
    if let Some(id) = id {
        event["id"] = id.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::{Conversation, Prompt};

    #[test]
    fn each_answer_has_a_request_and_a_seed_of_its_own() {
        let mut asked = Conversation::new("m".into(), Vec::new());
        asked.choices = 3;
        asked.seed = Some(u64::MAX);
        let seeds = |ask: Ask| {
            let seeds = ask.each().into_iter().map(|one| match one {
                Ask::Chat(one) | Ask::Raw(_, one) if one.choices == 1 => one.seed,
                other => panic!("{other:?}"),
            });
            seeds.collect::<Vec<_>>()
        };
        let counted = [Some(u64::MAX), Some(0), Some(1)];
        assert_eq!(seeds(Ask::Chat(asked.clone())), counted);
        let prompt = Prompt::Text("a".into());
        assert_eq!(seeds(Ask::Raw(prompt, asked.clone())), counted);
        asked.seed = None;
        assert_eq!(seeds(Ask::Chat(asked.clone())), [None; 3]);
        asked.choices = 1;
        assert_eq!(Ask::Chat(asked.clone()).each(), [Ask::Chat(asked)]);
    }
}
