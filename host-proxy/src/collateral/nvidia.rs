//! NVIDIA's reference integrity manifests and OCSP answers.
//!
//! A RIM travels as JSON with the XML in base64 (RIM service, `GET /v1/rim/{id}`), an OCSP answer as DER (RFC 6960). Written
//! from the documentation and tested with public files; neither service has been reached.

use super::http_client::{Deadline, HttpClient, Request};
use super::key::{OcspRequest, RimId};
use super::source_error::SourceError;
use crate::config::{OcspSource, RimSource};
use crate::error::read_bounded;
use crate::limits::{CLOCK_SLACK_S, OCSP_ANSWER_BYTES_MAX, RIM_ANSWER_BYTES_MAX};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gpu::Rim;
use pki::ocsp::{Response, SingleResponse};
use serde::Deserialize;
use std::path::Path;

/// Asks one source for a RIM, in the service's JSON.
pub(super) fn fetch_rim(
    client: &HttpClient,
    source: &RimSource,
    id: &RimId,
) -> Result<Vec<u8>, SourceError> {
    match source {
        RimSource::Rim { url, timeout_ms } => {
            let request = Request {
                url: &format!("{url}/v1/rim/{id}"),
                post: None,
                content_type: Some("json"),
                bytes_max: RIM_ANSWER_BYTES_MAX,
            };
            Ok(client.send(&request, Deadline::after_ms(*timeout_ms))?.body)
        }
        RimSource::Directory { path } => {
            let xml = read_file(&path.join(format!("{id}.xml")), RIM_ANSWER_BYTES_MAX)?;
            let json = serde_json::json!({
                "id": id.as_str(), "rim": STANDARD.encode(xml), "rim_format": "TCG_RIM",
            });
            serde_json::to_vec(&json).map_err(|error| SourceError::malformed("RIM", error))
        }
    }
}

/// Asks one source about a certificate.
pub(super) fn fetch_ocsp(
    client: &HttpClient,
    source: &OcspSource,
    asked: &OcspRequest,
) -> Result<Vec<u8>, SourceError> {
    let OcspSource::Ocsp { url, timeout_ms } = source;
    let request = Request {
        url: url.as_str(),
        post: Some(("application/ocsp-request", asked.der())),
        content_type: Some("ocsp-response"),
        bytes_max: OCSP_ANSWER_BYTES_MAX,
    };
    Ok(client.send(&request, Deadline::after_ms(*timeout_ms))?.body)
}

/// Checks an answer against its request. `Some` is its next update; an answer without one holds for now only.
pub(super) fn check_ocsp(
    answer: &[u8],
    asked: &OcspRequest,
    now_unix_s: u64,
) -> Result<Option<u64>, SourceError> {
    let what = "OCSP answer";
    let response = Response::parse(answer);
    let basic =
        match response.ok_or_else(|| SourceError::malformed(what, "not the DER of RFC 6960"))? {
            Response::Status(status) => return Err(SourceError::OcspStatus(status)),
            Response::Basic(basic) => basic,
        };
    let asked = asked.parsed();
    let about = |answer: &&SingleResponse| answer.certificate == asked.certificate;
    let Some(answer) = basic.answers.iter().rev().find(about) else {
        return Err(SourceError::Mismatch {
            got: "another certificate".into(),
            asked: "the one in the request".into(),
        });
    };
    // A responder may leave the nonce out (section 4.4.1).
    if let (Some(got), Some(nonce)) = (&basic.nonce, &asked.nonce)
        && got != nonce
    {
        return Err(SourceError::Replay);
    }
    let at_unix_s = answer.this_unix_s;
    if at_unix_s > now_unix_s.saturating_add(CLOCK_SLACK_S) {
        return Err(SourceError::NotYetValid { what, at_unix_s });
    }
    match answer.next_unix_s {
        Some(at_unix_s) if at_unix_s <= now_unix_s => Err(SourceError::Expired { what, at_unix_s }),
        next => Ok(next),
    }
}

#[derive(Deserialize)]
struct RimAnswer {
    /// The documentation has it; an older service may not.
    id: Option<String>,
    rim: String,
}

/// Checks a RIM against the id asked for: the id beside it, and the version in it. Its signature is for the client.
pub(super) fn check_rim(json: &[u8], id: &RimId) -> Result<(), SourceError> {
    let answer: RimAnswer =
        serde_json::from_slice(json).map_err(|error| SourceError::malformed("RIM", error))?;
    let other = |got: &str| SourceError::Mismatch {
        got: format!("`{}`", got.chars().take(120).collect::<String>()),
        asked: format!("`{id}`"),
    };
    if let Some(got) = &answer.id
        && got != id.as_str()
    {
        return Err(other(got));
    }
    let rim = Rim::parse(id.as_str(), &decode(&answer)?)
        .map_err(|error| SourceError::malformed("RIM", error))?;
    if is_named_after(id, rim.version()) {
        Ok(())
    } else {
        Err(other(&format!("version {}", rim.version())))
    }
}

/// A driver's id ends in its version (`550.144.03`), a VBIOS's in its version without the dots (`96.00.5E.00.01`).
fn is_named_after(id: &RimId, version: &str) -> bool {
    let id = id.as_str().to_ascii_uppercase();
    let version = version.to_ascii_uppercase();
    let names = [version.clone(), version.replace('.', "")];
    let ends = |name: &String| !name.is_empty() && id.ends_with(&format!("_{name}"));
    names.iter().any(ends)
}

/// The XML inside the service's JSON.
pub fn rim_document(json: &[u8]) -> Result<Vec<u8>, SourceError> {
    let answer =
        serde_json::from_slice(json).map_err(|error| SourceError::malformed("RIM", error))?;
    decode(&answer)
}

fn decode(answer: &RimAnswer) -> Result<Vec<u8>, SourceError> {
    STANDARD
        .decode(answer.rim.trim())
        .map_err(|error| SourceError::malformed("RIM", error))
}

/// A source that is a file.
pub(super) fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, SourceError> {
    let read = read_bounded(path, bytes_max);
    let bytes = read.map_err(|error| SourceError::File(error.to_string()))?;
    bytes.ok_or(SourceError::TooLong { bytes_max })
}

#[cfg(test)]
mod ocsp_tests;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_ends_in_the_version_and_no_part_of_it_will_do() {
        let driver = "NV_GPU_DRIVER_GH100_550.144.03";
        let vbios = "NV_GPU_VBIOS_1010_0200_882_96005E0001";
        for (id, version, expected) in [
            (driver, "550.144.03", true),
            (vbios, "96.00.5e.00.01", true),
            (driver, "550.144.04", false),
            (driver, "4.03", false),
            (driver, "", false),
            (vbios, "96.00.74.00.01", false),
        ] {
            let named = is_named_after(&id.parse().expect("an id"), version);
            assert_eq!(named, expected, "{id} {version}");
        }
    }

    #[test]
    fn what_is_no_rim_is_refused() {
        let id = "NV_1".parse().expect("an id");
        for json in [
            "",
            "<html>",
            "{}",
            "{\"rim\":7}",
            "{\"rim\":\"?\"}",
            "{\"rim\":\"\"}",
            "{\"rim\":\"PGh0bWw+\"}",
        ] {
            let got = check_rim(json.as_bytes(), &id);
            assert!(
                matches!(got, Err(SourceError::Malformed { .. })),
                "{json}: {got:?}"
            );
        }
    }
}
