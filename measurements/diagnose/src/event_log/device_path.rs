//! UEFI device paths as text (UEFI 2.10, section 10.6), where that is simple.

use super::{
    bytes::{Reader, guid},
    describe::{quoted, utf16},
};
use crate::limits;

/// The path as text. None if the nodes do not fill the bytes exactly; types that are not known here keep their numbers.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    let mut reader = Reader::new(bytes);
    let mut nodes = Vec::new();
    while !reader.rest.is_empty() {
        let (kind, subtype, length) = (reader.u8()?, reader.u8()?, reader.u16()?);
        let body = reader.take(usize::from(length).checked_sub(4)?)?;
        match (kind, subtype) {
            (0x7f, 0xff) => {
                reader.end()?;
                return Some(nodes.join("/"));
            }
            (0x7f, 0x01) => nodes.push(",".into()),
            _ => nodes.push(
                known(kind, subtype, body)
                    .unwrap_or_else(|| format!("Path({kind},{subtype},{} bytes)", body.len())),
            ),
        }
        if nodes.len() > limits::EVENT_PATH_NODES_MAX {
            return None;
        }
    }
    // Some firmware logs a path without the node that ends it.
    Some(nodes.join("/"))
}

/// Sections 10.3.2 to 10.3.5; the text is that of section 10.6.1.6 where that is short.
fn known(kind: u8, subtype: u8, body: &[u8]) -> Option<String> {
    let mut reader = Reader::new(body);
    let text = match (kind, subtype) {
        (1, 1) => {
            let (function, device) = (reader.u8()?, reader.u8()?);
            format!("Pci({device:#x},{function:#x})")
        }
        (1, 4) => format!("VenHw({})", vendor(&mut reader)?),
        (2, 1) => {
            let (hid, uid) = (reader.u32()?, reader.u32()?);
            match hid {
                0x0a03_41d0 => format!("PciRoot({uid:#x})"),
                0x0a08_41d0 => format!("PcieRoot({uid:#x})"),
                _ => format!("Acpi({hid:#010x},{uid:#x})"),
            }
        }
        (3, 2) => format!("Scsi({},{})", reader.u16()?, reader.u16()?),
        (3, 5) => format!("USB({},{})", reader.u8()?, reader.u8()?),
        (3, 10) => format!("VenMsg({})", vendor(&mut reader)?),
        (3, 18) => format!(
            "Sata({},{},{})",
            reader.u16()?,
            reader.u16()?,
            reader.u16()?
        ),
        (3, 23) => {
            let namespace = reader.u32()?;
            let identifier: [u8; 8] = reader.array()?;
            format!("NVMe({namespace:#x},{})", hex::encode(identifier))
        }
        (3, 24) => {
            let uri = reader.take(reader.rest.len())?;
            format!("Uri({})", quoted(&String::from_utf8_lossy(uri)))
        }
        (4, 1) => {
            let partition = reader.u32()?;
            reader.take(16)?;
            let signature = reader.array()?;
            match (reader.u8()?, reader.u8()?) {
                (2, 2) => format!("HD({partition},GPT,{})", guid(signature)),
                (format, _) => format!("HD({partition},{format},{})", hex::encode(signature)),
            }
        }
        (4, 3) => format!("VenMedia({})", vendor(&mut reader)?),
        (4, 4) => {
            let name = utf16(reader.take(reader.rest.len())?)?;
            quoted(name.trim_end_matches('\0'))
        }
        (4, 6) => format!("FvFile({})", guid(reader.array()?)),
        (4, 7) => format!("Fv({})", guid(reader.array()?)),
        _ => return None,
    };
    reader.end()?;
    Some(text)
}

fn vendor(reader: &mut Reader) -> Option<String> {
    let name = guid(reader.array()?);
    Some(match reader.take(reader.rest.len())? {
        [] => name,
        more => format!("{name},{} bytes", more.len()),
    })
}
