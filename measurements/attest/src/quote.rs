//! Reading a TDX quote: versions 4 and 5, TD report 1.0, 1.5 and 1.5 extended, ECDSA P-256.
//!
//! Layout: Intel TDX DCAP Quoting Library API, appendix A.3 (version 4) and A.4 (version 5), and `sgx_quote_5.h` for the
//! extended report; all numbers little endian.
//!
//! ```text
//! header 48 | v5: body type u16, size u32 | TD report 584, 648 or 885 | length u32 | signature data | zero padding
//! signature data: signature 64 | attestation key 64 | type 6 u16 | length u32 |
//!     QE report 384 | QE report signature 64 | length u16 | QE auth data | type 5 u16 | length u32 | PCK chain, PEM
//! ```
//!
//! Every byte is either covered by a signature that `verify` checks or fixed here: types, lengths, zero padding, the
//! armour of the certificates. So one flipped bit anywhere is refused, here or there.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::limits;
use registers::{Digest48, Registers, ReportData};

/// A quote that has the right shape. Nothing in it is true until `verify` says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// 4 or 5.
    pub version: u16,
    /// Which report the quote carries. Version 4 has the first only.
    pub report: ReportType,
    /// What the TDX module reported about the guest.
    pub td: TdReport,
    /// The certificates in the quote, DER: PCK leaf, its CA, the root.
    pub(crate) chain: [Vec<u8>; 3],
}

/// Which fields a TD report has; each type has those of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReportType {
    /// TDX 1.0.
    Td10,
    /// TDX 1.5: the security versions of the module as it is now, and the service TDs.
    Td15,
    /// TDX 1.5, extended ("1.5ex"): the instance and more about service TDs and devices.
    Td15Ex,
}

/// The TD report inside a quote. Field names follow Intel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdReport {
    /// Security versions of the TDX module and its loader.
    pub tee_tcb_svn: [u8; 16],
    /// Measurement of the TDX module.
    pub mr_seam: Digest48,
    /// Signer of the TDX module; zero is Intel.
    pub mr_signer_seam: Digest48,
    /// Attributes of the TDX module.
    pub seam_attributes: u64,
    /// Attributes of the guest.
    pub td_attributes: u64,
    /// Extended CPU state the guest may use.
    pub xfam: u64,
    /// An identifier the host chose at launch.
    pub mr_config_id: Digest48,
    /// Owner of the guest, chosen by the host.
    pub mr_owner: Digest48,
    /// Configuration of that owner, chosen by the host.
    pub mr_owner_config: Digest48,
    /// What the guest measured to.
    pub registers: Registers,
    /// What the guest put into the quote.
    pub report_data: ReportData,
    /// Hash of the service TDs bound to the guest when it was made; report 1.0 lacks it, and then it is zero.
    pub mr_service_td: Digest48,
    /// Security versions of the TDX module now, after an update below the running guest. Report 1.0 lacks them.
    pub tee_tcb_svn2: Option<[u8; 16]>,
    /// What only the extended report says.
    pub extended: Option<Extended>,
}

/// What the extended report of TDX 1.5 adds. `sgx_quote_5.h`, `sgx_report2_body_v1_5_ex_t`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extended {
    /// 0 for a whole guest, 1 to 3 for a guest inside a partitioned one.
    pub vm_id: u8,
    /// Random identity of this start of the guest.
    pub td_id: [u8; 32],
    /// Hash over what is known of the guest's devices.
    pub device_info: Digest48,
    /// Hash of the service TDs bound at the guest's creation.
    pub init_service_td_hash: Digest48,
    /// Their attributes.
    pub init_service_td_attributes: u64,
    /// CPUSVN at the guest's creation.
    pub init_cpu_svn: [u8; 16],
    /// Security versions of the module at the guest's creation.
    pub init_tee_tcb_svn: [u8; 16],
    /// Family of the platform on which the guest was created.
    pub init_fmspc: [u8; 12],
    /// Hash of the service TDs bound now.
    pub current_service_td_hash: Digest48,
    /// Their attributes.
    pub current_service_td_attributes: u64,
}

