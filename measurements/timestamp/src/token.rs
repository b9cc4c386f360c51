//! Time-stamp tokens (RFC 3161 with RFC 5816): how an authority is asked, and what its token proves.
//!
//! An authority signs a digest and the time. Chains and signatures are `rustls-webpki`'s to verify, at the time that the token says:
//! a certificate that has expired since is no fault, one that was not valid then is. Whether it was revoked is not asked.

use crate::limits::{TIMESTAMP_BYTES_MAX, TIMESTAMP_CERTIFICATES_MAX};
use pki::der::{Der, Value, tag};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring};

/// A time that an authority vouches for. Only [`Authorities::verify`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp {
    /// The digest existed then, in Unix seconds.
    pub time_unix_s: u64,
    /// SHA-256 of the root under which it was signed.
    pub root: [u8; 32],
}

/// The roots of authorities, in DER: whom to believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities(Vec<Vec<u8>>);

/// Why a token, or an answer with one, proves nothing. The authority is at fault, or who handed the token out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum TimestampError {
    #[error("the time-stamp has {got} bytes; at most {TIMESTAMP_BYTES_MAX} are accepted")]
    TooLong { got: usize },
    #[error("it is no time-stamp of RFC 3161")]
    Malformed,
    #[error("the authority refuses, with status {0}")]
    Refused(u8),
    #[error("the time-stamp is for another digest")]
    Imprint,
    #[error("the time-stamp's signature covers something else")]
    Attributes,
    #[error("the time-stamp brings no certificate of its signer")]
    NoSigner,
    #[error("the time-stamp's signature does not verify, or is of an unknown kind")]
    Signature,
    #[error("the time-stamp's signer does not lead to a root that is believed: {0}")]
    Chain(String),
    #[error("a root cannot be read: {0}")]
    Root(String),
}

/// What an authority says, before it is believed: `TSTInfo`, RFC 3161 section 2.4.2.
struct Info<'a> {
    imprint: &'a [u8],
    time_unix_s: u64,
}

/// `SignedData` of one signer (RFC 5652 section 5.1), with what its attributes say.
struct Signed<'a> {
    info: &'a [u8],
    certificates: Vec<&'a [u8]>,
    attributes: Value<'a>,
    hash: Hash,
    algorithm: &'a [u8],
    signature: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// A `TimeStampReq` for a SHA-256 digest, whose answer brings its certificates. It has no nonce: a token for a digest that nobody had
/// before is as good however old it is.
pub fn request(digest: &[u8; 32]) -> Vec<u8> {
    let algorithm = written(tag::SEQUENCE, &written(tag::OID, SHA256));
    let imprint = [algorithm, written(tag::OCTET_STRING, digest)].concat();
    let parts = [
        written(tag::INTEGER, &[1]),
        written(tag::SEQUENCE, &imprint),
        written(tag::BOOLEAN, &[0xff]),
    ];
    written(tag::SEQUENCE, &parts.concat())
}

/// A value with fewer than 128 bytes.
fn written(tag: u8, content: &[u8]) -> Vec<u8> {
    debug_assert!(content.len() < 128);
    [&[tag, content.len() as u8], content].concat()
}

/// The token in a `TimeStampResp`. Nothing of it is verified here.
pub fn token(response: &[u8]) -> Result<&[u8], TimestampError> {
    bounded(response)?;
    granted(response).ok_or(TimestampError::Malformed)?
}

/// `None` is no answer of an authority.
fn granted(response: &[u8]) -> Option<Result<&[u8], TimestampError>> {
    let mut outer = Der::new(response);
    let mut parts = outer.inside(tag::SEQUENCE)?;
    outer.end()?;
    let mut status = parts.inside(tag::SEQUENCE)?;
    // Granted, or granted with modifications (section 2.4.2); what else it says is for people.
    match status.small(tag::INTEGER)? {
        0 | 1 => {}
        other => return Some(Err(TimestampError::Refused(other))),
    }
    let token = parts.value(tag::SEQUENCE)?.whole;
    parts.end()?;
    Some(Ok(token))
}

