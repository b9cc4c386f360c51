//! Evidence beside `chrysalis verify`: where it is found when a receipt comes without it, and in which form it is handed on.

use super::verify::books;
use crate::attestation::kept_evidence;
use crate::budget::KeptEvidence;
use crate::config::Config;
use crate::transport::Transport;
use anyhow::Context;
use std::path::{Path, PathBuf};
use wire::{Cmw, Eat, KeysetDigest};

/// The wrapper in a file, if that is what it is (RFC 9999, section 3.5); of ours every one has a type or is a record.
pub(super) fn wrapper_in(bytes: &[u8]) -> Option<anyhow::Result<Cmw>> {
    let is_one = match bytes {
        [b'[', ..] | [0x82 | 0x83, ..] => true,
        [b'{', ..] => bytes.windows(8).any(|part| part == b"__cmwc_t"),
        // A map whose first name is text; in a proof names are numbers.
        [0xa0..=0xbf, 0x60..=0x7b, ..] => true,
        _ => false,
    };
    is_one.then(|| Ok(Cmw::decode(bytes)?))
}

/// Writes evidence and verdict where the caller wants them: JSON where the file's name ends so, otherwise CBOR.
pub(super) fn hand_on(
    (cmw, eat): (Option<&PathBuf>, Option<&PathBuf>),
    (bundle, nonce): (&[u8], &[u8; 32]),
    result: &Eat,
) -> anyhow::Result<()> {
    let is_json = |path: &Path| path.extension().is_some_and(|name| name == "json");
    let token = |path: &Path| match is_json(path) {
        true => result.to_json().to_string().into_bytes(),
        false => result.to_cbor(),
    };
    let write = |path: &Path, bytes: Vec<u8>| {
        std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
    };
    if let Some(path) = eat {
        write(path, token(path))?;
    }
    if let Some(path) = cmw {
        let wrapper = Cmw {
            bundle: bundle.to_vec(),
            nonce: *nonce,
            result: Some(token(path)),
        };
        let bytes = match is_json(path) {
            true => wrapper.to_json().into_bytes(),
            false => wrapper.encode(),
        };
        write(path, bytes)?;
    }
    Ok(())
}

/// The evidence of a keyset: what the books have, and otherwise what the provider's proxy keeps.
pub(super) async fn evidence_of(
    config: &Config,
    keyset: KeysetDigest,
) -> anyhow::Result<KeptEvidence> {
    // Where there are no books, or a sidecar has them open, the proxy is asked.
    let books = books(config).ok();
    let on_file = books.map(|books| books.evidence(&keyset)).transpose()?;
    if let Some(kept) = on_file.flatten() {
        return Ok(kept);
    }
    let proxy = Transport::new(&config.proxy)?;
    let kept = kept_evidence(&proxy, keyset).await;
    let Cmw { bundle, nonce, .. } =
        kept.with_context(|| format!("no evidence of keyset {keyset} is on file"))?;
    Ok(KeptEvidence { bundle, nonce })
}
