//! One file with everything that a quote is judged by, and the judgement.
//!
//! **What it is.** A [`Bundle`]: a quote, Intel's collateral, and if there are any a manifest, event logs, the evidence of GPUs with
//! RIMs and OCSP responses, as they were found. [`Bundle::appraise`] judges it offline, through [`verify`](attest::verify()),
//! [`inspect`](attest::inspect()), the replay of logs and [`gpu::verify_bundle`](gpu::verify_bundle), and nothing else.
//!
//! **Trusts.** Nothing in it. What it says of itself (its manifest, the report data, the time it says it was made) is its maker's
//! word: held against the signed parts, but nobody becomes verified by it.
//!
//! **Promises.** One value has one encoding: deterministic CBOR (RFC 8949, section 4.2), and bytes that the encoder would not have
//! written are refused. No length is believed before it is bounded.
//!
//! **Lacks.** An anchor: nothing here shows that a bundle existed at a time. So no time in it is proven, and a bundle whose
//! collateral has expired is judged only as of a time that somebody says.

mod appraise;
mod encoding;
mod refusal;

use minicbor::{Decode, Encode};

pub use appraise::{Appraised, At, Binding, Expected, GpuRevocation, Gpus, Guest, SaidBy};
pub use refusal::{BundleError, BundleRefusal, Part, PartError, Unreadable};

use crate::limits;
use crate::{EventLog, EventLogError, Kind};

/// The version that this program writes and reads.
pub const VERSION: u64 = 1;

/// A bundle, its parts as they were found. A map of CBOR: the numbers are its keys, and what is absent has no key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Bundle {
    /// [`VERSION`].
    #[n(0)]
    pub version: u64,
    /// When its maker says that it was made, in seconds since 1970. Nothing covers it.
    #[n(1)]
    pub made_unix_s: u64,
    /// The quote, binary.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub quote: Vec<u8>,
    /// Intel's collateral, JSON as [`Collateral::from_json`](attest::Collateral::from_json) reads it.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub collateral: Vec<u8>,
    /// What its maker says that the guest should measure to, JSON as [`Manifest::from_json`](attest::Manifest::from_json) reads it.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub manifest: Option<Vec<u8>>,
    /// Event logs, to be replayed one after the other.
    #[n(5)]
    #[cbor(decode_with = "encoding::list::<{ limits::BUNDLE_EVENT_LOGS_MAX }, _, _>")]
    pub event_logs: Vec<Log>,
    /// GPUs, if it is about any.
    #[n(6)]
    pub gpus: Option<GpuParts>,
    /// What its maker says that the quote binds.
    #[n(7)]
    #[cbor(with = "minicbor::bytes")]
    pub report_data: Option<[u8; 64]>,
}

/// One event log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Log {
    /// How to read it.
    #[n(0)]
    pub form: LogForm,
    /// The log.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// The forms of log that a guest under TDX hands out. A TPM's is no such guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum LogForm {
    /// Of the firmware ([`Kind::Ccel`]).
    #[n(0)]
    Ccel,
    /// Of a dstack guest ([`EventLog::parse_dstack`]).
    #[n(1)]
    Dstack,
    /// This project's list of runtime events ([`EventLog::parse_runtime`]).
    #[n(2)]
    Runtime,
}

/// What belongs to GPUs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GpuParts {
    /// NVIDIA's JSON list of GPUs ([`GpuBundle::from_json`](gpu::GpuBundle::from_json)).
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub evidence: Vec<u8>,
    /// RIMs; without any, no measurement is compared.
    #[n(1)]
    #[cbor(decode_with = "encoding::list::<{ limits::BUNDLE_RIMS_MAX }, _, _>")]
    pub rims: Vec<LabelledRim>,
    /// OCSP responses (DER); without any, revocation is not checked, and whether that will do is for the verifier to say.
    #[n(2)]
    #[cbor(with = "encoding::byte_strings")]
    pub ocsp: Vec<Vec<u8>>,
}

/// A RIM, and what its file was called.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LabelledRim {
    /// The name of its file. If that is one of NVIDIA's ids, the RIM is for that board only.
    #[n(0)]
    pub label: String,
    /// The RIM, XML.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub xml: Vec<u8>,
}

