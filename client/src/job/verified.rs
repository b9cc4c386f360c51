//! From an opened answer to a verified one, and from that to a voucher.

use super::Answered;
use crate::budget::Budget;
use crate::error::ClientError;
use crate::openai::Ask;
use crate::session::Session;
use crate::tokens::Model;
use serde_json::Value;
use settlement::{Nano, SignedCharge, SignedVoucher};
use std::time::Duration;
use wire::{Digest, Receipt, RequestClaims, Usage, VerifiedReceipt};

/// An answer whose receipt, charge and token count agree with what this side knows.
pub struct VerifiedAnswer {
    /// The job's id.
    pub job: [u8; 16],
    /// The events, in order.
    pub events: Vec<Value>,
    /// The completion's text; empty for embeddings.
    pub text: String,
    /// From sending the job to the first event that carries content.
    pub first_token: Duration,
    /// From sending the job to the end of the answer.
    pub total: Duration,
    receipt: VerifiedReceipt,
    receipt_bytes: Vec<u8>,
    deposit: Nano,
    // Given back once the voucher is signed.
    _reservation: crate::budget::Reservation,
}

/// A voucher that is signed and on disk.
#[derive(Debug, Clone)]
pub struct Payment {
    /// What is sent to the payee.
    pub voucher: SignedVoucher,
    /// The receipt it pays.
    pub receipt: Digest,
    /// What the job cost.
    pub cost: Nano,
    /// Everything promised on the channel, this job included.
    pub cumulative: Nano,
}

impl Answered {
    /// The model that answered.
    pub fn model(&self) -> &str {
        &self.known.model
    }

    /// Believes nothing of the answer until everything agrees: the charge in the clear, the receipt, the tokens.
    pub fn verify(self, session: &Session) -> Result<VerifiedAnswer, ClientError> {
        let known = &self.known;
        let keyset = session.keyset();
        // 1. The charge in the clear, by its signature, so that a changed one is named as that.
        SignedCharge::decode(&self.charge)?.verify(&keyset.receipt_key)?;
        // 2. The receipt's shape and who signed it come before its content.
        let receipt = Receipt::decode(&self.receipt)?;
        // 3. The tokens, counted here.
        let shared = session.shared();
        let model = shared.models.get(&known.model);
        let model =
            model.ok_or_else(|| ClientError::Internal("the model left the allow-list".into()))?;
        let (usage, text) = recount(model, &known.ask, known.prompt_tokens, &self.events)?;
        if usage.completion > known.completion_tokens_max {
            return Err(ClientError::Answer(
                "it has more tokens than were asked for".into(),
            ));
        }
        let events = u32::try_from(self.events.len());
        let claims = RequestClaims {
            envelope: known.envelope,
            job: known.job,
            channel: session.channel().address,
            cost_max: known.cost_max,
            request: known.request,
            response: known.commitments.response(self.frames),
            frames: self.frames,
            events: events.map_err(|_| ClientError::Answer("it has too many events".into()))?,
            usage,
        };
        let verified = receipt.verify(keyset, &claims)?;
        // 4. One charge, not two.
        if receipt.charge().encode() != self.charge {
            return Err(ClientError::ChargeMismatch);
        }
        Ok(VerifiedAnswer {
            job: known.job,
            events: self.events,
            text,
            first_token: self.first_token,
            total: self.total,
            receipt: verified,
            receipt_bytes: self.receipt,
            deposit: session.channel().state.deposit,
            _reservation: self.known.reservation,
        })
    }
}

impl VerifiedAnswer {
    /// The receipt.
    pub fn receipt(&self) -> &VerifiedReceipt {
        &self.receipt
    }

    /// Signs the voucher that pays for this answer and writes it to disk. It is not sent yet.
    pub fn pay(self, budget: &Budget) -> Result<Payment, ClientError> {
        let voucher = budget.pay(&self.receipt, &self.receipt_bytes, self.deposit)?;
        Ok(Payment {
            voucher,
            receipt: self.receipt.digest(),
            cost: self.receipt.core().cost,
            cumulative: voucher.voucher.cumulative,
        })
    }
}

