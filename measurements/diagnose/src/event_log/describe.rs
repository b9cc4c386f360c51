//! Words about an event, for people. All of a log's bytes are hostile: what is printed is printable ASCII, and bounded.

use super::{
    Claim, Event, EventType,
    bytes::{Reader, guid},
    device_path,
};
use crate::limits;

impl Event {
    /// What the log says about the event, after what that is worth. Printable ASCII of at most
    /// [`limits::EVENT_DESCRIPTION_CHARACTERS_MAX`] characters.
    pub fn describe(&self) -> String {
        let text = self.text();
        bounded(&match self.claim() {
            Claim::Data => text,
            Claim::Value => match self.kind {
                Some(EventType::VARIABLE_BOOT) => format!("contents of {text}"),
                _ => format!("after its first word, {text}"),
            },
            Claim::Label => format!("labelled: {text}"),
            Claim::Differs => format!("NOT what was measured: {text}"),
            Claim::Absent => "the log does not say".into(),
        })
    }

    /// What the data says.
    fn text(&self) -> String {
        let name = self.name.as_deref().map(quoted);
        let Some(data) = self.data.as_deref() else {
            return name.unwrap_or_default();
        };
        let decoded = self.kind.and_then(|kind| decoded(kind, data));
        let text = match decoded {
            Some(text) => text,
            None => plain(data),
        };
        // Only dstack's digests cover the name.
        match name {
            Some(name) if self.kind == Some(EventType::DSTACK_RUNTIME) => format!("{name}: {text}"),
            Some(name) => format!("{text}; labelled {name}"),
            None => text,
        }
    }
}

/// By type (TCG PC Client Platform Firmware Profile, sections 10.2.3 to 10.2.8 and 10.4.1). None where the data is not what
/// the type should have.
fn decoded(kind: EventType, data: &[u8]) -> Option<String> {
    match kind {
        EventType::SEPARATOR => separator(data),
        EventType::VARIABLE_DRIVER_CONFIG
        | EventType::VARIABLE_BOOT
        | EventType::VARIABLE_BOOT2
        | EventType::VARIABLE_AUTHORITY => variable(data),
        EventType::BOOT_SERVICES_APPLICATION
        | EventType::BOOT_SERVICES_DRIVER
        | EventType::RUNTIME_SERVICES_DRIVER => image_load(data),
        EventType::GPT | EventType::GPT2 => partition_table(data),
        EventType::FIRMWARE_BLOB => blob(Reader::new(data)),
        EventType::FIRMWARE_BLOB2 => described(data, blob),
        EventType::HANDOFF_TABLES => tables(Reader::new(data)),
        EventType::HANDOFF_TABLES2 => described(data, tables),
        EventType::TAG => tag(data),
        _ => None,
    }
}

fn separator(data: &[u8]) -> Option<String> {
    match data {
        [0, 0, 0, 0] | [0xff, 0xff, 0xff, 0xff] => Some("end of a phase".into()),
        _ => Some(format!("an error: {}", plain(data))),
    }
}

/// UEFI_VARIABLE_DATA.
fn variable(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new(data);
    let vendor = guid(reader.array()?);
    let (characters, bytes) = (reader.u64()?, reader.u64()?);
    let name = utf16(reader.take_u64(characters.checked_mul(2)?)?)?;
    let contents = reader.take_u64(bytes)?;
    reader.end()?;
    let vendor = match vendor.as_str() {
        "8be4df61-93ca-11d2-aa0d-00e098032b8c" => "EFI",
        "d719b2cb-3d3a-4596-a3bc-dad00e67656f" => "EFI image security",
        "605dab50-e046-4300-abb6-3dd810dd8b23" => "shim",
        other => other,
    };
    let is_option = name.len() == 8
        && name.starts_with("Boot")
        && name.chars().skip(4).all(|c| c.is_ascii_hexdigit());
    let option = || load_option(contents).filter(|_| is_option);
    let what = option().unwrap_or_else(|| match contents {
        [] => "empty or absent".into(),
        short if short.len() <= 32 => plain(short),
        long => format!("{} bytes", long.len()),
    });
    Some(format!("variable {} of {vendor}: {what}", quoted(&name)))
}

/// EFI_LOAD_OPTION (UEFI 2.10, section 3.1.3).
fn load_option(contents: &[u8]) -> Option<String> {
    let mut reader = Reader::new(contents);
    let (_attributes, path_bytes) = (reader.u32()?, reader.u16()?);
    let characters = reader.rest.chunks_exact(2).position(|c| c == [0, 0])?;
    let name = utf16(reader.take(characters.checked_mul(2)?)?)?;
    reader.take(2)?;
    let path = device_path::text(reader.take(path_bytes.into())?)?;
    Some(format!("{} {path}", quoted(&name)))
}

