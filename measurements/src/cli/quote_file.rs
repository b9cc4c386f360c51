//! The file behind every `--quote`: binary, or text in hexadecimal or base64.

use std::path::Path;

use anyhow::{Context, bail};
use attest::{Quote, limits::QUOTE_BYTES_MAX};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::read_bounded;

/// The bytes of a quote. A file that is recognisably something else is refused by name.
pub(crate) fn read_quote(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = binary(read_bounded(path, TEXT_BYTES_MAX)?);
    if bytes.len() > QUOTE_BYTES_MAX {
        let path = path.display();
        bail!("{path} is longer than the {QUOTE_BYTES_MAX} bytes allowed");
    }
    match something_else(&bytes) {
        Some(what) => bail!("{} is not a TDX quote: it is {what}", path.display()),
        None => Ok(bytes),
    }
}

/// The quote in a file.
pub(crate) fn parse_quote(path: &Path) -> anyhow::Result<Quote> {
    Quote::parse(&read_quote(path)?)
        .with_context(|| format!("{} is not a TDX quote", path.display()))
}

/// Binary as the kernel and Intel's library write it, or what its text stands for: hexadecimal, with `0x` or without, or
/// base64, with line breaks anywhere. No quote is text: its first byte is a version.
fn binary(bytes: Vec<u8>) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return bytes;
    };
    let text: String = text.split_ascii_whitespace().collect();
    let digits = text.strip_prefix("0x").unwrap_or(&text);
    let decoded = hex::decode(digits)
        .ok()
        .or_else(|| STANDARD.decode(&text).ok());
    match decoded {
        Some(decoded) if !decoded.is_empty() => decoded,
        _ => bytes,
    }
}

fn something_else(bytes: &[u8]) -> Option<String> {
    let length = |at| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let what = match bytes {
        [] => "empty",
        // ACPI 6.5, section 5.2.6: a signature of four letters or digits, and the table's length.
        [b'A'..=b'Z', b'A'..=b'Z' | b'0'..=b'9', ..]
            if length(4).is_some_and(|n| n >= 36 && n as usize == bytes.len()) =>
        {
            let name = String::from_utf8_lossy(&bytes[..4]);
            return Some(format!("the ACPI table {name}"));
        }
        [b'{' | b'[', ..] if serde_json::from_slice::<serde_json::Value>(bytes).is_ok() => "JSON",
        [0x1f, 0x8b, ..] => "compressed by gzip",
        [0x7f, b'E', b'L', b'F', ..] => "an ELF program",
        // TDX Module ABI, REPORTMACSTRUCT: the type of a TD's report.
        [0x81, 0, ..] if bytes.len() == 1024 => {
            "a TDREPORT, of which the quoting enclave has yet to make a quote"
        }
        _ if bytes.starts_with(b"-----BEGIN ") => "PEM, a certificate or key",
        // RFC 8949: a map, which no version of a quote begins like.
        [0xa4..=0xb7, ..] => "CBOR, perhaps a bundle (see `measurements bundle verify`)",
        _ => return None,
    };
    Some(what.into())
}

/// Hexadecimal takes two characters a byte, and there may be line breaks.
const TEXT_BYTES_MAX: usize = 3 * QUOTE_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_read_from_bytes_and_from_text() {
        let quote = vec![4, 0, 2, 0, 0x81, 0, 0, 0, 0xff];
        let hex = hex::encode(&quote);
        for file in [
            quote.clone(),
            hex.clone().into_bytes(),
            format!("0x{hex}\n").into_bytes(),
            format!("{}\n{}\n", &hex[..5], &hex[5..]).into_bytes(),
            STANDARD.encode(&quote).into_bytes(),
            format!("{}\n", STANDARD.encode(&quote)).into_bytes(),
        ] {
            assert_eq!(binary(file.clone()), quote, "{file:?}");
        }
        assert_eq!(binary(b"not a quote".to_vec()), b"not a quote");
    }

    #[test]
    fn what_is_something_else_is_named() {
        let mut ccel = vec![0; 56];
        ccel[..8].copy_from_slice(b"CCEL\x38\0\0\0");
        let mut report = vec![0; 1024];
        report[0] = 0x81;
        for (file, expected) in [
            (&b""[..], "empty"),
            (b"{\"tdx\": 1}", "JSON"),
            (b"\x1f\x8b\x08\0", "compressed by gzip"),
            (b"-----BEGIN CERTIFICATE-----\n", "PEM"),
            (b"\xa5\0\x01", "CBOR"),
            (&ccel, "the ACPI table CCEL"),
            (&report, "a TDREPORT"),
        ] {
            let named = something_else(file).expect("named");
            assert!(named.starts_with(expected), "{named}");
        }
        for unknown in [&b"\x04\0\x02\0\x81\0\0\0"[..], b"CCEL", b"hello"] {
            assert_eq!(something_else(unknown), None, "{unknown:?}");
        }
    }
}
