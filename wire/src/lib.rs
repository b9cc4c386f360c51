//! The bytes that cross a boundary: keyset, configuration, envelope, sealed job, frames, receipt, evidence.
//!
//! **What it is.** Every encoding that a client, a proxy and a guest exchange, with the cryptography that binds them:
//! chunked Oblivious HTTP with X-Wing for the job, Ed25519 over the envelope, COSE_Sign1 for the receipt.
//!
//! **Trusts.** The `hpke`, `ed25519-dalek`, `coset` and `minicbor` crates, and in a client `attest::verify` for the peer and
//! `gpu::verify` for its GPU.
//! It trusts no byte it decodes: every length has a limit in [`limits`] before it has an allocation.
//!
//! **Promises.** One value has one encoding (decoders re-encode and compare). Nothing is sealed to a key that no
//! `AttestedWorker` holds, and nothing but `attest` makes one. Decoders return typed errors and never panic.
//!
//! **Lacks.** Files, sockets, clocks and random sources: bytes, times and randomness are arguments. It knows no HTTP
//! server, no model and no chain node. Without its feature `client`, which only clients have, no verifier of quotes.

#![forbid(unsafe_code)]

mod answer;
#[cfg(feature = "client")]
mod appraised_gpu;
#[cfg(feature = "client")]
mod attested;
mod cbor;
#[cfg(feature = "client")]
mod cmw;
mod config;
mod digest;
#[cfg(feature = "client")]
mod eat;
mod envelope;
mod evidence;
mod frame;
mod gate;
mod gpu_report;
mod keyset;
pub mod limits;
mod log;
mod proof;
mod random;
mod read;
mod receipt;
mod record;
mod refusal;
mod request;
mod seal;
mod status;
mod transcript;
mod worker;

// The public interface is:
pub use answer::{AnswerEvent, AnswerReader, AnswerWriter, JobFailure, Scored};
pub use cbor::Malformed;
pub use config::{
    ConfigError, MeasuredConfig, MeasuredEndpoint, MeasuredModel, MeasuredVolume, MeasuredWeights,
};
pub use digest::{
    CoreDigest, Digest, EnvelopeDigest, KeysetDigest, ReceiptDigest, UnreadDigest, sha256,
};
pub use envelope::{Endpoint, Envelope, EnvelopeRefused, SignedEnvelope, VerifiedEnvelope};
pub use evidence::{Bundle, Delegation, Endorsement, Event, Evidence};
pub use frame::{Frame, FrameDecoder, FrameError, FrameKind};
pub use gate::{GateAnswer, GateRefusal, GateRequest};
pub use gpu_report::{GPU_EVENT, GpuCollateral, GpuReport};
pub use keyset::{
    KemKey, Keyset, ModelOffer, Padding, Prices, Usage, image_digest, registers_digest,
};
pub use log::{LogLeaf, LogReceipt, LogTree, Logged, NotLogged, log_imprint, log_path, log_root};
pub use proof::{Proof, SignedReceipt};
pub use random::Random;
pub use read::{PayerRead, ReadRefused};
pub use receipt::{
    AnswerClaims, Finish, Receipt, ReceiptCore, ReceiptRefused, RequestClaims, Timings,
    VerifiedReceipt, core_digest,
};
pub use record::{Record, RecordBytes, RecordError, RecordKind};
pub use refusal::{RefusalCode, SignedRefusal, Subject};
pub use request::{Ask, ChatRequest, Pair, Request};
pub use seal::{
    CANCEL_BYTES, Cancel, CancelSecret, Commitments, JobRequest, OpenedJob, ReceiptKey,
    ResponseSealer, SEALED_RECEIPT_BYTES, SealError, SealingKey, open_job,
};
pub use status::{EpochStatus, Load, Stage, Status};
pub use transcript::{Compared, NotOpened, Said, Transcript, compare};
pub use worker::{LoadPlan, WorkerAnswer, WorkerEnd, WorkerModel, WorkerRequest, WorkerToken};
// Feature `client`: whom to trust, and the client's side of the seal.
#[cfg(feature = "client")]
pub use {
    ::gpu::GpuRoots,
    appraised_gpu::{AppraisedGpus, GpuNotTrusted},
    attested::{AttestedWorker, Expected, NotTrusted, attest},
    cmw::{CMW_CBOR, Cmw},
    eat::{EAT_CBOR, EAT_JSON, Eat},
    proof::{NotProven, ProvenJob},
    seal::{ResponseOpener, SealedJob, seal_job},
};
