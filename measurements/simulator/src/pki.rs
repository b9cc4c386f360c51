//! The certificates of one run: root, platform CA, platform, TCB signer, and both revocation lists.

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    DistinguishedName, DnType, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SerialNumber,
};
use sha2::{Digest, Sha256};
use std::{ops::Range, time::Duration};

use crate::{Flaws, SimulatorError, asn1, key::Key, module::YEAR_9999_UNIX_S};

/// Everything the chain of a quote and the collateral need.
pub(crate) struct Pki {
    pub root_der: Vec<u8>,
    /// Signs the quoting enclave's report.
    pub platform_key: Key,
    /// PCK leaf, its CA, root; PEM.
    pub platform_chain: String,
    /// Platform CA, root; PEM.
    pub platform_ca_chain: String,
    /// Signs TCB info and QE identity.
    pub tcb_key: Key,
    /// TCB signing certificate, root; PEM.
    pub tcb_chain: String,
    pub root_crl: Vec<u8>,
    pub platform_crl: Vec<u8>,
}

/// When something is valid.
#[derive(Clone, Copy)]
pub(crate) struct Validity {
    pub issued_unix_s: u64,
    pub expires_unix_s: u64,
}

/// One certification authority of the run.
struct Authority {
    issuer: Issuer<'static, Key>,
    key_id: KeyIdMethod,
    der: Vec<u8>,
}

impl Pki {
    /// Lists are valid as long as they say; certificates for years, as Intel's are.
    pub(crate) fn generate(
        lists: Validity,
        sgx: &asn1::SgxExtension,
        flaws: &Flaws,
        random: &mut impl FnMut(&mut [u8]),
    ) -> Result<Pki, SimulatorError> {
        let validity = Validity {
            issued_unix_s: lists.issued_unix_s.saturating_sub(YEAR_S),
            expires_unix_s: lists
                .expires_unix_s
                .saturating_add(7 * YEAR_S)
                .min(YEAR_9999_UNIX_S),
        };
        let or_else = |other: &Option<Range<u64>>| match other {
            None => validity,
            Some(range) => Validity {
                issued_unix_s: range.start,
                expires_unix_s: range.end,
            },
        };
        let root = Authority::root(validity, random)?;
        let other_root = Authority::root(validity, random)?;
        let platform_root = if flaws.platform_under_another_root {
            &other_root
        } else {
            &root
        };

        let platform_ca = Authority::under(platform_root, "platform CA", validity, random)?;
        let platform_key = Key::generate(random);
        let mut platform = params(
            "platform certificate",
            or_else(&flaws.platform_certificate_valid),
            &platform_key,
            random,
        );
        platform.is_ca = IsCa::ExplicitNoCa;
        platform.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::ContentCommitment,
        ];
        platform.custom_extensions = vec![CustomExtension::from_oid_content(
            &asn1::SGX_EXTENSION_OID,
            sgx.der(),
        )];
        let platform_serial = platform.serial_number.clone();
        let platform_der = platform
            .signed_by(&platform_key, &platform_ca.issuer)?
            .der()
            .to_vec();

        let tcb_key = Key::generate(random);
        let mut signer = params(
            "TCB signer",
            or_else(&flaws.tcb_signer_valid),
            &tcb_key,
            random,
        );
        signer.is_ca = IsCa::ExplicitNoCa;
        signer.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::ContentCommitment,
        ];
        let signer_der = signer.signed_by(&tcb_key, &root.issuer)?.der().to_vec();

        let revoked = platform_serial.filter(|_| flaws.platform_certificate_revoked);
        Ok(Pki {
            // The chain in the quote ends in the pinned root even when the platform hangs under another one:
            // the forger writes what the verifier wants to read.
            platform_chain: pem(&[&platform_der, &platform_ca.der, &root.der]),
            platform_ca_chain: pem(&[&platform_ca.der, &root.der]),
            tcb_chain: pem(&[&signer_der, &root.der]),
            root_crl: crl(&root, None, lists)?,
            platform_crl: crl(&platform_ca, revoked, lists)?,
            root_der: root.der,
            platform_key,
            tcb_key,
        })
    }
}

impl Authority {
    fn of(params: CertificateParams, key: Key, der: Vec<u8>) -> Authority {
        Authority {
            key_id: params.key_identifier_method.clone(),
            issuer: Issuer::new(params, key),
            der,
        }
    }

    fn root(
        validity: Validity,
        random: &mut impl FnMut(&mut [u8]),
    ) -> Result<Authority, SimulatorError> {
        let key = Key::generate(random);
        let params = ca_params("root", validity, &key, random);
        let der = params.self_signed(&key)?.der().to_vec();
        Ok(Authority::of(params, key, der))
    }

    fn under(
        parent: &Authority,
        name: &str,
        validity: Validity,
        random: &mut impl FnMut(&mut [u8]),
    ) -> Result<Authority, SimulatorError> {
        let key = Key::generate(random);
        let params = ca_params(name, validity, &key, random);
        let der = params.signed_by(&key, &parent.issuer)?.der().to_vec();
        Ok(Authority::of(params, key, der))
    }
}

fn ca_params(
    name: &str,
    validity: Validity,
    key: &Key,
    random: &mut impl FnMut(&mut [u8]),
) -> CertificateParams {
    let mut params = params(name, validity, key, random);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(
    name: &str,
    validity: Validity,
    key: &Key,
    random: &mut impl FnMut(&mut [u8]),
) -> CertificateParams {
    let mut serial = [0; 16];
    random(&mut serial);
    // Positive and of full length, RFC 5280 4.1.2.2.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(
        DnType::CommonName,
        format!("Chrysalis simulated TDX {name} (not Intel)"),
    );
    distinguished_name.push(
        DnType::OrganizationName,
        "Chrysalis simulation, for tests only",
    );
    let mut params = CertificateParams::default();
    params.not_before =
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(validity.issued_unix_s);
    params.not_after =
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(validity.expires_unix_s);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = distinguished_name;
    params.use_authority_key_identifier_extension = true;
    params.key_identifier_method =
        KeyIdMethod::PreSpecified(Sha256::digest(key.public_raw())[..20].to_vec());
    params
}

fn crl(
    authority: &Authority,
    revoked: Option<SerialNumber>,
    validity: Validity,
) -> Result<Vec<u8>, SimulatorError> {
    let issued = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(validity.issued_unix_s);
    let list = CertificateRevocationListParams {
        this_update: issued,
        next_update: rcgen::date_time_ymd(1970, 1, 1)
            + Duration::from_secs(validity.expires_unix_s),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked
            .into_iter()
            .map(|serial_number| RevokedCertParams {
                serial_number,
                revocation_time: issued,
                reason_code: Some(RevocationReason::KeyCompromise),
                invalidity_date: None,
            })
            .collect(),
        key_identifier_method: authority.key_id.clone(),
    };
    Ok(list.signed_by(&authority.issuer)?.der().to_vec())
}

const YEAR_S: u64 = 365 * 86_400;

fn pem(certificates: &[&[u8]]) -> String {
    let mut text = String::new();
    for der in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----");
        for (at, digit) in STANDARD.encode(der).chars().enumerate() {
            if at % 64 == 0 {
                text.push('\n');
            }
            text.push(digit);
        }
        text.push_str("\n-----END CERTIFICATE-----\n");
    }
    text
}
