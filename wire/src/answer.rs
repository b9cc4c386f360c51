//! The events of a sealed answer: what a guest writes into records of kind [`crate::RecordKind::Event`] and
//! [`crate::RecordKind::Failure`], and a client reads.

use crate::Finish;
use crate::cbor::{self, Malformed};
use crate::limits::{ANSWER_BYTES_MAX, INPUTS_MAX};
use minicbor::{Decode, Encode};

const WHAT: &str = "answer event";

/// One event. A completion is a `Start`, any number of `Text`, and one `End`; an embeddings request has one event.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum AnswerEvent {
    /// A completion begins: nothing is generated yet.
    #[n(0)]
    Start,
    /// The next text of a completion.
    #[n(1)]
    Text {
        /// The text.
        #[n(0)]
        content: String,
        /// Exactly the tokens that made it, so that the client can recount.
        #[n(1)]
        token_ids: Vec<u32>,
    },
    /// A completion is whole.
    #[n(2)]
    End {
        /// Tokens since the last text that made none.
        #[n(0)]
        token_ids: Vec<u32>,
        /// Why it ended.
        #[n(1)]
        finish: Finish,
    },
    /// The vectors, all of one length, in the order of the inputs.
    #[n(3)]
    Embeddings(#[n(0)] Vectors),
}

/// Vectors of one length, as 32-bit floats in little-endian order: what the OpenAI API calls `base64`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Vectors {
    #[n(0)]
    count: u32,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    values: Vec<u8>,
}

/// Why an accepted job has no result. Nothing is charged for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[cbor(index_only)]
#[expect(missing_docs)]
pub enum JobFailure {
    #[n(0)]
    #[error("the engine failed")]
    Engine,
}

impl AnswerEvent {
    /// The deterministic encoding: a record's payload.
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Decodes a record's payload.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let event: AnswerEvent = cbor::from_slice(WHAT, bytes, ANSWER_BYTES_MAX)?;
        match &event {
            AnswerEvent::Embeddings(vectors) if !vectors.are_whole() => Err(Malformed::Field {
                what: WHAT,
                field: "vectors",
            }),
            _ => Ok(event),
        }
    }

    /// Whether it carries something that was computed: the first such event ends the wait for the first token.
    pub fn has_content(&self) -> bool {
        match self {
            AnswerEvent::Start => false,
            AnswerEvent::Text { token_ids, .. } | AnswerEvent::End { token_ids, .. } => {
                !token_ids.is_empty()
            }
            AnswerEvent::Embeddings(_) => true,
        }
    }
}

impl Vectors {
    /// The vectors of one model, which are all of the length of the first.
    pub fn new(vectors: &[Vec<f32>]) -> Self {
        let values = vectors.iter().flatten();
        Vectors {
            count: vectors.len() as u32,
            values: values.flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    /// The bytes of each.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let bytes = self.values.len() / (self.count as usize).max(1);
        self.values.chunks_exact(bytes.max(1))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// At least one of them, each of the same number of finite floats.
    fn are_whole(&self) -> bool {
        let (floats, rest) = self.values.as_chunks::<4>();
        (1..=INPUTS_MAX).contains(&self.count())
            && rest.is_empty()
            && !floats.is_empty()
            && floats.len() % self.count() == 0
            && floats
                .iter()
                .all(|bytes| f32::from_le_bytes(*bytes).is_finite())
    }
}

impl JobFailure {
    /// The deterministic encoding: a record's payload.
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Decodes a record's payload.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        cbor::from_slice("job failure", bytes, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Vec<AnswerEvent> {
        vec![
            AnswerEvent::Start,
            AnswerEvent::Text {
                content: "h\u{e9}".into(),
                token_ids: vec![1, 70_000],
            },
            AnswerEvent::End {
                token_ids: vec![],
                finish: Finish::Length,
            },
            AnswerEvent::Embeddings(Vectors::new(&[vec![0.5, -1.0], vec![0.0, 3.0]])),
        ]
    }

    #[test]
    fn events_come_back_as_they_were_and_no_flipped_byte_leaves_the_same_one() {
        for event in events() {
            let bytes = event.encode();
            assert_eq!(AnswerEvent::decode(&bytes), Ok(event.clone()));
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut flipped = bytes.clone();
                    flipped[at] ^= 1 << bit;
                    let read = AnswerEvent::decode(&flipped);
                    assert_ne!(read.as_ref(), Ok(&event), "byte {at} bit {bit}");
                    if let Ok(read) = read {
                        assert_eq!(read.encode(), flipped, "byte {at} bit {bit}");
                    }
                }
                assert!(AnswerEvent::decode(&bytes[..at]).is_err());
            }
        }
        assert_eq!(
            events()
                .iter()
                .map(AnswerEvent::has_content)
                .collect::<Vec<_>>(),
            [false, true, false, true]
        );
        let failure = JobFailure::Engine.encode();
        assert_eq!(JobFailure::decode(&failure), Ok(JobFailure::Engine));
        assert!(JobFailure::decode(&[1]).is_err());
        assert!(JobFailure::decode(&[]).is_err());
    }

    #[test]
    fn vectors_are_as_many_as_they_say_and_of_one_length() {
        let check = |count, values: &[f32]| {
            let values = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            let event = AnswerEvent::Embeddings(Vectors { count, values });
            AnswerEvent::decode(&event.encode()).is_ok()
        };
        assert!(check(2, &[1.0; 4]));
        assert!(check(INPUTS_MAX as u32, &[1.0; INPUTS_MAX]));
        assert!(!check(0, &[]));
        assert!(!check(0, &[1.0; 4]));
        assert!(!check(2, &[]));
        assert!(!check(2, &[1.0; 3]));
        assert!(!check(INPUTS_MAX as u32 + 1, &[1.0; INPUTS_MAX + 1]));
        assert!(!check(1, &[f32::NAN]));
        assert!(!check(1, &[f32::INFINITY]));
        let odd = AnswerEvent::Embeddings(Vectors {
            count: 1,
            values: vec![0; 5],
        });
        assert!(AnswerEvent::decode(&odd.encode()).is_err());

        let vectors = Vectors::new(&[vec![0.5, -1.0], vec![0.0, 3.0]]);
        let second = [0.0f32.to_le_bytes(), 3.0f32.to_le_bytes()].concat();
        assert_eq!(vectors.iter().nth(1), Some(&second[..]));
        assert_eq!(vectors.iter().len(), vectors.count());
    }
}
