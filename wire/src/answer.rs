//! A sealed answer: its records in order, as a guest writes them and a client reads them.
//!
//! ```text
//!  completion:  Ids* or Scored* (some empty), the last one with its finish ─► Receipt+
//!  embeddings:  Vectors* (some empty), the last one likewise     ─► Receipt+      or, at any time, ─► Failure
//!  rerank:      the same, each vector being one score
//! ```
//!
//! The padded records of ids and vectors form a hash chain, so that a partial answer is provable, too; the receipt names
//! its end. Both sides are here, so that they cannot differ about the order, the numbers or the chain.

use crate::limits::{COMPLETION_TOKENS_MAX, RECEIPT_BYTES_MAX, RECORD_SLOTS, VECTOR_NUMBERS_MAX};
use crate::record::{CONTENT_BYTES, Record, RecordBytes, RecordError, RecordKind, scored_width};
use crate::request::padme;
use crate::{Digest, Endpoint, EnvelopeDigest, Finish, sha256};

/// Why an accepted job has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum JobFailure {
    #[error("the engine failed")]
    Engine = 1,
}

/// The guest's side: makes the records of one answer.
pub struct AnswerWriter {
    kind: RecordKind,
    state: State,
}

/// The client's side: takes the records of one answer, and refuses what no honest guest writes.
pub struct AnswerReader {
    endpoint: Endpoint,
    state: State,
    finished: bool,
    receipt: Vec<u8>,
    ended: bool,
}

/// A token of a completion with its log probability and those of the likeliest ones at its place, the likeliest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The token.
    pub id: u32,
    /// Its log probability.
    pub logprob: f32,
    /// The likeliest tokens and theirs.
    pub top: Vec<(u32, f32)>,
}

/// What a record adds to an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum AnswerEvent {
    /// The next tokens of a completion, often none.
    Ids {
        /// The tokens; an end token is one of them.
        ids: Vec<u32>,
        /// Why the completion ended, with its last record.
        finish: Option<Finish>,
    },
    /// The next tokens of a completion with their log probabilities.
    Scored {
        /// The tokens; an end token is one of them.
        tokens: Vec<Scored>,
        /// Why the completion ended, with its last record.
        finish: Option<Finish>,
    },
    /// The next numbers of the vectors, which follow each other in the order of the texts.
    Vectors {
        /// The numbers.
        numbers: Vec<f32>,
        /// Of one vector; 0 where there are none.
        width: u32,
        /// With the last record.
        finish: Option<Finish>,
    },
    /// A part of the receipt that is not the last.
    Part,
    /// The whole receipt.
    Receipt(Vec<u8>),
    /// The job failed. Nothing is charged.
    Failure(JobFailure),
}

/// What both sides count.
struct State {
    chain: Digest,
    chained: u32,
    sequence: u32,
    meter: u64,
    width: u32,
}

impl State {
    fn new(envelope: EnvelopeDigest) -> Self {
        State {
            chain: sha256("chrysalis/frames/v2", &[&envelope.0]),
            chained: 0,
            sequence: 0,
            meter: 0,
            width: 0,
        }
    }

    /// What so many slots count for: ids or numbers.
    fn metered(&self, kind: RecordKind, count: usize) -> u64 {
        match kind {
            RecordKind::Scored => (count / self.width.max(1) as usize) as u64,
            _ => count as u64,
        }
    }

    fn link(&mut self, record: &RecordBytes) {
        self.chain = sha256("chrysalis/frame/v2", &[&self.chain.0, record]);
        self.chained += 1;
    }
}

impl AnswerWriter {
    /// The answer of `endpoint` to the job of this envelope.
    pub fn new(endpoint: Endpoint, envelope: EnvelopeDigest) -> Self {
        AnswerWriter {
            kind: kind(endpoint),
            state: State::new(envelope),
        }
    }

