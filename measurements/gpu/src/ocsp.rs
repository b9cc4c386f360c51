//! Answers of an OCSP responder (RFC 6960) about certificates.
//!
//! Written from the standard: no answer of NVIDIA's service was ever seen by us, so what it sends may be refused here. Refused
//! it is then, never taken for good.

use super::{
    certificate::{Certificate, ECDSA_WITH_SHA384, verifies},
    chain::{ChainError, check_issued, check_time},
};
use crate::limits;
use pki::der::{Der, Value, p384_signature, tag};
use sha2::{Digest, Sha256, Sha384};

/// Why an OCSP response is of no use, or what bad thing it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OcspError {
    /// Too many responses, or one that is too long.
    #[error("{got} is more than the {max} {what} allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        got: usize,
        /// How many there may be.
        max: usize,
    },
    /// Not a successful basic response in DER.
    #[error("a response is not a successful basic OCSP response in DER")]
    Malformed,
    /// Signed with something else than ECDSA on P-384 with SHA-384.
    #[error("a response is not signed with ECDSA and SHA-384")]
    Algorithm,
    /// No response speaks of a certificate.
    #[error("no response speaks of `{name}`")]
    Absent {
        /// The certificate's common name.
        name: String,
    },
    /// The response was not signed by the issuer or somebody it named for that.
    #[error("the response about `{name}` was signed by nobody whom its issuer let answer{}", .delegate.as_ref().map(|error| format!(": {error}")).unwrap_or_default())]
    Signer {
        /// The certificate's common name.
        name: String,
        /// What is wrong with the certificate that came along.
        delegate: Option<ChainError>,
    },
    /// The response carries another nonce than expected, or none.
    #[error("the response about `{name}` does not carry the expected nonce")]
    Nonce {
        /// The certificate's common name.
        name: String,
    },
    /// The response is from the future.
    #[error(
        "the response about `{name}` is from Unix second {from_unix_s}, and was judged at {at_unix_s}"
    )]
    NotYetValid {
        /// The certificate's common name.
        name: String,
        /// `thisUpdate` or `producedAt`, the later.
        from_unix_s: u64,
        /// When it was judged.
        at_unix_s: u64,
    },
    /// The response is too old, or does not say until when it holds.
    #[error(
        "the response about `{name}` held until Unix second {until_unix_s:?}, and was judged at {at_unix_s}; fetch a newer one"
    )]
    Stale {
        /// The certificate's common name.
        name: String,
        /// `nextUpdate`, if there is one.
        until_unix_s: Option<u64>,
        /// When it was judged.
        at_unix_s: u64,
    },
    /// The certificate is on hold: its issuer suspended it and may let it live again.
    #[error(
        "`{name}` is on hold since Unix second {since_unix_s}: its issuer suspended it (certificateHold)"
    )]
    OnHold {
        /// The certificate's common name.
        name: String,
        /// Since when.
        since_unix_s: u64,
    },
    /// The certificate is revoked for good.
    #[error(
        "`{name}` is revoked since Unix second {since_unix_s}, for the reason {reason:?} of RFC 5280; do not use the machine"
    )]
    Revoked {
        /// The certificate's common name.
        name: String,
        /// Since when.
        since_unix_s: u64,
        /// CRLReason, RFC 5280 5.3.1.
        reason: Option<u8>,
    },
    /// The responder does not know the certificate.
    #[error("the responder does not know `{name}`")]
    Unknown {
        /// The certificate's common name.
        name: String,
    },
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
    answers: Vec<Answer>,
    delegates: Vec<Certificate>,
}

