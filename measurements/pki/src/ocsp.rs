//! OCSP messages (RFC 6960), read and not judged: signatures, dates and nonces are for the caller.

use crate::der::{Der, Value, tag};

/// Single responses in one response.
pub const ANSWERS_MAX: usize = 16;
/// Certificates that come with a response.
pub const CERTIFICATES_MAX: usize = 4;

/// `CertID`, section 4.1.1. The parameters of the hash algorithm, absent or NULL, are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateId {
    /// The hash algorithm's object identifier.
    pub hash: Vec<u8>,
    /// Digest of the issuer's name.
    pub issuer_name: Vec<u8>,
    /// Digest of the issuer's key.
    pub issuer_key: Vec<u8>,
    /// The serial number as DER has it.
    pub serial: Vec<u8>,
}

/// A request for one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs)]
pub struct Request {
    pub certificate: CertificateId,
    pub nonce: Option<Vec<u8>>,
}

/// `OCSPResponse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response<'a> {
    /// A status other than successful (section 4.2.1).
    Status(u8),
    /// A successful basic response.
    Basic(BasicResponse<'a>),
}

/// `BasicOCSPResponse` and its `ResponseData`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs)]
pub struct BasicResponse<'a> {
    /// The bytes that are signed.
    pub signed: &'a [u8],
    /// The content of the signature's `AlgorithmIdentifier`.
    pub algorithm: &'a [u8],
    pub signature: &'a [u8],
    pub produced_unix_s: u64,
    pub answers: Vec<SingleResponse>,
    pub nonce: Option<Vec<u8>>,
    /// DER.
    pub certificates: Vec<&'a [u8]>,
}

/// `SingleResponse`: the status of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs)]
pub struct SingleResponse {
    pub certificate: CertificateId,
    pub status: CertificateStatus,
    pub this_unix_s: u64,
    pub next_unix_s: Option<u64>,
}

/// `CertStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum CertificateStatus {
    Good,
    Revoked {
        since_unix_s: u64,
        /// CRLReason, RFC 5280 5.3.1.
        reason: Option<u8>,
    },
    Unknown,
}

impl Request {
    /// Reads an `OCSPRequest`; `None` if it is malformed or about other than one certificate.
    pub fn parse(der: &[u8]) -> Option<Request> {
        let mut outer = Der::new(der);
        let mut request = outer.inside(tag::SEQUENCE)?;
        outer.end()?;
        let mut tbs = request.inside(tag::SEQUENCE)?;
        // An optional signature of the requestor.
        request.optional(tag::constructed(0))?;
        request.end()?;
        tbs.optional(tag::constructed(0))?;
        tbs.optional(tag::constructed(1))?;
        let mut list = tbs.inside(tag::SEQUENCE)?;
        let extensions = tbs.optional(tag::constructed(2))?;
        tbs.end()?;
        let mut single = list.inside(tag::SEQUENCE)?;
        list.end()?;
        let certificate = certificate_id(single.inside(tag::SEQUENCE)?)?;
        single.optional(tag::constructed(0))?;
        single.end()?;
        Some(Request {
            certificate,
            nonce: Extensions::read(extensions)?.nonce,
        })
    }
}