impl Bundle {
    /// The one encoding. Refused if a part is over its limit, so that what is written can be read.
    pub fn to_cbor(&self) -> Result<Vec<u8>, BundleError> {
        self.check()?;
        let bytes = encoding::encode(self);
        within("the bundle", bytes.len(), limits::BUNDLE_BYTES_MAX)?;
        Ok(bytes)
    }

    /// Reads what [`Bundle::to_cbor`] writes, and no other encoding of it. The parts are not looked into.
    pub fn from_cbor(bytes: &[u8]) -> Result<Bundle, BundleError> {
        within("the bundle", bytes.len(), limits::BUNDLE_BYTES_MAX)?;
        // The version first: another version's fields are not this one's.
        let version = encoding::version(bytes).ok_or(BundleError::NotABundle)?;
        if version != VERSION {
            return Err(BundleError::Version { got: version });
        }
        let bundle: Bundle = minicbor::decode(bytes).map_err(|_| BundleError::NotABundle)?;
        if encoding::encode(&bundle) != bytes {
            return Err(BundleError::NotCanonical);
        }
        bundle.check()?;
        Ok(bundle)
    }

    fn check(&self) -> Result<(), BundleError> {
        if self.version != VERSION {
            return Err(BundleError::Version { got: self.version });
        }
        within(
            "the quote",
            self.quote.len(),
            attest::limits::QUOTE_BYTES_MAX,
        )?;
        let collateral = self.collateral.len();
        within(
            "the collateral",
            collateral,
            attest::limits::COLLATERAL_BYTES_MAX,
        )?;
        let manifest = self.manifest.as_ref().map_or(0, Vec::len);
        within("the manifest", manifest, attest::limits::MANIFEST_BYTES_MAX)?;
        let logs = self.event_logs.len();
        within("the list of logs", logs, limits::BUNDLE_EVENT_LOGS_MAX)?;
        for log in &self.event_logs {
            within("an event log", log.bytes.len(), log.form.bytes_max())?;
        }
        let Some(gpus) = &self.gpus else {
            return Ok(());
        };
        let evidence = gpus.evidence.len();
        within(
            "the list of GPUs",
            evidence,
            gpu::limits::GPU_BUNDLE_BYTES_MAX,
        )?;
        let rims = gpus.rims.len();
        within("the list of RIMs", rims, limits::BUNDLE_RIMS_MAX)?;
        for rim in &gpus.rims {
            within("a RIM", rim.xml.len(), gpu::limits::GPU_RIM_BYTES_MAX)?;
            within(
                "a RIM's label",
                rim.label.len(),
                gpu::limits::GPU_TEXT_BYTES_MAX,
            )?;
        }
        let responses = gpus.ocsp.len();
        within(
            "the list of OCSP responses",
            responses,
            gpu::limits::GPU_OCSP_RESPONSES_MAX,
        )?;
        for response in &gpus.ocsp {
            within(
                "an OCSP response",
                response.len(),
                gpu::limits::GPU_OCSP_BYTES_MAX,
            )?;
        }
        Ok(())
    }
}

impl Log {
    /// A log of the first form that can read it: JSON if it begins like it, else the firmware's.
    pub fn detect(bytes: Vec<u8>) -> Result<Log, EventLogError> {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        let form = match first {
            Some(b'{' | b'[') => match EventLog::parse_runtime(&bytes) {
                Ok(_) => LogForm::Runtime,
                Err(_) => LogForm::Dstack,
            },
            _ => LogForm::Ccel,
        };
        let log = Log { form, bytes };
        log.read().map(|_| log)
    }

    /// Reads it. It is compared with nothing by that.
    pub fn read(&self) -> Result<EventLog, EventLogError> {
        match self.form {
            LogForm::Ccel => EventLog::parse_tcg(&self.bytes, Kind::Ccel),
            LogForm::Dstack => EventLog::parse_dstack(&self.bytes),
            LogForm::Runtime => EventLog::parse_runtime(&self.bytes),
        }
    }
}

impl LogForm {
    fn bytes_max(self) -> usize {
        match self {
            LogForm::Ccel => limits::EVENT_LOG_BYTES_MAX,
            LogForm::Dstack | LogForm::Runtime => predict::limits::EVENT_LOG_JSON_BYTES_MAX,
        }
    }
}

fn within(what: &'static str, got: usize, max: usize) -> Result<(), BundleError> {
    match got <= max {
        true => Ok(()),
        false => Err(BundleError::OverLimit { what, got, max }),
    }
}