impl Authorities {
    /// These roots, in DER.
    pub fn new(roots: Vec<Vec<u8>>) -> Result<Self, TimestampError> {
        let authorities = Authorities(roots);
        authorities.anchors()?;
        Ok(authorities)
    }

    /// What a token proves of a SHA-256 digest.
    pub fn verify(&self, token: &[u8], digest: &[u8; 32]) -> Result<Timestamp, TimestampError> {
        bounded(token)?;
        let signed = signed(token).ok_or(TimestampError::Malformed)?;
        let info = info(signed.info).ok_or(TimestampError::Malformed)?;
        if info.imprint != digest {
            return Err(TimestampError::Imprint);
        }
        let signer = signed.signer()?;
        signed.verify(signer)?;
        let root = self.chain(signer, &signed.certificates, info.time_unix_s)?;
        Ok(Timestamp {
            time_unix_s: info.time_unix_s,
            root,
        })
    }

    /// The root that a signer leads to, whose certificates are all valid then and which is for time-stamps.
    fn chain(
        &self,
        signer: &[u8],
        others: &[&[u8]],
        time_unix_s: u64,
    ) -> Result<[u8; 32], TimestampError> {
        let failed = |error: webpki::Error| TimestampError::Chain(error.to_string());
        let der = CertificateDer::from(signer);
        let signer = EndEntityCert::try_from(&der).map_err(failed)?;
        let others: Vec<_> = others
            .iter()
            .map(|one| CertificateDer::from(*one))
            .collect();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(time_unix_s));
        let mut last = TimestampError::Chain("there is no root".into());
        for (der, anchor) in self.0.iter().zip(self.anchors()?) {
            let anchor = [anchor];
            let verified = signer.verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &anchor,
                &others,
                time,
                KeyUsage::required(FOR_TIMESTAMPS),
                None,
                None,
            );
            match verified.map(drop) {
                Ok(()) => return Ok(Sha256::digest(der).into()),
                Err(error) => last = failed(error),
            }
        }
        Err(last)
    }

    fn anchors(&self) -> Result<Vec<TrustAnchor<'static>>, TimestampError> {
        let anchor = |der: &Vec<u8>| {
            let der = CertificateDer::from(&der[..]);
            let anchor = anchor_from_trusted_cert(&der).map(|anchor| anchor.to_owned());
            anchor.map_err(|error| TimestampError::Root(error.to_string()))
        };
        self.0.iter().map(anchor).collect()
    }
}

impl Signed<'_> {
    /// The certificate that the signed attributes name, if they are about this token.
    fn signer(&self) -> Result<&[u8], TimestampError> {
        let named = self.attributes();
        let (digest, kind, certificate) = named.ok_or(TimestampError::Attributes)?;
        if digest != self.hash.digest(self.info) {
            return Err(TimestampError::Attributes);
        }
        let mut there = self.certificates.iter();
        let signer = there.find(|der| kind.digest(der) == certificate);
        signer.copied().ok_or(TimestampError::NoSigner)
    }

    /// The digest of what is signed, and that of the signer's certificate. Each attribute has one value (RFC 5652 section 11).
    fn attributes(&self) -> Option<(&[u8], Hash, &[u8])> {
        let (mut kind, mut digest, mut signer) = (None, None, None);
        let mut list = Der::new(self.attributes.content);
        while !list.is_empty() {
            let mut one = list.inside(tag::SEQUENCE)?;
            let name = one.content(tag::OID)?;
            let mut values = one.inside(tag::SET)?;
            one.end()?;
            let value = values.any()?;
            let first = match name {
                CONTENT_TYPE => kind.replace(value.content).is_none(),
                MESSAGE_DIGEST => digest.replace(value.content).is_none(),
                SIGNING_CERTIFICATE_V2 => signer.replace(value).is_none(),
                _ => continue,
            };
            values.end()?;
            first.then_some(())?;
        }
        (kind? == TST_INFO).then_some(())?;
        let (hash, certificate) = named_certificate(signer?)?;
        Some((digest?, hash, certificate))
    }

    fn verify(&self, signer: &[u8]) -> Result<(), TimestampError> {
        // RFC 5652 section 5.4: what is signed is a SET, though it lies there under another tag.
        let mut attributes = self.attributes.whole.to_vec();
        attributes[0] = tag::SET;
        let der = CertificateDer::from(signer);
        let certificate = EndEntityCert::try_from(&der);
        let certificate = certificate.map_err(|_| TimestampError::NoSigner)?;
        let fits = |algorithm: &&dyn SignatureVerificationAlgorithm| {
            let verified = certificate.verify_signature(*algorithm, &attributes, self.signature);
            verified.is_ok()
        };
        match algorithms(self.algorithm, self.hash).iter().any(fits) {
            true => Ok(()),
            false => Err(TimestampError::Signature),
        }
    }
}

