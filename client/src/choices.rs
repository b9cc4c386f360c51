//! Several answers to one request (`n`): a job for each, with a receipt and a price of its own, joined to one answer.

use crate::ask::Ask;
use crate::client::{Answer, Client, Sink};
use crate::error::ClientError;
use crate::openai;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};
use wire::Endpoint;

impl Client {
    /// As many answers as the body asks for, in order. Their jobs run beside each other, as far as deposit and worker allow; if one
    /// fails, the others are cancelled, and what was made of them is paid. Events arrive in any order, each with the `index` of its
    /// answer and the id of the first. With a `seed`, each answer has the one after that of the answer before.
    pub async fn ask_all(
        &self,
        endpoint: Endpoint,
        body: &Value,
        sink: Sink<'_>,
    ) -> Result<Vec<Answer>, ClientError> {
        let bodies = bodies(endpoint, body)?;
        if let [body] = bodies.as_slice() {
            return Ok(vec![self.ask(endpoint, body, sink).await?]);
        }
        let joined = Mutex::new(Joined { sink, id: None });
        let jobs = bodies.iter().enumerate().map(|(index, body)| {
            let joined = &joined;
            async move {
                let mut sink = |event: &Value| {
                    let joined = joined.lock();
                    joined
                        .unwrap_or_else(PoisonError::into_inner)
                        .take(index, event);
                };
                self.ask(endpoint, body, &mut sink).await
            }
        });
        let mut answers = try_join_all(jobs).await?;
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

/// A body for each answer.
fn bodies(endpoint: Endpoint, body: &Value) -> Result<Vec<Value>, ClientError> {
    let Ask::Chat(asked) = openai::parse(endpoint, body)?.ask else {
        return Ok(vec![body.clone()]);
    };
    let bodies = (0..asked.choices).map(|index| {
        let mut body = body.clone();
        if asked.choices != 1 {
            body["n"] = json!(1);
            if let Some(seed) = asked.seed {
                body["seed"] = json!(seed.wrapping_add(index.into()));
            }
        }
        body
    });
    Ok(bodies.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_a_body_and_a_seed_of_its_own() {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "n": 3, "seed": u64::MAX});
        let made = bodies(Endpoint::Chat, &body).unwrap();
        let seeds: Vec<_> = made.iter().map(|body| body["seed"].as_u64()).collect();
        assert_eq!(seeds, [Some(u64::MAX), Some(0), Some(1)]);
        assert!(made.iter().all(|body| body["n"] == 1));
        body.as_object_mut().unwrap().remove("seed");
        let made = bodies(Endpoint::Chat, &body).unwrap();
        assert!(made.iter().all(|body| body.get("seed").is_none()));
        body["n"] = json!(1);
        assert_eq!(bodies(Endpoint::Chat, &body), Ok(vec![body.clone()]));
    }
}