impl<'a> Response<'a> {
    /// Reads an `OCSPResponse`; `None` if it is malformed, not basic, or has a critical extension that is not known here.
    pub fn parse(der: &'a [u8]) -> Option<Response<'a>> {
        let mut outer = Der::new(der);
        let mut parts = outer.inside(tag::SEQUENCE)?;
        outer.end()?;
        let status = parts.small(tag::ENUMERATED)?;
        let bytes = parts.optional(tag::constructed(0))?;
        parts.end()?;
        if status != 0 {
            return Some(Response::Status(status));
        }
        let mut wrapped = Der::new(bytes?.content);
        let mut bytes = wrapped.inside(tag::SEQUENCE)?;
        wrapped.end()?;
        (bytes.content(tag::OID)? == OCSP_BASIC).then_some(())?;
        let mut octets = Der::new(bytes.content(tag::OCTET_STRING)?);
        bytes.end()?;
        let basic = basic(octets.inside(tag::SEQUENCE)?)?;
        octets.end()?;
        Some(Response::Basic(basic))
    }
}

fn basic(mut response: Der<'_>) -> Option<BasicResponse<'_>> {
    let signed = response.value(tag::SEQUENCE)?;
    let algorithm = response.content(tag::SEQUENCE)?;
    let signature = response.bytes_of_bits()?;
    let mut certificates = Vec::new();
    if let Some(given) = response.optional(tag::constructed(0))? {
        let mut list = only(given)?;
        while !list.is_empty() {
            (certificates.len() < CERTIFICATES_MAX).then_some(())?;
            certificates.push(list.value(tag::SEQUENCE)?.whole);
        }
    }
    response.end()?;

    let mut data = Der::new(signed.content);
    // Version 1 is the default, so it is left out. The responder, by name [1] or key [2], is found by the signature.
    matches!(data.any()?.tag, 0xa1 | 0xa2).then_some(())?;
    let produced_unix_s = data.generalized_unix_s()?;
    let mut list = data.inside(tag::SEQUENCE)?;
    let mut answers = Vec::new();
    while !list.is_empty() {
        (answers.len() < ANSWERS_MAX).then_some(())?;
        answers.push(single_response(list.inside(tag::SEQUENCE)?)?);
    }
    let extensions = Extensions::read(data.optional(tag::constructed(1))?)?;
    data.end()?;
    (!extensions.unknown_critical).then_some(BasicResponse {
        signed: signed.whole,
        algorithm,
        signature,
        produced_unix_s,
        answers,
        nonce: extensions.nonce,
        certificates,
    })
}

fn single_response(mut single: Der<'_>) -> Option<SingleResponse> {
    let certificate = certificate_id(single.inside(tag::SEQUENCE)?)?;
    let status = single.any()?;
    let status = match status.tag {
        0x80 if status.content.is_empty() => CertificateStatus::Good,
        0xa1 => {
            let mut revoked = Der::new(status.content);
            let since_unix_s = revoked.generalized_unix_s()?;
            let mut reason = None;
            if let Some(wrapped) = revoked.optional(tag::constructed(0))? {
                let mut wrapped = Der::new(wrapped.content);
                reason = Some(wrapped.small(tag::ENUMERATED)?);
                wrapped.end()?;
            }
            revoked.end()?;
            CertificateStatus::Revoked {
                since_unix_s,
                reason,
            }
        }
        0x82 if status.content.is_empty() => CertificateStatus::Unknown,
        _ => return None,
    };
    let this_unix_s = single.generalized_unix_s()?;
    let mut next_unix_s = None;
    if let Some(wrapped) = single.optional(tag::constructed(0))? {
        let mut wrapped = Der::new(wrapped.content);
        next_unix_s = Some(wrapped.generalized_unix_s()?);
        wrapped.end()?;
    }
    let extensions = Extensions::read(single.optional(tag::constructed(1))?)?;
    // A nonce belongs to the whole response.
    let plain = extensions.nonce.is_none() && !extensions.unknown_critical;
    (single.is_empty() && plain).then_some(SingleResponse {
        certificate,
        status,
        this_unix_s,
        next_unix_s,
    })
}

fn certificate_id(mut id: Der<'_>) -> Option<CertificateId> {
    let mut algorithm = id.inside(tag::SEQUENCE)?;
    let hash = algorithm.content(tag::OID)?.to_vec();
    // RFC 5754 2: parameters absent, or NULL.
    if let Some(null) = algorithm.optional(tag::NULL)? {
        null.content.is_empty().then_some(())?;
    }
    algorithm.end()?;
    let name = CertificateId {
        hash,
        issuer_name: id.content(tag::OCTET_STRING)?.to_vec(),
        issuer_key: id.content(tag::OCTET_STRING)?.to_vec(),
        serial: id.integer()?.to_vec(),
    };
    id.end()?;
    Some(name)
}

#[derive(Default)]
struct Extensions {
    nonce: Option<Vec<u8>>,
    unknown_critical: bool,
}

impl Extensions {
    fn read(explicit: Option<Value<'_>>) -> Option<Extensions> {
        let mut found = Extensions::default();
        let Some(explicit) = explicit else {
            return Some(found);
        };
        let mut list = only(explicit)?;
        while !list.is_empty() {
            let mut extension = list.inside(tag::SEQUENCE)?;
            let kind = extension.content(tag::OID)?;
            let critical = extension.optional_true()?;
            let value = extension.content(tag::OCTET_STRING)?;
            extension.end()?;
            if kind == NONCE {
                // RFC 8954 2.1: an OCTET STRING inside the extension's own.
                let mut inside = Der::new(value);
                let nonce = inside.content(tag::OCTET_STRING)?;
                inside.end()?;
                found.nonce.is_none().then_some(())?;
                found.nonce = Some(nonce.to_vec());
            } else {
                found.unknown_critical |= critical;
            }
        }
        Some(found)
    }
}

/// The one SEQUENCE that an explicit tag wraps.
fn only(explicit: Value<'_>) -> Option<Der<'_>> {
    let mut wrapped = Der::new(explicit.content);
    let list = wrapped.inside(tag::SEQUENCE)?;
    wrapped.end()?;
    Some(list)
}

/// 1.3.6.1.5.5.7.48.1.1, id-pkix-ocsp-basic.
const OCSP_BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
/// 1.3.6.1.5.5.7.48.1.2, id-pkix-ocsp-nonce.
const NONCE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];

#[cfg(test)]
mod tests {
    use super::*;

    /// openssl ocsp -issuer ca.pem -serial 0x1234 -reqout request.der -no_nonce
    const OPENSSL_REQUEST: [u8; 69] = *b"\
        \x30\x43\x30\x41\x30\x3f\x30\x3d\x30\x3b\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14\
        \x76\xb3\xb6\xf4\x08\xe4\xa7\xf0\x00\x6b\x43\x02\x11\x59\x5e\x17\xad\x61\xad\x0f\x04\x14\
        \x0c\x92\x9c\xbb\x6e\xd7\x15\xc4\x3b\xbe\x3e\x6f\x4d\x3d\x1e\x93\x8a\x0b\x35\xf8\x02\x02\x12\x34";

    #[test]
    fn a_request_of_openssl_is_read_and_no_cut_of_it() {
        let request = Request::parse(&OPENSSL_REQUEST).unwrap();
        assert_eq!(request.certificate.serial, [0x12, 0x34]);
        assert_eq!(request.certificate.hash, [0x2b, 0x0e, 3, 2, 0x1a]);
        assert_eq!(request.nonce, None);
        for cut in 0..OPENSSL_REQUEST.len() {
            assert_eq!(Request::parse(&OPENSSL_REQUEST[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn a_refusal_has_its_status_and_no_bytes() {
        // tryLater, section 4.2.1.
        let refused = [0x30, 3, 0x0a, 1, 3];
        assert_eq!(Response::parse(&refused), Some(Response::Status(3)));
        // Successful, and without a response.
        assert_eq!(Response::parse(&[0x30, 3, 0x0a, 1, 0]), None);
    }
}
