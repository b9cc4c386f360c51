//! Files that hold a quote, in the forms in which they are found, and words for files that hold something else.
//!
//! A quote is binary as the kernel and Intel's library write it, or text that stands for those bytes: hexadecimal or
//! base64 with whitespace anywhere, a data URL, or the JSON of a tool with the quote in one of its fields. Nothing is
//! verified here.

use std::borrow::Cow;
use std::fmt;

use base64::{
    Engine,
    alphabet::{Alphabet, STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::limits::{QUOTE_BYTES_MAX, QUOTE_FILE_BYTES_MAX};

/// Why a file holds no quote. The sentence goes on after the file's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum QuoteFileError {
    #[error("is longer than the {max} bytes allowed: it has {got}")]
    TooLong { got: usize, max: usize },
    #[error("is not a TDX quote: it is {0}; {WANTED}")]
    SomethingElse(FileKind),
    #[error("is JSON without a quote: none of its fields is {}; {WANTED}", JSON_FIELDS.join(" or "))]
    JsonField,
    #[error("is text with {got} hexadecimal digits, an odd number: it was cut; copy all of it")]
    OddHex { got: usize },
}

/// What a file is that was given in place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum FileKind {
    Empty,
    Quote,
    SgxQuote,
    /// A TDREPORT, which only the machine itself can check.
    Report,
    /// An ACPI table, by its signature.
    AcpiTable(String),
    EventLog,
    /// An answer of Intel's Provisioning Certification Service: one part of the collateral.
    TcbInfo,
    QeIdentity,
    Collateral,
    Manifest,
    Json,
    Gzip,
    Zip,
    Elf,
    Pem,
    Der,
    Cbor,
    Html,
    Utf16,
}

/// The bytes of the quote in a file. Whether they are a quote is for [`Quote::parse`](crate::Quote::parse) to say; a file that is
/// recognisably something else is refused by name.
pub fn quote_in_file(file: &[u8]) -> Result<Vec<u8>, QuoteFileError> {
    if file.len() > QUOTE_FILE_BYTES_MAX {
        let (got, max) = (file.len(), QUOTE_FILE_BYTES_MAX);
        return Err(QuoteFileError::TooLong { got, max });
    }
    let mut bytes = bytes_of_text(file);
    let kind = FileKind::of(&bytes);
    if kind == Some(FileKind::Json) {
        let object: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let field = JSON_FIELDS
            .iter()
            .find_map(|name| object.get(name)?.as_str());
        let text = field.ok_or(QuoteFileError::JsonField)?;
        bytes = Cow::Owned(bytes_of_text(text.as_bytes()).into_owned());
    }
    match FileKind::of(&bytes) {
        Some(FileKind::Quote | FileKind::SgxQuote) | None => {}
        Some(other) => return Err(QuoteFileError::SomethingElse(other)),
    }
    if let Some(got) = hexadecimal_digits(&bytes) {
        return Err(QuoteFileError::OddHex { got });
    }
    if bytes.len() > QUOTE_BYTES_MAX {
        let (got, max) = (bytes.len(), QUOTE_BYTES_MAX);
        return Err(QuoteFileError::TooLong { got, max });
    }
    Ok(bytes.into_owned())
}

/// What a text stands for, in hexadecimal (with `0x` or without) or base64 (either alphabet, padded or not, or as a data URL), in
/// quotation marks or without;
/// any other file as it is. No quote, log or table is such a text by itself: each has bytes in it that no text has.
pub fn bytes_of_text(file: &[u8]) -> Cow<'_, [u8]> {
    let Ok(text) = std::str::from_utf8(file) else {
        return Cow::Borrowed(file);
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text: String = text.split_ascii_whitespace().collect();
    let quoted = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let text = quoted.unwrap_or(&text);
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let digits = digits.unwrap_or(text);
    let base64 = match text.strip_prefix("data:") {
        Some(url) => url.split_once(";base64,").map_or("", |(_, data)| data),
        None => text,
    };
    let decoded = match digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        true => hex::decode(digits).ok(),
        false => [STANDARD, URL_SAFE]
            .into_iter()
            .find_map(|alphabet| engine(&alphabet).decode(base64).ok()),
    };
    match decoded {
        // A word can be read as base64, too.
        Some(decoded) if decoded.len() >= 8 => Cow::Owned(decoded),
        _ => Cow::Borrowed(file),
    }
}

fn engine(alphabet: &Alphabet) -> GeneralPurpose {
    let padding = DecodePaddingMode::Indifferent;
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(padding);
    GeneralPurpose::new(alphabet, config)
}

/// How many digits a hexadecimal text has that stands for no bytes.
fn hexadecimal_digits(bytes: &[u8]) -> Option<usize> {
    let mut text = bytes.iter().filter(|byte| !byte.is_ascii_whitespace());
    let got = text.clone().count();
    (got >= 16 && text.all(u8::is_ascii_hexdigit)).then_some(got)
}

