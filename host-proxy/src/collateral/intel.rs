//! Intel's collateral, from its own service (PCS) or from a cache of it that a provider runs (PCCS).
//!
//! The four answers and their headers are those of Intel's PCS API, version 4; a PCCS has the same paths and in part other
//! encodings. Written from the documentation and tested with recorded answers; neither service has been reached.

use super::http_client::{Deadline, HttpClient, Request, Response};
use super::source_error::{SourceError, part_name};
use crate::config::TdxSource;
use crate::limits::{CLOCK_SLACK_S, INTEL_ANSWER_BYTES_MAX};
use attest::{Collateral, CollateralClaims, Platform};
use base64::Engine;
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::limits::COLLATERAL_BYTES_MAX;

/// Asks one source for a platform's collateral and writes it as our JSON.
pub(super) fn fetch(
    client: &HttpClient,
    source: &TdxSource,
    platform: &Platform,
) -> Result<Vec<u8>, SourceError> {
    match source {
        TdxSource::File { path } => super::nvidia::read_file(path, COLLATERAL_BYTES_MAX as u64),
        TdxSource::Pcs {
            url,
            root_crl_url,
            timeout_ms,
        } => service(
            client,
            url.as_str(),
            root_crl_url.as_str(),
            *timeout_ms,
            platform,
        ),
        TdxSource::Pccs { url, timeout_ms } => {
            let root_crl_url = format!("{url}/sgx/certification/v4/rootcacrl");
            service(client, url.as_str(), &root_crl_url, *timeout_ms, platform)
        }
    }
}

fn service(
    client: &HttpClient,
    base: &str,
    root_crl_url: &str,
    timeout_ms: u64,
    platform: &Platform,
) -> Result<Vec<u8>, SourceError> {
    let deadline = Deadline::after_ms(timeout_ms);
    let get = |url: &str, kind| {
        let request = Request {
            url,
            post: None,
            content_type: kind,
            bytes_max: INTEL_ANSWER_BYTES_MAX,
        };
        client.send(&request, deadline)
    };
    let ca = platform.ca;
    let fmspc = hex::encode_upper(platform.fmspc);
    let sgx = format!("{base}/sgx/certification/v4");
    let tdx = format!("{base}/tdx/certification/v4");

    let pck_crl = get(&format!("{sgx}/pckcrl?ca={ca}&encoding=der"), None)?;
    let tcb = get(
        &format!("{tdx}/tcb?fmspc={fmspc}&update=standard"),
        Some("json"),
    )?;
    let qe = get(&format!("{tdx}/qe/identity?update=standard"), Some("json"))?;
    let root_crl = get(root_crl_url, None)?;

    let tcb_info: TcbInfoAnswer = parse("TCB info", &tcb)?;
    let qe_identity: QeIdentityAnswer = parse("QE identity", &qe)?;
    // Version 3 of the API called the header by the second name.
    let tcb_chain = ["TCB-Info-Issuer-Node", "SGX-TCB-Info-Issuer-Node"];
    let json = serde_json::json!({
        "pck_crl_issuer_chain": chain(&pck_crl, &["SGX-PCK-CRL-Issuer-Node"])?,
        "root_ca_crl": hex::encode(crl("root revocation list", &root_crl)?),
        "pck_crl": hex::encode(crl("PCK revocation list", &pck_crl)?),
        "tcb_info_issuer_chain": chain(&tcb, &tcb_chain)?,
        // The signature covers these bytes as they came, so they are passed on as they came.
        "tcb_info": tcb_info.tcb_info.get(),
        "tcb_info_signature": tcb_info.signature,
        "qe_identity_issuer_chain": chain(&qe, &["SGX-Enclave-Identity-Issuer-Node"])?,
        "qe_identity": qe_identity.enclave_identity.get(),
        "qe_identity_signature": qe_identity.signature,
    });
    serde_json::to_vec(&json).map_err(|error| SourceError::malformed("collateral", error))
}

