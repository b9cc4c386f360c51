//! Certificates from a leaf to a pinned root.

use super::signatures::Signatures;
use pki::{Certificate, CertificateError, DIGITAL_SIGNATURE, KEY_CERT_SIGN};
use registers::Digest32;

/// Why a chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum ChainError {
    #[error(
        "it has {got} certificates; {min} to {max} are expected, from the leaf to NVIDIA's root"
    )]
    Length { got: usize, min: usize, max: usize },
    #[error("certificate {position} from the leaf (0) cannot be read: {error}")]
    Certificate {
        position: usize,
        error: CertificateError,
    },
    #[error("it ends in `{name}` (SHA-256 {got}), which is not the root that this verifier trusts")]
    Root { name: String, got: Digest32 },
    #[error(
        "`{name}` (certificate {position} from the leaf) expired at Unix second {not_after_unix_s}, and was judged at {at_unix_s}; \
         judge at the time when the evidence was received, or get a newer file"
    )]
    Expired {
        position: usize,
        name: String,
        not_after_unix_s: u64,
        at_unix_s: u64,
    },
    #[error(
        "`{name}` (certificate {position} from the leaf) is valid from Unix second {not_before_unix_s}, and was judged at {at_unix_s}"
    )]
    NotYetValid {
        position: usize,
        name: String,
        not_before_unix_s: u64,
        at_unix_s: u64,
    },
    #[error(
        "`{name}` (certificate {position} from the leaf) names another issuer than the certificate above it"
    )]
    Issuer { position: usize, name: String },
    #[error(
        "`{name}` (certificate {position} from the leaf) was not signed by the certificate above it"
    )]
    Signature { position: usize, name: String },
    #[error(
        "`{name}` (certificate {position} from the leaf) may not issue what stands below it (basicConstraints, keyUsage)"
    )]
    NotAuthority { position: usize, name: String },
    #[error(
        "`{name}`, the leaf, is not a certificate for signatures alone (basicConstraints, keyUsage)"
    )]
    Leaf { name: String },
}

/// A chain that was read. [`Chain::verify`] says whether it holds.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    leaf: Certificate,
    /// From the leaf's issuer to the root.
    above: Vec<Certificate>,
}

impl Chain {
    /// Reads a chain of this many certificates, leaf first.
    pub fn parse(
        ders: &[Vec<u8>],
        length: std::ops::RangeInclusive<usize>,
    ) -> Result<Chain, ChainError> {
        let wrong = ChainError::Length {
            got: ders.len(),
            min: *length.start(),
            max: *length.end(),
        };
        if !length.contains(&ders.len()) {
            return Err(wrong);
        }
        let mut certificates = Vec::with_capacity(ders.len());
        for (position, der) in ders.iter().enumerate() {
            let certificate = Certificate::parse(der)
                .map_err(|error| ChainError::Certificate { position, error })?;
            certificates.push(certificate);
        }
        let mut certificates = certificates.into_iter();
        let leaf = certificates.next().ok_or(wrong)?;
        Ok(Chain {
            leaf,
            above: certificates.collect(),
        })
    }

    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// Each certificate but the root, with its issuer, leaf first.
    pub fn with_issuers(&self) -> impl Iterator<Item = (&Certificate, &Certificate)> {
        std::iter::once(&self.leaf)
            .chain(&self.above)
            .zip(&self.above)
    }

