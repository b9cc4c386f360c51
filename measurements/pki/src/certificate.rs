//! One X.509 certificate (RFC 5280) of NVIDIA's kind, read strictly: P-384 keys, ECDSA with SHA-384, version 3, no unknown critical extension.

#![expect(missing_docs, reason = "the names are those of RFC 5280")]

use p384::ecdsa::{Signature, VerifyingKey, signature::Verifier};
use sha2::{Digest, Sha256};

use crate::der::{Der, p384_signature, tag};
use crate::limits;
use crate::outline::{COMMON_NAME, SERIAL_NUMBER, attribute};

/// Why bytes are no certificate of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum CertificateError {
    #[error("it has {got} bytes, more than the {max} allowed")]
    TooLong { got: usize, max: usize },
    #[error("it is not a DER certificate of version 3")]
    Malformed,
    #[error("it is not signed with ECDSA and SHA-384")]
    SignatureAlgorithm,
    #[error("its key is not on the curve P-384")]
    Key,
    #[error("it has a critical extension that this verifier does not know")]
    CriticalExtension,
    #[error("it has an extension twice")]
    ExtensionTwice,
}

/// A certificate that was read, and that nobody has vouched for yet.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    to_be_signed: Vec<u8>,
    signature: [u8; 96],
    pub key: VerifyingKey,
    pub key_info_digest: [u8; 32],
    /// The key as SubjectPublicKeyInfo.
    pub key_info: Vec<u8>,
    /// The key's BIT STRING, which OCSP hashes.
    pub key_bits: Vec<u8>,
    pub serial: Vec<u8>,
    pub issuer: Vec<u8>,
    pub subject: Vec<u8>,
    pub common_name: String,
    /// The X.520 serialNumber of the subject, which names a device.
    pub subject_serial: Option<String>,
    pub not_before_unix_s: u64,
    pub not_after_unix_s: u64,
    pub extensions: Extensions,
}

/// What the extensions say.
#[derive(Clone, Debug, Default)]
pub struct Extensions {
    /// Whether this is a certificate authority, and how many may stand below it. `None` where the extension is absent.
    pub basic: Option<Basic>,
    /// The first byte of the bits, as they lie: 0x80 is digitalSignature, 0x04 keyCertSign.
    pub key_usage: Option<u8>,
    pub subject_key: Option<Vec<u8>>,
    pub authority_key: Option<Vec<u8>>,
    /// Whether it is for signing OCSP responses and nothing else.
    pub ocsp_signing: bool,
    pub tcb_info: Option<TcbInfo>,
    /// A multi-component TcbInfo, which devices after Hopper carry.
    pub later_tcb_info: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basic {
    pub authority: bool,
    pub path_length: Option<u8>,
}

/// The DICE extension of a Hopper leaf: whose device it is and which firmware asked for the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcbInfo {
    /// SubjectPublicKeyInfo of the device's own key.
    pub device_key_info: Vec<u8>,
    pub firmware: [u8; 48],
}

pub const DIGITAL_SIGNATURE: u8 = 0x80;
pub const KEY_CERT_SIGN: u8 = 0x04;

impl Certificate {
    pub fn parse(der: &[u8]) -> Result<Certificate, CertificateError> {
        if der.len() > limits::CERTIFICATE_BYTES_MAX {
            return Err(CertificateError::TooLong {
                got: der.len(),
                max: limits::CERTIFICATE_BYTES_MAX,
            });
        }
        let mut outer = Der::new(der);
        let mut parts = outer
            .inside(tag::SEQUENCE)
            .ok_or(CertificateError::Malformed)?;
        outer.end().ok_or(CertificateError::Malformed)?;
        let signed = parts
            .value(tag::SEQUENCE)
            .ok_or(CertificateError::Malformed)?;
        let algorithm = parts
            .content(tag::SEQUENCE)
            .ok_or(CertificateError::Malformed)?;
        let bits = parts.bytes_of_bits().ok_or(CertificateError::Malformed)?;
        parts.end().ok_or(CertificateError::Malformed)?;
        // RFC 5280 4.1.1.2: the two names of the algorithm are equal. RFC 5758 3.2: without parameters.
        if algorithm != ECDSA_WITH_SHA384 {
            return Err(CertificateError::SignatureAlgorithm);
        }
        let signature = p384_signature(bits).ok_or(CertificateError::Malformed)?;
        let body = Body::parse(signed.content)?;
        let key = key_of(body.key_info)?;
        let name = |kind| match attribute(body.subject, kind) {
            Some(None) => Ok(None),
            Some(Some(text)) if text.len() <= limits::CERTIFICATE_NAME_BYTES_MAX => {
                Ok(Some(text.to_owned()))
            }
            _ => Err(CertificateError::Malformed),
        };
        let common_name = name(COMMON_NAME)?.unwrap_or_default();
        let subject_serial = name(SERIAL_NUMBER)?;
        Ok(Certificate {
            der: der.to_vec(),
            to_be_signed: signed.whole.to_vec(),
            signature,
            key_info_digest: Sha256::digest(body.key_info).into(),
            key_bits: key.to_sec1_point(false).as_bytes().to_vec(),
            key,
            key_info: body.key_info.to_vec(),
            serial: body.serial.to_vec(),
            issuer: body.issuer.to_vec(),
            subject: body.subject.to_vec(),
            common_name,
            subject_serial,
            not_before_unix_s: body.not_before_unix_s,
            not_after_unix_s: body.not_after_unix_s,
            extensions: Extensions::parse(body.extensions)?,
        })
    }

