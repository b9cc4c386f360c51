//! Evidence as it is handed over: a report and its certificates, of one GPU or of several.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{
    chain::{Chain, ChainError, DEVICE_CHAIN},
    ocsp::request,
    report::{GpuFields, Report, ReportError},
};
use crate::limits;
use registers::Digest32;

/// Why something is no evidence of a Hopper GPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum EvidenceError {
    #[error("{what} has {got} bytes, more than the {max} allowed")]
    TooLong {
        what: &'static str,
        got: usize,
        max: usize,
    },
    #[error(
        "it is not a JSON list of GPUs, each with arch, nonce, evidence and certificate: {detail}"
    )]
    Json { detail: String },
    #[error("it lists {got} GPUs; 1 to {max} are expected")]
    Count { got: usize, max: usize },
    #[error("GPU {position} of the list: {error}")]
    Gpu {
        position: usize,
        error: Box<EvidenceError>,
    },
    #[error("the report is not in hex, or in JSON not in base64")]
    ReportEncoding,
    #[error(
        "the certificate chain is not PEM, nor PEM in base64, of up to {} certificates",
        limits::GPU_CHAIN_CERTIFICATES_MAX
    )]
    Pem,
    #[error(
        "this is evidence of `{got}`; this verifier knows Hopper (GH100) and no other architecture"
    )]
    Architecture { got: String },
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error("the device's certificate chain: {0}")]
    Chain(#[from] ChainError),
    #[error("the nonce written beside the report is not the one that the GPU signed")]
    StatedNonce,
}

/// A report with its certificates, read and believed in nothing.
#[derive(Clone, Debug)]
pub struct GpuEvidence {
    pub(super) report: Report,
    pub(super) chain: Chain,
    digest: Digest32,
}

/// The certificates of a device, as a collector wrote them.
fn certificates(text: &[u8]) -> Result<Vec<Vec<u8>>, EvidenceError> {
    if text.len() > limits::GPU_CHAIN_BYTES_MAX {
        return Err(EvidenceError::TooLong {
            what: "the certificate chain",
            got: text.len(),
            max: limits::GPU_CHAIN_BYTES_MAX,
        });
    }
    pki::pem::certificates(text, limits::GPU_CHAIN_CERTIFICATES_MAX).ok_or(EvidenceError::Pem)
}

impl GpuEvidence {
    /// From a report in hex (or as it is) and its chain in PEM, leaf first.
    pub fn from_report(report: &[u8], chain_pem: &[u8]) -> Result<GpuEvidence, EvidenceError> {
        let max = 2 * limits::GPU_REPORT_BYTES_MAX + 2;
        if report.len() > max {
            return Err(EvidenceError::TooLong {
                what: "the report",
                got: report.len(),
                max,
            });
        }
        let chain = certificates(chain_pem)?;
        if report.starts_with(&[0x11, 0xe0]) {
            return GpuEvidence::from_der(report, &chain);
        }
        let report = hex::decode(report.trim_ascii()).map_err(|_| EvidenceError::ReportEncoding)?;
        GpuEvidence::from_der(&report, &chain)
    }

    /// From a report as it is and its certificates in DER, leaf first.
    pub fn from_der(report: &[u8], certificates: &[Vec<u8>]) -> Result<GpuEvidence, EvidenceError> {
        // The chain first: a later architecture's report is laid out differently, and shall be called by its name.
        let chain = Chain::parse(certificates, DEVICE_CHAIN)?;
        let leaf = chain.leaf();
        if leaf.extensions.later_tcb_info || !leaf.common_name.starts_with(HOPPER_LEAF) {
            return Err(EvidenceError::Architecture {
                got: leaf.common_name.clone(),
            });
        }
        Ok(GpuEvidence {
            report: Report::parse(report)?,
            digest: Digest32::of(report),
            chain,
        })
    }

    /// What the GPU says of itself. Believe it after [`verify`](super::verify).
    pub fn fields(&self) -> &GpuFields {
        &self.report.fields
    }

    /// OCSP requests about the device's certificates, but its own leaf: for whoever fetches what a verifier will ask for.
    pub fn ocsp_requests(&self) -> Vec<Vec<u8>> {
        let below_root = self.chain.with_issuers().skip(1);
        below_root.map(|(one, by)| request(one, by)).collect()
    }

    /// The nonce in the request, which whoever wants evidence chooses.
    pub fn nonce(&self) -> &[u8; 32] {
        &self.report.nonce
    }

    /// SHA-256 of the report's bytes.
    pub fn digest(&self) -> Digest32 {
        self.digest
    }
}

/// The evidence of all GPUs of a machine.
#[derive(Clone, Debug)]
pub struct GpuBundle {
    pub(super) gpus: Vec<GpuEvidence>,
}

impl GpuBundle {
    /// From NVIDIA's list: `[{"arch", "nonce", "evidence", "certificate"}]`, report and PEM in base64. What else it says is not read:
    /// nobody signed it.
    pub fn from_json(bytes: &[u8]) -> Result<GpuBundle, EvidenceError> {
        if bytes.len() > limits::GPU_BUNDLE_BYTES_MAX {
            return Err(EvidenceError::TooLong {
                what: "the list of GPUs",
                got: bytes.len(),
                max: limits::GPU_BUNDLE_BYTES_MAX,
            });
        }
        let listed: Vec<Listed> =
            serde_json::from_slice(bytes).map_err(|error| EvidenceError::Json {
                detail: error.to_string(),
            })?;
        if !(1..=limits::GPUS_MAX).contains(&listed.len()) {
            return Err(EvidenceError::Count {
                got: listed.len(),
                max: limits::GPUS_MAX,
            });
        }
        let gpus = listed.iter().enumerate().map(|(position, listed)| {
            listed.read().map_err(|error| EvidenceError::Gpu {
                position,
                error: Box::new(error),
            })
        });
        Ok(GpuBundle {
            gpus: gpus.collect::<Result<_, _>>()?,
        })
    }

    /// Each GPU's, in the order of the list.
    pub fn gpus(&self) -> &[GpuEvidence] {
        &self.gpus
    }
}

impl From<GpuEvidence> for GpuBundle {
    fn from(evidence: GpuEvidence) -> GpuBundle {
        GpuBundle {
            gpus: vec![evidence],
        }
    }
}

#[derive(Deserialize)]
struct Listed {
    arch: String,
    nonce: String,
    evidence: String,
    certificate: String,
}

impl Listed {
    fn read(&self) -> Result<GpuEvidence, EvidenceError> {
        if self.arch != "HOPPER" {
            let got = self.arch.chars().filter(char::is_ascii_graphic).take(32);
            return Err(EvidenceError::Architecture { got: got.collect() });
        }
        let report = STANDARD
            .decode(&self.evidence)
            .map_err(|_| EvidenceError::ReportEncoding)?;
        let chain = certificates(self.certificate.as_bytes())?;
        let evidence = GpuEvidence::from_der(&report, &chain)?;
        let mut stated = [0; 32];
        hex::decode_to_slice(&self.nonce, &mut stated).map_err(|_| EvidenceError::StatedNonce)?;
        if stated != *evidence.nonce() {
            return Err(EvidenceError::StatedNonce);
        }
        Ok(evidence)
    }
}

/// How the leaf of every Hopper GPU calls itself; what follows is its stepping and the program that holds the key.
const HOPPER_LEAF: &str = "GH100 ";