/// Checks an answer against the platform asked for. Signatures are for the client.
pub(super) fn check(
    json: &[u8],
    platform: &Platform,
    now_unix_s: u64,
) -> Result<CollateralClaims, SourceError> {
    if json.len() > COLLATERAL_BYTES_MAX {
        // No client takes a bundle with more.
        let bytes_max = COLLATERAL_BYTES_MAX as u64;
        return Err(SourceError::TooLong { bytes_max });
    }
    let malformed = |error: &dyn std::fmt::Display| SourceError::malformed("collateral", error);
    let collateral = Collateral::from_json(json).map_err(|e| malformed(&e))?;
    let claims = collateral.claims().map_err(|e| malformed(&e))?;
    if claims.platform != *platform {
        return Err(SourceError::Mismatch {
            got: claims.platform.to_string(),
            asked: platform.to_string(),
        });
    }
    let first = claims.first_to_expire();
    if first.expires_unix_s <= now_unix_s {
        return Err(SourceError::Expired {
            what: part_name(first.part),
            at_unix_s: first.expires_unix_s,
        });
    }
    let last = claims.last_issued();
    if last.issued_unix_s > now_unix_s.saturating_add(CLOCK_SLACK_S) {
        return Err(SourceError::NotYetValid {
            what: part_name(last.part),
            at_unix_s: last.issued_unix_s,
        });
    }
    Ok(claims)
}

#[derive(Deserialize)]
struct TcbInfoAnswer<'a> {
    #[serde(rename = "tcbInfo", borrow)]
    tcb_info: &'a RawValue,
    signature: String,
}

#[derive(Deserialize)]
struct QeIdentityAnswer<'a> {
    #[serde(rename = "enclaveIdentity", borrow)]
    enclave_identity: &'a RawValue,
    signature: String,
}

fn parse<'a, T: Deserialize<'a>>(
    what: &'static str,
    answer: &'a Response,
) -> Result<T, SourceError> {
    serde_json::from_str(answer.text(what)?).map_err(|error| SourceError::malformed(what, error))
}

/// The first of these headers: PEM certificates, percent-encoded.
fn chain(answer: &Response, names: &[&'static str]) -> Result<String, SourceError> {
    let found = names
        .iter()
        .find_map(|name| Some((name, answer.header(name)?)));
    let Some((name, value)) = found else {
        let name = names.first().copied().unwrap_or("issuer chain");
        return Err(SourceError::malformed(name, "the header is missing"));
    };
    let pem = percent_decoded(value)
        .ok_or_else(|| SourceError::malformed(name, "the header is not percent-encoded text"))?;
    if !pem.starts_with("-----BEGIN CERTIFICATE-----") {
        return Err(SourceError::malformed(
            name,
            "the header holds no certificate",
        ));
    }
    Ok(pem)
}

/// RFC 3986, section 2.1.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = after.split_first_chunk::<2>()?;
        let mut byte = [0];
        hex::decode_to_slice(digits, &mut byte).ok()?;
        bytes.push(byte[0]);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// A revocation list as DER. Intel sends that, or PEM; a PCCS sends it in hexadecimal.
fn crl(what: &'static str, answer: &Response) -> Result<Vec<u8>, SourceError> {
    // X.690 8.1: a SEQUENCE whose length takes two bytes, as every such list has.
    if let [0x30, 0x81..=0x84, ..] = &answer.body[..] {
        return Ok(answer.body.clone());
    }
    let text = answer.text(what)?.trim();
    if let Some(body) = text
        .strip_prefix("-----BEGIN X509 CRL-----")
        .and_then(|rest| rest.strip_suffix("-----END X509 CRL-----"))
    {
        let digits: String = body.split_ascii_whitespace().collect();
        return base64::engine::general_purpose::STANDARD
            .decode(digits)
            .map_err(|error| SourceError::malformed(what, error));
    }
    if text.starts_with('<') {
        return Err(SourceError::ContentType("a web page".into()));
    }
    hex::decode(text).map_err(|_| SourceError::malformed(what, "neither DER, PEM nor hexadecimal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone_or_refused() {
        for (text, expected) in [
            ("", Some("")),
            ("a%0Ab%2fc", Some("a\nb/c")),
            ("a+b", Some("a+b")),
            ("%", None),
            ("%0", None),
            ("%0g", None),
            ("%ff", None),
        ] {
            assert_eq!(percent_decoded(text).as_deref(), expected, "{text}");
        }
    }
}
