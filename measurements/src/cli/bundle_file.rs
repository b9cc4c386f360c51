//! The file behind `--bundle`: a bundle of ours, or the evidence of a worker as a client's endpoint and a proxy hand it
//! out.

use std::path::Path;

use anyhow::Context;
use attest::bytes_of_text;
use diagnose::bundle::{Bundle, Log, LogForm, VERSION};
use registers::{Digest32, Digest48, RuntimeEvent};

use super::read_bounded;

/// A bundle, and where it came from.
pub(crate) struct BundleFile {
    /// Its bytes, of which its digest is.
    pub(crate) bytes: Vec<u8>,
    pub(crate) bundle: Bundle,
    /// The digest of the worker's keyset, if it is a worker's evidence. Such a bundle does not say when it was made.
    pub(crate) keyset: Option<Digest32>,
}

/// Reads either kind: binary, in hexadecimal or base64, or in the field `bundle` of an endpoint's JSON.
pub(crate) fn read(path: &Path) -> anyhow::Result<BundleFile> {
    let file = read_bounded(path, 2 * diagnose::limits::BUNDLE_BYTES_MAX)?;
    let mut bytes = bytes_of_text(&file).into_owned();
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(&bytes)
        && let Some(text) = json["bundle"].as_str()
    {
        bytes = bytes_of_text(text.as_bytes()).into_owned();
    }
    let error = match Bundle::from_cbor(&bytes) {
        Ok(bundle) => {
            return Ok(BundleFile {
                bytes,
                bundle,
                keyset: None,
            });
        }
        Err(error) => error,
    };
    match of_worker(&bytes) {
        Some((bundle, keyset)) => Ok(BundleFile {
            bytes,
            bundle,
            keyset: Some(keyset),
        }),
        None => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn of_worker(bytes: &[u8]) -> Option<(Bundle, Digest32)> {
    let carried = wire::Bundle::decode(bytes).ok()?;
    let evidence = wire::Evidence::decode(&carried.evidence).ok()?;
    let events = evidence.events.into_iter().map(|event| RuntimeEvent {
        name: event.name,
        digest: Digest48(event.digest),
    });
    let events = serde_json::to_vec(&events.collect::<Vec<_>>()).ok()?;
    let bundle = Bundle {
        version: VERSION,
        made_unix_s: 0,
        quote: evidence.quote,
        collateral: carried.collateral,
        manifest: None,
        event_logs: vec![Log {
            form: LogForm::Runtime,
            bytes: events,
        }],
        gpus: None,
        report_data: None,
    };
    let keyset = wire::KeysetDigest::of(&evidence.keyset);
    Some((bundle, Digest32(keyset.0)))
}
