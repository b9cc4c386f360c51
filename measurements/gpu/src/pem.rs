//! PEM (RFC 7468): certificates between their marks, and nothing else around them.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::EvidenceError;
use crate::limits;

/// The certificates in a text, in its order. The text may itself be in base64, as NVIDIA's collectors write it.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<Vec<u8>>, EvidenceError> {
    if text.len() > limits::GPU_CHAIN_BYTES_MAX {
        return Err(EvidenceError::TooLong {
            what: "the certificate chain",
            got: text.len(),
            max: limits::GPU_CHAIN_BYTES_MAX,
        });
    }
    if text.trim_ascii_start().starts_with(BEGIN) {
        return blocks(text);
    }
    let text = STANDARD
        .decode(text.trim_ascii())
        .map_err(|_| EvidenceError::Pem)?;
    blocks(&text)
}

fn blocks(text: &[u8]) -> Result<Vec<Vec<u8>>, EvidenceError> {
    let mut certificates = Vec::new();
    let mut block: Option<Vec<u8>> = None;
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (&mut block, line) {
            (None, BEGIN) => block = Some(Vec::new()),
            (None, b"") => {}
            (Some(_), END) => {
                if certificates.len() >= limits::GPU_CHAIN_CERTIFICATES_MAX {
                    return Err(EvidenceError::Pem);
                }
                let der = STANDARD.decode(block.take().unwrap_or_default());
                certificates.push(der.map_err(|_| EvidenceError::Pem)?);
            }
            (Some(body), line) if !line.is_empty() => body.extend_from_slice(line),
            _ => return Err(EvidenceError::Pem),
        }
    }
    match block {
        None => Ok(certificates),
        Some(_) => Err(EvidenceError::Pem),
    }
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";
