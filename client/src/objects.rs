//! What the program says of verified answers and workers, as JSON: for the OpenAI API and for `--json`.

use crate::attestation::Attestation;
use crate::chain::RegistrySeen;
use crate::client::Answer;
use crate::openai::{Delivery, calls, logprobs, thought};
use crate::vectors::Looked;

use attest::RootClass;
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use settlement::Nano;

/// The unit of all amounts here.
pub(crate) const CURRENCY: &str = "nanoTON";

/// Whose root stands behind a quote.
pub(crate) fn root_words(root: RootClass) -> &'static str {
    match root {
        RootClass::Intel => "Intel's root",
        RootClass::InsecureTest => "an insecure test root: simulated, not confidential",
    }
}

/// What was verified of a worker, and the registry that allows it, if one is configured.
pub(crate) fn attestation_object(
    attestation: &Attestation,
    registry: Option<&RegistrySeen>,
) -> Value {
    let registry = registry.map(|seen| {
        json!({
            "address": seen.address.to_string(), "version": seen.version, "age_s": seen.age_s(),
            "image_not_after": seen.image_not_after,
        })
    });
    let worker = attestation.worker();
    let (peer, keyset) = (worker.peer(), worker.keyset());
    let models = keyset.models.iter();
    let models: Vec<Value> = models
        .map(|m| json!({"id": m.id, "root": m.root.to_string(), "tokenizer": m.tokenizer.to_string()}))
        .collect();
    json!({
        "verified": true,
        "root": peer.root.to_string(),
        // Verification refuses a quote whose registers are not exactly the manifest's.
        "registers_match": true,
        "profile": keyset.profile,
        "tcb_status": peer.tcb_status.to_string(),
        "tcb_evaluation_number": peer.tcb_evaluation_number,
        "registers": peer.registers,
        "keyset": worker.keyset_digest().to_string(),
        "lifetime_s": keyset.lifetime_s,
        "receipt_key": hex::encode(keyset.receipt_key),
        "payee": keyset.payee.to_string(),
        "chain": keyset.chain.0,
        "models": models,
        "platform": {"ppid": hex::encode(&peer.ppid), "seen": attestation.platform().as_str()},
        // None is configured where it is null: nobody was asked what is revoked.
        "registry": registry,
        "nonce": hex::encode(attestation.nonce()),
        "quote_digest": hex::encode(peer.quote_digest),
        "verified_at_unix_s": attestation.verified_at_unix_s(),
        // A file that `measurements bundle verify` reads.
        "bundle": hex::encode(attestation.bundle()),
    })
}

/// What ends a stream: for each answer the chunk that says why it ended, with what is known of its job. Only who asked for the usage
/// gets a chunk without choices after them, as the OpenAI API does: the usual loop reads `choices[0]` of each chunk.
pub(crate) fn last_chunks(answers: &[Answer], include_usage: bool) -> Vec<Value> {
    let last = |answer: &Answer| answer.events.last().cloned().unwrap_or_default();
    let ends = answers.iter().map(|answer| {
        let mut end = last(answer);
        end["x_job"] = x_job(answer);
        end
    });
    let mut chunks: Vec<Value> = ends.collect();
    if include_usage {
        let mut with_usage = answers.last().map(last).unwrap_or_default();
        with_usage["choices"] = json!([]);
        with_usage["usage"] = usage(answers);
        chunks.push(with_usage);
    }
    chunks
}

/// The OpenAI API's answer to a chat request that is not streamed: a choice for each answer.
pub(crate) fn chat_object(answers: &[Answer]) -> Value {
    let head = answers.first().and_then(|answer| answer.events.first());
    let head = head.unwrap_or(&Value::Null);
    let choices = answers.iter().enumerate();
    let choices: Vec<Value> = choices
        .map(|(index, answer)| choice(index, answer))
        .collect();
    json!({
        "id": head["id"],
        "object": "chat.completion",
        "created": head["created"],
        "model": head["model"],
        "choices": choices,
        "usage": usage(answers),
        "x_job": x_jobs(answers),
    })
}

fn choice(index: usize, answer: &Answer) -> Value {
    let last = answer.events.last().unwrap_or(&Value::Null);
    let mut message = json!({"role": "assistant", "content": answer.text});
    let thought = thought(&answer.events);
    if !thought.is_empty() {
        message["reasoning_content"] = thought.into();
    }
    let calls = calls(&answer.events);
    if !calls.is_empty() {
        if answer.text.is_empty() {
            message["content"] = Value::Null;
        }
        message["tool_calls"] = calls.into();
    }
    json!({
        "index": index,
        "message": message,
        "finish_reason": last["choices"][0]["finish_reason"],
        "logprobs": logprobs(&answer.events),
    })
}

/// The OpenAI API's answer to an embeddings request.
pub(crate) fn embeddings_object(answer: &Answer, delivery: Delivery) -> Value {
    let mut object = answer.events.first().cloned().unwrap_or_default();
    finish_embeddings(&mut object, Some(answer), delivery);
    object
}