/// UEFI_IMAGE_LOAD_EVENT.
fn image_load(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new(data);
    let (_address, bytes, _link) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let path_bytes = reader.u64()?;
    let path = device_path::text(reader.take_u64(path_bytes)?)?;
    reader.end()?;
    Some(format!("a program of {bytes} bytes from {path}"))
}

/// UEFI_GPT_DATA: the header (UEFI 2.10, section 5.3.2), the number of entries, the entries of 128 bytes.
fn partition_table(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new(data);
    let mut header = Reader::new(reader.take(92)?);
    if header.take(8)? != b"EFI PART" {
        return None;
    }
    header.take(48)?;
    let disk = guid(header.array()?);
    let count = reader.u64()?;
    let entries = reader.take_u64(count.checked_mul(128)?)?;
    reader.end()?;
    let names: Option<Vec<String>> = entries
        .chunks_exact(128)
        .take(limits::EVENT_PATH_NODES_MAX)
        .map(|entry| {
            let name = utf16(entry.get(56..)?)?;
            Some(quoted(name.trim_end_matches('\0')))
        })
        .collect();
    Some(format!(
        "disk {disk}, {count} partitions: {}",
        names?.join(" ")
    ))
}

/// UEFI_PLATFORM_FIRMWARE_BLOB.
fn blob(mut reader: Reader) -> Option<String> {
    let (base, length) = (reader.u64()?, reader.u64()?);
    reader.end()?;
    Some(format!("{length} bytes of firmware at {base:#x}"))
}

/// UEFI_HANDOFF_TABLE_POINTERS.
fn tables(mut reader: Reader) -> Option<String> {
    let count = reader.u64()?;
    let all = reader.take_u64(count.checked_mul(24)?)?;
    reader.end()?;
    let names: Vec<String> = all
        .chunks_exact(24)
        .take(limits::EVENT_PATH_NODES_MAX)
        .filter_map(|table| table.first_chunk().copied().map(guid))
        .collect();
    Some(format!("{count} tables: {}", names.join(" ")))
}

/// The second forms of both begin with a description: its length in one byte, then text.
fn described(data: &[u8], rest: fn(Reader) -> Option<String>) -> Option<String> {
    let mut reader = Reader::new(data);
    let length = reader.u8()?;
    let text = String::from_utf8_lossy(reader.take(length.into())?);
    Some(format!(
        "{}, {}",
        quoted(text.trim_end_matches('\0')),
        rest(reader)?
    ))
}

/// TCG_PCClientTaggedEvent.
fn tag(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new(data);
    let (number, length) = (reader.u32()?, reader.u32()?);
    let text = reader.take_u64(length.into())?;
    reader.end()?;
    Some(format!("tag {number:#010x} {}", plain(text)))
}

/// Bytes of no known structure: text if they are text, ASCII or UTF-16, with or without a final zero; else hexadecimal.
fn plain(data: &[u8]) -> String {
    let is_text = |text: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c == '\n' || c == '\t' || (' '..='~').contains(&c))
    };
    let ascii = std::str::from_utf8(data).ok().map(str::to_owned);
    let found = [ascii, utf16(data)]
        .into_iter()
        .flatten()
        .map(|text| text.trim_end_matches('\0').to_owned())
        .find(|text| is_text(text));
    match (found, data) {
        (Some(text), _) => quoted(&text),
        (None, []) => "nothing".into(),
        (None, bytes) => {
            let shown = hex::encode(bytes.get(..48).unwrap_or(bytes));
            let dots = if bytes.len() > 48 { "..." } else { "" };
            format!("{} bytes {shown}{dots}", bytes.len())
        }
    }
}

/// Little-endian UTF-16 that is nothing else.
pub(super) fn utf16(bytes: &[u8]) -> Option<String> {
    let (pairs, []) = bytes.as_chunks::<2>() else {
        return None;
    };
    let units = pairs.iter().map(|pair| u16::from_le_bytes(*pair));
    char::decode_utf16(units).collect::<Result<_, _>>().ok()
}

/// In quotes, with everything escaped that is not printable ASCII, or that would end the quotes.
pub(super) fn quoted(text: &str) -> String {
    let shown = text.chars().take(limits::EVENT_DESCRIPTION_CHARACTERS_MAX);
    format!(
        "\"{}\"",
        shown.flat_map(char::escape_default).collect::<String>()
    )
}

/// The last gate before a terminal: whatever was built above, it lets through only printable ASCII, and not much.
fn bounded(text: &str) -> String {
    let max = limits::EVENT_DESCRIPTION_CHARACTERS_MAX;
    let printable = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
    let shown = text.chars().map(printable);
    if text.chars().count() <= max {
        return shown.collect();
    }
    shown.take(max - 3).chain("...".chars()).collect()
}