impl FileKind {
    /// What these bytes are, if it can be told. Nothing is read to its end.
    pub fn of(bytes: &[u8]) -> Option<FileKind> {
        let length = |at| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(match bytes {
            [] => FileKind::Empty,
            [4 | 5, 0, _, _, 0x81, 0, 0, 0, ..] => FileKind::Quote,
            [3, 0, _, _, 0, 0, 0, 0, ..] | [4 | 5, 0, _, _, 0, 0, 0, 0, ..] => FileKind::SgxQuote,
            // TDX Module ABI, REPORTMACSTRUCT: the type of a TD's report.
            [0x81, 0, ..] if bytes.len() == 1024 => FileKind::Report,
            // ACPI 6.5, section 5.2.6: a signature of four letters or digits, and the table's length.
            [b'A'..=b'Z', b'A'..=b'Z' | b'0'..=b'9', ..]
                if length(4).is_some_and(|n| n >= 36 && n as usize == bytes.len()) =>
            {
                FileKind::AcpiTable(String::from_utf8_lossy(&bytes[..4]).into_owned())
            }
            // TCG PC Client Platform Firmware Profile, section 10.4.5.1: EV_NO_ACTION, a digest of zeros, this signature.
            _ if length(4) == Some(3) && bytes.get(32..47) == Some(b"Spec ID Event03") => {
                FileKind::EventLog
            }
            [0x1f, 0x8b, ..] => FileKind::Gzip,
            [b'P', b'K', 3, 4, ..] => FileKind::Zip,
            [0x7f, b'E', b'L', b'F', ..] => FileKind::Elf,
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => FileKind::Utf16,
            // A SEQUENCE with a length of two bytes, which is all of it: a certificate or a revocation list.
            [0x30, 0x82, high, low, ..]
                if usize::from(*high) << 8 | usize::from(*low) == bytes.len() - 4 =>
            {
                FileKind::Der
            }
            // RFC 8949: a map, which no version of a quote begins like.
            [0xa2..=0xb7, ..] => FileKind::Cbor,
            _ => return FileKind::of_text(bytes),
        })
    }

    fn of_text(bytes: &[u8]) -> Option<FileKind> {
        let text = bytes.trim_ascii_start();
        if text.starts_with(b"-----BEGIN ") {
            return Some(FileKind::Pem);
        }
        match text {
            [] => return Some(FileKind::Empty),
            [b'<', ..] => return Some(FileKind::Html),
            [b'{' | b'[', ..] => {}
            _ => return None,
        }
        let json: serde_json::Value = serde_json::from_slice(text).ok()?;
        let has = |name: &str| json.get(name).is_some();
        Some(match () {
            () if has("tcbInfo") => FileKind::TcbInfo,
            () if has("enclaveIdentity") => FileKind::QeIdentity,
            () if has("tcb_info") && has("qe_identity") => FileKind::Collateral,
            () if has("registers") && has("mode") => FileKind::Manifest,
            () => FileKind::Json,
        })
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileKind::Empty => "empty",
            FileKind::Quote => "a TDX quote",
            FileKind::SgxQuote => "an SGX quote, about an enclave",
            FileKind::Report => "a TDREPORT, of which the quoting enclave has yet to make a quote",
            FileKind::AcpiTable(name) if name == "CCEL" => {
                "the ACPI table CCEL, which only says where the event log is; the log is \
                 /sys/firmware/acpi/tables/data/CCEL"
            }
            FileKind::AcpiTable(name) => return write!(f, "the ACPI table {name}"),
            FileKind::EventLog => "an event log of firmware, which `--event-log` takes",
            FileKind::TcbInfo => "Intel's answer about TCB info, one part of the collateral",
            FileKind::QeIdentity => {
                "Intel's answer about the quoting enclave's identity, one part of the collateral"
            }
            FileKind::Collateral => "collateral, which `--collateral` takes",
            FileKind::Manifest => "a manifest, which `--manifest` takes",
            FileKind::Json => "JSON",
            FileKind::Gzip => "compressed by gzip",
            FileKind::Zip => "a ZIP archive",
            FileKind::Elf => "an ELF program",
            FileKind::Pem => "PEM, a certificate or key",
            FileKind::Der => "DER, a certificate or a revocation list",
            FileKind::Cbor => "CBOR, perhaps a bundle (see `measurements bundle verify`)",
            FileKind::Html => "HTML or XML",
            FileKind::Utf16 => "text in UTF-16; save it as UTF-8",
        })
    }
}

