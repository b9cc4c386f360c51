//! SMBIOS as firmware measures it: without what differs from one piece of hardware to the next.
//!
//! QEMU hands the structures over as `etc/smbios/smbios-tables`. OvmfPkg's `SmbiosPlatformDxe` installs them one by one up to
//! the end marker, and adds a structure of type 0 if there is none; MdeModulePkg's `SmbiosDxe` puts an end marker of its own
//! behind them; `SmbiosMeasurementDxe` blanks serial numbers and the like, and measures the rest.
//!
//! A structure is u8 type, u8 bytes of its fields with these four, u16 handle, fields, then strings that end with zeros, and
//! one more zero (two if there is no string). SMBIOS 3.7, section 6.1.

use crate::build::BiosInformation;
use crate::bytes::u16_at;
use crate::limits;

/// Why SMBIOS structures cannot be measured as firmware does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum SmbiosError {
    #[error("this firmware measures the machine's SMBIOS structures, and none were given")]
    Missing,
    #[error(
        "the SMBIOS structures have {got} bytes, more than the {} allowed",
        limits::SMBIOS_BYTES_MAX
    )]
    TooLong { got: usize },
    #[error("the SMBIOS structure at byte {at} is broken: {what}")]
    Malformed { at: usize, what: &'static str },
    #[error("the SMBIOS structures have {what}, and what firmware makes of it is not predicted")]
    Unpredicted { what: &'static str },
    #[error("a firmware's vendor, version or date is empty, not ASCII, or longer than 64 bytes")]
    Words,
}

/// The bytes that the firmware measures.
pub(crate) fn measured(tables: &[u8], bios: &BiosInformation<'_>) -> Result<Vec<u8>, SmbiosError> {
    if tables.len() > limits::SMBIOS_BYTES_MAX {
        return Err(SmbiosError::TooLong { got: tables.len() });
    }
    let mut measured = Vec::with_capacity(tables.len() + 128);
    let mut at = 0;
    loop {
        let structure = Structure::at(tables, at)?;
        match structure.kind() {
            BIOS_INFORMATION => {
                let what = "firmware information of QEMU's own (-smbios type=0)";
                return Err(SmbiosError::Unpredicted { what });
            }
            END => break,
            // Its strings would be blanked with its fields; QEMU makes none of these without -smbios options.
            0x80.. => {
                let what = "structures of a vendor's own";
                return Err(SmbiosError::Unpredicted { what });
            }
            _ => {}
        }
        at += structure.bytes.len();
        measured.extend(structure.filtered());
    }
    if at + END_OF_QEMU_BYTES != tables.len() {
        return Err(SmbiosError::Malformed {
            at,
            what: "it is the end marker, and not the last",
        });
    }
    measured.extend(bios_information(bios)?);
    measured.extend(END_OF_FIRMWARE);
    Ok(measured)
}

struct Structure<'a> {
    bytes: &'a [u8],
    fields: usize,
}

impl<'a> Structure<'a> {
    fn at(tables: &'a [u8], at: usize) -> Result<Structure<'a>, SmbiosError> {
        let malformed = |what| SmbiosError::Malformed { at, what };
        let rest = tables.get(at..).unwrap_or_default();
        let fields = rest.get(1).copied().map(usize::from).unwrap_or_default();
        if fields < HEADER_BYTES || u16_at(rest, 2).is_none() {
            return Err(malformed("it has no header"));
        }
        let strings = rest.get(fields..).ok_or(malformed("it is cut off"))?;
        let end = strings
            .windows(2)
            .position(|pair| pair == [0, 0])
            .ok_or(malformed("its strings do not end"))?;
        Ok(Structure {
            bytes: &rest[..fields + end + 2],
            fields,
        })
    }

    fn kind(&self) -> u8 {
        self.bytes[0]
    }

    /// What is left for measuring.
    fn filtered(&self) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        if BLANKED_WHOLE.contains(&self.kind()) {
            bytes[HEADER_BYTES..].fill(0);
            return bytes;
        }
        let blanked = BLANKED.iter().filter(|(kind, _)| *kind == self.kind());
        for (_, field) in blanked {
            match *field {
                Field::Bytes(start, length) if start + length <= self.fields => {
                    bytes[start..start + length].fill(0);
                }
                Field::Text(start) if start < self.fields => {
                    if let Some(text) = self.text(bytes[start]) {
                        bytes[text].fill(b' ');
                    }
                    bytes[start] = 0;
                }
                // An older form of the structure, without this field.
                Field::Bytes(..) | Field::Text(_) => {}
            }
        }
        bytes
    }

