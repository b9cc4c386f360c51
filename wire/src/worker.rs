//! What an agent and the process that computes on a GPU say to each other, over a pair of sockets that keep messages apart.
//!
//! ```text
//!  agent                                      worker (a process of its own: libcuda shares no memory with keys)
//!  Load ────────────────────────────────────► reads the model, once
//!        ◄──────────────────────────────────── Loaded | Refused, which is the last
//!  Job{number}, Chunk … ────────────────────► a request as `Request::encode` writes it; its last chunk submits it
//!  Cancel{number} ──────────────────────────►
//!        ◄──────────────────────────────────── for each job: Started, Tokens …, Ended; or Ended alone: it never ran
//!        ◄──────────────────────────────────── Fault, which is the last
//! ```
//! A message is one packet of CBOR. Token ids and log probabilities are strings of bytes of fixed width, so that no length depends on
//! one. What a job asks is the body of a [`crate::Request`], with its limits and its one encoding, its seed set. The agent reads
//! without a pause, and what it keeps of a job is bounded by the job's tokens: a slow client holds up nobody but itself.

use crate::cbor::{self, Malformed};
use crate::limits::{
    KV_MIB_MAX, LOGPROBS, NAME_BYTES_MAX, REQUEST_BYTES_MAX, REQUEST_HEADER_BYTES,
    WORKER_BYTES_MAX, WORKER_CHUNK_BYTES_MAX, WORKER_TOKENS_MAX,
};
use crate::{Digest, MeasuredWeights};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, Zeroizing};

const WHAT: &str = "GPU worker message";