    /// The completion of the job of this envelope, with the log probabilities of so many alternatives of each token.
    pub fn with_logprobs(envelope: EnvelopeDigest, alternatives: usize) -> Self {
        let mut writer = AnswerWriter {
            kind: RecordKind::Scored,
            state: State::new(envelope),
        };
        writer.state.width = scored_width(alternatives) as u32;
        writer
    }

    /// Tokens that a record holds.
    pub fn tokens_max(&self) -> usize {
        match self.kind {
            RecordKind::Scored => RECORD_SLOTS / self.state.width.max(1) as usize,
            _ => RECORD_SLOTS,
        }
    }

    /// A record with nothing in it, for an interval in which nothing came.
    pub fn empty(&mut self) -> RecordBytes {
        self.slots(self.kind, &[], None)
    }

    /// A record of the next tokens, of which [`RECORD_SLOTS`] fit in one.
    pub fn ids(&mut self, ids: &[u32], finish: Option<Finish>) -> RecordBytes {
        let words: Vec<_> = ids.iter().map(|id| id.to_le_bytes()).collect();
        self.slots(RecordKind::Ids, &words, finish)
    }

    /// A record of the next tokens, of which [`Self::tokens_max`] fit in one, of a writer that was made
    /// [`Self::with_logprobs`]. Alternatives beyond those are left out; tokens that have fewer are filled up with the last one.
    pub fn scored(&mut self, tokens: &[Scored], finish: Option<Finish>) -> RecordBytes {
        let pairs = (self.state.width as usize / 2).saturating_sub(1);
        let mut words = Vec::with_capacity(RECORD_SLOTS);
        for token in tokens {
            let itself = (token.id, token.logprob);
            let last = token.top.last().copied().unwrap_or(itself);
            let top = token.top.iter().copied();
            let top = top.chain(std::iter::repeat(last)).take(pairs);
            for (id, logprob) in std::iter::once(itself).chain(top) {
                words.extend([id.to_le_bytes(), logprob.to_le_bytes()]);
            }
        }
        self.slots(RecordKind::Scored, &words, finish)
    }

    /// The records of all numbers of all vectors, and empty ones up to a padded count.
    pub fn vectors(&mut self, numbers: &[f32], width: u32, finish: Finish) -> Vec<RecordBytes> {
        self.state.width = width;
        let words: Vec<_> = numbers.iter().map(|number| number.to_le_bytes()).collect();
        let mut full = words.chunks(RECORD_SLOTS);
        let count = padme(full.len().max(1));
        (1..=count)
            .map(|place| {
                let finish = (place == count).then_some(finish);
                let words = full.next().unwrap_or_default();
                self.slots(RecordKind::Vectors, words, finish)
            })
            .collect()
    }

    /// The records of the receipt.
    pub fn receipt(&mut self, receipt: &[u8]) -> Vec<RecordBytes> {
        self.statement(RecordKind::Receipt, receipt)
    }

    /// The record of a failure.
    pub fn failure(&mut self, failure: JobFailure) -> Vec<RecordBytes> {
        self.statement(RecordKind::Failure, &[failure as u8])
    }

    /// The last link of the chain.
    pub fn chain(&self) -> Digest {
        self.state.chain
    }

    /// The records in the chain.
    pub fn chained(&self) -> u32 {
        self.state.chained
    }

    fn slots(
        &mut self,
        kind: RecordKind,
        words: &[[u8; 4]],
        finish: Option<Finish>,
    ) -> RecordBytes {
        let mut content = [0; CONTENT_BYTES];
        let (slots, _) = content.as_chunks_mut::<4>();
        let count = words.len().min(slots.len());
        slots[..count].copy_from_slice(&words[..count]);
        self.state.meter += self.state.metered(kind, count);
        let record = self.record(kind, count, finish, content);
        self.state.link(&record);
        record
    }