    /// Leaf first.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.leaf).chain(&self.above)
    }

    /// The first second at which some certificate is no longer valid, less one.
    #[cfg(feature = "appraisal")]
    pub fn expires_unix_s(&self) -> u64 {
        let ends = self
            .certificates()
            .map(|certificate| certificate.not_after_unix_s);
        ends.min().unwrap_or(0)
    }

    /// Whether each certificate was issued by the next, at this time, up to the certificate with this digest. From the top
    /// down, so that the gravest fault is named: a chain of another root before a chain that has expired.
    pub fn verify(
        &self,
        root: &Digest32,
        at_unix_s: u64,
        signatures: &Signatures,
    ) -> Result<(), ChainError> {
        let top = self.above.last().unwrap_or(&self.leaf);
        let got = Digest32::of(top.der());
        if got != *root || self.above.is_empty() {
            let name = top.common_name.clone();
            return Err(ChainError::Root { name, got });
        }
        // A root signs itself. Its signature adds nothing to its digest.
        check_time(top, self.above.len(), at_unix_s)?;
        check_authority(top, self.above.len())?;
        let pairs: Vec<_> = self.with_issuers().collect();
        for (position, (certificate, issuer)) in pairs.into_iter().enumerate().rev() {
            check_issued(certificate, issuer, position, signatures)?;
            check_time(certificate, position, at_unix_s)?;
            match position {
                0 => check_leaf(certificate)?,
                _ => check_authority(certificate, position)?,
            }
        }
        Ok(())
    }
}

/// RFC 5280 6.1.3 (a) 1 and 4, and that the key identifiers agree where both are given.
pub(super) fn check_issued(
    certificate: &Certificate,
    issuer: &Certificate,
    position: usize,
    signatures: &Signatures,
) -> Result<(), ChainError> {
    let name = || certificate.common_name.clone();
    let authority_key = certificate.extensions.authority_key.as_ref();
    let issuer_key = issuer.extensions.subject_key.as_ref();
    let same_key = authority_key.zip(issuer_key).is_none_or(|(a, b)| a == b);
    if certificate.issuer != issuer.subject || !same_key {
        return Err(ChainError::Issuer {
            position,
            name: name(),
        });
    }
    if !signatures.issued(certificate, issuer) {
        return Err(ChainError::Signature {
            position,
            name: name(),
        });
    }
    Ok(())
}

pub(super) fn check_time(
    certificate: &Certificate,
    position: usize,
    at_unix_s: u64,
) -> Result<(), ChainError> {
    let name = certificate.common_name.clone();
    if at_unix_s > certificate.not_after_unix_s {
        return Err(ChainError::Expired {
            position,
            name,
            not_after_unix_s: certificate.not_after_unix_s,
            at_unix_s,
        });
    }
    if at_unix_s < certificate.not_before_unix_s {
        return Err(ChainError::NotYetValid {
            position,
            name,
            not_before_unix_s: certificate.not_before_unix_s,
            at_unix_s,
        });
    }
    Ok(())
}

/// RFC 5280 6.1.4 (k) to (n). `position` is one more than the authorities between it and the leaf.
fn check_authority(certificate: &Certificate, position: usize) -> Result<(), ChainError> {
    let extensions = &certificate.extensions;
    let below = position.saturating_sub(1);
    let may_issue = extensions.basic.is_some_and(|basic| {
        let deep_enough = |length| usize::from(length) >= below;
        basic.authority && basic.path_length.is_none_or(deep_enough)
    });
    let may_sign = extensions
        .key_usage
        .is_some_and(|usage| usage & KEY_CERT_SIGN != 0);
    if may_issue && may_sign {
        return Ok(());
    }
    Err(ChainError::NotAuthority {
        position,
        name: certificate.common_name.clone(),
    })
}

/// A leaf signs evidence, issues nothing, and answers for no revocation.
fn check_leaf(certificate: &Certificate) -> Result<(), ChainError> {
    let extensions = &certificate.extensions;
    let issues = extensions.basic.is_some_and(|basic| basic.authority);
    let usage = extensions.key_usage.unwrap_or(0);
    let signs = usage & DIGITAL_SIGNATURE != 0 && usage & KEY_CERT_SIGN == 0;
    if signs && !issues && !extensions.ocsp_signing {
        return Ok(());
    }
    Err(ChainError::Leaf {
        name: certificate.common_name.clone(),
    })
}

/// How many certificates a device has.
pub(super) const DEVICE_CHAIN: std::ops::RangeInclusive<usize> = 5..=5;