/// Where tools put the quote in their JSON: this project's, dstack and Azure's guests; Phala's; Google's and Intel's.
const JSON_FIELDS: [&str; 5] = ["quote", "intel_quote", "tdx_quote", "td_quote", "tdQuote"];
const WANTED: &str = "wanted is the quote that the guest's quoting service hands out, in binary, hexadecimal or base64";

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    fn quote() -> Vec<u8> {
        let mut quote = vec![4, 0, 2, 0, 0x81, 0, 0, 0];
        quote.extend((0..248).map(|at| 0xff ^ at as u8));
        quote.push(0xfb);
        quote
    }

    #[test]
    fn a_quote_is_read_in_every_form() {
        let quote = quote();
        let (hex, base64) = (hex::encode(&quote), STANDARD.encode(&quote));
        let lines = |text: &str| {
            let lines: Vec<_> = text.as_bytes().chunks(61).collect();
            lines.join(&b"\r\n"[..])
        };
        let json = |name: &str, text: &str| format!(r#"{{"event_log": "[]", "{name}": "{text}"}}"#);
        for file in [
            quote.clone(),
            hex.clone().into_bytes(),
            hex.to_uppercase().into_bytes(),
            format!("0x{hex}\n").into_bytes(),
            format!("\u{feff} 0X{hex}").into_bytes(),
            lines(&hex),
            base64.clone().into_bytes(),
            lines(&base64),
            base64.trim_end_matches('=').as_bytes().to_vec(),
            URL_SAFE_NO_PAD.encode(&quote).into_bytes(),
            format!("data:application/octet-stream;base64,{base64}\n").into_bytes(),
            format!("\"{hex}\"\n").into_bytes(),
            format!("\"{base64}\"").into_bytes(),
            json("quote", &hex).into_bytes(),
            json("quote", &URL_SAFE_NO_PAD.encode(&quote)).into_bytes(),
            json("intel_quote", &format!("0x{hex}")).into_bytes(),
        ] {
            assert_eq!(quote_in_file(&file).as_deref(), Ok(&quote[..]), "{file:?}");
        }
    }

    #[test]
    fn what_is_something_else_is_named_with_what_is_wanted() {
        let mut ccel = vec![0; 56];
        ccel[..8].copy_from_slice(b"CCEL\x38\0\0\0");
        let mut report = vec![0; 1024];
        report[0] = 0x81;
        let mut log = vec![0; 64];
        log[4] = 3;
        log[32..47].copy_from_slice(b"Spec ID Event03");
        for (file, expected) in [
            (&b""[..], "it is empty"),
            (b" \n", "it is empty"),
            (
                b"{\"tcbInfo\": {}, \"signature\": \"00\"}",
                "it is Intel's answer about TCB info",
            ),
            (
                b"{\"enclaveIdentity\": {}}",
                "it is Intel's answer about the quoting enclave",
            ),
            (
                b"{\"tcb_info\": \"\", \"qe_identity\": \"\"}",
                "it is collateral",
            ),
            (b"{\"tdx\": 1}", "none of its fields is quote"),
            (b"[]", "none of its fields is quote"),
            (b"{\"quote\": \"-----BEGIN CERTIFICATE-----\"}", "it is PEM"),
            (b"\x1f\x8b\x08\0", "it is compressed by gzip"),
            (b"-----BEGIN CERTIFICATE-----\n", "it is PEM"),
            (b"<html>", "it is HTML"),
            (b"\xff\xfe4\0", "it is text in UTF-16"),
            (b"\x30\x82\0\x01\0", "it is DER"),
            (b"\xa5\0\x01", "it is CBOR"),
            (&ccel, "it is the ACPI table CCEL"),
            (&log, "it is an event log"),
            (&report, "it is a TDREPORT"),
            (
                STANDARD.encode(&ccel).as_bytes(),
                "it is the ACPI table CCEL",
            ),
            (
                b"04000200810000000",
                "17 hexadecimal digits, an odd number: it was cut",
            ),
        ] {
            let refusal = quote_in_file(file).expect_err(expected).to_string();
            assert!(refusal.contains(expected), "{refusal}");
            assert!(
                refusal.contains("wanted is") || refusal.contains("copy all"),
                "{refusal}"
            );
        }
        // What nobody can name is left to the reader of quotes.
        for unknown in [&b"\x04\0\x02\0"[..], b"CCEL", b"hello, not a quote"] {
            assert_eq!(quote_in_file(unknown).as_deref(), Ok(unknown));
        }
    }

    #[test]
    fn lengths_are_bounded_before_and_after_decoding() {
        let (max, file_max) = (QUOTE_BYTES_MAX, QUOTE_FILE_BYTES_MAX);
        let long = |got, max| Err(QuoteFileError::TooLong { got, max });
        assert_eq!(
            quote_in_file(&vec![b'0'; file_max + 1]),
            long(file_max + 1, file_max)
        );
        let mut quote = quote();
        quote.resize(max + 1, 0);
        assert_eq!(quote_in_file(&quote), long(max + 1, max));
        assert_eq!(
            quote_in_file(hex::encode(&quote).as_bytes()),
            long(max + 1, max)
        );
    }

    #[test]
    fn no_flipped_byte_and_no_cut_makes_reading_panic() {
        let base = [
            quote(),
            hex::encode(quote()).into_bytes(),
            br#"{"quote": "0400"}"#.to_vec(),
        ];
        for file in base {
            for at in 0..file.len() {
                let mut flipped = file.clone();
                for bit in 0..8 {
                    flipped[at] = file[at] ^ (1 << bit);
                    let _ = quote_in_file(&flipped);
                }
                let _ = quote_in_file(&file[..at]);
            }
        }
    }
}