/// What an agent asks for.
#[derive(Clone, PartialEq, Encode, Decode)]
pub enum WorkerRequest {
    /// Loads a model: the first message, and the only one of its kind.
    #[n(0)]
    Load(#[n(0)] LoadPlan),
    /// A job begins: its number, larger than that of any job before, and the bytes of its request.
    #[n(1)]
    Job {
        #[n(0)]
        #[expect(missing_docs)]
        job: u64,
        #[n(1)]
        #[expect(missing_docs)]
        bytes: u32,
        /// Milliseconds from now in which it must have ended.
        #[n(2)]
        within_ms: u32,
    },
    /// The next bytes of its request. Nothing comes between a job's head and its last chunk.
    #[n(2)]
    Chunk(#[n(0)] ByteVec),
    /// The job ends before the next step; nothing happens if it has ended.
    #[n(3)]
    Cancel(#[n(0)] u64),
}

/// Which model is loaded, and how much memory it may take.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LoadPlan {
    /// The directory that it lies in.
    #[n(0)]
    pub directory: String,
    /// How weights are kept; as they are stored if absent.
    #[n(1)]
    pub weights: Option<MeasuredWeights>,
    /// MiB of keys and values; absent: what is left.
    #[n(2)]
    pub kv_mib: Option<u32>,
    /// Tokens of one job at most.
    #[n(3)]
    pub context_max: u32,
}

/// What a worker answers.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum WorkerAnswer {
    /// The model is loaded.
    #[n(0)]
    Loaded(#[n(0)] WorkerModel),
    /// It is not, and why. The last answer.
    #[n(1)]
    Refused(#[n(0)] String),
    /// The job runs from now on; so many tokens of its prompt need no computing.
    #[n(2)]
    Started {
        #[n(0)]
        #[expect(missing_docs)]
        job: u64,
        #[n(1)]
        #[expect(missing_docs)]
        cached: u32,
    },
    /// The next tokens, of one job or of several.
    #[n(3)]
    Tokens(#[n(0)] Vec<WorkerToken>),
    /// The job is over.
    #[n(4)]
    Ended {
        #[n(0)]
        #[expect(missing_docs)]
        job: u64,
        #[n(1)]
        #[expect(missing_docs)]
        end: WorkerEnd,
    },
    /// The agent said something that it may not say here. The last answer.
    #[n(5)]
    Fault(#[n(0)] String),
}

/// The model that was loaded. Whoever trusts it compares `root`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct WorkerModel {
    /// Of the files as they were read.
    #[n(0)]
    pub root: Digest,
    /// How most weights are kept.
    #[n(1)]
    pub weights: String,
    /// The class of machines and programs on which a job gives the same bits, as a receipt names it.
    #[n(2)]
    pub determinism: String,
    /// Tokens of one job at most, prompt and completion together.
    #[n(3)]
    pub context: u32,
    /// Tokens that there are.
    #[n(4)]
    pub vocabulary: u32,
}

/// A token of a job.
#[derive(Clone, PartialEq, Encode, Decode)]
pub struct WorkerToken {
    /// Whose.
    #[n(0)]
    pub job: u64,
    /// The token, little-endian.
    #[n(1)]
    pub id: ByteArray<4>,
    /// If they are asked for: the log probability of the token (f32, little-endian), then each of the likeliest tokens with its own.
    #[n(2)]
    pub logprobs: Option<ByteVec>,
}

/// Why a job is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum WorkerEnd {
    /// An end token or a stop sequence came.
    #[n(0)]
    Stop,
    /// It has as many tokens as it or the context allows.
    #[n(1)]
    Length,
    /// Its time is over.
    #[n(2)]
    Deadline,
    /// It was cancelled.
    #[n(3)]
    Cancelled,
    /// It never ran: it asks for what this model does not have, or its prompt does not begin as the prefix that it names.
    #[n(4)]
    Request,
    /// It never ran: too many wait.
    #[n(5)]
    Busy,
    /// The computation failed.
    #[n(6)]
    Failed,
}

impl WorkerRequest {
    /// One packet. It may hold a part of a prompt.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(cbor::to_vec(self))
    }

    /// Reads one packet.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let request: WorkerRequest = cbor::from_slice(WHAT, bytes, WORKER_BYTES_MAX)?;
        let sizes = REQUEST_HEADER_BYTES..=REQUEST_BYTES_MAX;
        let fits = match &request {
            WorkerRequest::Load(plan) => {
                let mut kv = plan.kv_mib.iter();
                let short = plan.directory.len() <= 4 * NAME_BYTES_MAX;
                short && kv.all(|mib| (1..=KV_MIB_MAX).contains(mib)) && plan.context_max > 0
            }
            WorkerRequest::Job { bytes, .. } => sizes.contains(&(*bytes as usize)),
            WorkerRequest::Chunk(bytes) => (1..=WORKER_CHUNK_BYTES_MAX).contains(&bytes.len()),
            WorkerRequest::Cancel(_) => true,
        };
        cbor::check(WHAT, 1, &[("a length", fits)])?;
        Ok(request)
    }

    /// The packets that submit a job: its head, and `body`, an encoded [`crate::Request`], in chunks.
    pub fn job(job: u64, body: &[u8], within_ms: u32) -> impl Iterator<Item = WorkerRequest> {
        let bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let head = WorkerRequest::Job {
            job,
            bytes,
            within_ms,
        };
        let chunks = body.chunks(WORKER_CHUNK_BYTES_MAX);
        std::iter::once(head).chain(chunks.map(|bytes| WorkerRequest::Chunk(bytes.to_vec().into())))
    }
}

impl WorkerAnswer {
    /// One packet. It may hold tokens of an answer.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(cbor::to_vec(self))
    }

    /// Reads one packet.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let answer: WorkerAnswer = cbor::from_slice(WHAT, bytes, WORKER_BYTES_MAX)?;
        let fits = match &answer {
            WorkerAnswer::Loaded(model) => {
                short(&model.weights) && short(&model.determinism) && model.context > 0
            }
            WorkerAnswer::Refused(why) | WorkerAnswer::Fault(why) => {
                why.len() <= WorkerAnswer::WHY_BYTES_MAX
            }
            WorkerAnswer::Tokens(tokens) => {
                let count = (1..=WORKER_TOKENS_MAX).contains(&tokens.len());
                let known = |bytes: &ByteVec| LOGPROBS.contains(&(bytes.len().wrapping_sub(4) / 8));
                let whole = |bytes: &ByteVec| bytes.len() % 8 == 4 && known(bytes);
                let lists = tokens.iter().flat_map(|token| &token.logprobs);
                count && { lists }.all(whole)
            }
            _ => true,
        };
        cbor::check(WHAT, 1, &[("a length", fits)])?;
        Ok(answer)
    }

    /// Bytes of a sentence that says why.
    pub const WHY_BYTES_MAX: usize = 4 * NAME_BYTES_MAX;

    /// Cuts a sentence to what a message may hold.
    pub fn cut(text: &str) -> String {
        text[..text.floor_char_boundary(Self::WHY_BYTES_MAX)].to_owned()
    }
}

