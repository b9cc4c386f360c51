//! An answer that is arriving: frames from the proxy, records from the seal, text for the application.

use super::{Deadlines, Known, Unfinished};
use crate::error::{ClientError, Executed};
use crate::limits::KEPT_RECORDS_BYTES_MAX;
use crate::openai::logprob_entry;
use crate::transport::{Stream, TransportError};
use model::text::tools::Piece;
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;
use wire::{
    AnswerEvent, AnswerReader, Ask, Finish, Frame, FrameDecoder, FrameError, FrameKind, JobFailure,
    RecordBytes, ResponseOpener, Scored, SignedRefusal, Subject,
};

/// An answer on its way.
pub struct Answering {
    known: Known,
    stream: Stream,
    deadlines: Deadlines,
    sent_at: Instant,
    first_token: Option<Duration>,
    decoder: FrameDecoder,
    // `None` once the sealed answer has come to its authenticated end.
    opener: Option<ResponseOpener>,
    reader: AnswerReader,
    begun: bool,
    cancelled: bool,
    arrived: VecDeque<Value>,
    received: Received,
    receipt: Option<Vec<u8>>,
    failure: Option<JobFailure>,
    charge: Option<Vec<u8>>,
}

/// A whole answer, opened, and not yet believed.
pub struct Answered {
    /// The receipt from inside the seal.
    pub receipt: Vec<u8>,
    /// The charge as it travelled in the clear.
    pub charge: Vec<u8>,
    /// From sending the job to the first event that carries content.
    pub first_token: Duration,
    /// From sending the job to the end of the answer.
    pub total: Duration,
    pub(super) reader: AnswerReader,
    pub(super) received: Received,
    pub(super) known: Known,
}

/// What an answer holds.
#[derive(Default)]
pub(super) struct Received {
    /// The events, as the OpenAI API's objects.
    pub(super) events: Vec<Value>,
    /// The completion's text, as far as it may be shown.
    pub(super) text: String,
    /// Calls of tools in the completion.
    pub(super) calls: usize,
    /// The completion's tokens, those behind a stop sequence, too.
    pub(super) ids: Vec<u32>,
    /// The numbers of all vectors, and of one.
    pub(super) numbers: Vec<f32>,
    pub(super) width: usize,
    /// Why it ended.
    pub(super) finish: Option<Finish>,
}

impl Answering {
    pub(super) fn new(
        known: Known,
        opener: ResponseOpener,
        stream: Stream,
        sent_at: Instant,
        deadlines: Deadlines,
    ) -> Self {
        Answering {
            reader: reader(&known),
            known,
            stream,
            deadlines,
            sent_at,
            first_token: None,
            decoder: FrameDecoder::default(),
            opener: Some(opener),
            begun: false,
            cancelled: false,
            arrived: VecDeque::new(),
            received: Received::default(),
            receipt: None,
            failure: None,
            charge: None,
        }
    }

    /// The next event as it arrives, as the OpenAI API's object; `None` at the end of the answer. What was delivered here is not verified yet.
    pub async fn next_event(&mut self) -> Result<Option<Value>, ClientError> {
        let event = self.next().await;
        match &event {
            // What was made before is owed, and fetched when this is dropped.
            Ok(Some(_)) | Err(ClientError::Cut(_) | ClientError::Deadline(_)) => {}
            Ok(None) if self.receipt.is_some() && self.charge.is_some() => {
                self.known.ending.disarm();
            }
            // It is not one that anybody pays for.
            Ok(None) | Err(_) => self.known.ending.forget(),
        }
        event
    }