fn recount(
    model: &Model,
    ask: &Ask,
    prompt: u32,
    events: &[Value],
) -> Result<(Usage, String), ClientError> {
    let usage = |completion| Usage {
        prompt,
        cached: 0,
        completion,
    };
    match ask {
        Ask::Embeddings { inputs } => {
            check_embeddings(inputs.len(), events)?;
            Ok((usage(0), String::new()))
        }
        Ask::Chat { .. } => {
            let (text, ids) = completion(events)?;
            Ok((usage(model.count_completion(&ids, &text)?), text))
        }
    }
}

fn check_embeddings(inputs: usize, events: &[Value]) -> Result<(), ClientError> {
    let refuse = |why: &str| Err(ClientError::Answer(why.into()));
    let [event] = events else {
        return refuse("embeddings come in one event");
    };
    let Some(data) = event.get("data").and_then(Value::as_array) else {
        return refuse("the embeddings are missing");
    };
    if data.len() != inputs {
        return refuse("there are not as many embeddings as inputs");
    }
    let dimensions = |item: &Value| {
        let vector = item.get("embedding")?.as_array()?;
        vector.iter().all(Value::is_number).then_some(vector.len())
    };
    let first = data.first().and_then(dimensions);
    let indexed = data
        .iter()
        .enumerate()
        .all(|(index, item)| item.get("index") == Some(&Value::from(index)));
    if first.is_none_or(|n| n == 0) || !indexed || data.iter().any(|item| dimensions(item) != first)
    {
        return refuse("an embedding is not a vector of the others' length");
    }
    Ok(())
}

/// The text of a chat answer and the token ids that came with it.
fn completion(events: &[Value]) -> Result<(String, Vec<u32>), ClientError> {
    let refuse = |why: &str| ClientError::Answer(why.into());
    let (mut text, mut ids) = (String::new(), Vec::new());
    for event in events {
        match event.pointer("/choices/0/delta/content") {
            None | Some(Value::Null) => {}
            Some(Value::String(piece)) => text.push_str(piece),
            Some(_) => return Err(refuse("a piece of the text is not text")),
        }
        let named = event.pointer("/x_job/token_ids");
        let named = named.map(|ids| {
            ids.as_array()
                .ok_or_else(|| refuse("token ids are not a list"))
        });
        for id in named.transpose()?.into_iter().flatten() {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            ids.push(id.ok_or_else(|| refuse("a token id is not a number"))?);
        }
    }
    let ended = events.iter().rposition(|event| {
        event
            .pointer("/choices/0/finish_reason")
            .is_some_and(Value::is_string)
    });
    match ended {
        Some(at) if at + 1 == events.len() => Ok((text, ids)),
        _ => Err(refuse("it does not say at its end why it ended")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn embeddings_of_another_shape_are_refused() {
        let good = json!({"data": [{"index": 0, "embedding": [1.0, 2]}, {"index": 1, "embedding": [0, 1]}]});
        assert_eq!(check_embeddings(2, std::slice::from_ref(&good)), Ok(()));
        assert!(check_embeddings(1, std::slice::from_ref(&good)).is_err());
        assert!(check_embeddings(2, &[good.clone(), good.clone()]).is_err());
        for (path, value) in [
            ("/data/1/embedding", json!([1])),
            ("/data/1/index", json!(0)),
            ("/data", json!(1)),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(path).unwrap() = value;
            assert!(check_embeddings(2, &[bad]).is_err(), "{path}");
        }
    }

    #[test]
    fn a_completion_names_its_tokens_and_its_end() {
        let piece = |text: &str, id: u32| json!({"choices": [{"delta": {"content": text}}], "x_job": {"token_ids": [id]}});
        let end = json!({"choices": [{"delta": {}, "finish_reason": "stop"}], "x_job": {"token_ids": [9]}});
        let events = [piece("a", 1), piece("b", 2), end];
        assert_eq!(completion(&events), Ok(("ab".into(), vec![1, 2, 9])));
        assert!(completion(&events[..2]).is_err());
    }
}
