//! What a GPU signed, on its way from the driver through the agent and the proxy to a client, and what the proxy adds to it.
//!
//! Nothing is verified here: a client does that (`attest`, feature `client`). What an agent must know of a report is which
//! question it answers and which device it is of.

use crate::limits::{
    GPU_CERTIFICATE_BYTES_MAX, GPU_CERTIFICATES_MAX, GPU_OCSP_BYTES_MAX, GPU_OCSP_MAX,
    GPU_REPORT_BYTES_MAX, GPU_RIM_BYTES_MAX, GPU_RIMS_MAX,
};
use crate::{Digest, Event, KeysetDigest, sha256};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use registers::{Digest48, GpuBinding};

/// The name of the RTMR3 event of a GPU.
pub const GPU_EVENT: &str = "gpu";

/// A report of one GPU, and the certificates of the key that signed it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GpuReport {
    /// The SPDM request with the nonce in it, the response, the signature.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub report: Vec<u8>,
    /// DER, the leaf first, then the device, its authorities and the root.
    #[n(1)]
    pub certificates: Vec<ByteVec>,
}

/// What NVIDIA signed about a GPU and a proxy fetched: nothing of it is believed unsigned.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GpuCollateral {
    /// The reference integrity manifests of its driver and its VBIOS, as XML.
    #[n(0)]
    pub rims: Vec<ByteVec>,
    /// OCSP responses about the certificates of the device and of the RIMs, as DER.
    #[n(1)]
    pub ocsp: Vec<ByteVec>,
}

impl GpuReport {
    /// Of these certificates, in DER, the leaf first.
    pub fn new(report: Vec<u8>, certificates: Vec<Vec<u8>>) -> Self {
        GpuReport {
            report,
            certificates: byte_strings(certificates),
        }
    }

    /// The nonce that a GPU is asked for evidence with, for a keyset: so its evidence stands for these keys and no others.
    pub fn nonce(keyset: KeysetDigest) -> [u8; 32] {
        sha256("chrysalis/gpu-nonce/v1", &[&keyset.0]).0
    }

    /// The digest that a quote's report data binds.
    pub fn digest(&self) -> Digest {
        let certificates = self.certificates.iter().map(|der| &der[..]);
        let parts: Vec<&[u8]> = std::iter::once(&self.report[..])
            .chain(certificates)
            .collect();
        sha256("chrysalis/gpu-report/v1", &parts)
    }

    /// What a quote's report data says of this evidence, or of none.
    pub fn binding(report: Option<&GpuReport>) -> GpuBinding {
        report.map_or(GpuBinding::None, |report| {
            GpuBinding::Evidence(report.digest().0)
        })
    }

    /// Which GPU it is, as a keyset names it: a digest of the device's own certificate. The leaf above it is the device's to make
    /// anew. `None` where there is no such certificate.
    pub fn identity(&self) -> Option<Digest> {
        let device = self.certificates.get(DEVICE)?;
        Some(sha256("chrysalis/gpu/v1", &[device]))
    }

    /// Whether this is laid out as a report that answers this nonce: SPDM 1.1, GET_MEASUREMENTS of all, with a signature. Whether
    /// a GPU signed it is for a client to verify.
    pub fn answers(&self, nonce: &[u8; 32]) -> bool {
        let rest = self.report.strip_prefix(&[0x11, 0xe0, 0x01, 0xff]);
        rest.is_some_and(|rest| rest.starts_with(nonce))
    }

    /// The RTMR3 event of a GPU with this identity.
    pub fn event(identity: &Digest) -> Event {
        Event {
            name: GPU_EVENT.into(),
            digest: Digest48::of(&identity.0).0,
        }
    }

    /// Whether every length is within its limit.
    pub fn fits(&self) -> bool {
        let certificate = |der: &ByteVec| der.len() <= GPU_CERTIFICATE_BYTES_MAX;
        self.report.len() <= GPU_REPORT_BYTES_MAX
            && self.certificates.len() <= GPU_CERTIFICATES_MAX
            && self.certificates.iter().all(certificate)
    }
}

impl GpuCollateral {
    /// Of these documents: XML, and DER.
    pub fn new(rims: Vec<Vec<u8>>, ocsp: Vec<Vec<u8>>) -> Self {
        GpuCollateral {
            rims: byte_strings(rims),
            ocsp: byte_strings(ocsp),
        }
    }

    /// Whether every length is within its limit.
    pub fn fits(&self) -> bool {
        self.rims.len() <= GPU_RIMS_MAX
            && self.rims.iter().all(|xml| xml.len() <= GPU_RIM_BYTES_MAX)
            && self.ocsp.len() <= GPU_OCSP_MAX
            && self.ocsp.iter().all(|der| der.len() <= GPU_OCSP_BYTES_MAX)
    }
}

fn byte_strings(list: Vec<Vec<u8>>) -> Vec<ByteVec> {
    list.into_iter().map(ByteVec::from).collect()
}

/// The device's certificate: the leaf's is before it.
const DEVICE: usize = 1;