/// Why bytes are not a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum QuoteError {
    #[error("it has {got} bytes, more than the {max} allowed")]
    TooLong { got: usize, max: usize },
    #[error("it ends inside the {field}: it was cut; copy all of it")]
    Truncated { field: &'static str },
    #[error("it is an SGX quote: it speaks of an enclave, not of a TDX guest")]
    Sgx,
    #[error("its {field} is {got}, not {expected}")]
    Field {
        field: &'static str,
        got: u64,
        expected: &'static str,
    },
    #[error("it has {got} unexplained bytes after the {after}")]
    Trailing { after: &'static str, got: usize },
    #[error("its padding is not zero")]
    Padding,
    #[error("its certificate chain is not three PEM certificates in canonical form")]
    Chain,
}

impl Quote {
    /// Reads a quote, all of it.
    pub fn parse(bytes: &[u8]) -> Result<Quote, QuoteError> {
        if bytes.len() > limits::QUOTE_BYTES_MAX {
            return Err(QuoteError::TooLong {
                got: bytes.len(),
                max: limits::QUOTE_BYTES_MAX,
            });
        }
        let mut input = Reader(bytes);
        let version = header(&mut input)?;
        let report = match version {
            5 => body_descriptor(&mut input)?,
            _ => ReportType::Td10,
        };
        let mut td = td_report(&mut input)?;
        if report != ReportType::Td10 {
            td.tee_tcb_svn2 = Some(input.array("TEE_TCB_SVN2")?);
            td.mr_service_td = input.digest("MRSERVICETD")?;
        }
        if report == ReportType::Td15Ex {
            td.extended = Some(extended(&mut input)?);
        }
        let signature_len = input.u32("signature length")?;
        let chain = signature_data(input.take(signature_len as usize, "signature data")?)?;
        if input.0.len() > limits::QUOTE_PADDING_BYTES_MAX {
            return Err(QuoteError::Trailing {
                after: "signature data",
                got: input.0.len(),
            });
        }
        if input.0.iter().any(|byte| *byte != 0) {
            return Err(QuoteError::Padding);
        }
        Ok(Quote {
            version,
            report,
            td,
            chain,
        })
    }
}

/// Returns the version. Intel's QE vendor id and the SVN fields are under the signature and left to the verifier.
fn header(input: &mut Reader<'_>) -> Result<u16, QuoteError> {
    let version = input.u16("version")?;
    // Version 3 knows SGX only; later ones say it in the TEE type.
    if version == 3 {
        return Err(QuoteError::Sgx);
    }
    field("version", version, version == 4 || version == 5, "4 or 5")?;
    let key_type = input.u16("attestation key type")?;
    field(
        "attestation key type",
        key_type,
        key_type == 2,
        "2 (ECDSA P-256)",
    )?;
    let tee = input.u32("TEE type")?;
    if tee == TEE_SGX {
        return Err(QuoteError::Sgx);
    }
    field("TEE type", tee, tee == TEE_TDX, "0x81 (TDX)")?;
    input.array::<{ 2 + 2 + 16 + 20 }>("header")?;
    Ok(version)
}

fn body_descriptor(input: &mut Reader<'_>) -> Result<ReportType, QuoteError> {
    let body_type = input.u16("body type")?;
    let (report, expected_len) = match body_type {
        1 => return Err(QuoteError::Sgx),
        2 => (ReportType::Td10, TD10_BYTES),
        3 => (ReportType::Td15, TD15_BYTES),
        4 => (ReportType::Td15Ex, TD15_EX_BYTES),
        other => {
            return Err(QuoteError::Field {
                field: "body type",
                got: other.into(),
                expected: "2, 3 or 4 (TD report 1.0, 1.5 or 1.5 extended)",
            });
        }
    };
    let len = input.u32("body size")?;
    field(
        "body size",
        len,
        len == expected_len,
        "the size of its type",
    )?;
    Ok(report)
}

fn extended(input: &mut Reader<'_>) -> Result<Extended, QuoteError> {
    let [vm_id] = input.array("VMID")?;
    Ok(Extended {
        vm_id,
        td_id: input.array("TD_ID")?,
        device_info: input.digest("DEV_INFO")?,
        init_service_td_hash: input.digest("INIT_SERVTD_HASH")?,
        init_service_td_attributes: input.u64("INIT_SERVTD_ATTR")?,
        init_cpu_svn: input.array("INIT_CPUSVN")?,
        init_tee_tcb_svn: input.array("INIT_TEE_TCB_SVN")?,
        init_fmspc: input.array("INIT_TEE_FMSPC")?,
        current_service_td_hash: input.digest("CUR_SERVTD_HASH")?,
        current_service_td_attributes: input.u64("CUR_SERVTD_ATTR")?,
    })
}

fn td_report(input: &mut Reader<'_>) -> Result<TdReport, QuoteError> {
    let tee_tcb_svn = input.array("TEE_TCB_SVN")?;
    let mr_seam = input.digest("MRSEAM")?;
    let mr_signer_seam = input.digest("MRSIGNERSEAM")?;
    let seam_attributes = input.u64("SEAMATTRIBUTES")?;
    let td_attributes = input.u64("TDATTRIBUTES")?;
    let xfam = input.u64("XFAM")?;
    let mrtd = input.digest("MRTD")?;
    let mr_config_id = input.digest("MRCONFIGID")?;
    let mr_owner = input.digest("MROWNER")?;
    let mr_owner_config = input.digest("MROWNERCONFIG")?;
    let rtmr = [
        input.digest("RTMR0")?,
        input.digest("RTMR1")?,
        input.digest("RTMR2")?,
        input.digest("RTMR3")?,
    ];
    let report_data = ReportData(input.array("REPORTDATA")?);
    Ok(TdReport {
        tee_tcb_svn,
        mr_seam,
        mr_signer_seam,
        seam_attributes,
        td_attributes,
        xfam,
        mr_config_id,
        mr_owner,
        mr_owner_config,
        registers: Registers { mrtd, rtmr },
        report_data,
        mr_service_td: Digest48::ZERO,
        tee_tcb_svn2: None,
        extended: None,
    })
}

fn signature_data(bytes: &[u8]) -> Result<[Vec<u8>; 3], QuoteError> {
    let mut input = Reader(bytes);
    input.array::<64>("signature")?;
    input.array::<64>("attestation key")?;
    let mut qe = Reader(certification_data(
        &mut input,
        CERT_QE_REPORT,
        "6 (QE report)",
    )?);
    input.end("certification data")?;

    qe.array::<384>("QE report")?;
    qe.array::<64>("QE report signature")?;
    let auth_len = qe.u16("QE auth data length")?;
    // Intel's quoting enclave always writes 32 bytes and the QE report's hash covers exactly that many.
    field("QE auth data length", auth_len, auth_len == 32, "32")?;
    qe.take(32, "QE auth data")?;
    let pem = certification_data(&mut qe, CERT_PCK_CHAIN, "5 (PCK certificate chain)")?;
    qe.end("PCK certificate chain")?;
    pem_chain(pem)
}

fn certification_data<'a>(
    input: &mut Reader<'a>,
    wanted: u16,
    words: &'static str,
) -> Result<&'a [u8], QuoteError> {
    let kind = input.u16("certification data type")?;
    field("certification data type", kind, kind == wanted, words)?;
    let len = input.u32("certification data length")?;
    input.take(len as usize, "certification data")
}

