//! OCSP messages (RFC 6960): which certificate a request names, and what an answer says about it.
//!
//! Nonce and signature are for the client to judge. A cached answer has the nonce of an earlier request; a client that
//! does not accept that in exchange for the signed dates asks with `Cache-Control: no-cache`.

use pki::der::{
    Der, Value,
    tag::{ENUMERATED, OCTET_STRING, OID, SEQUENCE, constructed},
};
use sha2::{Digest, Sha256};

/// A client's request for one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OcspRequest {
    der: Vec<u8>,
    certificate: CertificateName,
    nonce: Option<Vec<u8>>,
}

/// `CertID`, section 4.1.1. The parameters of the hash algorithm are left out: some write NULL, some nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CertificateName {
    hash: Vec<u8>,
    issuer_name: Vec<u8>,
    issuer_key: Vec<u8>,
    serial: Vec<u8>,
}

/// What an `OCSPResponse` says about a request's certificate.
#[derive(Debug, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum OcspAnswer {
    /// `responseStatus` other than successful (section 4.2.1).
    Status(u8),
    OtherCertificate,
    /// The answer has a nonce, and not the request's. A responder may leave it out (section 4.4.1).
    OtherNonce,
    Dated {
        this_update: u64,
        next_update: Option<u64>,
    },
}

impl OcspRequest {
    /// Reads a request; `None` is malformed DER, or other than one certificate.
    pub fn parse(der: &[u8]) -> Option<OcspRequest> {
        request(der)
    }

    /// The request as it came.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Reads an answer; `None` is malformed DER.
    pub fn answer(&self, der: &[u8]) -> Option<OcspAnswer> {
        let (status, basic) = response(der)?;
        if status != 0 {
            return Some(OcspAnswer::Status(status));
        }
        let Some(answer) = single_response(basic?, &self.certificate)? else {
            return Some(OcspAnswer::OtherCertificate);
        };
        Some(match (&answer.nonce, &self.nonce) {
            (Some(got), Some(asked)) if got != asked => OcspAnswer::OtherNonce,
            _ => OcspAnswer::Dated {
                this_update: answer.this_update,
                next_update: answer.next_update,
            },
        })
    }

    /// A digest of the certificate's name: the same for every request about it.
    pub(super) fn key(&self) -> [u8; 32] {
        let name = &self.certificate;
        let mut hash = Sha256::new();
        for part in [
            &name.hash,
            &name.issuer_name,
            &name.issuer_key,
            &name.serial,
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

fn request(der: &[u8]) -> Option<OcspRequest> {
    let mut outer = Der::new(der);
    let mut request = outer.inside(SEQUENCE)?;
    outer.end()?;
    let mut tbs = request.inside(SEQUENCE)?;
    // An optional signature of the requestor.
    request.optional(constructed(0))?;
    request.end()?;
    tbs.optional(constructed(0))?;
    tbs.optional(constructed(1))?;
    let mut list = tbs.inside(SEQUENCE)?;
    let extensions = tbs.optional(constructed(2))?;
    tbs.end()?;
    let mut single = list.inside(SEQUENCE)?;
    list.end()?;
    let certificate = certificate_name(single.inside(SEQUENCE)?)?;
    single.optional(constructed(0))?;
    single.end()?;
    Some(OcspRequest {
        der: der.to_owned(),
        certificate,
        nonce: extensions.map_or(Some(None), nonce)?,
    })
}

/// `OCSPResponse`: its status, and what is inside if it is a basic response.
fn response(der: &[u8]) -> Option<(u8, Option<Der<'_>>)> {
    let mut outer = Der::new(der);
    let mut response = outer.inside(SEQUENCE)?;
    outer.end()?;
    let status = response.small(ENUMERATED)?;
    let Some(bytes) = response.optional(constructed(0))? else {
        response.end()?;
        return Some((status, None));
    };
    response.end()?;
    let mut bytes = Der::new(bytes.content);
    let mut bytes_sequence = bytes.inside(SEQUENCE)?;
    bytes.end()?;
    if bytes_sequence.content(OID)? != BASIC_RESPONSE {
        return None;
    }
    let basic = bytes_sequence.inside(OCTET_STRING)?;
    bytes_sequence.end()?;
    Some((status, Some(basic)))
}

struct SingleResponse {
    this_update: u64,
    next_update: Option<u64>,
    nonce: Option<Vec<u8>>,
}

/// The response about a certificate, if there is one. `None` outside is broken DER.
fn single_response(mut basic: Der<'_>, wanted: &CertificateName) -> Option<Option<SingleResponse>> {
    let mut response = basic.inside(SEQUENCE)?;
    basic.end()?;
    let mut data = response.inside(SEQUENCE)?;
    data.optional(constructed(0))?;
    // The responder, by name or by key.
    let responder = data.any()?.tag;
    if responder != constructed(1) && responder != constructed(2) {
        return None;
    }
    data.generalized_unix_s()?;
    let mut list = data.inside(SEQUENCE)?;
    let extensions = data.optional(constructed(1))?;
    data.end()?;
    let nonce = extensions.map_or(Some(None), nonce)?;
    let mut found = None;
    while !list.is_empty() {
        let mut single = list.inside(SEQUENCE)?;
        let name = certificate_name(single.inside(SEQUENCE)?)?;
        // Good, revoked or unknown: the client's to judge.
        single.any()?;
        let this_update = single.generalized_unix_s()?;
        let next_update = match single.optional(constructed(0))? {
            Some(next) => Some(Der::new(next.content).generalized_unix_s()?),
            None => None,
        };
        if name == *wanted {
            found = Some(SingleResponse {
                this_update,
                next_update,
                nonce: nonce.clone(),
            });
        }
    }
    Some(found)
}

fn certificate_name(mut id: Der<'_>) -> Option<CertificateName> {
    let mut algorithm = id.inside(SEQUENCE)?;
    let name = CertificateName {
        hash: algorithm.content(OID)?.to_owned(),
        issuer_name: id.content(OCTET_STRING)?.to_owned(),
        issuer_key: id.content(OCTET_STRING)?.to_owned(),
        serial: id.integer()?.to_owned(),
    };
    id.end()?;
    Some(name)
}

/// The nonce among extensions. `None` outside is broken DER.
fn nonce(explicit: Value<'_>) -> Option<Option<Vec<u8>>> {
    let mut explicit = Der::new(explicit.content);
    let mut list = explicit.inside(SEQUENCE)?;
    explicit.end()?;
    let mut found = None;
    while !list.is_empty() {
        let mut extension = list.inside(SEQUENCE)?;
        let is_nonce = extension.content(OID)? == NONCE;
        extension.optional_true()?;
        let value = extension.content(OCTET_STRING)?;
        extension.end()?;
        if is_nonce {
            found = Some(value.to_owned());
        }
    }
    Some(found)
}

/// 1.3.6.1.5.5.7.48.1.1, id-pkix-ocsp-basic.
const BASIC_RESPONSE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
/// 1.3.6.1.5.5.7.48.1.2, id-pkix-ocsp-nonce.
const NONCE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];

#[cfg(test)]
mod tests;