impl WorkerToken {
    /// A token with what was asked for beside it: its own log probability, and the likeliest tokens with theirs.
    pub fn new(job: u64, id: u32, logprobs: Option<(f32, &[(u32, f32)])>) -> Self {
        let list = logprobs.map(|(chosen, top)| {
            let mut bytes = chosen.to_le_bytes().to_vec();
            for (id, logprob) in top {
                bytes.extend(id.to_le_bytes());
                bytes.extend(logprob.to_le_bytes());
            }
            bytes.into()
        });
        WorkerToken {
            job,
            id: id.to_le_bytes().into(),
            logprobs: list,
        }
    }

    /// Which.
    pub fn id(&self) -> u32 {
        u32::from_le_bytes(self.id.into())
    }

    /// Its log probability, and the likeliest tokens with theirs.
    pub fn logprobs(&self) -> Option<(f32, Vec<(u32, f32)>)> {
        let (chosen, top) = self.logprobs.as_ref()?.split_first_chunk::<4>()?;
        let pairs = top.as_chunks::<8>().0.iter().map(|pair| {
            let [a, b, c, d, rest @ ..] = *pair;
            (u32::from_le_bytes([a, b, c, d]), f32::from_le_bytes(rest))
        });
        Some((f32::from_le_bytes(*chosen), pairs.collect()))
    }
}

impl Drop for WorkerRequest {
    fn drop(&mut self) {
        if let WorkerRequest::Chunk(bytes) = self {
            bytes.zeroize();
        }
    }
}

impl Drop for WorkerToken {
    fn drop(&mut self) {
        self.id.zeroize();
        if let Some(list) = &mut self.logprobs {
            list.zeroize();
        }
    }
}

// What a client sealed is in no log.
impl std::fmt::Debug for WorkerToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WorkerToken({})", self.job)
    }
}

impl std::fmt::Debug for WorkerRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WorkerRequest::Load(plan) => write!(f, "Load({plan:?})"),
            WorkerRequest::Job { job, bytes, .. } => write!(f, "Job({job}, {bytes} bytes)"),
            WorkerRequest::Chunk(bytes) => write!(f, "Chunk({} bytes)", bytes.len()),
            WorkerRequest::Cancel(job) => write!(f, "Cancel({job})"),
        }
    }
}

