//! A sealed answer: its records in order, as a guest writes them and a client reads them.
//!
//! ```text
//!  completion:  Ids* or Scored* (some empty), the last one with its finish ─► Receipt+
//!  embeddings:  Vectors* (some empty), the last one likewise     ─► Receipt+      or, at any time, ─► Failure
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
        Endpoint::Embeddings => RecordKind::Vectors,
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
            (RecordKind::Vectors, Endpoint::Embeddings, false) => {
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
mod tests {
    use super::*;

    const ENVELOPE: EnvelopeDigest = EnvelopeDigest([7; 32]);

    fn read(endpoint: Endpoint, records: &[RecordBytes]) -> Result<Vec<AnswerEvent>, RecordError> {
        let mut reader = AnswerReader::new(endpoint, ENVELOPE);
        records.iter().map(|record| reader.take(record)).collect()
    }

    fn completion(receipt: &[u8]) -> Vec<RecordBytes> {
        let mut writer = AnswerWriter::new(Endpoint::Chat, ENVELOPE);
        let mut records = vec![
            writer.ids(&[], None),
            writer.ids(&[1, 70_000], None),
            writer.ids(&[2], Some(Finish::Stop)),
        ];
        records.extend(writer.receipt(receipt));
        records
    }

    #[test]
    fn both_sides_agree_about_events_numbers_and_chain() {
        let mut writer = AnswerWriter::new(Endpoint::Chat, ENVELOPE);
        let mut reader = AnswerReader::new(Endpoint::Chat, ENVELOPE);
        let ids = |ids: &[u32], finish| AnswerEvent::Ids {
            ids: ids.into(),
            finish,
        };
        for (tokens, finish) in [
            (&[][..], None),
            (&[1, 70_000], None),
            (&[2; 120], Some(Finish::Length)),
        ] {
            let record = writer.ids(tokens, finish);
            assert_eq!(reader.take(&record), Ok(ids(tokens, finish)));
        }
        assert_eq!((writer.chain(), writer.chained()), (reader.chain(), 3));
        let receipt: Vec<u8> = (0..1000).map(|n| n as u8).collect();
        let records = writer.receipt(&receipt);
        assert_eq!(records.len(), 3);
        for record in &records[..2] {
            assert_eq!(reader.take(record), Ok(AnswerEvent::Part));
        }
        assert_eq!(reader.take(&records[2]), Ok(AnswerEvent::Receipt(receipt)));
        assert_eq!(
            reader.chained(),
            3,
            "a receipt is not part of what it names"
        );

        let mut writer = AnswerWriter::new(Endpoint::Embeddings, ENVELOPE);
        let numbers: Vec<f32> = (0..500).map(|n| n as f32 / 3.0).collect();
        let mut vectors = vec![writer.empty()];
        vectors.extend(writer.vectors(&numbers, 50, Finish::Stop));
        let (mut read_numbers, mut finishes) = (Vec::new(), 0);
        for event in read(Endpoint::Embeddings, &vectors).unwrap() {
            let AnswerEvent::Vectors {
                numbers,
                finish,
                width,
            } = event
            else {
                panic!("{event:?}")
            };
            assert!(width == 50 || numbers.is_empty());
            read_numbers.extend(numbers);
            finishes += usize::from(finish.is_some());
        }
        assert_eq!((read_numbers, finishes), (numbers, 1));
        let out_of_place = Err(RecordError::OutOfPlace(RecordKind::Vectors));
        assert_eq!(read(Endpoint::Chat, &vectors), out_of_place);
    }

    #[test]
    fn log_probabilities_travel_with_their_tokens_and_are_metered_by_token() {
        let scored = |id: u32, top: usize| Scored {
            id,
            logprob: -0.5,
            top: (0..top as u32).map(|n| (n, -1.0 - n as f32)).collect(),
        };
        for (alternatives, fit) in [(0, 60), (5, 10), (20, 2)] {
            let mut writer = AnswerWriter::with_logprobs(ENVELOPE, alternatives);
            let mut reader = AnswerReader::with_logprobs(ENVELOPE, alternatives);
            assert_eq!(writer.tokens_max(), fit);
            let tokens: Vec<_> = (0..fit as u32).map(|id| scored(id, alternatives)).collect();
            let records = [
                (writer.empty(), vec![], None),
                (writer.scored(&tokens, None), tokens, None),
                (
                    writer.scored(&[scored(70_000, alternatives)], Some(Finish::Stop)),
                    vec![scored(70_000, alternatives)],
                    Some(Finish::Stop),
                ),
            ];
            for (record, tokens, finish) in records {
                assert_eq!(
                    reader.take(&record),
                    Ok(AnswerEvent::Scored { tokens, finish })
                );
            }
            assert_eq!(
                (writer.chain(), reader.state.meter),
                (reader.chain(), fit as u64 + 1)
            );
            assert_eq!(
                reader.take(&writer.receipt(b"r")[0]),
                Ok(AnswerEvent::Receipt(b"r".into()))
            );
        }
        // Fewer or more alternatives than asked for, ids alone where more is asked for, and the other way round.
        let mut writer = AnswerWriter::with_logprobs(ENVELOPE, 5);
        let few =
            AnswerReader::with_logprobs(ENVELOPE, 5).take(&writer.scored(&[scored(1, 2)], None));
        let Ok(AnswerEvent::Scored { tokens, .. }) = few else {
            panic!("{few:?}")
        };
        assert_eq!(tokens[0].top[1..], [(1, -2.0); 4]);
        let record = AnswerWriter::with_logprobs(ENVELOPE, 5).scored(&[scored(1, 5)], None);
        let other = AnswerReader::with_logprobs(ENVELOPE, 20).take(&record);
        assert_eq!(other, Err(RecordError::Width { got: 12, want: 42 }));
        let place = |kind| Err(RecordError::OutOfPlace(kind));
        let plain = AnswerReader::new(Endpoint::Chat, ENVELOPE).take(&record);
        assert_eq!(plain, place(RecordKind::Scored));
        let ids = AnswerWriter::new(Endpoint::Chat, ENVELOPE).ids(&[1], None);
        let asked = AnswerReader::with_logprobs(ENVELOPE, 0).take(&ids);
        assert_eq!(asked, place(RecordKind::Ids));
        let mut infinite = scored(1, 0);
        infinite.logprob = f32::NEG_INFINITY;
        let record = AnswerWriter::with_logprobs(ENVELOPE, 0).scored(&[infinite], None);
        let read = AnswerReader::with_logprobs(ENVELOPE, 0).take(&record);
        assert_eq!(read, Err(RecordError::NotFinite));
    }

    #[test]
    fn vectors_have_one_width_and_are_whole() {
        let mut writer = AnswerWriter::new(Endpoint::Embeddings, ENVELOPE);
        let cut = writer.vectors(&[0.5; 7], 2, Finish::Stop);
        let refused = Err(RecordError::Width { got: 2, want: 2 });
        assert_eq!(read(Endpoint::Embeddings, &cut), refused);
        let mut writer = AnswerWriter::new(Endpoint::Embeddings, ENVELOPE);
        let mut records = writer.vectors(&[0.5; 240], 2, Finish::Deadline);
        records[1][24] = 3;
        let refused = Err(RecordError::Width { got: 3, want: 2 });
        assert_eq!(read(Endpoint::Embeddings, &records), refused);
    }

    /// What 40 records need takes 40, and so does what 39 need.
    #[test]
    fn the_length_of_vectors_is_a_bucket() {
        let records = |numbers: usize| {
            let mut writer = AnswerWriter::new(Endpoint::Embeddings, ENVELOPE);
            writer.vectors(&vec![0.5; numbers], 1, Finish::Stop).len()
        };
        assert_eq!(records(0), 1);
        assert_eq!(records(120), 1);
        assert_eq!(records(121), 2);
        assert_eq!(records(39 * RECORD_SLOTS), 40);
        assert_eq!(records(40 * RECORD_SLOTS), 40);
    }

    #[test]
    fn records_out_of_order_or_after_the_end_are_refused() {
        let records = completion(b"receipt");
        assert!(read(Endpoint::Chat, &records).is_ok());
        let without = |at: usize| {
            let mut records = records.clone();
            records.remove(at);
            read(Endpoint::Chat, &records).err()
        };
        for at in 0..3 {
            let (got, want) = (at as u32 + 1, at as u32);
            assert_eq!(without(at), Some(RecordError::Sequence { got, want }));
        }
        let mut twice = records.clone();
        twice.push(records[3]);
        let out_of_place = Some(RecordError::OutOfPlace(RecordKind::Receipt));
        assert_eq!(read(Endpoint::Chat, &twice).err(), out_of_place);
        // A receipt before the end, and ids after it.
        let mut writer = AnswerWriter::new(Endpoint::Chat, ENVELOPE);
        let early = writer.receipt(b"receipt");
        assert_eq!(read(Endpoint::Chat, &early).err(), out_of_place);
        let mut writer = AnswerWriter::new(Endpoint::Chat, ENVELOPE);
        let late = [writer.ids(&[], Some(Finish::Stop)), writer.ids(&[1], None)];
        let out_of_place = Some(RecordError::OutOfPlace(RecordKind::Ids));
        assert_eq!(read(Endpoint::Chat, &late).err(), out_of_place);
    }

    #[test]
    fn a_meter_a_number_or_a_failure_that_is_wrong_is_refused() {
        let changed = |at: usize, byte: u8| {
            let mut records = completion(b"receipt");
            records[1][at] = byte;
            read(Endpoint::Chat, &records).err()
        };
        assert_eq!(changed(16, 3), Some(RecordError::Meter { got: 3, want: 2 }));
        for number in [f32::NAN, f32::INFINITY] {
            let mut writer = AnswerWriter::new(Endpoint::Embeddings, ENVELOPE);
            let records = writer.vectors(&[number], 1, Finish::Stop);
            let refused = Err(RecordError::NotFinite);
            assert_eq!(read(Endpoint::Embeddings, &records), refused);
        }
        let mut writer = AnswerWriter::new(Endpoint::Chat, ENVELOPE);
        let mut failure = writer.failure(JobFailure::Engine);
        let engine = vec![AnswerEvent::Failure(JobFailure::Engine)];
        assert_eq!(read(Endpoint::Chat, &failure), Ok(engine));
        failure[0][32] = 9;
        let odd = RecordError::Field {
            field: "failure",
            got: 9,
        };
        assert_eq!(read(Endpoint::Chat, &failure), Err(odd));
        // A receipt whose first part is not full, or that never ends.
        let mut parts = completion(&[7; 481]);
        assert!(read(Endpoint::Chat, &parts).is_ok());
        parts[3][4] = 0;
        assert!(read(Endpoint::Chat, &parts).is_err());
        let long = completion(&[7; RECEIPT_BYTES_MAX + 1]);
        assert_eq!(
            read(Endpoint::Chat, &long).err(),
            Some(RecordError::TooLong("a receipt"))
        );
    }
}
