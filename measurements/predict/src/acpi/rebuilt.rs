//! The other two files of a machine, out of its tables alone: for reading what somebody else collected.
//!
//! A blob of tables says where each begins and which point to others, and QEMU's script follows from that. What is rebuilt
//! is QEMU's script for these bytes; nothing here says that a QEMU made them.

use super::loader::{Blobs, TABLES, Zone};
use super::tables;
use crate::acpi::files::AcpiFiles;
use crate::limits;

/// Why bytes are not QEMU's tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum TablesError {
    #[error("the ACPI tables have {got} bytes, more than the {max} allowed")]
    TooLong { got: usize, max: usize },
    #[error("the ACPI tables are not QEMU's: at byte {at} {what}")]
    Malformed { at: usize, what: &'static str },
    #[error(
        "the ACPI table {signature:?} is one whose place in QEMU's script is not known; give all files of the machine"
    )]
    Unknown { signature: String },
}

/// All three files, out of `etc/acpi/tables`.
pub fn files_of_tables(bytes: &[u8]) -> Result<AcpiFiles, TablesError> {
    let max = limits::ACPI_BLOB_BYTES_MAX;
    if bytes.len() > max {
        let got = bytes.len();
        return Err(TablesError::TooLong { got, max });
    }
    let found = walk(bytes)?;
    let malformed = |at, what| TablesError::Malformed { at, what };
    let Some(root) = found.last().filter(|table| table.signature == *b"RSDT") else {
        return Err(malformed(bytes.len(), "there is no RSDT at the end"));
    };
    let mut blobs = Blobs::of(bytes.to_vec());
    blobs.allocate(TABLES, 64, Zone::High);
    for table in &found {
        let fields = table.pointers()?;
        for (offset, width) in &fields {
            let at = table.start + offset;
            let target = bytes[at..at + width]
                .iter()
                .rev()
                .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
            if !found.iter().any(|known| known.start as u64 == target) {
                return Err(malformed(at, "a pointer leads to no table"));
            }
        }
        // FACS has neither checksum nor pointers.
        if table.signature != *b"FACS" {
            if bytes[table.start + 9] != 0 {
                return Err(malformed(
                    table.start,
                    "a checksum is filled in, which firmware does later",
                ));
            }
            blobs.patched_at(table.start, table.length, &fields);
        }
    }
    let files = blobs.finish(root.start);
    Ok(files.map(|(name, bytes)| (name.to_owned(), bytes)).into())
}

struct Table {
    signature: [u8; 4],
    start: usize,
    length: usize,
}

/// One table after another, then zeros.
fn walk(bytes: &[u8]) -> Result<Vec<Table>, TablesError> {
    let malformed = |at, what| TablesError::Malformed { at, what };
    let mut found = Vec::new();
    let mut start = 0;
    while let Some(rest) = bytes.get(start..).filter(|rest| !rest.is_empty()) {
        if rest.iter().all(|byte| *byte == 0) {
            break;
        }
        let (Some(signature), Some(length)) = (rest.first_chunk::<4>(), rest.get(4..8)) else {
            return Err(malformed(start, "a table is cut off"));
        };
        let length = length
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | usize::from(*byte));
        if length < HEADER_BYTES || length > rest.len() {
            return Err(malformed(start, "a table has no length that it can have"));
        }
        if found.len() == TABLES_MAX {
            return Err(malformed(start, "there are too many tables"));
        }
        found.push(Table {
            signature: *signature,
            start,
            length,
        });
        start += length;
    }
    Ok(found)
}

impl Table {
    /// Offsets and widths of what points to other tables.
    fn pointers(&self) -> Result<Vec<(usize, usize)>, TablesError> {
        match &self.signature {
            b"FACP" => {
                let fields = vec![tables::FADT_FACS, tables::FADT_DSDT, tables::FADT_DSDT_LONG];
                let end = tables::FADT_DSDT_LONG.0 + tables::FADT_DSDT_LONG.1;
                match self.length >= end {
                    true => Ok(fields),
                    false => Err(TablesError::Malformed {
                        at: self.start,
                        what: "a FADT is of a version that QEMU does not make",
                    }),
                }
            }
            b"RSDT" => {
                let count = (self.length - HEADER_BYTES) / 4;
                Ok((0..count)
                    .map(|index| (HEADER_BYTES + 4 * index, 4))
                    .collect())
            }
            // Tables without pointers.
            b"FACS" | b"DSDT" | b"APIC" | b"HPET" | b"MCFG" | b"WAET" | b"SRAT" | b"SLIT" => {
                Ok(Vec::new())
            }
            other => Err(TablesError::Unknown {
                signature: other.escape_ascii().to_string(),
            }),
        }
    }
}

const HEADER_BYTES: usize = 36;
const TABLES_MAX: usize = 64;
