//! Answers of an OCSP responder (RFC 6960) about certificates.
//!
//! Written from the standard: no answer of NVIDIA's service was ever seen by us, so what it sends may be refused here. Refused
//! it is then, never taken for good.

use super::chain::{ChainError, check_issued, check_time};
use super::signatures::Signatures;
use crate::limits;
use pki::der::tag;
use pki::ocsp::{self, CertificateStatus, SingleResponse};
use pki::{Certificate, ECDSA_WITH_SHA384, SHA384, p384_signature};
use sha2::{Digest, Sha256, Sha384};

/// Why an OCSP response is of no use, or what bad thing it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum OcspError {
    #[error("{got} is more than the {max} {what} allowed")]
    TooMany {
        what: &'static str,
        got: usize,
        max: usize,
    },
    #[error("a response is not a successful basic OCSP response in DER")]
    Malformed,
    #[error("a response is not signed with ECDSA and SHA-384")]
    Algorithm,
    #[error("no response speaks of `{name}`")]
    Absent { name: String },
    #[error("the response about `{name}` was signed by nobody whom its issuer let answer{}", .delegate.as_ref().map(|error| format!(": {error}")).unwrap_or_default())]
    Signer {
        name: String,
        delegate: Option<ChainError>,
    },
    #[error("the response about `{name}` does not carry the expected nonce")]
    Nonce { name: String },
    #[error(
        "the response about `{name}` is from Unix second {from_unix_s}, and was judged at {at_unix_s}"
    )]
    NotYetValid {
        name: String,
        from_unix_s: u64,
        at_unix_s: u64,
    },
    #[error(
        "the response about `{name}` held until Unix second {until_unix_s:?}, and was judged at {at_unix_s}; fetch a newer one"
    )]
    Stale {
        name: String,
        until_unix_s: Option<u64>,
        at_unix_s: u64,
    },
    #[error(
        "`{name}` is on hold since Unix second {since_unix_s}: its issuer suspended it (certificateHold)"
    )]
    OnHold { name: String, since_unix_s: u64 },
    #[error(
        "`{name}` is revoked since Unix second {since_unix_s}, for the reason {reason:?} of RFC 5280; do not use the machine"
    )]
    Revoked {
        name: String,
        since_unix_s: u64,
        reason: Option<u8>,
    },
    #[error("the responder does not know `{name}`")]
    Unknown { name: String },
}

/// Responses that were read. Which of them hold is found out certificate by certificate.
#[derive(Clone, Debug)]
pub struct OcspResponses {
    responses: Vec<Response>,
    nonce: OcspNonce,
}

/// Which nonce responses must carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OcspNonce {
    /// This one, which was sent with the question.
    Expected(Vec<u8>),
    /// Any or none: `thisUpdate` and `nextUpdate` alone bound how old an answer is. For responses that a cache keeps.
    Any,
}

#[derive(Clone, Debug)]
struct Response {
    signed: Vec<u8>,
    signature: [u8; 96],
    produced_unix_s: u64,
    nonce: Option<Vec<u8>>,
    answers: Vec<SingleResponse>,
    delegates: Vec<Certificate>,
}

impl OcspResponses {
    /// Reads responses (DER, `OCSPResponse`).
    pub fn parse(ders: &[Vec<u8>], nonce: OcspNonce) -> Result<OcspResponses, OcspError> {
        if ders.len() > limits::GPU_OCSP_RESPONSES_MAX {
            return Err(OcspError::TooMany {
                what: "responses",
                got: ders.len(),
                max: limits::GPU_OCSP_RESPONSES_MAX,
            });
        }
        let responses = ders.iter().map(|der| Response::parse(der));
        Ok(OcspResponses {
            responses: responses.collect::<Result<_, _>>()?,
            nonce,
        })
    }

    /// Whether `certificate` of `issuer` is good at this time. Every answer about it counts, and the worst decides.
    pub(super) fn check(
        &self,
        certificate: &Certificate,
        issuer: &Certificate,
        at_unix_s: u64,
        signatures: &Signatures,
    ) -> Result<(), OcspError> {
        let name = || certificate.common_name.clone();
        let mut answered = false;
        for response in &self.responses {
            let about = |answer: &&SingleResponse| is_about(answer, certificate, issuer);
            for answer in response.answers.iter().filter(about) {
                response.check_signer(&name(), issuer, at_unix_s, signatures)?;
                if let OcspNonce::Expected(expected) = &self.nonce
                    && response.nonce.as_ref() != Some(expected)
                {
                    return Err(OcspError::Nonce { name: name() });
                }
                check_answer(answer, &name(), response.produced_unix_s, at_unix_s)?;
                answered = true;
            }
        }
        match answered {
            true => Ok(()),
            false => Err(OcspError::Absent { name: name() }),
        }
    }
}

impl OcspResponses {
    /// The last second at which none of them, nor a certificate that signed one, is out of date. A caller that keeps what it judged by
    /// them forgets it then.
    pub fn until_unix_s(&self) -> u64 {
        let answers = { self.responses.iter() }
            .flat_map(|response| &response.answers)
            .map(|answer| answer.next_unix_s.unwrap_or(0));
        let delegates = { self.responses.iter() }
            .flat_map(|response| &response.delegates)
            .map(|delegate| delegate.not_after_unix_s);
        answers.chain(delegates).min().unwrap_or(u64::MAX)
    }
}