    /// Where the string of this number lies, counted from one. edk2 takes the last string for any number beyond it.
    fn text(&self, number: u8) -> Option<std::ops::Range<usize>> {
        let mut start = self.fields;
        let mut last = None;
        for _ in 0..number {
            let bytes = self.bytes[start..].iter().position(|byte| *byte == 0)?;
            if bytes == 0 {
                break;
            }
            last = Some(start..start + bytes);
            start += bytes + 1;
        }
        last
    }
}

/// The structure that OvmfPkg's `SmbiosPlatformDxe` adds: three strings, a segment, a size, and what the firmware can do.
fn bios_information(bios: &BiosInformation<'_>) -> Result<Vec<u8>, SmbiosError> {
    let words = [bios.vendor, bios.version, bios.date];
    let good = |word: &&str| {
        (1..=SMBIOS_STRING_BYTES_MAX).contains(&word.len())
            && word.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    };
    if !words.iter().all(good) {
        return Err(SmbiosError::Words);
    }
    let mut bytes = vec![BIOS_INFORMATION, 26, 0, 0];
    bytes.extend([1, 2]); // vendor, version
    bytes.extend(0xe800u16.to_le_bytes());
    bytes.extend([3, 0]); // date; size in units of 64 KiB, less one
    bytes.extend(8u64.to_le_bytes()); // characteristics are not said
    bytes.extend([0, 0x1c]); // of ACPI nothing; UEFI, a virtual machine, targeted content distribution
    bytes.extend([0, 0, 0xff, 0xff]); // version of BIOS 0.0, of an embedded controller none
    bytes.extend([0, 0]); // size once more
    for word in words {
        bytes.extend(word.bytes().chain([0]));
    }
    bytes.push(0);
    Ok(bytes)
}

enum Field {
    /// From this byte, so many.
    Bytes(usize, usize),
    /// The number of a string; the string becomes spaces.
    Text(usize),
}

/// Types whose fields and strings are blanked as a whole: OEM strings, system event log, 32-bit memory errors, boot
/// integrity services, 64-bit memory errors.
const BLANKED_WHOLE: [u8; 5] = [0x0b, 0x0f, 0x12, 0x1f, 0x21];
/// Fields that are blanked, by type, in the order in which edk2 goes through them.
const BLANKED: [(u8, Field); 21] = [
    (1, Field::Text(0x07)),      // system: serial number
    (1, Field::Bytes(0x08, 16)), // UUID
    (1, Field::Bytes(0x18, 1)),  // what woke it
    (2, Field::Text(0x07)),      // board: serial number
    (2, Field::Text(0x0a)),      // place
    (3, Field::Text(0x07)),      // chassis: serial number
    (3, Field::Text(0x08)),      // asset tag
    (4, Field::Text(0x20)),      // processor: serial number
    (4, Field::Text(0x21)),      // asset tag
    (4, Field::Text(0x22)),      // part number
    (4, Field::Bytes(0x23, 1)),  // cores
    (4, Field::Bytes(0x24, 1)),  // enabled cores
    (4, Field::Bytes(0x25, 1)),  // threads
    (4, Field::Bytes(0x2a, 2)),  // cores, in the longer form
    (4, Field::Bytes(0x2c, 2)),
    (4, Field::Bytes(0x2e, 2)),
    (4, Field::Bytes(0x11, 1)), // voltage
    (4, Field::Bytes(0x16, 2)), // speed
    (17, Field::Text(0x18)),    // memory: serial number
    (17, Field::Text(0x19)),    // asset tag
    (17, Field::Text(0x1a)),    // part number
];
const BIOS_INFORMATION: u8 = 0;
const END: u8 = 127;
const HEADER_BYTES: usize = 4;
/// The end marker as QEMU writes it has no strings either.
const END_OF_QEMU_BYTES: usize = 6;
/// Type 127, four bytes, the handle that MdeModulePkg's `SmbiosDxe` gives it, no strings.
const END_OF_FIRMWARE: [u8; 6] = [END, 4, 0xff, 0xfe, 0, 0];
const SMBIOS_STRING_BYTES_MAX: usize = 64;
