//! The ACPI tables that the host hands to the firmware, and in which order the firmware measures them.
//!
//! QEMU offers files over fw_cfg. `etc/table-loader` is a script of 128-byte commands (QEMU's
//! `hw/acpi/bios-linker-loader.c`); edk2's `QemuFwCfgAcpi.c` measures the script, then each file as the script's
//! ALLOCATE commands download it, before any pointer is patched. So the order is the script's, and so is the choice of
//! files: with a TPM, QEMU adds one more, `etc/tpm/log`.

use std::collections::BTreeMap;

use crate::bytes::u32_at;
use crate::limits;

/// The files, by their fw_cfg names.
pub type AcpiFiles = BTreeMap<String, Vec<u8>>;

/// The name of the script.
pub const TABLE_LOADER: &str = "etc/table-loader";

/// Why files are not a set of ACPI tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum AcpiError {
    #[error("the ACPI file {name:?} is missing")]
    Missing { name: String },
    #[error(
        "the table loader does not name the ACPI file {name:?}; collect all files from one machine"
    )]
    Unnamed { name: String },
    #[error("the ACPI file {name:?} has {got} bytes, more than the {max} allowed")]
    TooLong {
        name: String,
        got: usize,
        max: usize,
    },
    #[error("command {index} of the table loader is wrong: {what}")]
    Loader { index: usize, what: &'static str },
}

/// The names of the files that the script downloads, in its order.
pub fn allocated_by(loader: &[u8]) -> Result<Vec<String>, AcpiError> {
    bounded(TABLE_LOADER, loader, limits::TABLE_LOADER_BYTES_MAX)?;
    let mut names: Vec<String> = Vec::new();
    for (index, command) in loader.chunks(COMMAND_BYTES).enumerate() {
        let wrong = |what| AcpiError::Loader { index, what };
        if command.len() < COMMAND_BYTES {
            return Err(wrong("it is cut off"));
        }
        match u32_at(command, 0) {
            // QEMU fills its last page with zeros; pointers and checksums are patched after measuring.
            Some(0 | ADD_POINTER | ADD_CHECKSUM | WRITE_POINTER) => {}
            Some(ALLOCATE) => {
                let name = file_name(&command[4..4 + NAME_BYTES]).map_err(wrong)?;
                if names.contains(&name) {
                    return Err(wrong("it allocates a file a second time"));
                }
                names.push(name);
            }
            _ => return Err(wrong("it is none that this program knows")),
        }
    }
    Ok(names)
}

/// What is measured, by name, in order: the script, then the files it allocates.
pub(crate) fn in_order(files: &AcpiFiles) -> Result<Vec<(&str, &[u8])>, AcpiError> {
    let file = |name: &str| {
        let missing = || AcpiError::Missing { name: name.into() };
        files.get_key_value(name).ok_or_else(missing)
    };
    let (loader_name, loader) = file(TABLE_LOADER)?;
    let mut ordered = vec![(loader_name.as_str(), loader.as_slice())];
    for name in allocated_by(loader)? {
        let (name, bytes) = file(&name)?;
        bounded(name, bytes, limits::ACPI_BLOB_BYTES_MAX)?;
        ordered.push((name, bytes));
    }
    let unnamed = |name: &&String| !ordered.iter().any(|(known, _)| known == name);
    match files.keys().find(unnamed) {
        Some(name) => Err(AcpiError::Unnamed { name: name.clone() }),
        None => Ok(ordered),
    }
}

fn bounded(name: &str, bytes: &[u8], max: usize) -> Result<(), AcpiError> {
    if bytes.len() > max {
        return Err(AcpiError::TooLong {
            name: name.into(),
            got: bytes.len(),
            max,
        });
    }
    Ok(())
}

/// A name of printable ASCII that ends with a zero; what follows the zero must be zeros too.
fn file_name(field: &[u8]) -> Result<String, &'static str> {
    let end = field.iter().position(|b| *b == 0);
    let (name, rest) = field.split_at(end.ok_or("its file name does not end")?);
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) || rest.iter().any(|b| *b != 0) {
        return Err("its file name is not plain text");
    }
    Ok(name.iter().map(|b| char::from(*b)).collect())
}

const COMMAND_BYTES: usize = 128;
const NAME_BYTES: usize = 56;
const ALLOCATE: u32 = 1;
const ADD_POINTER: u32 = 2;
const ADD_CHECKSUM: u32 = 3;
const WRITE_POINTER: u32 = 4;
