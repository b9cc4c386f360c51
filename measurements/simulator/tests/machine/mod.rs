//! A machine that never ran: its files, and the log its TPM would have written.

use std::{fs, path::PathBuf};

use registers::Digest48;
use serde_json::{Value, json};

pub const CMDLINE: &str = "console=ttyS0 panic=-1";

pub struct Machine {
    directory: tempfile::TempDir,
    description: Value,
}

impl Machine {
    /// A machine whose kernel runs.
    pub fn booted() -> Machine {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let description = json!({
            "version": 1, "accelerator": "tcg", "memory_mib": 2048, "vcpus": 2,
            "firmware": path("firmware.fd"), "kernel": path("kernel"), "initrd": path("initrd"), "cmdline": CMDLINE,
            "root": path("root.img"), "tpm_log": path("tpm.log"),
        });
        let mut machine = Machine {
            directory,
            description,
        };
        machine.write("firmware.fd", &firmware());
        machine.write("kernel", &kernel());
        machine.write("initrd", INITRD);
        machine.describe("version", 1.into());
        let log = machine.log();
        machine.write_log(&log);
        machine
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where its description is.
    pub fn launched(&self) -> PathBuf {
        self.path("launched.json")
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub fn write(&mut self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub fn write_log(&mut self, log: &[u8]) {
        self.write("tpm.log", log);
    }

    /// Changes one field of the description.
    pub fn describe(&mut self, field: &str, value: Value) {
        self.description[field] = value;
        let json = self.description.to_string();
        fs::write(self.launched(), json).unwrap();
    }

    /// The extends of the boot that a trust domain would have too, in order.
    pub fn measured(&self) -> Vec<(u32, Digest48)> {
        let cmdline = format!("{CMDLINE} initrd=initrd\0");
        let wide: Vec<u8> = cmdline.bytes().flat_map(|byte| [byte, 0]).collect();
        let mut events: Vec<(u32, Digest48)> = ["SecureBoot", "PK", "KEK", "db", "dbx"]
            .map(|name| (7, Digest48::of(name.as_bytes())))
            .into();
        events.extend([
            (7, separator()),
            (1, Digest48::of(b"tables")),
            (4, Digest48::of(&hashed_of_kernel())),
            (1, Digest48::of(b"boot order")),
            (4, Digest48::of(b"Calling EFI Application from Boot Option")),
            (4, separator()),
            (9, Digest48::of(&wide)),
            (9, Digest48::of(INITRD)),
            (5, Digest48::of(b"Exit Boot Services Invocation")),
            (5, Digest48::of(b"Exit Boot Services Returned with Success")),
        ]);
        events
    }

    /// swtpm's log of all of it, with what only a TPM gets.
    pub fn log(&self) -> Vec<u8> {
        let mut log = block(
            "SWTPM_IO_Read",
            &[0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0],
        );
        log += &answer();
        log += &extend(0, &Digest48::of(b"firmware"));
        for (pcr, digest) in self.measured() {
            if (pcr, digest) == (4, separator()) {
                for other in [0, 1, 2, 3, 5, 6] {
                    log += &extend(other, &separator());
                }
            }
            log += &extend(pcr, &digest);
        }
        log += &extend(10, &Digest48::of(b"boot aggregate"));
        log.into_bytes()
    }
}

fn separator() -> Digest48 {
    Digest48::of(&[0; 4])
}

fn extend(pcr: u32, digest: &Digest48) -> String {
    let rest = [
        &0x182u32.to_be_bytes()[..],
        &pcr.to_be_bytes(),
        &[0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0],
        &[0, 0, 0, 1, 0, 0x0c],
        &digest.0,
    ]
    .concat();
    let length = u32::try_from(6 + rest.len()).unwrap();
    let command = [&[0x80, 2][..], &length.to_be_bytes(), &rest].concat();
    block("SWTPM_IO_Read", &command) + &answer()
}

fn answer() -> String {
    block("SWTPM_IO_Write", &[0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0])
}

fn block(kind: &str, bytes: &[u8]) -> String {
    let mut text = format!(" {kind}: length {}\n", bytes.len());
    for line in bytes.chunks(16) {
        let pairs = line.iter().map(|byte| format!("{byte:02X} "));
        text += &format!(" {}\n", pairs.collect::<String>());
    }
    text
}

/// A page of variables, a page of code, and the metadata at the end of the code.
fn firmware() -> Vec<u8> {
    let sections: [[u32; 8]; 4] = [
        [0x1000, 0x1000, 0xffff_f000, 0, 0x1000, 0, 0, 1],
        [0, 0x1000, 0xffff_e000, 0, 0x1000, 0, 1, 0],
        [0, 0, 0x80_0000, 0, 0x6000, 0, 3, 0],
        [0, 0, 0x80_9000, 0, 0x2000, 0, 2, 0],
    ];
    let header = [u32::from_le_bytes(*b"TDVF"), 16 + 4 * 32, 1, 4];
    let metadata = header.iter().chain(sections.as_flattened());
    let metadata: Vec<u8> = metadata.flat_map(|word| word.to_le_bytes()).collect();
    let guid = |text: u128| text.to_le_bytes();
    let table = [
        &0x200u32.to_le_bytes()[..],
        &22u16.to_le_bytes(),
        &guid(0xc28e_bfa7_8546_5e86_4798_984a_e47a_6535),
        &40u16.to_le_bytes(),
        &guid(0x2d08_5ac5_66a3_eaba_45f7_1fb2_96b5_82de),
    ]
    .concat();
    let mut image = vec![0xaa; 0x2000];
    image[0x1e00..0x1e00 + metadata.len()].copy_from_slice(&metadata);
    let end = 0x2000 - 32;
    image[end - table.len()..end].copy_from_slice(&table);
    image
}

/// A PE file with one section and nothing behind it.
fn kernel() -> Vec<u8> {
    let mut file = vec![0x90; 0x400];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x40u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x46, &[1, 0]);
    put(0x54, &240u16.to_le_bytes());
    put(0x58, &0x20bu16.to_le_bytes());
    put(0x58 + 60, &0x200u32.to_le_bytes());
    put(0x58 + 108, &16u32.to_le_bytes());
    put(0x58 + 144, &[0; 8]);
    put(0x58 + 240 + 16, &0x200u32.to_le_bytes());
    put(0x58 + 240 + 20, &0x200u32.to_le_bytes());
    file
}

/// All of it but the checksum at 0x98 and the eight bytes at 0xe8 that say where a signature is.
fn hashed_of_kernel() -> Vec<u8> {
    let file = kernel();
    [&file[..0x98], &file[0x9c..0xe8], &file[0xf0..]].concat()
}

const INITRD: &[u8] = b"an initrd";
