//! What was said in one job, with the salts that open its receipt's commitments: the one thing that shows to others which
//! request and which answer a receipt is about. It is a secret of the job's client, who may show it.
//!
//! [`Transcript::open`] holds it against a receipt. Two opened ones of the same question can be compared bit for bit
//! ([`compare`]): where the worker's class of bits is the same, a difference shows that one of them did not compute what it signed.

use crate::cbor::{self, Malformed};
use crate::limits::{RECORD_BYTES, REQUEST_BYTES_MAX, TRANSCRIPT_BYTES_MAX};
use crate::{
    AnswerEvent, AnswerReader, Ask, Commitments, Endpoint, Finish, ReceiptCore, RecordBytes,
    RecordError, Request,
};
use minicbor::{Decode, Encode};

const WHAT: &str = "transcript";

/// Version 1 of a transcript. A new field means a new version. No `Debug`: it holds content.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Transcript {
    /// Always 1.
    #[n(0)]
    pub version: u64,
    /// [`Request::encode`].
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub request: Vec<u8>,
    /// [`Commitments::salts`]: the request's.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub request_salt: [u8; 32],
    /// The answer's.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub response_salt: [u8; 32],
    /// The records of the chain, each of [`RECORD_BYTES`], one after the other.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub records: Vec<u8>,
}

/// A question and its answer as a receipt commits to them. Only [`Transcript::open`] makes it.
#[derive(Clone, PartialEq)]
pub struct Said {
    request: Request,
    unit: usize,
    words: Vec<u32>,
    finish: Finish,
    seed: Option<u64>,
}

/// Why a transcript is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum NotOpened {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("a record of the transcript is refused: {0}")]
    Record(#[from] RecordError),
    #[error("the transcript's {0} is not what the receipt commits to")]
    Commitment(&'static str),
}

/// What two answers to one question have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// All that both have: so many tokens or vectors.
    Same {
        /// How many were compared.
        count: usize,
    },
    /// They differ.
    Differ {
        /// The first token or vector, from 0, that is another or that one of them lacks.
        at: usize,
    },
}

impl Transcript {
    /// The deterministic encoding.
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Decodes and checks sizes. Nothing is held against a receipt here.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let transcript: Transcript = cbor::from_slice(WHAT, bytes, TRANSCRIPT_BYTES_MAX)?;
        let whole = transcript.records.len().is_multiple_of(RECORD_BYTES);
        let fields = [
            ("request", transcript.request.len() <= REQUEST_BYTES_MAX),
            ("records", whole),
        ];
        cbor::check(WHAT, transcript.version, &fields)?;
        Ok(transcript)
    }

    /// Shows that this is what a receipt commits to, and reads it.
    pub fn open(&self, receipt: &ReceiptCore) -> Result<Said, NotOpened> {
        let salts = Commitments::of_salts(self.request_salt, self.response_salt);
        if salts.request(&self.request) != receipt.request {
            return Err(NotOpened::Commitment("request"));
        }
        let request = Request::decode(receipt.endpoint, &self.request)?;
        let mut reader = match &request.ask {
            Ask::Chat(chat) if let Some(count) = chat.logprobs => {
                AnswerReader::with_logprobs(receipt.envelope, count.into())
            }
            _ => AnswerReader::new(receipt.endpoint, receipt.envelope),
        };
        let (mut unit, mut words) = (1, Vec::new());
        let (records, _) = self.records.as_chunks::<RECORD_BYTES>();
        for record in records {
            unit = unit.max(take(&mut reader, record, &mut words)?);
        }
        let frames = reader.chain();
        let same = [
            ("answer", frames == receipt.frames),
            ("answer", salts.response(frames) == receipt.response),
            ("number of records", reader.chained() == receipt.events),
        ];
        match same.iter().find(|(_, same)| !same) {
            Some((what, _)) => Err(NotOpened::Commitment(what)),
            None => Ok(Said {
                request,
                unit,
                words,
                finish: receipt.finish,
                seed: receipt.seed,
            }),
        }
    }
}

/// Adds a record's words, and says how many of them belong together.
fn take(
    reader: &mut AnswerReader,
    record: &RecordBytes,
    words: &mut Vec<u32>,
) -> Result<usize, NotOpened> {
    let before = words.len();
    Ok(match reader.take(record)? {
        AnswerEvent::Ids { ids, .. } => {
            words.extend(ids);
            1
        }
        AnswerEvent::Scored { tokens, .. } => {
            let count = tokens.len();
            for token in tokens {
                let top = token.top.into_iter();
                let pairs = std::iter::once((token.id, token.logprob)).chain(top);
                words.extend(pairs.flat_map(|(id, logprob)| [id, logprob.to_bits()]));
            }
            (words.len() - before).checked_div(count).unwrap_or(1)
        }
        AnswerEvent::Vectors { numbers, width, .. } => {
            words.extend(numbers.iter().map(|number| number.to_bits()));
            width as usize
        }
        _ => return Err(NotOpened::Commitment("kind of records")),
    })
}

impl Said {
    /// What was asked for.
    pub fn endpoint(&self) -> Endpoint {
        self.request.endpoint()
    }

    /// Tokens or vectors of the answer.
    pub fn count(&self) -> usize {
        self.words.len() / self.unit
    }

    /// The question for another worker, which must answer with the same bits: the seed that the guest drew is named, no prefix's
    /// handle is given away, and where the answer was cut short no more is asked for than there is.
    pub fn again(&self) -> Request {
        let mut request = self.request.clone();
        request.parent = None;
        if let Ask::Chat(chat) = &mut request.ask {
            chat.seed = chat.seed.or(self.seed);
            chat.prefix = None;
            if self.is_cut() {
                chat.tokens_max = (self.count() as u32).clamp(1, chat.tokens_max);
            }
        }
        request
    }

    /// Whether something else than the model or its limits ended it.
    fn is_cut(&self) -> bool {
        !matches!(self.finish, Finish::Stop | Finish::Length)
    }
}

/// Compares the answer to a question with that to the same question asked again. `None`: it is another question.
pub fn compare(first: &Said, second: &Said) -> Option<Compared> {
    if second.request != first.again() {
        return None;
    }
    let (a, b) = (first, second);
    let unit = a.unit.max(b.unit);
    let both = a.words.iter().zip(&b.words);
    let differs = both.clone().position(|(a, b)| a != b);
    let shared = both.count() / unit;
    // An answer that was cut short says nothing of what would have followed.
    let longer = (a.count() > b.count() && !b.is_cut()) || (b.count() > a.count() && !a.is_cut());
    Some(match differs {
        Some(word) => Compared::Differ { at: word / unit },
        None if longer => Compared::Differ { at: shared },
        None => Compared::Same { count: shared },
    })
}
