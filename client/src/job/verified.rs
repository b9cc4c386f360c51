//! From an opened answer to a verified one, and from that to a voucher.

use super::answering::Received;
use super::{Answered, Known};
use crate::budget::{Budget, Reservation};
use crate::completion::Completion;
use crate::error::ClientError;
use crate::session::Session;
use crate::tokens::{Model, TokensError};
use serde_json::Value;
use settlement::{Nano, SignedCharge, SignedVoucher};
use std::sync::Arc;
use std::time::Duration;
use wire::{
    AnswerClaims, Ask, Finish, Receipt, ReceiptDigest, RequestClaims, Transcript, Usage,
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
    /// The completion's tokens as they came, those that ended it included; empty for embeddings.
    pub ids: Vec<u32>,
    /// Of these, those of the thought before the answer.
    pub thought_tokens: u32,
    /// Why it ended: at a stop sequence, if one came, and else as the receipt says.
    pub finish: Finish,
    /// From sending the job to the first event that carries content.
    pub first_token: Duration,
    /// From sending the job to the end of the answer.
    pub total: Duration,
    receipt: VerifiedReceipt,
    receipt_bytes: Vec<u8>,
    deposit: Nano,
    /// What was said, where that is kept and not too long.
    pub transcript: Option<Transcript>,
    /// The stop sequence that ended it, if one did.
    pub stop: Option<String>,
    // Given back once the voucher is signed.
    reservation: Arc<Reservation>,
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
        let envelope = self.known.envelope;
        let (charge, receipt) = (self.charge.clone(), self.receipt.clone());
        let verified = self.verified(session);
        if verified.is_err() {
            let budget = &session.shared().budget;
            // What is not believed is not paid, after a restart neither.
            budget.owes_nothing(&envelope);
            let payer_key = session.channel().state.payer_key;
            budget.keep_offence(session.keyset(), &payer_key, &charge, &receipt);
        }
        verified
    }

    fn verified(self, session: &Session) -> Result<VerifiedAnswer, ClientError> {
        let known = &self.known;
        let keyset = session.keyset();
        let payer_key = session.channel().state.payer_key;
        let receipt = Receipt::decode(&self.receipt)?;
        // 1. One charge, not two. A changed one is named as that, by its signature.
        if receipt.charge().encode() != self.charge {
            SignedCharge::decode(&self.charge)?.verify(&keyset.receipt_key, &payer_key)?;
            return Err(ClientError::ChargeMismatch);
        }
        // 2. The tokens, counted here.
        let shared = session.shared();
        let model = shared.models.get(&known.head.model);
        let model =
            model.ok_or_else(|| ClientError::Internal("the model left the allow-list".into()))?;
        let usage = recount(model, &known.asked.ask, &self.received)?;
        let whole = self.received.finish == Some(Finish::Stop);
        let completion = known.completion.as_ref();
        if let Some(why) = completion.and_then(|one| one.strays(&self.received.ids, whole)) {
            return Err(ClientError::Answer(why));
        }
        let claims = RequestClaims {
            envelope: known.envelope,
            cap: known.cap,
            payer_key,
            request: known.request,
            answer: AnswerClaims::Whole {
                response: known.commitments.response(self.reader.chain()),
                frames: self.reader.chain(),
                events: self.reader.chained(),
                usage,
            },
        };
        // 3. The receipt with its charge.
        let verified = receipt.verify(keyset, &claims)?;
        if Some(verified.core().finish) != self.received.finish {
            return Err(ClientError::Answer(
                "it ended otherwise than its receipt says".into(),
            ));
        }
        let transcript = self.known.transcript()?;
        Ok(VerifiedAnswer {
            job: known.cap.cap.job,
            events: self.received.events,
            text: self.received.text,
            ids: self.received.ids,
            thought_tokens: completion.map_or(0, Completion::thought_tokens),
            finish: match completion {
                Some(completion) if completion.stopped() => Finish::Stop,
                _ => verified.core().finish,
            },
            stop: { completion.and_then(Completion::stop) }.map(str::to_owned),
            first_token: self.first_token,
            total: self.total,
            receipt: verified,
            receipt_bytes: self.receipt,
            transcript,
            deposit: session.channel().state.deposit,
            reservation: self.known.reservation,
        })
    }
}

impl Known {
    fn transcript(&self) -> Result<Option<Transcript>, ClientError> {
        let Some(records) = &self.records else {
            return Ok(None);
        };
        let request = self.asked.encode();
        let request = request.map_err(|error| ClientError::Internal(error.to_string()))?;
        let (request_salt, response_salt) = self.commitments.salts();
        Ok(Some(Transcript {
            version: 1,
            request: request.to_vec(),
            request_salt,
            response_salt,
            records: records.clone(),
        }))
    }
}

impl VerifiedAnswer {
    /// The receipt.
    pub fn receipt(&self) -> &VerifiedReceipt {
        &self.receipt
    }

    /// Signs the voucher that pays for this answer and writes it to disk. It is not sent yet.
    pub fn pay(self, budget: &Budget) -> Result<Payment, ClientError> {
        let (receipt, spender) = (&self.receipt, self.reservation.spender());
        let voucher = budget.pay(receipt, &self.receipt_bytes, self.deposit, spender)?;
        Ok(Payment {
            voucher,
            receipt: self.receipt.digest(),
            cost: self.receipt.core().cost,
            cumulative: voucher.voucher.cumulative,
        })
    }
}

/// The tokens that were used, by the ids that were sealed and those that came. Nothing of it is estimated.
fn recount(model: &Model, ask: &Ask, received: &Received) -> Result<Usage, ClientError> {
    let refuse = |why: String| Err(ClientError::Answer(why));
    let (prompt, completion) = match ask {
        Ask::Embeddings(_) | Ask::Rerank(_) => {
            let lengths: Vec<usize> = match ask {
                Ask::Rerank(pairs) => pairs.iter().map(|pair| pair.tokens.len()).collect(),
                Ask::Embeddings(inputs) => inputs.iter().map(Vec::len).collect(),
                Ask::Chat(_) => Vec::new(),
            };
            let made = received.numbers.len().checked_div(received.width);
            let (made, asked) = (made.unwrap_or(0), lengths.len());
            // A deadline or this side may cut short what is made, and nothing else may.
            let cut = matches!(received.finish, Some(Finish::Deadline | Finish::Cancelled));
            if made > asked || (made < asked && !cut) {
                return refuse(format!("it has {made} vectors; {asked} were asked for"));
            }
            (lengths[..made].iter().sum(), 0)
        }
        Ask::Chat(chat) => {
            let completion = model.count_completion(&received.ids)?;
            if completion > chat.tokens_max {
                let max = chat.tokens_max;
                return refuse(format!("it has {completion} tokens; {max} were asked for"));
            }
            (chat.prompt.len(), completion)
        }
    };
    Ok(Usage {
        prompt: u32::try_from(prompt).map_err(|_| TokensError::TooMany)?,
        cached: 0,
        completion,
    })
}