impl Response {
    fn parse(der: &[u8]) -> Result<Response, OcspError> {
        if der.len() > limits::GPU_OCSP_BYTES_MAX {
            return Err(OcspError::TooMany {
                what: "bytes of a response",
                got: der.len(),
                max: limits::GPU_OCSP_BYTES_MAX,
            });
        }
        let Some(ocsp::Response::Basic(basic)) = ocsp::Response::parse(der) else {
            return Err(OcspError::Malformed);
        };
        if basic.algorithm != ECDSA_WITH_SHA384 {
            return Err(OcspError::Algorithm);
        }
        let known = |answer: &SingleResponse| {
            let hash = answer.certificate.hash.as_slice();
            hash == SHA256 || hash == SHA384
        };
        if !basic.answers.iter().all(known) {
            return Err(OcspError::Malformed);
        }
        let delegates = basic.certificates.iter().map(|der| Certificate::parse(der));
        Ok(Response {
            signed: basic.signed.to_vec(),
            signature: p384_signature(basic.signature).ok_or(OcspError::Malformed)?,
            produced_unix_s: basic.produced_unix_s,
            nonce: basic.nonce,
            answers: basic.answers,
            delegates: delegates
                .collect::<Result<_, _>>()
                .map_err(|_| OcspError::Malformed)?,
        })
    }

    /// RFC 6960 4.2.2.2: by the issuer itself, or by a key that the issuer certified for this and for nothing else.
    fn check_signer(
        &self,
        name: &str,
        issuer: &Certificate,
        at_unix_s: u64,
        signatures: &Signatures,
    ) -> Result<(), OcspError> {
        let signed_by = |by: &&Certificate| signatures.signed(by, &self.signed, &self.signature);
        // Who sends a delegate along has signed with its key, as a rule.
        let delegate = self.delegates.iter().find(signed_by);
        let judged = delegate.map(|delegate| {
            check_issued(delegate, issuer, 0, signatures)?;
            check_time(delegate, 0, at_unix_s)?;
            let extensions = &delegate.extensions;
            let authority = extensions.basic.is_some_and(|basic| basic.authority);
            match extensions.ocsp_signing && !authority {
                true => Ok(()),
                false => Err(ChainError::Leaf {
                    name: delegate.common_name.clone(),
                }),
            }
        });
        match judged {
            Some(Ok(())) => Ok(()),
            _ if signed_by(&issuer) => Ok(()),
            other => Err(OcspError::Signer {
                name: name.to_owned(),
                delegate: other.and_then(Result::err),
            }),
        }
    }
}

/// A request about a certificate of this issuer (4.1.1), without a nonce: for answers that a cache keeps.
pub(super) fn request(certificate: &Certificate, issuer: &Certificate) -> Vec<u8> {
    let digest = |bytes: &[u8]| der(tag::OCTET_STRING, &[&Sha384::digest(bytes)]);
    let sequence = |content: &[&[u8]]| der(tag::SEQUENCE, content);
    let id = sequence(&[
        &sequence(&[&der(tag::OID, &[SHA384])]),
        &digest(&issuer.subject),
        &digest(&issuer.key_bits),
        &der(tag::INTEGER, &[&certificate.serial]),
    ]);
    // CertID in Request in requestList in TBSRequest in OCSPRequest.
    (0..4).fold(id, |inner, _| sequence(&[&inner]))
}

/// A value of less than 64 KiB in DER.
fn der(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let [high, low] = (content.len() as u16).to_be_bytes();
    let head = match content.len() {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head, content].concat()
}

fn is_about(answer: &SingleResponse, certificate: &Certificate, issuer: &Certificate) -> bool {
    let id = &answer.certificate;
    let same = |bytes: &[u8], digest: &[u8]| match id.hash == SHA256 {
        true => Sha256::digest(bytes)[..] == *digest,
        false => Sha384::digest(bytes)[..] == *digest,
    };
    id.serial == certificate.serial
        && same(&issuer.subject, &id.issuer_name)
        && same(&issuer.key_bits, &id.issuer_key)
}

fn check_answer(
    answer: &SingleResponse,
    name: &str,
    produced_unix_s: u64,
    at_unix_s: u64,
) -> Result<(), OcspError> {
    let name = name.to_owned();
    // CRLReason 6 is certificateHold.
    match answer.status {
        CertificateStatus::Good => {}
        CertificateStatus::Unknown => return Err(OcspError::Unknown { name }),
        CertificateStatus::Revoked {
            since_unix_s,
            reason: Some(6),
        } => return Err(OcspError::OnHold { name, since_unix_s }),
        CertificateStatus::Revoked {
            since_unix_s,
            reason,
        } => {
            return Err(OcspError::Revoked {
                name,
                since_unix_s,
                reason,
            });
        }
    }
    let from_unix_s = answer.this_unix_s.max(produced_unix_s);
    if from_unix_s > at_unix_s {
        return Err(OcspError::NotYetValid {
            name,
            from_unix_s,
            at_unix_s,
        });
    }
    match answer.next_unix_s {
        Some(next) if next >= at_unix_s => Ok(()),
        until_unix_s => Err(OcspError::Stale {
            name,
            until_unix_s,
            at_unix_s,
        }),
    }
}

/// 2.16.840.1.101.3.4.2.1.
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