    fn statement(&mut self, kind: RecordKind, bytes: &[u8]) -> Vec<RecordBytes> {
        let mut parts = bytes.chunks(CONTENT_BYTES).peekable();
        let mut records = Vec::new();
        while let Some(part) = parts.next() {
            let mut content = [0; CONTENT_BYTES];
            content[..part.len()].copy_from_slice(part);
            let finish = parts.peek().is_none().then_some(Finish::Stop);
            records.push(self.record(kind, part.len(), finish, content));
        }
        records
    }

    fn record(
        &mut self,
        kind: RecordKind,
        count: usize,
        finish: Option<Finish>,
        content: [u8; CONTENT_BYTES],
    ) -> RecordBytes {
        let (sequence, meter) = (self.state.sequence, self.state.meter);
        self.state.sequence += 1;
        let width = match (kind, count) {
            (RecordKind::Vectors | RecordKind::Scored, 1..) => self.state.width,
            _ => 0,
        };
        Record {
            kind,
            count,
            finish,
            sequence,
            meter,
            width,
            content,
        }
        .encode()
    }
}

/// The tokens of a record, unless a log probability is not finite.
fn scored(record: &Record, width: u32) -> Option<Vec<Scored>> {
    let words: Vec<u32> = record.words().collect();
    let tokens = words.chunks_exact(width.max(2) as usize).map(|token| {
        let (pairs, _) = token.as_chunks::<2>();
        let pairs = pairs.iter().map(|[id, bits]| (*id, f32::from_bits(*bits)));
        let mut pairs = pairs.collect::<Vec<_>>();
        let (id, logprob) = pairs.remove(0);
        let finite = logprob.is_finite() && pairs.iter().all(|(_, logprob)| logprob.is_finite());
        let top = pairs;
        finite.then_some(Scored { id, logprob, top })
    });
    tokens.collect()
}

/// What an answer of `endpoint` is made of.
fn kind(endpoint: Endpoint) -> RecordKind {
    match endpoint {
        Endpoint::Embeddings | Endpoint::Rerank => RecordKind::Vectors,
        Endpoint::Chat => RecordKind::Ids,
    }
}

impl AnswerReader {
    /// The answer of `endpoint` to the job of this envelope.
    pub fn new(endpoint: Endpoint, envelope: EnvelopeDigest) -> Self {
        AnswerReader {
            endpoint,
            state: State::new(envelope),
            finished: false,
            receipt: Vec::new(),
            ended: false,
        }
    }

    /// The completion of the job of this envelope, with the log probabilities of so many alternatives of each token.
    pub fn with_logprobs(envelope: EnvelopeDigest, alternatives: usize) -> Self {
        let mut reader = AnswerReader::new(Endpoint::Chat, envelope);
        reader.state.width = scored_width(alternatives) as u32;
        reader
    }

    /// Takes the next record.
    pub fn take(&mut self, bytes: &RecordBytes) -> Result<AnswerEvent, RecordError> {
        let record = Record::decode(bytes)?;
        let (kind, finish) = (record.kind, record.finish);
        if self.ended {
            return Err(RecordError::OutOfPlace(kind));
        }
        if record.sequence != self.state.sequence {
            let (got, want) = (record.sequence, self.state.sequence);
            return Err(RecordError::Sequence { got, want });
        }
        self.state.sequence += 1;
        match (kind, self.endpoint, self.finished) {
            (RecordKind::Scored, Endpoint::Chat, false) if self.state.width > 0 => {
                let (got, want) = (record.width, self.state.width);
                if record.count > 0 && got != want {
                    return Err(RecordError::Width { got, want });
                }
                let tokens = COMPLETION_TOKENS_MAX as usize;
                self.slots(bytes, &record, tokens, "a completion")?;
                let tokens = scored(&record, want).ok_or(RecordError::NotFinite)?;
                Ok(AnswerEvent::Scored { tokens, finish })
            }
            (RecordKind::Ids, Endpoint::Chat, false) if self.state.width == 0 => {
                self.slots(
                    bytes,
                    &record,
                    COMPLETION_TOKENS_MAX as usize,
                    "a completion",
                )?;
                let ids = record.words().collect();
                Ok(AnswerEvent::Ids { ids, finish })
            }
            (RecordKind::Vectors, Endpoint::Embeddings | Endpoint::Rerank, false) => {
                self.slots(bytes, &record, VECTOR_NUMBERS_MAX, "vectors")?;
                self.widths(&record)?;
                let width = record.width;
                let numbers: Vec<f32> = record.words().map(f32::from_bits).collect();
                match numbers.iter().all(|number| number.is_finite()) {
                    true => Ok(AnswerEvent::Vectors {
                        numbers,
                        width,
                        finish,
                    }),
                    false => Err(RecordError::NotFinite),
                }
            }
            (RecordKind::Receipt, _, true) => self.receipt(&record),
            (RecordKind::Failure, _, _) if self.receipt.is_empty() => self.failure(&record),
            _ => Err(RecordError::OutOfPlace(kind)),
        }
    }