    /// The bytes, as given.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether `issuer`'s key signed this.
    pub fn is_signed_by(&self, issuer: &VerifyingKey) -> bool {
        verifies(issuer, &self.to_be_signed, &self.signature)
    }
}

/// ECDSA over P-384 with SHA-384; `signature` is r then s, big-endian.
pub fn verifies(key: &VerifyingKey, message: &[u8], signature: &[u8; 96]) -> bool {
    Signature::from_slice(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
}

/// The TBSCertificate of RFC 5280 4.1, cut into its parts.
struct Body<'a> {
    serial: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    not_before_unix_s: u64,
    not_after_unix_s: u64,
    key_info: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> Body<'a> {
    fn parse(content: &'a [u8]) -> Result<Body<'a>, CertificateError> {
        let mut parts = Der::new(content);
        let mut before_algorithm = || {
            let mut version = parts.inside(tag::constructed(0))?;
            // Version 3 is the number 2.
            (version.small(tag::INTEGER)? == 2).then_some(())?;
            version.end()?;
            let serial = parts.integer()?;
            let algorithm = parts.content(tag::SEQUENCE)?;
            Some((serial, algorithm))
        };
        let (serial, algorithm) = before_algorithm().ok_or(CertificateError::Malformed)?;
        if algorithm != ECDSA_WITH_SHA384 {
            return Err(CertificateError::SignatureAlgorithm);
        }
        let mut after_algorithm = || {
            let issuer = parts.value(tag::SEQUENCE)?.whole;
            let mut validity = parts.inside(tag::SEQUENCE)?;
            let not_before_unix_s = validity.time_unix_s()?;
            let not_after_unix_s = validity.time_unix_s()?;
            validity.end()?;
            let subject = parts.value(tag::SEQUENCE)?.whole;
            let key_info = parts.value(tag::SEQUENCE)?.whole;
            // No unique identifiers: RFC 5280 4.1.2.8 forbids issuing them.
            let mut wrapped = parts.inside(tag::constructed(3))?;
            let extensions = wrapped.content(tag::SEQUENCE)?;
            wrapped.end()?;
            parts.end()?;
            Some(Body {
                serial,
                issuer,
                subject,
                not_before_unix_s,
                not_after_unix_s,
                key_info,
                extensions,
            })
        };
        after_algorithm().ok_or(CertificateError::Malformed)
    }
}

fn key_of(key_info: &[u8]) -> Result<VerifyingKey, CertificateError> {
    let mut outer = Der::new(key_info);
    let parts = outer.inside(tag::SEQUENCE).and_then(|mut inside| {
        let algorithm = inside.content(tag::SEQUENCE)?;
        let point = inside.bytes_of_bits()?;
        inside.end()?;
        Some((algorithm, point))
    });
    let (algorithm, point) = parts.ok_or(CertificateError::Malformed)?;
    // Uncompressed points only: 0x04 and two coordinates of 48 bytes.
    if algorithm != P384_KEY || point.len() != 97 || point.first() != Some(&4) {
        return Err(CertificateError::Key);
    }
    VerifyingKey::from_sec1_bytes(point).map_err(|_| CertificateError::Key)
}

impl Extensions {
    fn parse(content: &[u8]) -> Result<Extensions, CertificateError> {
        let mut list = Der::new(content);
        let mut seen: Vec<&[u8]> = Vec::new();
        let mut extensions = Extensions::default();
        while !list.is_empty() {
            let one = list.inside(tag::SEQUENCE).and_then(|mut one| {
                let kind = one.content(tag::OID)?;
                let critical = one.optional_true()?;
                let value = one.content(tag::OCTET_STRING)?;
                one.end()?;
                Some((kind, critical, value))
            });
            let (kind, critical, value) = one.ok_or(CertificateError::Malformed)?;
            if seen.contains(&kind) {
                return Err(CertificateError::ExtensionTwice);
            }
            if seen.len() >= limits::CERTIFICATE_EXTENSIONS_MAX {
                return Err(CertificateError::Malformed);
            }
            seen.push(kind);
            let known = extensions
                .read(kind, value)
                .ok_or(CertificateError::Malformed)?;
            if critical && !known {
                return Err(CertificateError::CriticalExtension);
            }
        }
        Ok(extensions)
    }

    /// Whether this verifier acts on the extension; `None` where it is malformed.
    fn read(&mut self, kind: &[u8], value: &[u8]) -> Option<bool> {
        let mut der = Der::new(value);
        match kind {
            BASIC_CONSTRAINTS => {
                let mut inside = der.inside(tag::SEQUENCE)?;
                let authority = inside.optional_true()?;
                let path_length = match inside.is_empty() {
                    true => None,
                    false => Some(inside.small(tag::INTEGER)?),
                };
                inside.end()?;
                self.basic = Some(Basic {
                    authority,
                    path_length,
                });
            }
            KEY_USAGE => {
                let [unused @ 0..8, first, second @ ..] = der.content(tag::BIT_STRING)? else {
                    return None;
                };
                // X.690 11.2: named bits end with a one, and what is unused is zero.
                let last = second.last().unwrap_or(first);
                if second.len() > 1 || last.trailing_zeros() != u32::from(*unused) {
                    return None;
                }
                self.key_usage = Some(*first);
            }
            SUBJECT_KEY => self.subject_key = Some(der.content(tag::OCTET_STRING)?.to_vec()),
            AUTHORITY_KEY => {
                // Of three ways to name an issuer only the one by key: the name itself is compared in every chain.
                let mut inside = der.inside(tag::SEQUENCE)?;
                let key = inside.optional(tag::primitive(0))?;
                self.authority_key = key.map(|key| key.content.to_vec());
            }
            EXTENDED_USAGE => {
                let mut inside = der.inside(tag::SEQUENCE)?;
                self.ocsp_signing = inside.content(tag::OID)? == OCSP_SIGNING && inside.is_empty();
                return Some(self.ocsp_signing);
            }
            TCB_INFO => self.tcb_info = Some(TcbInfo::parse(&mut der)?),
            // Not read: whoever sees the mark refuses the device.
            MULTI_TCB_INFO => {
                self.later_tcb_info = true;
                return Some(false);
            }
            _ => return Some(false),
        }
        der.end()?;
        Some(true)
    }
}

impl TcbInfo {
    /// `SEQUENCE { version 1, device key, SEQUENCE { SHA-384, digest } }`, as every Hopper leaf that was seen has it.
    fn parse(der: &mut Der<'_>) -> Option<TcbInfo> {
        let mut parts = der.inside(tag::SEQUENCE)?;
        (parts.small(tag::INTEGER)? == 1).then_some(())?;
        let device_key_info = parts.value(tag::SEQUENCE)?.whole.to_vec();
        let mut firmware = parts.inside(tag::SEQUENCE)?;
        parts.end()?;
        (firmware.content(tag::OID)? == SHA384).then_some(())?;
        let digest = firmware.content(tag::OCTET_STRING)?.try_into().ok()?;
        firmware.end()?;
        Some(TcbInfo {
            device_key_info,
            firmware: digest,
        })
    }
}

/// 1.2.840.10045.4.3.3, without parameters.
pub const ECDSA_WITH_SHA384: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
/// 1.2.840.10045.2.1 with 1.3.132.0.34.
const P384_KEY: &[u8] = &[
    0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 5, 0x2b, 0x81, 0x04, 0x00, 0x22,
];
/// 2.16.840.1.101.3.4.2.2.
pub const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
/// 2.5.29.19.
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
/// 2.5.29.15.
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
/// 2.5.29.14.
const SUBJECT_KEY: &[u8] = &[0x55, 0x1d, 14];
/// 2.5.29.35.
const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 35];
/// 2.5.29.37.
const EXTENDED_USAGE: &[u8] = &[0x55, 0x1d, 37];
/// 1.3.6.1.5.5.7.3.9.
const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];
/// 2.23.133.5.4.1: DICE, TCG "DICE Attestation Architecture".
const TCB_INFO: &[u8] = &[0x67, 0x81, 5, 5, 4, 1];
/// 2.23.133.5.4.1.1.
const MULTI_TCB_INFO: &[u8] = &[0x67, 0x81, 5, 5, 4, 1, 1];
