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
        RimSource::Folder { path } => {
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

/// Holds a RIM against its name: the id beside it, and the version inside it.
///
/// The version is looked for in the text. This is no XML reader, and need not be one: it keeps mistakes out of the cache,
/// and whoever believes a RIM reads it properly after its signature.
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
    let xml = decode(&answer)?;
    let xml = String::from_utf8(xml).map_err(|error| Fault::malformed("RIM", error))?;
    // ISO/IEC 19770-2; the version is `550.144.03` of a driver, `96.00.5E.00.01` of a VBIOS.
    let attribute = "colloquialVersion=\"";
    let version = xml
        .contains("SoftwareIdentity")
        .then(|| xml.split_once(attribute)?.1.split_once('"'))
        .flatten();
    let Some((version, _)) = version else {
        return Err(Fault::malformed(
            "RIM",
            "it is no software identity with a version",
        ));
    };
    // A driver's id ends in the version, a VBIOS's in the version without its dots.
    let wanted = id.as_str().to_ascii_uppercase();
    let version_upper = version.to_ascii_uppercase();
    let names = [version_upper.clone(), version_upper.replace('.', "")];
    if names
        .iter()
        .any(|name| wanted.ends_with(&format!("_{name}")))
    {
        Ok(())
    } else {
        Err(other(&format!("version {version}")))
    }
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

    fn check(id: &str, in_json: Option<&str>, version: &str) -> Result<(), Fault> {
        let xml =
            format!("<SoftwareIdentity><Meta colloquialVersion=\"{version}\"/></SoftwareIdentity>");
        let json = serde_json::json!({ "id": in_json, "rim": STANDARD.encode(xml) });
        check_rim(json.to_string().as_bytes(), &id.parse().expect("an id"))
    }

    #[test]
    fn a_rim_is_taken_under_its_own_name_alone() {
        let driver = "NV_GPU_DRIVER_GH100_550.144.03";
        let vbios = "NV_GPU_VBIOS_1010_0200_882_96005E0001";
        assert_eq!(check(driver, Some(driver), "550.144.03"), Ok(()));
        assert_eq!(check(driver, None, "550.144.03"), Ok(()));
        assert_eq!(check(vbios, Some(vbios), "96.00.5e.00.01"), Ok(()));
        for (id, in_json, version) in [
            (driver, Some(vbios), "550.144.03"),
            (driver, Some(driver), "550.144.04"),
            (driver, Some(driver), "4.03"),
            (driver, Some(driver), ""),
            (vbios, Some(vbios), "96.00.74.00.01"),
        ] {
            let got = check(id, in_json, version);
            assert!(matches!(got, Err(Fault::Other { .. })), "{got:?}");
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