    /// The last link of the chain.
    pub fn chain(&self) -> Digest {
        self.state.chain
    }

    /// The records in the chain.
    pub fn chained(&self) -> u32 {
        self.state.chained
    }

    /// All records so far.
    pub fn taken(&self) -> u32 {
        self.state.sequence
    }

    fn slots(
        &mut self,
        bytes: &RecordBytes,
        record: &Record,
        max: usize,
        what: &'static str,
    ) -> Result<(), RecordError> {
        self.state.meter += self.state.metered(record.kind, record.count);
        let (got, want) = (record.meter, self.state.meter);
        if got != want {
            return Err(RecordError::Meter { got, want });
        }
        if want > max as u64 {
            return Err(RecordError::TooLong(what));
        }
        self.finished = record.finish.is_some();
        self.state.link(bytes);
        Ok(())
    }

    /// All vectors have one width, and the last one is whole.
    fn widths(&mut self, record: &Record) -> Result<(), RecordError> {
        let (got, want) = (record.width, self.state.width);
        if got != 0 && want != 0 && got != want {
            return Err(RecordError::Width { got, want });
        }
        let width = got.max(want);
        // A score is a vector of one number.
        if self.endpoint == Endpoint::Rerank && width > 1 {
            return Err(RecordError::Width { got, want: 1 });
        }
        self.state.width = width;
        match record.finish.is_some() && !self.state.meter.is_multiple_of(width.max(1).into()) {
            true => Err(RecordError::Width { got, want: width }),
            false => Ok(()),
        }
    }

    fn receipt(&mut self, record: &Record) -> Result<AnswerEvent, RecordError> {
        self.unmetered(record)?;
        if self.receipt.len() + record.count > RECEIPT_BYTES_MAX {
            return Err(RecordError::TooLong("a receipt"));
        }
        self.receipt
            .extend_from_slice(&record.content[..record.count]);
        // A part that is not the last fills its record, so that a receipt has one encoding.
        match (record.finish, record.count) {
            (Some(_), 1..) => {
                self.ended = true;
                Ok(AnswerEvent::Receipt(std::mem::take(&mut self.receipt)))
            }
            (None, CONTENT_BYTES) => Ok(AnswerEvent::Part),
            (_, got) => Err(RecordError::Field {
                field: "count",
                got: got as u64,
            }),
        }
    }

    fn failure(&mut self, record: &Record) -> Result<AnswerEvent, RecordError> {
        self.unmetered(record)?;
        self.ended = true;
        match (record.finish, record.count, record.content[0]) {
            (Some(_), 1, 1) => Ok(AnswerEvent::Failure(JobFailure::Engine)),
            (.., other) => Err(RecordError::Field {
                field: "failure",
                got: other.into(),
            }),
        }
    }

    fn unmetered(&self, record: &Record) -> Result<(), RecordError> {
        match (record.meter, self.state.meter) {
            (got, want) if got == want => Ok(()),
            (got, want) => Err(RecordError::Meter { got, want }),
        }
    }
}

#[cfg(test)]
mod tests;