/// `SigningCertificateV2`, RFC 5035 section 3: the first certificate is the signer's. SHA-256 is the hash that is left out.
fn named_certificate(value: Value<'_>) -> Option<(Hash, &[u8])> {
    let mut outer = Der::new(value.whole);
    let mut parts = outer.inside(tag::SEQUENCE)?;
    let mut list = parts.inside(tag::SEQUENCE)?;
    let mut first = list.inside(tag::SEQUENCE)?;
    let hash = match first.optional(tag::SEQUENCE)? {
        None => Hash::Sha256,
        Some(algorithm) => Hash::of(algorithm.content)?,
    };
    let digest = first.content(tag::OCTET_STRING)?;
    first.optional(tag::SEQUENCE)?;
    first.end()?;
    Some((hash, digest))
}

fn bounded(bytes: &[u8]) -> Result<(), TimestampError> {
    match bytes.len() {
        0..=TIMESTAMP_BYTES_MAX => Ok(()),
        got => Err(TimestampError::TooLong { got }),
    }
}

fn signed(token: &[u8]) -> Option<Signed<'_>> {
    let mut outer = Der::new(token);
    let mut data = wrapped(&mut outer, SIGNED_DATA)?.inside(tag::SEQUENCE)?;
    outer.end()?;
    // Version 3, since its content is no plain data.
    (data.small(tag::INTEGER)? == 3).then_some(())?;
    data.value(tag::SET)?;
    let info = wrapped(&mut data, TST_INFO)?.content(tag::OCTET_STRING)?;
    let mut certificates = Vec::new();
    if let Some(list) = data.optional(tag::constructed(0))? {
        let mut list = Der::new(list.content);
        while !list.is_empty() {
            (certificates.len() < TIMESTAMP_CERTIFICATES_MAX).then_some(())?;
            certificates.push(list.value(tag::SEQUENCE)?.whole);
        }
    }
    data.optional(tag::constructed(1))?;
    let mut signers = data.inside(tag::SET)?;
    data.end()?;
    let mut signer = signers.inside(tag::SEQUENCE)?;
    signers.end()?;
    signer.small(tag::INTEGER)?;
    // Which certificate it is, by number or key; the signed attributes say so, too.
    signer.any()?;
    let hash = Hash::of(signer.content(tag::SEQUENCE)?)?;
    let attributes = signer.value(tag::constructed(0))?;
    let algorithm = Der::new(signer.content(tag::SEQUENCE)?).content(tag::OID)?;
    let signature = signer.content(tag::OCTET_STRING)?;
    signer.optional(tag::constructed(1))?;
    signer.end()?;
    Some(Signed {
        info,
        certificates,
        attributes,
        hash,
        algorithm,
        signature,
    })
}

/// What `SEQUENCE { kind, [0] { … } }` holds.
fn wrapped<'a>(der: &mut Der<'a>, kind: &[u8]) -> Option<Der<'a>> {
    let mut parts = der.inside(tag::SEQUENCE)?;
    (parts.content(tag::OID)? == kind).then_some(())?;
    let inside = parts.inside(tag::constructed(0))?;
    parts.end()?;
    Some(inside)
}

