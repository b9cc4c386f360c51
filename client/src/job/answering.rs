//! An answer that is arriving: frames from the proxy, records from the seal, events for the application.

use super::{Deadlines, Known};
use crate::error::{ClientError, Executed};
use crate::transport::{Stream, TransportError};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use wire::{
    AnswerEvent, Digest, Frame, FrameDecoder, FrameError, FrameKind, JobFailure, Record,
    RecordKind, ResponseOpener, SignedRefusal, Subject, frame_chain, frame_chain_start,
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
    arrived: VecDeque<Value>,
    events: Vec<AnswerEvent>,
    frames: Digest,
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
    /// The events, in order.
    pub events: Vec<AnswerEvent>,
    /// From sending the job to the first event that carries content.
    pub first_token: Duration,
    /// From sending the job to the end of the answer.
    pub total: Duration,
    pub(super) frames: Digest,
    pub(super) known: Known,
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
            frames: frame_chain_start(known.envelope),
            known,
            stream,
            deadlines,
            sent_at,
            first_token: None,
            decoder: FrameDecoder::default(),
            opener: Some(opener),
            arrived: VecDeque::new(),
            events: Vec::new(),
            receipt: None,
            failure: None,
            charge: None,
        }
    }

    /// The next event as it arrives, as the OpenAI API's object; `None` at the end of the answer. What was delivered here is not verified yet.
    pub async fn next_event(&mut self) -> Result<Option<Value>, ClientError> {
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
            events: self.events,
            first_token: self.first_token.unwrap_or(total),
            total,
            frames: self.frames,
            known: self.known,
        })
    }

    async fn read(&mut self) -> Result<(), ClientError> {
        let deadline = match self.events.is_empty() {
            true => self.deadlines.first,
            false => self.deadlines.whole,
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
                    "{} events had arrived",
                    self.events.len()
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
                    self.record(record)?;
                }
                Ok(())
            }
            // For the proxy to keep until it is asked for; the same receipt is in the answer.
            FrameKind::Receipt if self.charge.is_none() => Ok(()),
            FrameKind::Charge if self.charge.is_none() => {
                self.charge = Some(frame.payload);
                Ok(())
            }
            FrameKind::Refused if self.events.is_empty() && self.charge.is_none() => {
                Err(self.refusal(&frame.payload))
            }
            FrameKind::End => match self.opener.take() {
                Some(opener) => opener.finish().map_err(ClientError::Seal),
                None => Err(misframed(FrameError::OutOfPlace(FrameKind::End))),
            },
            other => Err(misframed(FrameError::OutOfPlace(other))),
        }
    }

    fn record(&mut self, record: Record) -> Result<(), ClientError> {
        if self.receipt.is_some() || self.failure.is_some() {
            return Err(ClientError::Answer("something follows its receipt".into()));
        }
        match record.kind {
            RecordKind::Event => {
                let event = AnswerEvent::decode(&record.payload).map_err(malformed)?;
                self.frames = frame_chain(self.frames, &record.payload);
                if self.first_token.is_none() && event.has_content() {
                    self.first_token = Some(self.sent_at.elapsed());
                }
                self.arrived.push_back(self.known.head.object(&event));
                self.events.push(event);
            }
            RecordKind::Receipt => self.receipt = Some(record.payload),
            RecordKind::Failure => {
                self.failure = Some(JobFailure::decode(&record.payload).map_err(malformed)?);
            }
        }
        Ok(())
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

fn malformed(error: wire::Malformed) -> ClientError {
    ClientError::Answer(error.to_string())
}

fn misframed(error: FrameError) -> ClientError {
    ClientError::ProxyMisbehaved {
        what: "answer",
        detail: error.to_string(),
        executed: Executed::Maybe,
    }
}
