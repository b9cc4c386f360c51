//! A sampler that sorts. It has no secrets and no speed.

use kernels::sampling::Sampling;

/// What is sampled from.
#[derive(Clone, Copy)]
pub struct Reference<'a> {
    pub scores: &'a [f32],
    pub prompt: &'a [u32],
    pub completion: &'a [u32],
    pub bias: &'a [(u32, f32)],
    pub allowed: &'a dyn Fn(u32) -> bool,
}

impl Reference<'_> {
    /// Of each token; 0 for one that is not considered.
    pub fn probabilities(&self, sampling: &Sampling) -> Vec<f64> {
        let mut sorted = self.sorted(sampling);
        let top = sorted[0].1;
        for (_, score) in &mut sorted {
            *score = ((*score - top) / f64::from(sampling.temperature)).exp();
        }
        if sampling.top_k > 0 {
            sorted.truncate(sampling.top_k as usize);
        }
        let nucleus = f64::from(sampling.top_p) * sorted.iter().map(|(_, p)| p).sum::<f64>();
        let mut mass = 0.0;
        sorted.retain(|(_, p)| {
            let kept = mass < nucleus;
            mass += p;
            kept
        });
        sorted.retain(|(_, p)| *p >= f64::from(sampling.min_p));
        let total: f64 = sorted.iter().map(|(_, p)| p).sum();
        let mut probabilities = vec![0.0; self.scores.len()];
        for (token, p) in sorted {
            probabilities[token as usize] = p / total;
        }
        probabilities
    }

    /// The best token.
    pub fn best(&self, sampling: &Sampling) -> u32 {
        self.sorted(sampling)[0].0
    }

    /// Every token with the logarithm of its probability before any option, the likeliest first.
    pub fn logprobs(&self) -> Vec<(u32, f64)> {
        let mut sorted = self.sorted(&Sampling::greedy(1));
        let total: f64 = sorted.iter().map(|(_, score)| score.exp()).sum();
        sorted
            .iter_mut()
            .for_each(|(_, score)| *score -= total.ln());
        sorted
    }

    fn sorted(&self, sampling: &Sampling) -> Vec<(u32, f64)> {
        let mut scores: Vec<_> = (0u32..)
            .zip(self.scores)
            .filter(|(token, _)| (self.allowed)(*token))
            .map(|(token, score)| (token, self.adjusted(sampling, token, *score)))
            .collect();
        scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        scores
    }

    fn adjusted(&self, sampling: &Sampling, token: u32, score: f32) -> f64 {
        let bias = self.bias.iter().find(|(biased, _)| *biased == token);
        let mut score = f64::from(score) + bias.map_or(0.0, |(_, bias)| f64::from(*bias));
        let times = self
            .completion
            .iter()
            .filter(|seen| **seen == token)
            .count();
        if times > 0 || (self.prompt.contains(&token) && sampling.repetition != 1.0) {
            let repetition = f64::from(sampling.repetition);
            score = if score > 0.0 {
                score / repetition
            } else {
                score * repetition
            };
        }
        if times > 0 {
            score -= f64::from(sampling.presence);
        }
        score - times as f64 * f64::from(sampling.frequency)
    }
}
