//! Records: the content of a sealed answer. Each is `kind, u32 length, payload, zeros`, padded to a multiple of
//! 512 bytes, so that a proxy sees steps and not tokens. Payloads form a hash chain: a partial answer is provable too.

use crate::limits::{RECORD_PAYLOAD_BYTES_MAX, RECORD_STEP_BYTES};
use crate::{Digest, EnvelopeDigest, sha256};

const HEADER_BYTES: usize = 5;
const MORE: u8 = 0x80;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// A [`crate::AnswerEvent`].
    Event = 1,
    /// The receipt, the last record of a complete answer.
    Receipt = 2,
    /// A [`crate::JobFailure`]: the job was accepted and then failed. Nothing is charged.
    Failure = 3,
}

/// A record's payload, put together when it came in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it holds.
    pub kind: RecordKind,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// Bytes inside the seal that are not records. The guest is at fault: nobody else could write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum RecordError {
    #[error("a record inside the sealed answer is cut short")]
    Truncated,
    #[error("record kind {0} is unknown")]
    Kind(u8),
    #[error("a record is padded with something other than zeros")]
    Padding,
    #[error("a record in parts is interrupted by another kind, or too long")]
    Parts,
}

/// A payload as one or more padded records.
pub fn encode_record(kind: RecordKind, payload: &[u8]) -> Vec<Vec<u8>> {
    let kind = kind as u8;
    let parts: Vec<&[u8]> = match payload {
        [] => vec![&[]],
        _ => payload.chunks(RECORD_PAYLOAD_BYTES_MAX).collect(),
    };
    let last = parts.len() - 1;
    let padded = parts.iter().enumerate().map(|(index, part)| {
        let mut record = vec![if index == last { kind } else { kind | MORE }];
        record.extend_from_slice(&(part.len() as u32).to_be_bytes());
        record.extend_from_slice(part);
        record.resize(record.len().next_multiple_of(RECORD_STEP_BYTES), 0);
        record
    });
    padded.collect()
}

/// Puts records together from the content chunks of an answer.
#[derive(Debug, Default)]
pub struct RecordReader {
    partial: Option<(u8, Vec<u8>)>,
}

impl RecordReader {
    /// Takes one padded record; gives a whole one when it is complete. `bytes_max` bounds a record in parts.
    pub fn take(&mut self, padded: &[u8], bytes_max: usize) -> Result<Option<Record>, RecordError> {
        let (header, rest) = padded
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(RecordError::Truncated)?;
        let [tag, length @ ..] = *header;
        let (payload, zeros) = rest
            .split_at_checked(u32::from_be_bytes(length) as usize)
            .ok_or(RecordError::Truncated)?;
        if zeros.iter().any(|b| *b != 0) || zeros.len() >= RECORD_STEP_BYTES {
            return Err(RecordError::Padding);
        }
        let number = tag & !MORE;
        let mut whole = match self.partial.take() {
            Some((other, _)) if other != number => return Err(RecordError::Parts),
            Some((_, bytes)) => bytes,
            None => Vec::new(),
        };
        if whole.len() + payload.len() > bytes_max {
            return Err(RecordError::Parts);
        }
        whole.extend_from_slice(payload);
        let kind = match number {
            1 => RecordKind::Event,
            2 => RecordKind::Receipt,
            3 => RecordKind::Failure,
            other => return Err(RecordError::Kind(other)),
        };
        if tag & MORE != 0 {
            self.partial = Some((number, whole));
            return Ok(None);
        }
        Ok(Some(Record {
            kind,
            payload: whole,
        }))
    }
}

/// The start of the chain over an answer's events.
pub fn frame_chain_start(envelope: EnvelopeDigest) -> Digest {
    sha256("chrysalis/frames/v1", &[&envelope.0])
}

/// The chain after one more event.
pub fn frame_chain(before: Digest, event: &[u8]) -> Digest {
    sha256("chrysalis/frame/v1", &[&before.0, event])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_takes_steps_of_512_bytes_and_comes_back() {
        for length in [
            0,
            1,
            507,
            508,
            RECORD_PAYLOAD_BYTES_MAX,
            RECORD_PAYLOAD_BYTES_MAX + 1,
            40_000,
        ] {
            let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let (mut reader, mut out) = (RecordReader::default(), None);
            for part in encode_record(RecordKind::Event, &payload) {
                assert_eq!(part.len() % RECORD_STEP_BYTES, 0);
                assert_eq!(out, None);
                out = reader.take(&part, 50_000).unwrap();
            }
            assert_eq!(
                out,
                Some(Record {
                    kind: RecordKind::Event,
                    payload
                })
            );
        }
    }

    #[test]
    fn broken_records_are_refused() {
        let take = |bytes: &[u8]| RecordReader::default().take(bytes, 1000);
        let good = encode_record(RecordKind::Event, b"event").concat();
        assert_eq!(take(&good[..4]), Err(RecordError::Truncated));
        let mut padding = good.clone();
        padding[511] = 1;
        assert_eq!(take(&padding), Err(RecordError::Padding));
        let mut kind = good.clone();
        kind[0] = 9;
        assert_eq!(take(&kind), Err(RecordError::Kind(9)));
        let mut length = good.clone();
        length[1] = 0xff;
        assert_eq!(take(&length), Err(RecordError::Truncated));
        let mut reader = RecordReader::default();
        let mut part = good;
        part[0] |= MORE;
        assert_eq!(reader.take(&part, 1000), Ok(None));
        let receipt = encode_record(RecordKind::Receipt, b"r").concat();
        assert_eq!(reader.take(&receipt, 1000), Err(RecordError::Parts));
    }
}
