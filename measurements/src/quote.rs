//! Reading a TDX quote: versions 4 and 5, TD report 1.0 and 1.5, ECDSA P-256.
//!
//! Layout: Intel TDX DCAP Quoting Library API, appendix A.3 (version 4) and A.4 (version 5); all numbers little endian.
//!
//! ```text
//! header 48 | v5: body type u16, size u32 | TD report 584 or 648 | length u32 | signature data | zero padding
//! signature data: signature 64 | attestation key 64 | type 6 u16 | length u32 |
//!     QE report 384 | QE report signature 64 | length u16 | QE auth data | type 5 u16 | length u32 | PCK chain, PEM
//! ```
//!
//! Every byte is either covered by a signature that `verify` checks or fixed here: types, lengths, zero padding, the
//! armour of the certificates. So one flipped bit anywhere is refused, here or there.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{Digest48, Registers, ReportData, limits};

/// A quote that has the right shape. Nothing in it is true until `verify` says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// 4 or 5.
    pub version: u16,
    /// What the TDX module reported about the guest.
    pub td: TdReport,
    /// The certificates in the quote, DER: PCK leaf, its CA, the root.
    pub(crate) chain: [Vec<u8>; 3],
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
    /// Hash of the service TDs bound to the guest; only TD report 1.5 has it, elsewhere zero.
    pub mr_service_td: Digest48,
}

/// Why bytes are not a quote. The sender is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// Longer than any quote.
    #[error("it has {got} bytes, more than the {max} allowed")]
    TooLong {
        /// Bytes offered.
        got: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The bytes end inside a field.
    #[error("it ends inside the {field}")]
    Truncated {
        /// Where.
        field: &'static str,
    },
    /// A field with a value this program does not accept.
    #[error("its {field} is {got}, not {expected}")]
    Field {
        /// Which.
        field: &'static str,
        /// The value in the quote.
        got: u64,
        /// The accepted values.
        expected: &'static str,
    },
    /// Bytes after the end of a part.
    #[error("it has {got} unexplained bytes after the {after}")]
    Trailing {
        /// After which part.
        after: &'static str,
        /// How many.
        got: usize,
    },
    /// Padding that is not zero.
    #[error("its padding is not zero")]
    Padding,
    /// The certificate chain is not three certificates in the one accepted PEM spelling.
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
        let body_type = if version == 5 {
            body_descriptor(&mut input)?
        } else {
            BODY_TD10
        };
        let mut td = td_report(&mut input)?;
        if body_type == BODY_TD15 {
            let _tee_tcb_svn2 = input.array::<16>("TEE_TCB_SVN2")?;
            td.mr_service_td = input.digest("MRSERVICETD")?;
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
        Ok(Quote { version, td, chain })
    }
}

/// Returns the version. Intel's QE vendor id and the SVN fields are under the signature and left to the verifier.
fn header(input: &mut Reader<'_>) -> Result<u16, QuoteError> {
    let version = input.u16("version")?;
    field("version", version, version == 4 || version == 5, "4 or 5")?;
    let key_type = input.u16("attestation key type")?;
    field(
        "attestation key type",
        key_type,
        key_type == 2,
        "2 (ECDSA P-256)",
    )?;
    let tee = input.u32("TEE type")?;
    field("TEE type", tee, tee == TEE_TDX, "0x81 (TDX)")?;
    input.array::<{ 2 + 2 + 16 + 20 }>("header")?;
    Ok(version)
}

fn body_descriptor(input: &mut Reader<'_>) -> Result<u16, QuoteError> {
    let body_type = input.u16("body type")?;
    let expected_len = match body_type {
        BODY_TD10 => TD10_BYTES,
        BODY_TD15 => TD15_BYTES,
        other => {
            field(
                "body type",
                other,
                false,
                "2 (TD report 1.0) or 3 (TD report 1.5)",
            )?;
            0
        }
    };
    let len = input.u32("body size")?;
    field(
        "body size",
        len,
        len == expected_len,
        "the size of its type",
    )?;
    Ok(body_type)
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

const TEE_TDX: u32 = 0x81;
const BODY_TD10: u16 = 2;
const BODY_TD15: u16 = 3;
const TD10_BYTES: u32 = 584;
const TD15_BYTES: u32 = 648;
const CERT_PCK_CHAIN: u16 = 5;
const CERT_QE_REPORT: u16 = 6;
const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";
