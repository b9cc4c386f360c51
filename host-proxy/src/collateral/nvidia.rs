//! NVIDIA's reference integrity manifests and OCSP answers.
//!
//! A RIM travels as JSON with the XML in base64 (RIM service, `GET /v1/rim/{id}`), an OCSP answer as DER (RFC 6960). We have
//! read the documentation and replayed public files; we have not reached either service.

use super::ask::{Asker, Deadline, Question};
use super::fault::Fault;
use super::ocsp::OcspQuestion;
use super::want::RimId;
use crate::config::{OcspSource, RimSource};
use crate::limits::{OCSP_ANSWER_BYTES_MAX, RIM_ANSWER_BYTES_MAX};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use measurements::gpu::Rim;
use serde::Deserialize;
use std::io::Read;
use std::path::Path;

/// Asks one source for a RIM, in the service's JSON.
pub(super) fn fetch_rim(asker: &Asker, source: &RimSource, id: &RimId) -> Result<Vec<u8>, Fault> {
    match source {
        RimSource::Rim { url, timeout_ms } => {
            let url = format!("{url}/v1/rim/{id}");
            let question = Question {
                url: &url,
                post: None,
                kind: Some("json"),
                bytes_max: RIM_ANSWER_BYTES_MAX,
            };
            Ok(asker.ask(&question, Deadline::after_ms(*timeout_ms))?.body)
        }
        RimSource::Directory { path } => {
            let file = path.join(format!("{id}.xml"));
            let xml = read_file(&file, RIM_ANSWER_BYTES_MAX)?;
            let json = serde_json::json!({
                "id": id.as_str(), "rim": STANDARD.encode(xml), "rim_format": "TCG_RIM",
            });
            serde_json::to_vec(&json).map_err(|error| Fault::malformed("RIM", error))
        }
    }
}

/// Asks one source about a certificate.
pub(super) fn fetch_ocsp(
    asker: &Asker,
    source: &OcspSource,
    asked: &OcspQuestion,
) -> Result<Vec<u8>, Fault> {
    let OcspSource::Ocsp { url, timeout_ms } = source;
    let question = Question {
        url: url.as_str(),
        post: Some(asked.der()),
        kind: Some("ocsp-response"),
        bytes_max: OCSP_ANSWER_BYTES_MAX,
    };
    Ok(asker.ask(&question, Deadline::after_ms(*timeout_ms))?.body)
}

#[derive(Deserialize)]
struct RimAnswer {
    /// The documentation has it; an older service may not.
    id: Option<String>,
    rim: String,
}

/// Holds a RIM against its name: the id beside it, and the version inside it. Its signature is for whoever believes it.
pub(super) fn check_rim(json: &[u8], id: &RimId) -> Result<(), Fault> {
    let answer: RimAnswer =
        serde_json::from_slice(json).map_err(|error| Fault::malformed("RIM", error))?;
    let other = |got: &str| Fault::Other {
        got: format!("`{}`", got.chars().take(120).collect::<String>()),
        asked: format!("`{id}`"),
    };
    if let Some(got) = &answer.id
        && got != id.as_str()
    {
        return Err(other(got));
    }
    let rim = Rim::parse(id.as_str(), &decode(&answer)?)
        .map_err(|error| Fault::malformed("RIM", error))?;
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
pub fn rim_document(json: &[u8]) -> Result<Vec<u8>, Fault> {
    let answer = serde_json::from_slice(json).map_err(|error| Fault::malformed("RIM", error))?;
    decode(&answer)
}

fn decode(answer: &RimAnswer) -> Result<Vec<u8>, Fault> {
    STANDARD
        .decode(answer.rim.trim())
        .map_err(|error| Fault::malformed("RIM", error))
}

/// A file of the operator's, of bounded size.
pub(super) fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes))
        .map_err(|error| Fault::Disk(error.to_string()))?;
    if read as u64 > bytes_max {
        return Err(Fault::TooLong { bytes_max });
    }
    Ok(bytes)
}

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
                matches!(got, Err(Fault::Malformed { .. })),
                "{json}: {got:?}"
            );
        }
    }
}