fn short(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Vec<WorkerRequest> {
        let plan = |weights, kv_mib| LoadPlan {
            directory: "/models/m".into(),
            weights,
            kv_mib,
            context_max: 4096,
        };
        let body = vec![7; WORKER_CHUNK_BYTES_MAX + 300];
        let mut requests: Vec<_> = WorkerRequest::job(9, &body, 1000).collect();
        assert_eq!(requests.len(), 3);
        requests.push(WorkerRequest::Load(plan(None, None)));
        requests.push(WorkerRequest::Load(plan(
            Some(MeasuredWeights::Q8),
            Some(512),
        )));
        requests.push(WorkerRequest::Cancel(u64::MAX));
        requests
    }

    fn answers() -> Vec<WorkerAnswer> {
        let top: Vec<_> = (0..20).map(|n| (n, -0.5 * n as f32)).collect();
        let tokens = [None, Some((-0.1, &top[..0])), Some((-0.2, &top[..]))];
        let tokens = (0u32..)
            .zip(tokens)
            .map(|(id, list)| WorkerToken::new(3, id, list));
        vec![
            WorkerAnswer::Loaded(WorkerModel {
                root: Digest([4; 32]),
                weights: "bf16".into(),
                determinism: "sm_90a".into(),
                context: 8192,
                vocabulary: 32_000,
            }),
            WorkerAnswer::Refused("x".repeat(WorkerAnswer::WHY_BYTES_MAX)),
            WorkerAnswer::Started { job: 1, cached: 32 },
            WorkerAnswer::Tokens(tokens.collect()),
            WorkerAnswer::Ended {
                job: 1,
                end: WorkerEnd::Failed,
            },
            WorkerAnswer::Fault(String::new()),
        ]
    }

    #[test]
    fn every_message_comes_back_and_a_cut_or_changed_one_is_refused_or_another() {
        for request in requests() {
            let bytes = request.encode();
            assert!(WorkerRequest::decode(&bytes).as_ref() == Ok(&request));
            assert!(WorkerRequest::decode(&[&bytes[..], &[0]].concat()).is_err());
            for at in (0..bytes.len()).step_by(1 + bytes.len() / 97) {
                assert!(WorkerRequest::decode(&bytes[..at]).is_err(), "length {at}");
                let mut flipped = bytes.clone();
                flipped[at] ^= 1;
                assert!(WorkerRequest::decode(&flipped).ok().as_ref() != Some(&request));
            }
        }
        for answer in answers() {
            let bytes = answer.encode();
            assert!(
                WorkerAnswer::decode(&bytes).as_ref() == Ok(&answer),
                "{answer:?}"
            );
            for at in (0..bytes.len()).step_by(1 + bytes.len() / 97) {
                assert!(WorkerAnswer::decode(&bytes[..at]).is_err(), "length {at}");
                let mut flipped = bytes.clone();
                flipped[at] ^= 1;
                assert!(WorkerAnswer::decode(&flipped).ok().as_ref() != Some(&answer));
            }
        }
    }

    #[test]
    fn a_token_has_one_length_whatever_it_is() {
        let length = |id| {
            WorkerAnswer::Tokens(vec![WorkerToken::new(1, id, None)])
                .encode()
                .len()
        };
        assert!(
            [0, 23, 24, 255, 256, 65_536, u32::MAX]
                .map(length)
                .iter()
                .all(|n| *n == length(7))
        );
        let token = WorkerToken::new(1, 77, Some((-0.5, &[(3, -1.0); 5])));
        assert_eq!(
            (token.id(), token.logprobs()),
            (77, Some((-0.5, vec![(3, -1.0); 5])))
        );
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let token = |bytes: usize| WorkerToken {
            job: 0,
            id: [0; 4].into(),
            logprobs: Some(vec![0; bytes].into()),
        };
        for answer in [
            WorkerAnswer::Tokens(Vec::new()),
            WorkerAnswer::Tokens(vec![WorkerToken::new(0, 0, None); WORKER_TOKENS_MAX + 1]),
            WorkerAnswer::Tokens(vec![token(0)]),
            WorkerAnswer::Tokens(vec![token(5)]),
            WorkerAnswer::Tokens(vec![token(12)]),
            WorkerAnswer::Refused("x".repeat(WorkerAnswer::WHY_BYTES_MAX + 1)),
        ] {
            assert!(WorkerAnswer::decode(&answer.encode()).is_err());
        }
        let job = |bytes| WorkerRequest::Job {
            job: 0,
            bytes,
            within_ms: 0,
        };
        let chunk = |bytes: usize| WorkerRequest::Chunk(vec![0; bytes].into());
        for request in [
            job(0),
            job(REQUEST_BYTES_MAX as u32 + 1),
            chunk(0),
            chunk(WORKER_CHUNK_BYTES_MAX + 1),
        ] {
            assert!(WorkerRequest::decode(&request.encode()).is_err());
        }
        let whole = vec![0; WORKER_BYTES_MAX + 1];
        assert!(matches!(
            WorkerAnswer::decode(&whole),
            Err(Malformed::TooLong { .. })
        ));
    }
}
