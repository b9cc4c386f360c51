//! `/v1/rerank`: documents by how well they answer the query.

use super::{Shape, only};
use crate::client::Answer;
use crate::objects::x_job;
use serde_json::{Value, json};

/// `/v1/rerank`
pub(crate) struct Rerank {
    /// Results at most.
    pub(crate) top_n: Option<usize>,
    /// What is sent back beside each score.
    pub(crate) documents: Option<Vec<String>>,
}

impl Shape for Rerank {
    // Scores come whole.
    fn event(&mut self, _chunk: &Value) -> String {
        String::new()
    }

    fn end(&mut self, answers: &[Answer]) -> String {
        format!("data: {}\n\n", self.whole(answers))
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let answer = only(answers);
        let made = answer.events.first().unwrap_or(&Value::Null);
        let scores = made["scores"].as_array().into_iter().flatten();
        let scores = scores.map(|score| score.as_f64().unwrap_or_default());
        let results = ranked(scores.collect()).into_iter();
        let results = results.take(self.top_n.unwrap_or(usize::MAX));
        let results = results.map(|(index, score)| {
            let mut result = json!({"index": index, "relevance_score": relevance(score)});
            if let Some(text) = { self.documents.as_ref() }.and_then(|all| all.get(index)) {
                result["document"] = json!({ "text": text });
            }
            result
        });
        let prompt = answer.usage.prompt;
        json!({
            "id": made["id"],
            "object": "list",
            "model": made["model"],
            "results": results.collect::<Vec<_>>(),
            "usage": {"prompt_tokens": prompt, "total_tokens": prompt},
            "x_job": x_job(answer),
        })
    }
}

/// Places and scores, the best first; equal ones in the order in which they were sent.
fn ranked(scores: Vec<f64>) -> Vec<(usize, f64)> {
    let mut ranked: Vec<_> = scores.into_iter().enumerate().collect();
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    ranked
}

/// The sigmoid of a score: from 0 to 1, in the same order.
fn relevance(score: f64) -> f64 {
    1.0 / (1.0 + (-score).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_comes_first_and_equals_keep_their_order() {
        let scores = vec![-1.5, 2.0, 0.0, 2.0, -70.0];
        let places: Vec<usize> = ranked(scores).iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [1, 3, 2, 0, 4]);
        assert_eq!(relevance(0.0), 0.5);
        assert!(relevance(-70.0) > 0.0 && relevance(700.0) <= 1.0);
        assert!((relevance(1.0) + relevance(-1.0) - 1.0).abs() < 1e-15);
    }
}
