//! The files as firmware finds them: tables without checksums and with offsets for pointers, and the script that turns
//! them into tables. QEMU's `hw/acpi/bios-linker-loader.c`.

use crate::acpi::files::TABLE_LOADER;

/// The file of all tables but the first pointer.
pub const TABLES: &str = "etc/acpi/tables";
/// The file of the first pointer.
pub const RSDP: &str = "etc/acpi/rsdp";
/// The file of the TPM's event log.
pub const TPM_LOG: &str = "etc/tpm/log";
/// The name of the script.
pub const LOADER: &str = TABLE_LOADER;

/// A pointer inside a table.
pub struct Pointer {
    /// Where, from the table's start, and how wide.
    pub field: (usize, usize),
    /// Into which file.
    pub file: &'static str,
    /// The offset there.
    pub target: usize,
}

/// The tables so far, and their script.
#[derive(Default)]
pub struct Blobs {
    tables: Vec<u8>,
    allocations: Vec<[u8; COMMAND_BYTES]>,
    commands: Vec<[u8; COMMAND_BYTES]>,
}

impl Blobs {
    /// Tables that are there already, without a script.
    pub fn of(tables: Vec<u8>) -> Blobs {
        Blobs {
            tables,
            ..Blobs::default()
        }
    }

    /// Lets the script patch a table that is there: fields that point into the file of tables, and the checksum.
    pub fn patched_at(&mut self, start: usize, length: usize, fields: &[(usize, usize)]) {
        for (offset, width) in fields {
            let command = add_pointer(TABLES, start + offset, *width, TABLES);
            self.commands.push(command);
        }
        self.commands
            .push(add_checksum(TABLES, start + CHECKSUM_OFFSET, start, length));
    }

    /// Asks for a file. The script asks in the opposite order: QEMU puts each request before all others.
    pub fn allocate(&mut self, file: &str, alignment: u32, zone: Zone) {
        let mut command = command(1, &[(4, file)]);
        command[60..64].copy_from_slice(&alignment.to_le_bytes());
        command[64] = zone as u8;
        self.allocations.push(command);
    }

    /// Adds bytes that nothing patches, and says where they are.
    pub fn add(&mut self, bytes: &[u8]) -> usize {
        let start = self.tables.len();
        self.tables.extend(bytes);
        start
    }

    /// Adds a table with a header, and says where it is.
    pub fn table(
        &mut self,
        signature: &str,
        revision: u8,
        body: &[u8],
        pointers: &[Pointer],
    ) -> usize {
        let length = HEADER_BYTES + body.len();
        let header = [
            signature.as_bytes(),
            &(length as u32).to_le_bytes(),
            &[revision, 0], // the script adds the checksum
            b"BOCHS BXPC    \x01\0\0\0BXPC\x01\0\0\0",
        ];
        let start = self.add(&[&header.concat(), body].concat());
        for pointer in pointers {
            let (offset, width) = pointer.field;
            let at = start + offset;
            self.tables[at..at + width].copy_from_slice(&pointer.target.to_le_bytes()[..width]);
            self.commands
                .push(add_pointer(TABLES, at, width, pointer.file));
        }
        self.commands
            .push(add_checksum(TABLES, start + CHECKSUM_OFFSET, start, length));
        start
    }

    /// The pointer to the RSDT, which ends the script: ACPI 6.5, section 5.2.5, version 1.
    pub fn finish(mut self, rsdt: usize) -> [(&'static str, Vec<u8>); 3] {
        self.allocate(RSDP, 16, Zone::Low);
        let rsdp = [b"RSD PTR \0BOCHS \0", &(rsdt as u32).to_le_bytes()[..]].concat();
        self.commands.push(add_pointer(RSDP, 16, 4, TABLES));
        self.commands.push(add_checksum(RSDP, 8, 0, rsdp.len()));
        let script = self.allocations.iter().rev().chain(&self.commands);
        let mut script: Vec<u8> = script.flatten().copied().collect();
        pad(&mut script, SCRIPT_STEP_BYTES);
        pad(&mut self.tables, TABLES_STEP_BYTES);
        [(LOADER, script), (RSDP, rsdp), (TABLES, self.tables)]
    }
}

/// Where in memory a file must lie.
#[derive(Clone, Copy, Debug)]
pub enum Zone {
    /// Anywhere.
    High = 1,
    /// Where a BIOS would look for it.
    Low = 2,
}

fn add_pointer(file: &str, at: usize, width: usize, into: &str) -> [u8; COMMAND_BYTES] {
    let mut command = command(2, &[(4, file), (60, into)]);
    command[116..120].copy_from_slice(&(at as u32).to_le_bytes());
    command[120] = width as u8;
    command
}

fn add_checksum(file: &str, at: usize, start: usize, length: usize) -> [u8; COMMAND_BYTES] {
    let mut command = command(3, &[(4, file)]);
    for (index, number) in [at, start, length].into_iter().enumerate() {
        let offset = 60 + 4 * index;
        command[offset..offset + 4].copy_from_slice(&(number as u32).to_le_bytes());
    }
    command
}

fn command(kind: u32, names: &[(usize, &str)]) -> [u8; COMMAND_BYTES] {
    let mut command = [0; COMMAND_BYTES];
    command[..4].copy_from_slice(&kind.to_le_bytes());
    for (offset, name) in names {
        command[*offset..*offset + name.len()].copy_from_slice(name.as_bytes());
    }
    command
}

fn pad(bytes: &mut Vec<u8>, step: usize) {
    bytes.resize(bytes.len().next_multiple_of(step), 0);
}

const COMMAND_BYTES: usize = 128;
const HEADER_BYTES: usize = 36;
const CHECKSUM_OFFSET: usize = 9;
const SCRIPT_STEP_BYTES: usize = 4096;
const TABLES_STEP_BYTES: usize = 128 * 1024;