#[derive(Clone, Debug)]
struct Answer {
    hash: Hash,
    issuer_name: Vec<u8>,
    issuer_key: Vec<u8>,
    serial: Vec<u8>,
    status: Status,
    this_unix_s: u64,
    next_unix_s: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Hash {
    Sha256,
    Sha384,
}

#[derive(Clone, Copy, Debug)]
enum Status {
    Good,
    Revoked {
        since_unix_s: u64,
        reason: Option<u8>,
    },
    Unknown,
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
    ) -> Result<(), OcspError> {
        let name = || certificate.common_name.clone();
        let mut answered = false;
        for response in &self.responses {
            let about = |answer: &&Answer| answer.is_about(certificate, issuer);
            for answer in response.answers.iter().filter(about) {
                response.check_signer(&name(), issuer, at_unix_s)?;
                if let OcspNonce::Expected(expected) = &self.nonce
                    && response.nonce.as_ref() != Some(expected)
                {
                    return Err(OcspError::Nonce { name: name() });
                }
                answer.check(&name(), response.produced_unix_s, at_unix_s)?;
                answered = true;
            }
        }
        match answered {
            true => Ok(()),
            false => Err(OcspError::Absent { name: name() }),
        }
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
        let (signed, algorithm, signature, certificates) =
            basic(der).ok_or(OcspError::Malformed)?;
        if algorithm != ECDSA_WITH_SHA384 {
            return Err(OcspError::Algorithm);
        }
        let (produced_unix_s, answers, nonce) =
            response_data(signed.content).ok_or(OcspError::Malformed)?;
        let delegates = certificates.iter().map(|der| Certificate::parse(der));
        Ok(Response {
            signed: signed.whole.to_vec(),
            signature: p384_signature(signature).ok_or(OcspError::Malformed)?,
            produced_unix_s,
            nonce,
            answers,
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
    ) -> Result<(), OcspError> {
        let signed_by = |by: &Certificate| verifies(&by.key, &self.signed, &self.signature);
        if signed_by(issuer) {
            return Ok(());
        }
        let delegate = self.delegates.iter().find(|delegate| signed_by(delegate));
        let judged = delegate.map(|delegate| {
            check_issued(delegate, issuer, 0)?;
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
            other => Err(OcspError::Signer {
                name: name.to_owned(),
                delegate: other.and_then(Result::err),
            }),
        }
    }
}

impl Answer {
    fn is_about(&self, certificate: &Certificate, issuer: &Certificate) -> bool {
        let same = |bytes: &[u8], digest: &[u8]| match self.hash {
            Hash::Sha256 => Sha256::digest(bytes)[..] == *digest,
            Hash::Sha384 => Sha384::digest(bytes)[..] == *digest,
        };
        self.serial == certificate.serial
            && same(&issuer.subject, &self.issuer_name)
            && same(&issuer.key_bits, &self.issuer_key)
    }

    fn check(&self, name: &str, produced_unix_s: u64, at_unix_s: u64) -> Result<(), OcspError> {
        let name = name.to_owned();
        // CRLReason 6 is certificateHold.
        match self.status {
            Status::Good => {}
            Status::Unknown => return Err(OcspError::Unknown { name }),
            Status::Revoked {
                since_unix_s,
                reason: Some(6),
            } => return Err(OcspError::OnHold { name, since_unix_s }),
            Status::Revoked {
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
        let from_unix_s = self.this_unix_s.max(produced_unix_s);
        if from_unix_s > at_unix_s {
            return Err(OcspError::NotYetValid {
                name,
                from_unix_s,
                at_unix_s,
            });
        }
        match self.next_unix_s {
            Some(next) if next >= at_unix_s => Ok(()),
            until_unix_s => Err(OcspError::Stale {
                name,
                until_unix_s,
                at_unix_s,
            }),
        }
    }
}

type Basic<'a> = (Value<'a>, &'a [u8], &'a [u8], Vec<&'a [u8]>);

/// What is signed, the algorithm, the signature and the certificates of a successful basic response (RFC 6960 4.2.1).
fn basic(der: &[u8]) -> Option<Basic<'_>> {
    let mut outer = Der::new(der);
    let mut parts = outer.inside(tag::SEQUENCE)?;
    outer.end()?;
    // OCSPResponseStatus successful is 0; others bring no bytes.
    (parts.small(tag::ENUMERATED)? == 0).then_some(())?;
    let mut wrapped = parts.inside(tag::constructed(0))?;
    parts.end()?;
    let mut bytes = wrapped.inside(tag::SEQUENCE)?;
    wrapped.end()?;
    (bytes.content(tag::OID)? == OCSP_BASIC).then_some(())?;
    let mut octets = Der::new(bytes.content(tag::OCTET_STRING)?);
    bytes.end()?;
    let mut response = octets.inside(tag::SEQUENCE)?;
    octets.end()?;
    let signed = response.value(tag::SEQUENCE)?;
    let algorithm = response.content(tag::SEQUENCE)?;
    let signature = response.bytes_of_bits()?;
    let mut certificates = Vec::new();
    if let Some(given) = response.optional(tag::constructed(0))? {
        let mut wrapped = Der::new(given.content);
        let mut list = wrapped.inside(tag::SEQUENCE)?;
        wrapped.end()?;
        while !list.is_empty() {
            (certificates.len() < limits::GPU_OCSP_CERTIFICATES_MAX).then_some(())?;
            certificates.push(list.value(tag::SEQUENCE)?.whole);
        }
    }
    response.end()?;
    Some((signed, algorithm, signature, certificates))
}

/// When it was produced, what it answers, and its nonce.
fn response_data(content: &[u8]) -> Option<(u64, Vec<Answer>, Option<Vec<u8>>)> {
    let mut data = Der::new(content);
    // Version 1 is the default, so it is left out. Who answers, by name [1] or key [2], is found out by the signature.
    let responder = data.any()?;
    matches!(responder.tag, 0xa1 | 0xa2).then_some(())?;
    let produced_unix_s = data.generalized_unix_s()?;
    let mut list = data.inside(tag::SEQUENCE)?;
    let mut answers = Vec::new();
    while !list.is_empty() {
        (answers.len() < limits::GPU_OCSP_ANSWERS_MAX).then_some(())?;
        answers.push(answer(&mut list.inside(tag::SEQUENCE)?)?);
    }
    let mut nonce = None;
    if let Some(given) = data.optional(tag::constructed(1))? {
        let mut wrapped = Der::new(given.content);
        let mut extensions = wrapped.inside(tag::SEQUENCE)?;
        wrapped.end()?;
        while !extensions.is_empty() {
            let mut extension = extensions.inside(tag::SEQUENCE)?;
            let kind = extension.content(tag::OID)?;
            let critical = extension.optional_true()?;
            let value = extension.content(tag::OCTET_STRING)?;
            extension.end()?;
            match kind {
                // RFC 8954 2.1: an OCTET STRING inside the extension's own.
                NONCE if nonce.is_none() => {
                    let mut inside = Der::new(value);
                    nonce = Some(inside.content(tag::OCTET_STRING)?.to_vec());
                    inside.end()?;
                }
                NONCE => return None,
                _ if critical => return None,
                _ => {}
            }
        }
    }
    data.end()?;
    Some((produced_unix_s, answers, nonce))
}

/// SingleResponse, RFC 6960 4.2.1.
fn answer(single: &mut Der<'_>) -> Option<Answer> {
    let mut id = single.inside(tag::SEQUENCE)?;
    let mut algorithm = id.inside(tag::SEQUENCE)?;
    let hash = match algorithm.content(tag::OID)? {
        SHA256 => Hash::Sha256,
        super::certificate::SHA384 => Hash::Sha384,
        _ => return None,
    };
    // RFC 5754 2: parameters absent, or NULL.
    if let Some(null) = algorithm.optional(tag::NULL)? {
        null.content.is_empty().then_some(())?;
    }
    algorithm.end()?;
    let issuer_name = id.content(tag::OCTET_STRING)?.to_vec();
    let issuer_key = id.content(tag::OCTET_STRING)?.to_vec();
    let serial = id.integer()?.to_vec();
    id.end()?;
    let status = single.any()?;
    let status = match status.tag {
        0x80 if status.content.is_empty() => Status::Good,
        0xa1 => {
            let mut revoked = Der::new(status.content);
            let since_unix_s = revoked.generalized_unix_s()?;
            let reason = match revoked.optional(tag::constructed(0))? {
                None => None,
                Some(wrapped) => {
                    let mut wrapped = Der::new(wrapped.content);
                    let reason = wrapped.small(tag::ENUMERATED)?;
                    wrapped.end()?;
                    Some(reason)
                }
            };
            revoked.end()?;
            Status::Revoked {
                since_unix_s,
                reason,
            }
        }
        0x82 if status.content.is_empty() => Status::Unknown,
        _ => return None,
    };
    let this_unix_s = single.generalized_unix_s()?;
    let next_unix_s = match single.optional(tag::constructed(0))? {
        None => None,
        Some(wrapped) => {
            let mut wrapped = Der::new(wrapped.content);
            let next = wrapped.generalized_unix_s()?;
            wrapped.end()?;
            Some(next)
        }
    };
    // Extensions of one answer change nothing about it; a critical one would.
    if let Some(extensions) = single.optional(tag::constructed(1))? {
        let mut wrapped = Der::new(extensions.content);
        let mut list = wrapped.inside(tag::SEQUENCE)?;
        wrapped.end()?;
        while !list.is_empty() {
            let mut extension = list.inside(tag::SEQUENCE)?;
            extension.content(tag::OID)?;
            (!extension.optional_true()?).then_some(())?;
            extension.content(tag::OCTET_STRING)?;
            extension.end()?;
        }
    }
    single.is_empty().then_some(Answer {
        hash,
        issuer_name,
        issuer_key,
        serial,
        status,
        this_unix_s,
        next_unix_s,
    })
}

/// 1.3.6.1.5.5.7.48.1.1.
const OCSP_BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
/// 1.3.6.1.5.5.7.48.1.2.
const NONCE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];
/// 2.16.840.1.101.3.4.2.1.
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
