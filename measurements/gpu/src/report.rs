//! What a GPU signs: an SPDM 1.1 request for measurements, its response, and NVIDIA's fields inside it.
//!
//! ```text
//! 11 E0 01 FF  nonce(32)  slot                                   GET_MEASUREMENTS, with a signature, all measurements
//! 11 60 P1 P2  blocks(1)  length(3)  blocks  nonce(32)  length(2)  opaque  signature(96)          MEASUREMENTS
//! ```
//! DMTF DSP0274 1.1.0, 10.11; numbers are little-endian, the signature's are not.

use std::fmt;

use super::signatures::Signatures;
use crate::limits;
use pki::Certificate;
use registers::Digest48;

/// Why bytes are no report of a Hopper GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum ReportError {
    #[error("the report has {got} bytes, more than the {max} allowed")]
    TooLong { got: usize, max: usize },
    #[error(
        "the report does not begin with an SPDM 1.1 request for all measurements, signed, of slot 0"
    )]
    Request,
    #[error("the request is not followed by an SPDM 1.1 response with measurements")]
    Response,
    #[error("the measurements are not a list of SHA-384 digests numbered from 1")]
    Measurements,
    #[error("the opaque fields do not fill their length")]
    Opaque,
    #[error("the report ends before the end of its signature of 96 bytes: it was cut")]
    End,
    #[error(
        "the report has {got} {} behind its signature, which nobody signed: {}",
        if *got == 1 { "byte" } else { "bytes" },
        if *zeros { "zeros, as a collector leaves them that hands out its whole buffer; cut them off" } else { "not zeros" }
    )]
    Behind {
        got: usize,
        /// Whether all of them are zero.
        zeros: bool,
    },
    #[error("the report lacks field {number}")]
    FieldAbsent { number: u16 },
    #[error("the report has field {number} twice")]
    FieldTwice { number: u16 },
    #[error("field {number} of the report has a value that this verifier does not know")]
    Field { number: u16 },
}

/// A report that was read, and whose signature nobody has checked yet.
#[derive(Clone, Debug)]
pub(super) struct Report {
    signed: Vec<u8>,
    signature: [u8; 96],
    pub nonce: [u8; 32],
    /// By the index that RIMs use: block number less one.
    pub measurements: Vec<Digest48>,
    pub fields: GpuFields,
}

/// What a GPU says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuFields {
    /// Field 3, such as `550.90.07`.
    pub driver_version: String,
    /// Field 6, such as `96.00.9F.00.01`.
    pub vbios_version: String,
    /// Fields 17, 18, 15: project, its SKU, the chip's SKU, such as `1010`, `0200`, `882`.
    pub board: [String; 3],
    /// Field 11: whether the video decoder 0 works. Measurement 35 is of its firmware. Absent: it is taken to work.
    pub video_decoder: Option<bool>,
    /// Field 20: digest of the firmware that holds the key. Absent before driver 550.
    pub firmware: Option<Digest48>,
    /// Field 21: whether the links to other GPUs are protected.
    pub protected_pcie: Option<bool>,
    /// Field 36: how GPUs work together. Absent before driver 580.
    pub feature: Option<GpuFeature>,
    /// Field 34.
    pub opaque_version: Option<u16>,
}

/// How GPUs of a confidential guest work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuFeature {
    /// One GPU by itself.
    SinglePassthrough,
    /// Several, passed to one guest.
    MultiplePassthrough,
    /// Several, with protected PCIe and NVLink.
    ProtectedPcie,
}

impl GpuFields {
    /// What NVIDIA calls the RIM of the driver.
    pub fn driver_rim_id(&self) -> String {
        format!("NV_GPU_DRIVER_GH100_{}", self.driver_version)
    }

    /// What NVIDIA calls the RIM of the VBIOS.
    pub fn vbios_rim_id(&self) -> String {
        let [project, sku, chip] = &self.board;
        format!(
            "NV_GPU_VBIOS_{project}_{sku}_{chip}_{}",
            self.vbios_version.replace('.', "")
        )
    }
}

impl fmt::Display for GpuFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GpuFeature::SinglePassthrough => "single-passthrough",
            GpuFeature::MultiplePassthrough => "multiple-passthrough",
            GpuFeature::ProtectedPcie => "protected-pcie",
        })
    }
}

impl Report {
    pub fn parse(bytes: &[u8]) -> Result<Report, ReportError> {
        if bytes.len() > limits::GPU_REPORT_BYTES_MAX {
            return Err(ReportError::TooLong {
                got: bytes.len(),
                max: limits::GPU_REPORT_BYTES_MAX,
            });
        }
        let (request, response) = bytes
            .split_first_chunk::<REQUEST_BYTES>()
            .ok_or(ReportError::Request)?;
        let [0x11, 0xe0, 0x01, 0xff, nonce @ .., SLOT] = request else {
            return Err(ReportError::Request);
        };
        let (head, rest) = response.split_first_chunk().ok_or(ReportError::Response)?;
        // P1 is reserved here and signed as it is; the low half of P2 is the slot.
        let [0x11, 0x60, _, slot, count, l0, l1, l2] = head else {
            return Err(ReportError::Response);
        };
        if slot & 0x0f != SLOT {
            return Err(ReportError::Response);
        }
        // Three bytes make at most 16 MiB, and the report has fewer.
        let length = u32::from_le_bytes([*l0, *l1, *l2, 0]) as usize;
        let (blocks, rest) = rest
            .split_at_checked(length)
            .ok_or(ReportError::Measurements)?;
        let measurements = measurements(*count, blocks).ok_or(ReportError::Measurements)?;
        // The device's own nonce makes each signature different; nobody compares it.
        let (_, rest) = rest.split_first_chunk::<32>().ok_or(ReportError::End)?;
        let (length, rest) = rest.split_first_chunk().ok_or(ReportError::End)?;
        let length = usize::from(u16::from_le_bytes(*length));
        let (opaque, signature) = rest.split_at_checked(length).ok_or(ReportError::Opaque)?;
        let fields = fields(opaque)?;
        let (signature, behind) = signature.split_first_chunk().ok_or(ReportError::End)?;
        if !behind.is_empty() {
            return Err(ReportError::Behind {
                got: behind.len(),
                zeros: behind.iter().all(|byte| *byte == 0),
            });
        }
        let signed = bytes.strip_suffix(signature).ok_or(ReportError::End)?;
        Ok(Report {
            signed: signed.to_vec(),
            signature: *signature,
            nonce: *nonce,
            measurements,
            fields,
        })
    }