/// The same where a cache was looked into: the answer is to the texts that it lacked, if it lacked some. `x_kept` has the receipts of
/// the vectors that it had; there is no `x_job` where nothing was asked.
pub(crate) fn kept_embeddings_object(
    looked: &mut Looked,
    model: &str,
    answer: Option<&Answer>,
    delivery: Delivery,
) -> Value {
    let kept = { looked.found.iter().enumerate() }.filter_map(|(index, found)| {
        let receipt = found.as_ref()?.receipt.to_string();
        Some(json!({"index": index, "receipt_id": receipt}))
    });
    let kept: Vec<Value> = kept.collect();
    if let Some(answer) = answer {
        looked.fill(&answer.payment.receipt, vectors(answer));
    }
    let data = { looked.found.iter().enumerate() }.filter_map(|(index, found)| {
        let vector = &found.as_ref()?.vector;
        Some(json!({"object": "embedding", "index": index, "embedding": vector}))
    });
    let data: Vec<Value> = data.collect();
    let mut object = json!({"object": "list", "data": data, "model": model, "x_kept": kept});
    finish_embeddings(&mut object, answer, delivery);
    object
}

/// The vectors of an answer: 32-bit floats before they were JSON.
fn vectors(answer: &Answer) -> Vec<Vec<f32>> {
    let data = answer.events.first().map(|event| &event["data"]);
    let data = data.and_then(Value::as_array).into_iter().flatten();
    data.map(|entry| floats(&entry["embedding"]).collect())
        .collect()
}

/// The first `dimensions` numbers of a vector, brought to length one, as models are trained for that are made to be cut. The receipt is
/// of the whole vector. A vector that is shorter stays as it is.
fn cut(numbers: &Value, dimensions: u32) -> Value {
    let first: Vec<f32> = floats(numbers).take(dimensions as usize).collect();
    let square: f64 = first.iter().map(|number| f64::from(*number).powi(2)).sum();
    let length = if square > 0.0 { square.sqrt() } else { 1.0 };
    let whole = first
        .iter()
        .map(|number| (f64::from(*number) / length) as f32);
    json!(whole.collect::<Vec<f32>>())
}

fn finish_embeddings(object: &mut Value, answer: Option<&Answer>, delivery: Delivery) {
    if let Some(dimensions) = delivery.dimensions {
        let data = object["data"].as_array_mut().into_iter().flatten();
        data.for_each(|entry| entry["embedding"] = cut(&entry["embedding"], dimensions));
    }
    if delivery.base64 {
        let data = object["data"].as_array_mut().into_iter().flatten();
        data.for_each(|entry| entry["embedding"] = base64_floats(&entry["embedding"]));
    }
    let prompt = answer.map_or(0, |answer| answer.usage.prompt);
    object["usage"] = json!({"prompt_tokens": prompt, "total_tokens": prompt});
    if let Some(answer) = answer {
        object["x_job"] = x_job(answer);
    }
}

/// A list of numbers as the OpenAI API's base64: little-endian 32-bit floats. They were 32-bit floats before they were
/// JSON, so nothing is lost.
fn base64_floats(numbers: &Value) -> Value {
    let bytes: Vec<u8> = floats(numbers).flat_map(f32::to_le_bytes).collect();
    BASE64_STANDARD.encode(bytes).into()
}

fn floats(numbers: &Value) -> impl Iterator<Item = f32> {
    let numbers = numbers.as_array().into_iter().flatten();
    numbers.map(|number| number.as_f64().unwrap_or_default() as f32)
}

/// Of all answers together: each reads the prompt and is billed for it.
pub(crate) fn usage(answers: &[Answer]) -> Value {
    let sum = |part: fn(&Answer) -> u32| answers.iter().map(|a| u64::from(part(a))).sum::<u64>();
    let cached = sum(|answer| answer.usage.cached);
    let (prompt, completion) = (
        sum(|answer| answer.usage.prompt) + cached,
        sum(|answer| answer.usage.completion),
    );
    let thought: u64 = answers
        .iter()
        .map(|answer| u64::from(answer.thought_tokens))
        .sum();
    let mut usage = json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    });
    if thought > 0 {
        usage["completion_tokens_details"] = json!({"reasoning_tokens": thought});
    }
    usage
}

/// The job of the one answer, or the cost of all and each answer's.
pub(crate) fn x_jobs(answers: &[Answer]) -> Value {
    if let [answer] = answers {
        return x_job(answer);
    }
    let cost = answers.iter().map(|answer| answer.payment.cost.0).sum();
    json!({
        "cost": {"amount": Nano(cost), "currency": CURRENCY},
        "verified": true,
        "jobs": answers.iter().map(x_job).collect::<Vec<_>>(),
    })
}

/// What is known of the job beyond the OpenAI API.
pub(crate) fn x_job(answer: &Answer) -> Value {
    json!({
        "id": hex::encode(answer.job),
        "receipt_id": answer.payment.receipt.to_string(),
        "cost": {"amount": answer.payment.cost, "currency": CURRENCY},
        "verified": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_that_is_cut_has_length_one_again() {
        let whole = json!([0.3f32, 0.4f32, 0.1f32]);
        assert_eq!(cut(&whole, 2), json!([0.6f32, 0.8f32]));
        let numbers: Vec<f32> = floats(&cut(&whole, 9)).collect();
        assert_eq!(numbers.len(), 3, "no number is made up");
        assert_eq!(cut(&json!([0.0, 0.0, 1.0]), 2), json!([0.0f32, 0.0f32]));
    }

    #[test]
    fn a_vector_survives_its_base64() {
        let vector = [0.1f32, -1.5, f32::MIN_POSITIVE, 0.090_476_18];
        let encoded = base64_floats(&json!(vector));
        let bytes = BASE64_STANDARD.decode(encoded.as_str().unwrap()).unwrap();
        let (floats, rest) = bytes.as_chunks::<4>();
        let floats: Vec<f32> = floats.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!((floats.as_slice(), rest), (&vector[..], &[][..]));
    }
}