    async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            if let Some(event) = self.arrived.pop_front() {
                return Ok(Some(event));
            }
            if self.opener.is_none() {
                return Ok(None);
            }
            match self.decoder.next_frame().map_err(misframed)? {
                Some(frame) => self.frame(frame)?,
                None => self.read().await?,
            }
        }
    }

    /// Waits for the end. `Ok` means that everything the guest sealed has arrived, in order and unchanged.
    pub async fn finish(mut self) -> Result<Answered, ClientError> {
        while self.next_event().await?.is_some() {}
        if let Some(failure) = self.failure {
            return Err(ClientError::GuestFailed(failure));
        }
        let receipt = self
            .receipt
            .ok_or_else(|| ClientError::Answer("it ends without a receipt".into()))?;
        let charge = self.charge.ok_or_else(|| ClientError::ProxyMisbehaved {
            what: "answer",
            detail: "the charge is missing".into(),
            executed: Executed::Yes,
        })?;
        let total = self.sent_at.elapsed();
        Ok(Answered {
            receipt,
            charge,
            first_token: self.first_token.unwrap_or(total),
            total,
            reader: self.reader,
            received: self.received,
            known: self.known,
        })
    }

    async fn read(&mut self) -> Result<(), ClientError> {
        let deadline = match self.begun {
            false => self.deadlines.first,
            true => self.deadlines.whole,
        };
        match self.stream.next(deadline).await {
            Ok(Some(bytes)) => self.decoder.push(&bytes),
            Ok(None) => {
                return Err(ClientError::Cut(
                    "its stream ended before its end frame".into(),
                ));
            }
            Err(TransportError::Timeout) => {
                return Err(ClientError::Deadline(format!(
                    "{} tokens had arrived",
                    self.received.ids.len()
                )));
            }
            Err(error) => return Err(ClientError::Cut(error.to_string())),
        }
        Ok(())
    }

    fn frame(&mut self, frame: Frame) -> Result<(), ClientError> {
        match frame.kind {
            FrameKind::Data if self.charge.is_none() => {
                let Some(opener) = &mut self.opener else {
                    return Err(misframed(FrameError::OutOfPlace(FrameKind::Data)));
                };
                for record in opener.push(&frame.payload).map_err(ClientError::Seal)? {
                    self.record(&record)?;
                }
                Ok(())
            }
            // For the proxy to keep until it is asked for; the same receipt is in the answer.
            FrameKind::Receipt if self.charge.is_none() => Ok(()),
            FrameKind::Charge if self.charge.is_none() => {
                self.charge = Some(frame.payload);
                Ok(())
            }
            FrameKind::Refused if !self.begun && self.charge.is_none() => {
                Err(self.refusal(&frame.payload))
            }
            FrameKind::End => match self.opener.take() {
                Some(opener) => opener.finish().map_err(ClientError::Seal),
                None => Err(misframed(FrameError::OutOfPlace(FrameKind::End))),
            },
            other => Err(misframed(FrameError::OutOfPlace(other))),
        }
    }

    fn record(&mut self, record: &RecordBytes) -> Result<(), ClientError> {
        let event = self.reader.take(record);
        let event = event.map_err(|error| ClientError::Answer(error.to_string()))?;
        if !matches!(event, AnswerEvent::Receipt(_) | AnswerEvent::Part) {
            self.keep(record);
        }
        let begins = !std::mem::replace(&mut self.begun, true);
        match event {
            AnswerEvent::Ids { ids, finish } => {
                if begins {
                    self.arrived(self.known.head.start());
                }
                self.tokens(&ids, Vec::new(), finish);
            }
            AnswerEvent::Scored { tokens, finish } => {
                if begins {
                    self.arrived(self.known.head.start());
                }
                let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
                let logprobs = self.logprobs(&tokens);
                self.tokens(&ids, logprobs, finish);
            }
            AnswerEvent::Vectors {
                numbers,
                width,
                finish,
            } => {
                self.came(!numbers.is_empty());
                let received = &mut self.received;
                received.numbers.extend(numbers);
                received.width = received.width.max(width as usize);
                if finish.is_some() {
                    received.finish = finish;
                    let (head, numbers) = (&self.known.head, &received.numbers);
                    let object = match self.known.asked.ask {
                        Ask::Rerank(_) => head.scores(numbers),
                        _ => head.embeddings(numbers, received.width),
                    };
                    self.arrived(object);
                }
            }
            AnswerEvent::Part => {}
            AnswerEvent::Receipt(receipt) => self.receipt = Some(receipt),
            AnswerEvent::Failure(failure) => self.failure = Some(failure),
        }
        Ok(())
    }

    /// Keeps a record of the chain where that is wanted, as long as a transcript has room for it.
    fn keep(&mut self, record: &RecordBytes) {
        let room = |records: &Vec<u8>| records.len() + record.len() <= KEPT_RECORDS_BYTES_MAX;
        self.known.records = { self.known.records.take() }
            .filter(room)
            .map(|mut records| {
                records.extend_from_slice(record);
                records
            });
    }

    /// As the OpenAI API writes them, each with as many alternatives as were asked for.
    fn logprobs(&self, tokens: &[Scored]) -> Vec<Value> {
        let models = &self.known.session.shared().models;
        let (Some(model), Some(completion)) =
            (models.get(&self.known.head.model), &self.known.completion)
        else {
            return Vec::new();
        };
        let entry = |id, logprob| logprob_entry(&model.token_text(id), logprob);
        let alternatives = usize::from(completion.alternatives());
        let tokens = tokens.iter().map(|token| {
            let top = token.top.iter().take(alternatives);
            let top = top.map(|(id, logprob)| entry(*id, *logprob));
            let mut own = entry(token.id, token.logprob);
            own["top_logprobs"] = top.collect();
            own
        });
        tokens.collect()
    }

    fn tokens(&mut self, ids: &[u32], logprobs: Vec<Value>, finish: Option<Finish>) {
        self.came(!ids.is_empty());
        self.received.ids.extend(ids);
        let Some(completion) = &mut self.known.completion else {
            // A job that is asked again is compared, and not read.
            self.received.finish = finish;
            return;
        };
        let mut pieces = completion.push(ids);
        if finish.is_some() {
            pieces.extend(completion.finish());
        }
        let stopped = completion.stopped();
        self.pieces(pieces, logprobs);
        match finish {
            Some(finish) => {
                self.received.finish = Some(finish);
                // The guest may have gone on until it was told; to the application a stop sequence is the end.
                let shown = if stopped { Finish::Stop } else { finish };
                self.arrived(self.known.head.end(shown, self.received.calls > 0));
            }
            None if stopped => self.cancel(),
            None => {}
        }
    }

    fn pieces(&mut self, pieces: Vec<Piece>, mut logprobs: Vec<Value>) {
        for piece in pieces {
            match piece {
                Piece::Thought(text) => {
                    let logprobs = std::mem::take(&mut logprobs);
                    self.arrived(self.known.head.thought(&text, logprobs));
                }
                Piece::Text(text) => {
                    self.received.text += &text;
                    let logprobs = std::mem::take(&mut logprobs);
                    self.arrived(self.known.head.text(&text, logprobs));
                }
                Piece::Call(call) => {
                    let parts = self.known.head.call(self.received.calls, &call);
                    self.received.calls += 1;
                    parts.into_iter().for_each(|part| self.arrived(part));
                }
            }
        }
        if !logprobs.is_empty() {
            self.arrived(self.known.head.text("", logprobs));
        }
    }

    /// Ends the job early, because no further token is wanted. What the guest makes until it learns of that is billed.
    fn cancel(&mut self) {
        if std::mem::replace(&mut self.cancelled, true) {
            return;
        }
        if let Some(unfinished) = self.known.ending.unfinished().cloned() {
            tokio::spawn(async move {
                if let Err(error) = unfinished.cancel().await {
                    tracing::info!("a job could not be cancelled: {error}");
                }
            });
        }
    }

    /// What cancels the job, and fetches its receipt.
    pub fn unfinished(&self) -> Option<Unfinished> {
        self.known.ending.unfinished().cloned()
    }

    fn came(&mut self, content: bool) {
        if content && self.first_token.is_none() {
            self.first_token = Some(self.sent_at.elapsed());
        }
    }

    fn arrived(&mut self, event: Value) {
        self.received.events.push(event.clone());
        self.arrived.push_back(event);
    }

    /// A refusal says that this job did not run only if the guest signed it for this envelope.
    fn refusal(&self, bytes: &[u8]) -> ClientError {
        let receipt_key = &self.known.session.keyset().receipt_key;
        let Ok(refusal) = SignedRefusal::decode(bytes) else {
            return ClientError::ProxyMisbehaved {
                what: "refusal",
                detail: "it does not decode".into(),
                executed: Executed::Maybe,
            };
        };
        match refusal.verify(receipt_key) {
            Some((subject, code)) if subject == Subject::Envelope(self.known.envelope) => {
                ClientError::GuestRefused(code)
            }
            Some((_, code)) => ClientError::RefusedAnother(code),
            None => ClientError::UnknownSigner,
        }
    }
}

fn reader(known: &Known) -> AnswerReader {
    let logprobs = match &known.asked.ask {
        Ask::Chat(chat) => chat.logprobs,
        Ask::Embeddings(_) | Ask::Rerank(_) => None,
    };
    match logprobs {
        Some(count) => AnswerReader::with_logprobs(known.envelope, count.into()),
        None => AnswerReader::new(known.asked.endpoint(), known.envelope),
    }
}

fn misframed(error: FrameError) -> ClientError {
    ClientError::ProxyMisbehaved {
        what: "answer",
        detail: error.to_string(),
        executed: Executed::Maybe,
    }
}
