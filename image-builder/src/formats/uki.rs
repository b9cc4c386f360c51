//! A unified kernel image: systemd's stub with a kernel and what belongs to it as sections (UAPI Group Specifications,
//! "Unified Kernel Image"; Microsoft PE Format).
//!
//! Written by hand because every byte is measured: the same parts give the same image. What the stub brings stays as it is,
//! its time stamp and its `.sbat` among it; sections are appended in a fixed order, the kernel last, each at the next free
//! address and at the next free place of the file.
//!
//! Trusts the parts for what they are; of the stub, only that its headers are those of a program, which is checked before
//! they are changed. Promises an image whose sections the stub finds, and no image where its headers have no room for them.

use std::io::{self, Write};

use crate::limits::UKI_BYTES_MAX;

/// Where Debian's `systemd-boot-efi` has the stub, relative to the file system's root.
pub const STUB_PATH: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// What an image is made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// systemd's stub (`linuxx64.efi.stub`), not signed.
    pub stub: &'a [u8],
    /// The text of `os-release`: what the image calls itself.
    pub os_release: Option<&'a str>,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// The kernel's release, as `uname -r` has it.
    pub uname: Option<&'a str>,
    /// The initrd.
    pub initrd: Option<&'a [u8]>,
    /// The kernel.
    pub kernel: &'a [u8],
}

/// Why there is no image. Whoever chose the parts is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum UkiError {
    #[error("the stub cannot be extended: {0}")]
    Stub(&'static str),
    #[error("the image's section {0} would be empty")]
    Empty(&'static str),
    #[error("the image would have {got} bytes; {UKI_BYTES_MAX} are allowed")]
    TooLong { got: u64 },
}

/// Lays out an image. Nothing is copied before it is written.
pub fn lay_out<'a>(parts: &Parts<'a>) -> Result<Image<'a>, UkiError> {
    let stub = Stub::parse(parts.stub)?;
    let text = |text: Option<&'a str>| text.map(str::as_bytes);
    let sections = [
        (".osrel", text(parts.os_release)),
        (".cmdline", text(Some(parts.cmdline))),
        (".uname", text(parts.uname)),
        (".initrd", parts.initrd),
        (".linux", Some(parts.kernel)),
    ];
    let mut headers = stub.bytes[..stub.headers_end].to_vec();
    let (mut file, mut memory) = (stub.bytes.len() as u64, u64::from(stub.image_bytes));
    let (mut count, mut data_bytes) = (stub.section_count, u64::from(stub.data_bytes));
    let mut appended = Vec::new();
    for (name, contents) in sections {
        let Some(contents) = contents else { continue };
        if contents.is_empty() {
            return Err(UkiError::Empty(name));
        }
        let bytes = contents.len() as u64;
        let filled = bytes.next_multiple_of(u64::from(stub.file_alignment));
        let (start, address) = (file, memory);
        file += filled;
        memory = (memory + bytes).next_multiple_of(u64::from(stub.memory_alignment));
        data_bytes += filled;
        if file > UKI_BYTES_MAX {
            return Err(UkiError::TooLong { got: file });
        }
        // IMAGE_SECTION_HEADER. Below the limit, every number fits into 32 bits.
        let at = stub.table + 40 * count;
        let header = headers.get_mut(at..at + 40);
        let header = header.filter(|header| header.iter().all(|byte| *byte == 0));
        let header = header.ok_or(UkiError::Stub("its headers have no room for more sections"))?;
        header[..name.len()].copy_from_slice(name.as_bytes());
        for (field, value) in [(8, bytes), (12, address), (16, filled), (20, start)] {
            header[field..field + 4].copy_from_slice(&(value as u32).to_le_bytes());
        }
        header[36..].copy_from_slice(&READ_ONLY_DATA.to_le_bytes());
        count += 1;
        appended.push((contents, (filled - bytes) as usize));
    }
    let mut put = |at: usize, bytes: &[u8]| headers[at..at + bytes.len()].copy_from_slice(bytes);
    put(stub.pe + 6, &(count as u16).to_le_bytes());
    put(stub.optional + 8, &(data_bytes as u32).to_le_bytes());
    put(stub.optional + 56, &(memory as u32).to_le_bytes());
    // The checksum of before would be wrong, and firmware asks for none.
    put(stub.optional + 64, &[0; 4]);
    Ok(Image {
        headers,
        stub: &stub.bytes[stub.headers_end..],
        appended,
        bytes: file,
    })
}