/// Three certificates, lines of 64, `\n` at each end, then at most zero bytes (Intel ends the text with one NUL).
fn pem_chain(bytes: &[u8]) -> Result<[Vec<u8>; 3], QuoteError> {
    let text_len = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let text = std::str::from_utf8(&bytes[..text_len]).map_err(|_| QuoteError::Chain)?;
    let mut rest = text.strip_suffix('\n').unwrap_or(text);
    let mut chain = [const { Vec::new() }; 3];
    for certificate in &mut chain {
        let body = rest.strip_prefix(PEM_BEGIN).ok_or(QuoteError::Chain)?;
        let (armoured, after) = body.split_once(PEM_END).ok_or(QuoteError::Chain)?;
        *certificate = STANDARD
            .decode(armoured.replace('\n', ""))
            .map_err(|_| QuoteError::Chain)?;
        if armour(certificate) != armoured {
            return Err(QuoteError::Chain);
        }
        rest = after.strip_prefix('\n').unwrap_or(after);
    }
    if !rest.is_empty() || chain.iter().any(Vec::is_empty) {
        return Err(QuoteError::Chain);
    }
    Ok(chain)
}

fn armour(der: &[u8]) -> String {
    let mut lines = String::new();
    for (at, digit) in STANDARD.encode(der).chars().enumerate() {
        if at % 64 == 0 {
            lines.push('\n');
        }
        lines.push(digit);
    }
    lines.push('\n');
    lines
}

fn field(
    field: &'static str,
    got: impl Into<u64>,
    ok: bool,
    expected: &'static str,
) -> Result<(), QuoteError> {
    if ok {
        Ok(())
    } else {
        Err(QuoteError::Field {
            field,
            got: got.into(),
            expected,
        })
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], QuoteError> {
        let (head, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(QuoteError::Truncated { field })?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], QuoteError> {
        let (head, rest) = self
            .0
            .split_first_chunk()
            .ok_or(QuoteError::Truncated { field })?;
        self.0 = rest;
        Ok(*head)
    }

    fn digest(&mut self, field: &'static str) -> Result<Digest48, QuoteError> {
        self.array(field).map(Digest48)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, QuoteError> {
        self.array(field).map(u16::from_le_bytes)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, QuoteError> {
        self.array(field).map(u32::from_le_bytes)
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, QuoteError> {
        self.array(field).map(u64::from_le_bytes)
    }

    fn end(self, after: &'static str) -> Result<(), QuoteError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(QuoteError::Trailing {
                after,
                got: self.0.len(),
            })
        }
    }
}

impl fmt::Display for ReportType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReportType::Td10 => "1.0",
            ReportType::Td15 => "1.5",
            ReportType::Td15Ex => "1.5 extended",
        })
    }
}

const TEE_SGX: u32 = 0;
const TEE_TDX: u32 = 0x81;
const TD10_BYTES: u32 = 584;
const TD15_BYTES: u32 = 648;
const TD15_EX_BYTES: u32 = 885;
const CERT_PCK_CHAIN: u16 = 5;
const CERT_QE_REPORT: u16 = 6;
const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";