    /// Whether the key of this certificate signed request and response. SPDM 1.1 signs them as they are, without a prefix (10.11.1).
    pub fn is_signed_by(&self, leaf: &Certificate, signatures: &Signatures) -> bool {
        signatures.signed(leaf, &self.signed, &self.signature)
    }
}

/// Measurement blocks, DSP0274 1.1.0, tables 43 to 45.
fn measurements(count: u8, mut blocks: &[u8]) -> Option<Vec<Digest48>> {
    let mut measurements = Vec::new();
    for index in 1..=count {
        let (head, rest) = blocks.split_first_chunk()?;
        // Index, specification DMTF, size 51, then type and size 48. Bit 7 of the type would say "no digest".
        let [got, 1, 51, 0, kind, 48, 0] = head else {
            return None;
        };
        if *got != index || kind & 0x80 != 0 {
            return None;
        }
        let (value, rest) = rest.split_first_chunk()?;
        measurements.push(Digest48(*value));
        blocks = rest;
    }
    (blocks.is_empty() && !measurements.is_empty()).then_some(measurements)
}

/// NVIDIA's fields: number, length, value. Those that nobody here judges are passed over, signed as they are.
fn fields(mut opaque: &[u8]) -> Result<GpuFields, ReportError> {
    let mut known: [Option<&[u8]>; KNOWN.len()] = [None; KNOWN.len()];
    while !opaque.is_empty() {
        let ([n0, n1, l0, l1], rest) = opaque.split_first_chunk().ok_or(ReportError::Opaque)?;
        let number = u16::from_le_bytes([*n0, *n1]);
        let length = usize::from(u16::from_le_bytes([*l0, *l1]));
        let (value, rest) = rest.split_at_checked(length).ok_or(ReportError::Opaque)?;
        opaque = rest;
        let place = KNOWN.iter().position(|known| *known == number);
        if let Some(slot) = place.and_then(|place| known.get_mut(place))
            && slot.replace(value).is_some()
        {
            return Err(ReportError::FieldTwice { number });
        }
    }
    let [
        driver,
        vbios,
        decoder,
        chip,
        project,
        sku,
        firmware,
        protected,
        version,
        feature,
    ] = known;
    Ok(GpuFields {
        driver_version: text(3, driver)?,
        vbios_version: vbios_version(vbios)?,
        board: [text(17, project)?, text(18, sku)?, text(15, chip)?],
        video_decoder: switch(11, decoder)?,
        firmware: match firmware {
            None => None,
            Some(digest) => Some(Digest48(
                digest
                    .try_into()
                    .map_err(|_| ReportError::Field { number: 20 })?,
            )),
        },
        protected_pcie: switch(21, protected)?,
        feature: match feature {
            None => None,
            Some([0, 0]) => Some(GpuFeature::SinglePassthrough),
            Some([1, 0]) => Some(GpuFeature::MultiplePassthrough),
            Some([2, 0]) => Some(GpuFeature::ProtectedPcie),
            Some(_) => return Err(ReportError::Field { number: 36 }),
        },
        opaque_version: match version {
            None => None,
            Some([low, high]) => Some(u16::from_le_bytes([*low, *high])),
            Some(_) => return Err(ReportError::Field { number: 34 }),
        },
    })
}

/// Text of letters, digits and dots, with zeros after it.
fn text(number: u16, value: Option<&[u8]>) -> Result<String, ReportError> {
    let value = value.ok_or(ReportError::FieldAbsent { number })?;
    let end = value
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let text = value.get(..end).unwrap_or_default();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.';
    if text.is_empty() || text.len() > limits::GPU_TEXT_BYTES_MAX || !text.iter().all(plain) {
        return Err(ReportError::Field { number });
    }
    Ok(text.iter().copied().map(char::from).collect())
}

/// Two little-endian words; the second has one byte of the version in it.
fn vbios_version(value: Option<&[u8]>) -> Result<String, ReportError> {
    let value = value.ok_or(ReportError::FieldAbsent { number: 6 })?;
    let [d, c, b, a, e, 0, 0, 0] = value else {
        return Err(ReportError::Field { number: 6 });
    };
    Ok(format!("{a:02X}.{b:02X}.{c:02X}.{d:02X}.{e:02X}"))
}

fn switch(number: u16, value: Option<&[u8]>) -> Result<Option<bool>, ReportError> {
    match value {
        None => Ok(None),
        Some([0x55]) => Ok(Some(false)),
        Some([0xaa]) => Ok(Some(true)),
        Some(_) => Err(ReportError::Field { number }),
    }
}

const REQUEST_BYTES: usize = 37;
/// Where a GPU keeps its certificates. None with another slot was seen.
const SLOT: u8 = 0;
/// Numbers of the fields that are read, in the order in which `fields` takes them apart.
const KNOWN: [u16; 10] = [3, 6, 11, 15, 17, 18, 20, 21, 34, 36];
