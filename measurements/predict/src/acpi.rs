//! The ACPI files of a machine, made here as QEMU makes them.
//!
//! QEMU gives its guest three files (four with a TPM) and OVMF measures them into RTMR0. They follow from the machine
//! alone, so they can be predicted: this is QEMU's `hw/i386/acpi-build.c` for q35 as a function, written from its
//! structure and compared, byte for byte, with what QEMU gave real guests (`measurements/predict/tests/it/acpi.rs`). A
//! [`Shape`] that no comparison covers is refused by name, never guessed.
//!
//! QEMU builds the tables when firmware first asks for them, after it has placed PCI devices. So they also follow from OVMF:
//! where it puts the configuration space, the power management registers and the 64-bit BARs.

mod aml;
mod command_line;
mod dsdt;
mod family;
pub mod files;
mod loader;
mod rebuilt;
mod resources;
mod shape;
mod shape_file;
mod size;
mod tables;
mod version;
mod windows;

use std::ops::Deref;

pub use command_line::{CommandLineError, words};
use loader::{Blobs, Pointer, Zone};
pub use rebuilt::{TablesError, files_of_tables};
pub use shape::{AcpiError, AddressWidth, Serial, Shape, Slot};
pub use shape_file::ShapeError;
pub use version::Qemu;

use files::AcpiFiles;

/// The ACPI files of a machine, by their fw_cfg names, that were made here: what a policy may rest on. Files from elsewhere
/// are code for the guest's kernel that somebody wrote; they stay [`AcpiFiles`] and give events to study, no registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables(AcpiFiles);

impl Tables {
    /// Files from elsewhere, for which the caller answers: who locked a QEMU and asked it, trusts it as if it had made them.
    pub fn insecure_from(files: AcpiFiles) -> Tables {
        Tables(files)
    }

    /// The files themselves.
    pub fn into_files(self) -> AcpiFiles {
        self.0
    }
}

impl Deref for Tables {
    type Target = AcpiFiles;
    fn deref(&self) -> &AcpiFiles {
        &self.0
    }
}

/// The files of a machine whose tables are proven.
pub fn acpi_files(shape: &Shape) -> Result<Tables, AcpiError> {
    shape.check()?;
    let mut blobs = Blobs::default();
    let mut files = AcpiFiles::new();
    blobs.allocate(loader::TABLES, 64, Zone::High);
    let facs = blobs.add(&tables::facs());
    let dsdt = blobs.table("DSDT", 1, &dsdt::dsdt(shape), &[]);
    let pointers = [
        to_table(tables::FADT_FACS, facs),
        to_table(tables::FADT_DSDT, dsdt),
        to_table(tables::FADT_DSDT_LONG, dsdt),
    ];
    let mut listed = vec![
        blobs.table("FACP", 3, &tables::fadt(shape), &pointers),
        blobs.table("APIC", 3, &tables::madt(shape), &[]),
    ];
    if shape.hpet {
        listed.push(blobs.table("HPET", 1, &tables::hpet(), &[]));
    }
    if shape.tpm {
        blobs.allocate(loader::TPM_LOG, 1, Zone::High);
        let log = Pointer {
            field: tables::TPM2_LOG,
            file: loader::TPM_LOG,
            target: 0,
        };
        listed.push(blobs.table("TPM2", 4, &tables::tpm2(), &[log]));
        files.insert(loader::TPM_LOG.into(), vec![0; tables::TPM_LOG_BYTES]);
    }
    listed.push(blobs.table("MCFG", 1, &tables::mcfg(), &[]));
    listed.push(blobs.table("WAET", 1, &tables::waet(), &[]));
    let rsdt = root_table(&mut blobs, &listed);
    let named = blobs
        .finish(rsdt)
        .map(|(name, bytes)| (name.to_owned(), bytes));
    files.extend(named);
    Ok(Tables(files))
}

/// RSDT: pointers to the tables.
fn root_table(blobs: &mut Blobs, listed: &[usize]) -> usize {
    let field = |index| (36 + 4 * index, 4);
    let pointers = listed.iter().enumerate();
    let pointers: Vec<Pointer> = pointers
        .map(|(index, table)| to_table(field(index), *table))
        .collect();
    blobs.table("RSDT", 1, &vec![0; 4 * listed.len()], &pointers)
}

fn to_table(field: (usize, usize), target: usize) -> Pointer {
    Pointer {
        field,
        file: loader::TABLES,
        target,
    }
}
