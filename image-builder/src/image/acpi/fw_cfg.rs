//! QEMU's fw_cfg device, through the test port: port I/O, guest memory, and the device's DMA interface between them.
//!
//! Protocol of the port: QEMU, system/qtest.c (one command a line, answered by `OK …`). Interface of the device: QEMU,
//! docs/specs/fw_cfg.rst. All its numbers are big endian.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::AcpiFiles;
use crate::error::{Error, Fault, error};

/// The device of a machine that runs nothing anybody needs: its memory is overwritten here and there.
pub(super) struct FwCfg {
    port: BufReader<UnixStream>,
}

impl FwCfg {
    pub(super) fn connect(socket: &Path) -> Result<Self, Error> {
        let connected = UnixStream::connect(socket).and_then(|stream| {
            stream.set_read_timeout(Some(ANSWER_TIME))?;
            Ok(BufReader::new(stream))
        });
        let port = connected.map_err(unread)?;
        Ok(Self { port })
    }

    /// The table loader, and every file that it tells the firmware to allocate.
    pub(super) fn acpi_files(&mut self) -> Result<AcpiFiles, Error> {
        let directory = self.directory()?;
        let (_, loader_key, loader_bytes) = directory
            .iter()
            .find(|(name, ..)| name == LOADER)
            .ok_or_else(|| device("has no table loader"))?;
        let loader = self.item(*loader_key, *loader_bytes)?;
        let allocated = allocated(&loader);
        let mut files = vec![(LOADER.to_owned(), loader)];
        for (name, key, bytes) in &directory {
            if allocated.contains(name) {
                files.push((name.clone(), self.item(*key, *bytes)?));
            }
        }
        if files.len() != allocated.len() + 1 {
            return Err(device("lacks a file that its loader names"));
        }
        Ok(files)
    }

    /// Names, keys and sizes.
    fn directory(&mut self) -> Result<Vec<(String, u16, u32)>, Error> {
        let count = self.item(DIRECTORY_KEY, 4)?;
        let short = || device("has a directory that is cut short");
        let count = u32::from_be_bytes(count.try_into().map_err(|_| short())?);
        if count > FILES_MAX {
            return Err(device("lists too many files"));
        }
        let directory = self.item(DIRECTORY_KEY, 4 + 64 * count)?;
        let entries = directory.get(4..).ok_or_else(short)?.chunks_exact(64);
        entries
            .map(|entry| parse_entry(entry).ok_or_else(short))
            .collect()
    }

    /// The first `bytes` of an item, by one DMA transfer into guest memory.
    fn item(&mut self, key: u16, bytes: u32) -> Result<Vec<u8>, Error> {
        if bytes > ITEM_BYTES_MAX {
            return Err(device("has an item that is too long"));
        }
        let control = u32::from(key) << 16 | DMA_SELECT | DMA_READ;
        let access = [
            &control.to_be_bytes()[..],
            &bytes.to_be_bytes(),
            &u64::from(DATA_AT).to_be_bytes(),
        ]
        .concat();
        let text = BASE64.encode(&access);
        self.command(&format!(
            "b64write {ACCESS_AT:#x} {:#x} {text}",
            access.len()
        ))?;
        // The port takes little-endian numbers and the register is big endian.
        self.command(&format!("outl {DMA_HIGH:#x} 0x0"))?;
        self.command(&format!("outl {DMA_LOW:#x} {:#x}", ACCESS_AT.swap_bytes()))?;
        let left = self.read_memory(ACCESS_AT, 4)?;
        if left != [0; 4] {
            return Err(device("did not finish a transfer"));
        }
        self.read_memory(DATA_AT, bytes)
    }

    fn read_memory(&mut self, at: u32, bytes: u32) -> Result<Vec<u8>, Error> {
        let text = self.command(&format!("b64read {at:#x} {bytes:#x}"))?;
        let read = BASE64.decode(text.trim()).map_err(unread)?;
        match read.len() == bytes as usize {
            true => Ok(read),
            false => Err(device("gave another number of bytes than asked for")),
        }
    }

    /// Sends one command and gives what follows `OK`. Lines about interrupts come in between.
    fn command(&mut self, command: &str) -> Result<String, Error> {
        let line = format!("{command}\n");
        self.port
            .get_mut()
            .write_all(line.as_bytes())
            .map_err(unread)?;
        loop {
            let mut line = String::new();
            let port = io::Read::take(&mut self.port, LINE_BYTES_MAX);
            if { port }.read_line(&mut line).map_err(unread)? == 0 {
                return Err(unread("the connection ended"));
            }
            if let Some(answer) = line.strip_prefix("OK") {
                return Ok(answer.trim().to_owned());
            }
            if !line.starts_with("IRQ") {
                return Err(unread(format!("QEMU answered {line:?}")));
            }
        }
    }
}

fn device(problem: &str) -> Error {
    error!(Tool, "QEMU's fw_cfg device {problem}")
}

fn unread(error: impl std::fmt::Display) -> Error {
    Error::of(Fault::Tool, "reading QEMU's fw_cfg device: ")(error)
}

/// One entry of the directory: size, key, reserved, name.
fn parse_entry(entry: &[u8]) -> Option<(String, u16, u32)> {
    let (size, rest) = entry.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_first_chunk::<2>()?;
    Some((
        text(rest.get(2..)?),
        u16::from_be_bytes(*key),
        u32::from_be_bytes(*size),
    ))
}

/// Files of the loader's ALLOCATE commands: entries of 128 bytes, a command number, then a name of at most 56 bytes.
fn allocated(loader: &[u8]) -> Vec<String> {
    let entries = loader.chunks_exact(128);
    let allocations = entries.filter(|entry| entry.starts_with(&1u32.to_le_bytes()));
    allocations.map(|entry| text(&entry[4..60])).collect()
}

/// Up to the first NUL.
fn text(bytes: &[u8]) -> String {
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

const LOADER: &str = "etc/table-loader";
const DIRECTORY_KEY: u16 = 0x19;
const DMA_HIGH: u16 = 0x514;
const DMA_LOW: u16 = 0x518;
const DMA_READ: u32 = 0x02;
const DMA_SELECT: u32 = 0x08;
/// Guest memory that is surely there: every machine has more than 64 MiB.
const ACCESS_AT: u32 = 0x200_0000;
const DATA_AT: u32 = 0x210_0000;
const FILES_MAX: u32 = 256;
/// The tables have 128 KiB, a TPM's log 64 KiB.
const ITEM_BYTES_MAX: u32 = 4 << 20;
const LINE_BYTES_MAX: u64 = 8 << 20;
const ANSWER_TIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_names_what_it_allocates_and_nothing_else() {
        let mut loader = vec![0; 128 * 3];
        loader[0] = 1;
        loader[4..8].copy_from_slice(b"rsdp");
        loader[128] = 2;
        loader[132..136].copy_from_slice(b"skip");
        assert_eq!(allocated(&loader), ["rsdp"]);
        assert_eq!(allocated(&loader[..127]), Vec::<String>::new());
    }

    #[test]
    fn a_directory_entry_is_size_key_and_name() {
        let mut entry = [0; 64];
        entry[..8].copy_from_slice(&[0, 0, 0x10, 0, 0, 0x2d, 9, 9]);
        entry[8..12].copy_from_slice(b"etc/");
        assert_eq!(parse_entry(&entry), Some(("etc/".into(), 0x2d, 4096)));
        assert_eq!(parse_entry(&entry[..7]), None);
    }
}
