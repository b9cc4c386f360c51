//! Sections of a program of EFI (Microsoft, "PE Format"): a kernel, or a unified kernel image with its parts.

use super::bytes::{Part, ReadError, number};
use super::item::{Item, ItemKind, Listing};

/// Sections by the places of their bytes in the file.
pub fn list(file: &Part<'_>) -> Result<Listing, ReadError> {
    let head: [u8; 64] = file.array(0, "the header of the program")?;
    let pe = number::<4>(&head, 60);
    let coff: [u8; 24] = file.array(pe, "the header of the program")?;
    if &coff[..4] != b"PE\0\0" {
        return Err(broken("it has no PE header"));
    }
    let (count, optional) = (number::<2>(&coff, 6), number::<2>(&coff, 20));
    if count > SECTIONS_MAX {
        let (format, what, max) = (FORMAT, "sections", SECTIONS_MAX);
        return Err(ReadError::TooMany { format, what, max });
    }
    let table = pe + 24 + optional;
    let mut listing = Listing::default();
    for index in 0..count {
        let at = table + 40 * index;
        let header: [u8; 40] = file.array(at, "the list of sections")?;
        let name: Vec<u8> = header[..8]
            .iter()
            .copied()
            .take_while(|b| *b != 0)
            .collect();
        if !name.iter().all(u8::is_ascii_graphic) {
            return Err(broken("the name of a section is not plain"));
        }
        let [used, filled, start] = [8, 16, 20].map(|at| number::<4>(&header, at));
        // What fills up the last block of the file is not the section's; some writers do not say how much that is.
        let length = if used == 0 { filled } else { used.min(filled) };
        file.part(start, length, "a section")?;
        listing.items.push(Item {
            path: String::from_utf8_lossy(&name).into_owned(),
            kind: ItemKind::Section,
            mode: 0,
            owner: (0, 0),
            bytes: length,
            header: at..at + 40,
            extents: Vec::from_iter((length > 0).then_some(start..start + length)),
        });
    }
    listing.areas.push((0..table, "the headers of the program"));
    Ok(listing)
}

fn broken(problem: &'static str) -> ReadError {
    let format = FORMAT;
    ReadError::Broken { format, problem }
}

const FORMAT: &str = "the program";
/// A unified kernel image has some fifteen.
const SECTIONS_MAX: u64 = 96;
