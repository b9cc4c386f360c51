//! From an opened answer to a verified one, and from that to a voucher.

use super::Answered;
use crate::budget::Budget;
use crate::error::ClientError;
use crate::session::Session;
use crate::tokens::Model;
use serde_json::Value;
use settlement::{Nano, SignedCharge, SignedVoucher};
use std::time::Duration;
use wire::{
    AnswerClaims, AnswerEvent, Receipt, ReceiptDigest, Request, RequestClaims, Usage,
    VerifiedReceipt,
};

/// An answer whose receipt, charge and token count agree with what this side knows.
pub struct VerifiedAnswer {
    /// The job's id.
    pub job: [u8; 16],
    /// The events, in order, as the OpenAI API's objects.
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
    pub receipt: ReceiptDigest,
    /// What the job cost.
    pub cost: Nano,
    /// Everything promised on the channel, this job included.
    pub cumulative: Nano,
}

impl Answered {
    /// The model that answered.
    pub fn model(&self) -> &str {
        &self.known.head.model
    }

    /// Believes nothing of the answer until everything agrees: the charge in the clear, the receipt, the tokens.
    pub fn verify(self, session: &Session) -> Result<VerifiedAnswer, ClientError> {
        let known = &self.known;
        let keyset = session.keyset();
        // 1. The charge in the clear, by its signature, so that a changed one is named as that.
        let payer_key = session.channel().state.payer_key;
        SignedCharge::decode(&self.charge)?.verify(&keyset.receipt_key, &payer_key)?;
        // 2. The receipt's shape and who signed it come before its content.
        let receipt = Receipt::decode(&self.receipt)?;
        // 3. The tokens, counted here.
        let shared = session.shared();
        let model = shared.models.get(&known.head.model);
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
            cap: known.cap,
            payer_key,
            request: known.request,
            answer: AnswerClaims::Whole {
                response: known.commitments.response(self.frames),
                frames: self.frames,
                events: events.map_err(|_| ClientError::Answer("it has too many events".into()))?,
                usage,
            },
        };
        let verified = receipt.verify(keyset, &claims)?;
        // 4. One charge, not two.
        if receipt.charge().encode() != self.charge {
            return Err(ClientError::ChargeMismatch);
        }
        Ok(VerifiedAnswer {
            job: known.cap.cap.job,
            events: self
                .events
                .iter()
                .map(|event| known.head.object(event))
                .collect(),
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
    ask: &Request,
    prompt: u32,
    events: &[AnswerEvent],
) -> Result<(Usage, String), ClientError> {
    let usage = |completion| Usage {
        prompt,
        cached: 0,
        completion,
    };
    match ask {
        Request::Embeddings(request) => match events {
            [AnswerEvent::Embeddings(vectors)] if vectors.count() == request.inputs.len() => {
                Ok((usage(0), String::new()))
            }
            _ => Err(ClientError::Answer(format!(
                "it is not one event with {} vectors",
                request.inputs.len()
            ))),
        },
        Request::Chat(_) => {
            let (text, ids) = completion(events)?;
            Ok((usage(model.count_completion(&ids, &text)?), text))
        }
    }
}

/// The text of a chat answer and the token ids that came with it.
fn completion(events: &[AnswerEvent]) -> Result<(String, Vec<u32>), ClientError> {
    let refuse = |why: &str| ClientError::Answer(why.into());
    let [
        AnswerEvent::Start,
        texts @ ..,
        AnswerEvent::End { token_ids, .. },
    ] = events
    else {
        return Err(refuse("it does not begin and end as a completion does"));
    };
    let (mut text, mut ids) = (String::new(), Vec::new());
    for event in texts {
        let AnswerEvent::Text { content, token_ids } = event else {
            return Err(refuse("something in the middle of it is not text"));
        };
        text.push_str(content);
        ids.extend(token_ids);
    }
    ids.extend(token_ids);
    Ok((text, ids))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{Finish, Vectors};

    #[test]
    fn a_completion_names_its_tokens_and_its_end() {
        let text = |content: &str, id| AnswerEvent::Text {
            content: content.into(),
            token_ids: vec![id],
        };
        let end = AnswerEvent::End {
            token_ids: vec![9],
            finish: Finish::Stop,
        };
        let events = [AnswerEvent::Start, text("a", 1), text("b", 2), end.clone()];
        assert_eq!(completion(&events), Ok(("ab".into(), vec![1, 2, 9])));
        assert!(completion(&events[..3]).is_err(), "no end");
        assert!(completion(&events[1..]).is_err(), "no start");
        let vectors = AnswerEvent::Embeddings(Vectors::new(&[vec![1.0]]));
        for odd in [AnswerEvent::Start, end.clone(), vectors] {
            assert!(completion(&[AnswerEvent::Start, odd, end.clone()]).is_err());
        }
    }
}
