//! PEM (RFC 7468): certificates between their marks, and nothing else around them.

use base64::{Engine, engine::general_purpose::STANDARD};

/// The certificates in a text, in its order, at most `certificates_max`; `None` is no such text. The text may itself be in
/// base64, as NVIDIA's collectors write it. Its length is for the caller to bound.
pub fn certificates(text: &[u8], certificates_max: usize) -> Option<Vec<Vec<u8>>> {
    if text.trim_ascii_start().starts_with(BEGIN) {
        return blocks(text, certificates_max);
    }
    blocks(&STANDARD.decode(text.trim_ascii()).ok()?, certificates_max)
}

fn blocks(text: &[u8], certificates_max: usize) -> Option<Vec<Vec<u8>>> {
    let mut certificates = Vec::new();
    let mut block: Option<Vec<u8>> = None;
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (&mut block, line) {
            (None, BEGIN) => block = Some(Vec::new()),
            (None, b"") => {}
            (Some(_), END) => {
                if certificates.len() >= certificates_max {
                    return None;
                }
                let der = STANDARD.decode(block.take().unwrap_or_default());
                certificates.push(der.ok()?);
            }
            (Some(body), line) if !line.is_empty() => body.extend_from_slice(line),
            _ => return None,
        }
    }
    block.is_none().then_some(certificates)
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";
