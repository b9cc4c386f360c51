//! Records: what a sealed answer is made of. Each has 512 bytes, whatever is in it, and one leaves in each interval even if
//! it is empty, so that a proxy sees steps and not tokens. All numbers are little-endian.
//!
//! ```text
//!   at  bytes
//!    0  4    kind: 1 token ids, 2 vectors, 3 receipt, 4 failure, 5 token ids with log probabilities
//!    4  4    count: slots or bytes in use
//!    8  4    finish: 0 more follows; 1 stop, 2 length, 3 deadline, 4 cancelled, 5 stalled; of a receipt or a
//!            failure, 1 it is whole
//!   12  4    sequence: the place of this record in the answer, from 0
//!   16  8    meter: ids or numbers so far, these included
//!   24  4    width: numbers of one vector, or slots of one id with its log probabilities, in a record that holds some
//!   28  4    reserved, zeros
//!   32  480  120 slots: ids, numbers as f32, or the bytes of a receipt or a failure; zeros beyond the count
//! ```
//!
//! An id with log probabilities has 2, 12 or 42 slots: itself, its log probability as f32, and 0, 5 or 20 pairs of the likeliest
//! ids and theirs.

use crate::Finish;
use crate::limits::{LOGPROBS, RECORD_BYTES, RECORD_SLOTS};

/// A record as it travels.
pub type RecordBytes = [u8; RECORD_BYTES];

pub(crate) const CONTENT_BYTES: usize = 4 * RECORD_SLOTS;
const HEADER_BYTES: usize = RECORD_BYTES - CONTENT_BYTES;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum RecordKind {
    /// Token ids of a completion.
    Ids = 1,
    /// Numbers of vectors.
    Vectors = 2,
    /// A part of the receipt, with which a complete answer ends.
    Receipt = 3,
    /// A [`crate::JobFailure`]: the job was accepted and then failed.
    Failure = 4,
    /// Token ids of a completion with log probabilities.
    Scored = 5,
}

/// Slots of an id with the log probabilities of so many alternatives.
pub(crate) const fn scored_width(alternatives: usize) -> usize {
    2 + 2 * alternatives
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it holds.
    pub kind: RecordKind,
    /// Ids, numbers or bytes in use.
    pub count: usize,
    /// Why the answer ended, in the last record of its kind. A receipt or a failure that is whole says `Stop`.
    pub finish: Option<Finish>,
    /// Its place in the answer.
    pub sequence: u32,
    /// Ids or numbers so far, these included.
    pub meter: u64,
    /// Numbers of one vector.
    pub width: u32,
    /// The slots.
    pub content: [u8; CONTENT_BYTES],
}

