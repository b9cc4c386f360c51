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

use super::{AcpiError, AcpiFiles};

/// The device of a machine that runs nothing anybody needs: its memory is overwritten here and there.
pub(super) struct FwCfg {
    port: BufReader<UnixStream>,
}

impl FwCfg {
    pub(super) fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        Ok(Self {
            port: BufReader::new(stream),
        })
    }

    /// The table loader, and every file that it tells the firmware to allocate.
    pub(super) fn acpi_files(&mut self) -> Result<AcpiFiles, AcpiError> {
        let directory = self.directory()?;
        let (_, loader_key, loader_bytes) = directory
            .iter()
            .find(|(name, ..)| name == LOADER)
            .ok_or(AcpiError::Device("has no table loader"))?;
        let loader = self.item(*loader_key, *loader_bytes)?;
        let allocated = allocated(&loader);
        let mut files = vec![(LOADER.to_owned(), loader)];
        for (name, key, bytes) in &directory {
            if allocated.contains(name) {
                files.push((name.clone(), self.item(*key, *bytes)?));
            }
        }
        if files.len() != allocated.len() + 1 {
            return Err(AcpiError::Device("lacks a file that its loader names"));
        }
        Ok(files)
    }

    /// Names, keys and sizes.
    fn directory(&mut self) -> Result<Vec<(String, u16, u32)>, AcpiError> {
        let count = self.item(DIRECTORY_KEY, 4)?;
        let count = u32::from_be_bytes(count.try_into().map_err(|_| SHORT)?);
        if count > FILES_MAX {
            return Err(AcpiError::Device("lists too many files"));
        }
        let directory = self.item(DIRECTORY_KEY, 4 + 64 * count)?;
        let entries = directory.get(4..).ok_or(SHORT)?.chunks_exact(64);
        entries
            .map(|entry| parse_entry(entry).ok_or(SHORT))
            .collect()
    }

    /// The first `bytes` of an item, by one DMA transfer into guest memory.
    fn item(&mut self, key: u16, bytes: u32) -> Result<Vec<u8>, AcpiError> {
        if bytes > ITEM_BYTES_MAX {
            return Err(AcpiError::Device("has an item that is too long"));
        }
        let control = u32::from(key) << 16 | DMA_SELECT | DMA_READ;
        let access = [
            &control.to_be_bytes()[..],
            &bytes.to_be_bytes(),
            &u64::from(DATA_AT).to_be_bytes(),
        ]
        .concat();
        self.write_memory(ACCESS_AT, &access)?;
        // The port takes little-endian numbers and the register is big endian.
        self.command(&format!("outl {DMA_HIGH:#x} 0x0"))?;
        self.command(&format!("outl {DMA_LOW:#x} {:#x}", ACCESS_AT.swap_bytes()))?;
        let left = self.read_memory(ACCESS_AT, 4)?;
        if left != [0; 4] {
            return Err(AcpiError::Device("did not finish a transfer"));
        }
        Ok(self.read_memory(DATA_AT, bytes)?)
    }

    fn write_memory(&mut self, at: u32, bytes: &[u8]) -> io::Result<()> {
        let (length, text) = (bytes.len(), BASE64.encode(bytes));
        self.command(&format!("b64write {at:#x} {length:#x} {text}"))
            .map(|_| ())
    }

    fn read_memory(&mut self, at: u32, bytes: u32) -> io::Result<Vec<u8>> {
        let text = self.command(&format!("b64read {at:#x} {bytes:#x}"))?;
        let read = BASE64.decode(text.trim()).map_err(io::Error::other)?;
        if read.len() == bytes as usize {
            Ok(read)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Sends one command and gives what follows `OK`. Lines about interrupts come in between.
    fn command(&mut self, command: &str) -> io::Result<String> {
        self.port
            .get_mut()
            .write_all(format!("{command}\n").as_bytes())?;
        loop {
            let mut line = String::new();
            if io::Read::take(&mut self.port, LINE_BYTES_MAX).read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(answer) = line.strip_prefix("OK") {
                return Ok(answer.trim().to_owned());
            }
            if !line.starts_with("IRQ") {
                return Err(io::Error::other(format!("QEMU answered {line:?}")));
            }
        }
    }
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
const SHORT: AcpiError = AcpiError::Device("has a directory that is cut short");

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