fn info(der: &[u8]) -> Option<Info<'_>> {
    let mut outer = Der::new(der);
    let mut parts = outer.inside(tag::SEQUENCE)?;
    outer.end()?;
    (parts.small(tag::INTEGER)? == 1).then_some(())?;
    parts.content(tag::OID)?;
    let mut imprint = parts.inside(tag::SEQUENCE)?;
    (Hash::of(imprint.content(tag::SEQUENCE)?)? == Hash::Sha256).then_some(())?;
    let digest = imprint.content(tag::OCTET_STRING)?;
    imprint.end()?;
    parts.integer()?;
    let time_unix_s = time(parts.content(tag::GENERALIZED_TIME)?)?;
    parts.optional(tag::SEQUENCE)?;
    parts.optional_true()?;
    // A nonce, for which nobody asked.
    parts.optional(tag::INTEGER)?;
    parts.optional(tag::constructed(0))?;
    // No extension is known here, and one may be critical.
    parts.end()?;
    Some(Info {
        imprint: digest,
        time_unix_s,
    })
}

/// A GeneralizedTime, whose fraction of a second is left out.
fn time(content: &[u8]) -> Option<u64> {
    let whole = content.split(|byte| *byte == b'.').next()?;
    let mut text = whole.strip_suffix(b"Z").unwrap_or(whole).to_vec();
    text.push(b'Z');
    (content.last() == Some(&b'Z')).then_some(())?;
    Der::new(&written(tag::GENERALIZED_TIME, &text)).generalized_unix_s()
}

impl Hash {
    /// By the content of an AlgorithmIdentifier, with parameters that are absent or NULL.
    fn of(algorithm: &[u8]) -> Option<Hash> {
        let mut parts = Der::new(algorithm);
        let hash = match parts.content(tag::OID)? {
            SHA256 => Hash::Sha256,
            pki::SHA384 => Hash::Sha384,
            SHA512 => Hash::Sha512,
            _ => return None,
        };
        parts.optional(tag::NULL)?;
        parts.end()?;
        Some(hash)
    }

    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha256 => Sha256::digest(bytes).to_vec(),
            Hash::Sha384 => Sha384::digest(bytes).to_vec(),
            Hash::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }
}

/// What a signature of this kind may be verified as: with elliptic curves the key says which.
fn algorithms(kind: &[u8], hash: Hash) -> Vec<&'static dyn SignatureVerificationAlgorithm> {
    let rsa = match (kind, hash) {
        (RSA, hash) => Some(hash),
        (RSA_SHA256, Hash::Sha256) => Some(Hash::Sha256),
        (RSA_SHA384, Hash::Sha384) => Some(Hash::Sha384),
        (RSA_SHA512, Hash::Sha512) => Some(Hash::Sha512),
        _ => None,
    };
    match (rsa, kind) {
        (Some(Hash::Sha256), _) => vec![ring::RSA_PKCS1_2048_8192_SHA256],
        (Some(Hash::Sha384), _) => vec![ring::RSA_PKCS1_2048_8192_SHA384],
        (Some(Hash::Sha512), _) => vec![ring::RSA_PKCS1_2048_8192_SHA512],
        (None, ECDSA_SHA256) => vec![ring::ECDSA_P256_SHA256, ring::ECDSA_P384_SHA256],
        (None, ECDSA_SHA384) => vec![ring::ECDSA_P384_SHA384, ring::ECDSA_P256_SHA384],
        (None, _) => Vec::new(),
    }
}

/// 1.3.6.1.5.5.7.3.8.
const FOR_TIMESTAMPS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 8];
/// 1.2.840.113549.1.7.2.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
/// 1.2.840.113549.1.9.16.1.4.
const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 1, 4];
/// 1.2.840.113549.1.9.3.
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 3];
/// 1.2.840.113549.1.9.4.
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 4];
/// 1.2.840.113549.1.9.16.2.47.
const SIGNING_CERTIFICATE_V2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 2, 47];
/// 2.16.840.1.101.3.4.2.1 and .3.
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const SHA512: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03];
/// 1.2.840.113549.1.1.1, .11, .12 and .13.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12];
const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13];
/// 1.2.840.10045.4.3.2 and .3.
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
