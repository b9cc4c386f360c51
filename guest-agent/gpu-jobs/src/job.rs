//! A sealed request becomes a job.

use engine::Kind;
use engine::cache::Prefix;
use engine::sampling::{Automaton, Constraints, Sampling};
use engine::scheduler::{Job, Refused, Tokens};
use wire::{ChatRequest, MeasuredWeights};

/// How the engine keeps weights that are measured as kept so.
pub fn kind(weights: MeasuredWeights) -> Kind {
    match weights {
        MeasuredWeights::F32 => Kind::F32,
        MeasuredWeights::Bf16 => Kind::Bf16,
        MeasuredWeights::Q8 => Kind::Q8,
        MeasuredWeights::Q4 => Kind::Q4,
    }
}

/// The job that a request asks for of a model with these tokens. A request without a seed is one with seed 0: whoever admits it draws one.
pub fn job(tokens: &Tokens, request: ChatRequest) -> Result<Job, Refused> {
    let sampling = Sampling {
        temperature: request.temperature,
        top_k: request.top_k,
        top_p: request.top_p,
        min_p: request.min_p,
        repetition: request.repetition,
        presence: request.presence,
        frequency: request.frequency,
        seed: request.seed.unwrap_or_default(),
        logprobs: request.logprobs,
        tokens_max: request.tokens_max,
    };
    let grammar = Some(&request.grammar).filter(|words| !words.is_empty());
    let grammar = grammar.map(|words| Automaton::parse(tokens.path, words, tokens.size));
    let grammar = grammar.transpose().map_err(|_| Refused::Unfit)?;
    let constraints = Constraints {
        bias: &request.bias,
        stops: &request.stops,
        grammar: grammar.as_ref(),
        ..Constraints::default()
    };
    let job = tokens.job(request.prompt, sampling, constraints);
    let mut job = job.map_err(|_| Refused::Unfit)?;
    job.prefix = request.prefix.map(|(handle, tokens)| Prefix {
        handle,
        tokens: tokens as usize,
    });
    Ok(job)
}