/// An image that can be written.
#[derive(Debug, Clone)]
pub struct Image<'a> {
    headers: Vec<u8>,
    stub: &'a [u8],
    /// Contents, and how many zeros follow.
    appended: Vec<(&'a [u8], usize)>,
    bytes: u64,
}

impl Image<'_> {
    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes it.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.headers)?;
        out.write_all(self.stub)?;
        for (contents, zeros) in &self.appended {
            out.write_all(contents)?;
            io::copy(&mut io::Read::take(io::repeat(0), *zeros as u64), out)?;
        }
        Ok(())
    }
}

/// A stub, with the places in its headers that change.
struct Stub<'a> {
    bytes: &'a [u8],
    /// Of the PE header.
    pe: usize,
    /// Of the optional header.
    optional: usize,
    /// Of the list of sections.
    table: usize,
    section_count: usize,
    headers_end: usize,
    file_alignment: u32,
    memory_alignment: u32,
    image_bytes: u32,
    data_bytes: u32,
}

impl<'a> Stub<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Stub<'a>, UkiError> {
        let cut = UkiError::Stub("its headers are cut off");
        let u16_at = |at: usize| number::<2>(bytes, at).map(u16::from_le_bytes);
        let u32_at = |at: usize| number::<4>(bytes, at).map(u32::from_le_bytes);
        if u16_at(0) != Some(u16::from_le_bytes(*b"MZ")) {
            return Err(UkiError::Stub("it is no program"));
        }
        let pe = u32_at(0x3c).ok_or(cut.clone())? as usize;
        if u32_at(pe) != Some(u32::from_le_bytes(*b"PE\0\0")) {
            return Err(UkiError::Stub("it is no program"));
        }
        let optional = pe + 24;
        if u16_at(pe + 4) != Some(X86_64) || u16_at(optional) != Some(PE32_PLUS) {
            return Err(UkiError::Stub("it is none for 64-bit x86"));
        }
        let field = |at: usize| u32_at(optional + at).ok_or(cut.clone());
        let optional_bytes = usize::from(u16_at(pe + 20).ok_or(cut.clone())?);
        let stub = Stub {
            bytes,
            pe,
            optional,
            table: optional + optional_bytes,
            section_count: usize::from(u16_at(pe + 6).ok_or(cut.clone())?),
            headers_end: field(60)? as usize,
            file_alignment: field(36)?,
            memory_alignment: field(32)?,
            image_bytes: field(56)?,
            data_bytes: field(8)?,
        };
        // IMAGE_DIRECTORY_ENTRY_SECURITY: a signature is at the end of the file, where sections go, and would not hold.
        if field(108)? > 4 && field(148)? != 0 {
            return Err(UkiError::Stub("it is signed"));
        }
        stub.check()?;
        Ok(stub)
    }

    fn check(&self) -> Result<(), UkiError> {
        let [file, memory] = [self.file_alignment, self.memory_alignment];
        let aligned = file.is_power_of_two() && memory.is_power_of_two();
        if !aligned || file > ALIGNMENT_MAX || memory > ALIGNMENT_MAX {
            return Err(UkiError::Stub("its alignment is none"));
        }
        let length = self.bytes.len();
        let outside = self.headers_end > length || self.optional + 112 > self.headers_end;
        if outside
            || !length.is_multiple_of(file as usize)
            || !self.image_bytes.is_multiple_of(memory)
        {
            return Err(UkiError::Stub("its headers or sections end at odd places"));
        }
        // Bytes that no section has would lie between the old sections and the new ones.
        let mut end = self.headers_end as u64;
        for at in (0..self.section_count).map(|index| self.table + 40 * index) {
            let field = |offset| number::<4>(self.bytes, at + offset).map(u32::from_le_bytes);
            let (Some(bytes), Some(start)) = (field(16), field(20)) else {
                return Err(UkiError::Stub("its headers are cut off"));
            };
            end = end.max(u64::from(bytes) + u64::from(start));
        }
        match end == length as u64 {
            true => Ok(()),
            false => Err(UkiError::Stub("it does not end with its last section")),
        }
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

const X86_64: u16 = 0x8664;
const PE32_PLUS: u16 = 0x20b;
/// IMAGE_SCN_CNT_INITIALIZED_DATA and IMAGE_SCN_MEM_READ.
const READ_ONLY_DATA: u32 = 0x4000_0040;
/// No linker of ours or of systemd's goes above pages of 64 KiB.
const ALIGNMENT_MAX: u32 = 64 * 1024;