/// Bytes inside the seal that are not the records of an answer. The guest is at fault: nobody else could write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum RecordError {
    #[error("a record inside the sealed answer has {0} bytes instead of {RECORD_BYTES}")]
    Length(usize),
    #[error("a record's {field} is {got}, which has no meaning")]
    Field { field: &'static str, got: u64 },
    #[error("a record is padded with something other than zeros")]
    Padding,
    #[error("record {got} comes where record {want} should")]
    Sequence { got: u32, want: u32 },
    #[error("a record's meter says {got}, the records so far hold {want}")]
    Meter { got: u64, want: u64 },
    #[error("a record of {0:?} is out of place")]
    OutOfPlace(RecordKind),
    #[error("the answer holds more than {0} may have")]
    TooLong(&'static str),
    #[error("a number of a vector is not finite")]
    NotFinite,
    #[error("vectors of {got} numbers follow vectors of {want}, or one is cut")]
    Width { got: u32, want: u32 },
}

impl Record {
    /// The bytes that travel.
    pub fn encode(&self) -> RecordBytes {
        let mut bytes = [0; RECORD_BYTES];
        let finish = self.finish.map_or(0, |finish| finish as u32 + 1);
        let header = [self.kind as u32, self.count as u32, finish, self.sequence];
        for (slot, number) in bytes.chunks_exact_mut(4).zip(header) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        bytes[16..24].copy_from_slice(&self.meter.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.width.to_le_bytes());
        bytes[HEADER_BYTES..].copy_from_slice(&self.content);
        bytes
    }

    /// Decodes one record. Its slots are not looked at beyond the zeros behind them.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let whole: &RecordBytes =
            { bytes.try_into() }.map_err(|_| RecordError::Length(bytes.len()))?;
        let number = |at: usize| {
            let four = [whole[at], whole[at + 1], whole[at + 2], whole[at + 3]];
            u32::from_le_bytes(four)
        };
        let odd = |field, got: u32| RecordError::Field {
            field,
            got: got.into(),
        };
        let kind = match number(0) {
            1 => RecordKind::Ids,
            2 => RecordKind::Vectors,
            3 => RecordKind::Receipt,
            4 => RecordKind::Failure,
            5 => RecordKind::Scored,
            other => return Err(odd("kind", other)),
        };
        let statement = matches!(kind, RecordKind::Receipt | RecordKind::Failure);
        let (unit, max) = match statement {
            true => (1, CONTENT_BYTES),
            false => (4, RECORD_SLOTS),
        };
        let count = match number(4) as usize {
            count if count <= max => count,
            _ => return Err(odd("count", number(4))),
        };
        let finish = match (number(8), statement) {
            (0, _) => None,
            (1, _) => Some(Finish::Stop),
            (2, false) => Some(Finish::Length),
            (3, false) => Some(Finish::Deadline),
            (4, false) => Some(Finish::Cancelled),
            (5, false) => Some(Finish::Stalled),
            (other, _) => return Err(odd("finish", other)),
        };
        let width = number(24);
        let fits = match (kind, count) {
            (RecordKind::Vectors, 1..) => width != 0,
            (RecordKind::Scored, 1..) => {
                let widths = LOGPROBS.map(scored_width);
                widths.contains(&(width as usize)) && count.is_multiple_of(width as usize)
            }
            _ => width == 0,
        };
        if !fits {
            return Err(odd("width", width));
        }
        let meter = u64::from(number(16)) | u64::from(number(20)) << 32;
        let mut content = [0; CONTENT_BYTES];
        content.copy_from_slice(&whole[HEADER_BYTES..]);
        let padding = whole[28..HEADER_BYTES]
            .iter()
            .chain(&content[unit * count..]);
        if padding.fold(0, |all, byte| all | byte) != 0 {
            return Err(RecordError::Padding);
        }
        Ok(Record {
            kind,
            count,
            finish,
            sequence: number(12),
            meter,
            width,
            content,
        })
    }

    /// The words in use.
    pub(crate) fn words(&self) -> impl Iterator<Item = u32> {
        let (words, _) = self.content.as_chunks::<4>();
        words[..self.count]
            .iter()
            .map(|word| u32::from_le_bytes(*word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> Record {
        let mut content = [0; CONTENT_BYTES];
        content[..8].copy_from_slice(&[7, 0, 0, 0, 0x70, 0x11, 1, 0]);
        Record {
            kind: RecordKind::Ids,
            count: 2,
            finish: Some(Finish::Length),
            sequence: 3,
            meter: 0x1_0000_0002,
            width: 0,
            content,
        }
    }

    /// Written down by hand from the table above.
    #[test]
    fn the_bytes_are_those_of_the_table() {
        let mut expected = hex::decode(
            "01000000 02000000 02000000 03000000 0200000001000000 00000000 00000000 07000000 70110100"
                .replace(' ', ""),
        )
        .unwrap();
        expected.resize(RECORD_BYTES, 0);
        assert_eq!(ids().encode()[..], expected);
        assert_eq!(ids().words().collect::<Vec<_>>(), [7, 70_000]);
    }

    #[test]
    fn a_record_comes_back_and_no_flipped_bit_leaves_the_same_one() {
        let kinds = [
            RecordKind::Vectors,
            RecordKind::Receipt,
            RecordKind::Failure,
        ];
        let scored = Record {
            kind: RecordKind::Scored,
            count: 24,
            width: 12,
            ..ids()
        };
        let others = kinds.map(|kind| Record {
            kind,
            count: 60,
            finish: None,
            width: u32::from(kind == RecordKind::Vectors),
            ..ids()
        });
        let others = others.into_iter().chain([scored]);
        for record in [ids()].into_iter().chain(others) {
            let bytes = record.encode();
            assert_eq!(Record::decode(&bytes), Ok(record.clone()));
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut flipped = bytes;
                    flipped[at] ^= 1 << bit;
                    let read = Record::decode(&flipped);
                    assert_ne!(read.as_ref(), Ok(&record), "byte {at} bit {bit}");
                    if let Ok(read) = read {
                        assert_eq!(read.encode(), flipped, "byte {at} bit {bit}");
                    }
                }
                assert!(Record::decode(&bytes[..at]).is_err());
            }
        }
    }

    #[test]
    fn broken_records_are_refused() {
        let with = |at: usize, byte: u8| {
            let mut bytes = ids().encode();
            bytes[at] = byte;
            Record::decode(&bytes).err()
        };
        let odd = |field, got| Some(RecordError::Field { field, got });
        assert_eq!(with(0, 9), odd("kind", 9));
        assert_eq!(with(4, 121), odd("count", 121));
        assert_eq!(with(8, 6), odd("finish", 6));
        assert_eq!(with(24, 1), odd("width", 1));
        assert_eq!(with(28, 1), Some(RecordError::Padding));
        assert_eq!(with(40, 1), Some(RecordError::Padding));
        assert_eq!(with(511, 1), Some(RecordError::Padding));
        assert_eq!(with(39, 1), None, "an id is not looked at");
        let scored = |count: u8, width: u8| {
            let mut bytes = ids().encode();
            (bytes[0], bytes[4], bytes[24]) = (5, count, width);
            Record::decode(&bytes).err()
        };
        assert_eq!(scored(2, 2), None);
        for (count, width) in [(2, 0), (2, 1), (2, 12), (12, 4), (14, 12)] {
            assert_eq!(scored(count, width), odd("width", width.into()));
        }
        assert_eq!(Record::decode(&[0; 513]), Err(RecordError::Length(513)));
        let mut receipt = Record {
            kind: RecordKind::Receipt,
            ..ids()
        }
        .encode();
        assert_eq!(Record::decode(&receipt).err(), odd("finish", 2));
        receipt[8] = 1;
        assert_eq!(Record::decode(&receipt).err(), Some(RecordError::Padding));
    }
}
