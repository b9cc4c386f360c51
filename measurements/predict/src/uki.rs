//! RTMR2 of a unified kernel image: a program that consists of systemd's stub and, as sections, of a kernel and what
//! belongs to it (UAPI Group Specifications, "Unified Kernel Image").
//!
//! **What the stub does** (systemd, `src/boot/stub.c`, `src/fundamental/uki.h`), in this order: it measures the name and
//! the contents of each section that it knows; measures a command line that it was passed and takes; joins the
//! initrds that it has or makes; loads the kernel through the firmware, which measures it once more. Then the kernel's own
//! stub measures command line and initrd.
//!
//! **One stub.** All that is read in its source and held against logs, of the versions in [`STUBS`] and no other; the
//! image says which it has.
//!
//! **Refused** are sections whose effect no log has shown (device trees, hardware lists, profiles), and images that firmware,
//! stub and this reader could see differently: sections over each other, cut off, or filled up in memory.

use sha2::{Digest, Sha384};

use super::authenticode::{self, PeError};
use super::direct::{self, check_cmdline, load_options, options};
use super::pe::{Headers, Section};
use super::{EventKind, PredictError, PredictedEvent};
use crate::limits;
use registers::{Digest48, Register};

/// Stubs whose measurements were compared with logs, as they name themselves.
pub const STUBS: [&str; 1] = ["systemd-stub 257.13-1~deb13u1"];

/// Why a unified kernel image has no prediction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum UkiError {
    #[error("the unified kernel image: {0}")]
    Program(PeError),
    #[error("the kernel in the unified kernel image: {0}")]
    Kernel(PeError),
    #[error("the boot loader: {0}")]
    Loader(PeError),
    #[error(
        "the image's stub is {got}; what it measures is known of: {}",
        STUBS.join(", ")
    )]
    Stub { got: String },
    #[error("the image's section {name} {what}")]
    Section {
        name: &'static str,
        what: &'static str,
    },
    #[error("the image's sections are broken: {what}")]
    Layout { what: &'static str },
    #[error("the stub does not take `{got}` as a command line: {what}")]
    Append { got: String, what: &'static str },
}

/// An image that can be predicted.
pub(super) struct Uki<'a> {
    bytes: &'a [u8],
    headers: Headers,
    kernel: &'a [u8],
    kernel_headers: Headers,
    /// Sections that the stub knows, in the order in which it measures them.
    sections: Vec<(&'static str, &'a [u8])>,
}

impl<'a> Uki<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Uki<'a>, UkiError> {
        let headers = authenticode::headers(bytes, limits::UKI_BYTES_MAX);
        let headers = headers.map_err(UkiError::Program)?;
        check_stub(bytes, &headers)?;
        check_layout(bytes, &headers)?;
        let mut sections = Vec::new();
        for (name, treatment) in KNOWN {
            let Some(section) = only(&headers, name)? else {
                continue;
            };
            if let Treatment::Refused(what) = treatment {
                return Err(UkiError::Section { name, what });
            }
            sections.push((name, contents(bytes, section, name)?));
        }
        let linux = sections.iter().find(|(name, _)| *name == LINUX);
        let (_, kernel) = *linux.ok_or(UkiError::Section {
            name: LINUX,
            what: "is missing",
        })?;
        let kernel_headers = authenticode::headers(kernel, limits::KERNEL_BYTES_MAX);
        let kernel_headers = kernel_headers.map_err(UkiError::Kernel)?;
        // Such a kernel is started in another way (`linux_exec_efi_handover`), without the firmware.
        if kernel_headers.image_version == 0 {
            return Err(UkiError::Section {
                name: LINUX,
                what: "has a kernel before Linux 5.8, which the stub starts unmeasured",
            });
        }
        Ok(Uki {
            bytes,
            headers,
            kernel,
            kernel_headers,
            sections,
        })
    }

    pub fn authenticode(&self) -> Result<Digest48, UkiError> {
        authenticode::of_program(self.bytes, &self.headers).map_err(UkiError::Program)
    }

    pub fn kernel_authenticode(&self) -> Result<Digest48, UkiError> {
        authenticode::of_program(self.kernel, &self.kernel_headers).map_err(UkiError::Kernel)
    }

    /// The events of RTMR2, in order. `append` is a command line from outside.
    pub fn rtmr2(&self, append: Option<&str>) -> Result<Vec<PredictedEvent>, PredictError> {
        let mut events = Vec::new();
        for (name, contents) in &self.sections {
            if *name != PCRSIG {
                let zero_ended = [name.as_bytes(), &[0]].concat();
                events.push(ipl(
                    Digest48::of(&zero_ended),
                    format!("section {name}, its name"),
                ));
                events.push(ipl(Digest48::of(contents), format!("section {name}")));
            }
        }
        let (cmdline, from) = match append {
            Some(append) => {
                let cmdline = appended(append)?;
                let digest = Digest48::of(&options(&cmdline));
                events.push(ipl(digest, "passed command line".into()));
                (cmdline, "LOADED_IMAGE::LoadOptions, as passed")
            }
            None => (
                self.cmdline()?,
                "LOADED_IMAGE::LoadOptions, section .cmdline",
            ),
        };
        check_cmdline(&cmdline)?;
        events.push(load_options(&cmdline, from));
        if let Some(initrd) = self.initrd() {
            events.push(direct::tag(initrd, "Linux initrd, joined by the stub"));
        }
        Ok(events)
    }

    fn section(&self, wanted: &str) -> Option<&'a [u8]> {
        let found = self.sections.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, contents)| *contents)
    }

    /// The section's text as the stub passes it on (`mangle_stub_cmdline`): up to a zero, without white space around it,
    /// and with single spaces for control characters.
    fn cmdline(&self) -> Result<String, UkiError> {
        let wrong = |what| UkiError::Section {
            name: CMDLINE,
            what,
        };
        let section = self.section(CMDLINE);
        let section = section.ok_or(wrong("is missing, and no command line is passed"))?;
        let text = section.split(|byte| *byte == 0).next().unwrap_or_default();
        // Beyond ASCII the stub's reading of UTF-8 would matter.
        if !text.is_ascii() {
            return Err(wrong("is not ASCII"));
        }
        Ok(mangled(text))
    }

    /// The digest of the initrd that the kernel gets, if it gets one.
    fn initrd(&self) -> Option<Digest48> {
        let own = [UCODE, INITRD].map(|name| self.section(name));
        let own: Vec<&[u8]> = own.into_iter().flatten().collect();
        let made = EXTRA.map(|(name, file)| Some((file, self.section(name)?)));
        let made: Vec<(&str, &[u8])> = made.into_iter().flatten().collect();
        // One alone is passed on as it is; of several each is filled up to four bytes.
        if let ([only], []) = (&own[..], &made[..]) {
            return Some(Digest48::of(only));
        }
        let mut hash = Sha384::new();
        for part in &own {
            padded(&mut hash, part);
        }
        for (file, contents) in &made {
            archive(&mut hash, file, contents);
        }
        let none = own.is_empty() && made.is_empty();
        (!none).then(|| Digest48(hash.finalize().into()))
    }
}

/// The stub says who it is (`.sdmagic`: `#### LoaderInfo: systemd-stub 257.13 ####`).
fn check_stub(bytes: &[u8], headers: &Headers) -> Result<(), UkiError> {
    let got = match only(headers, SDMAGIC)? {
        Some(section) => {
            let words = contents(bytes, section, SDMAGIC)?;
            let words = words.strip_prefix(b"#### LoaderInfo: ".as_slice());
            let words = words.and_then(|words| words.strip_suffix(b" ####".as_slice()));
            let words = words.filter(|words| words.len() <= limits::STUB_NAME_BYTES_MAX);
            words.map(|words| words.escape_ascii().to_string())
        }
        None => None,
    };
    match got {
        Some(got) if STUBS.contains(&got.as_str()) => Ok(()),
        got => Err(UkiError::Stub {
            got: got.unwrap_or("none of systemd".into()),
        }),
    }
}

/// No two sections share a byte in the file or in memory, and none lies outside.
fn check_layout(bytes: &[u8], headers: &Headers) -> Result<(), UkiError> {
    let wrong = |what| UkiError::Layout { what };
    // To QEMU a program with Linux's mark at this place is a kernel, whose header it may change.
    if bytes.get(0x202..0x206) == Some(b"HdrS") {
        return Err(wrong("it has the mark of a Linux kernel"));
    }
    let in_file = headers.sections.iter().filter(|s| s.file_bytes != 0);
    let in_file = in_file.map(|s| (s.start, s.file_bytes)).collect();
    let in_memory = headers.sections.iter();
    let in_memory = in_memory.map(|s| (s.address, s.memory_bytes)).collect();
    for (ranges, end) in [(in_file, bytes.len()), (in_memory, headers.image_bytes)] {
        match apart(ranges, headers.bytes, end) {
            Some(true) => {}
            Some(false) => return Err(wrong("two of them, or the headers, share bytes")),
            None => return Err(wrong("one lies outside the image")),
        }
    }
    Ok(())
}

/// Whether ranges of start and length within `start..end` share nothing; `None` if one is not within.
fn apart(mut ranges: Vec<(usize, usize)>, start: usize, end: usize) -> Option<bool> {
    ranges.sort_unstable();
    let mut free = start;
    let mut share = false;
    for (start, bytes) in ranges {
        share |= start < free;
        free = start.checked_add(bytes).filter(|after| *after <= end)?;
    }
    Some(!share)
}

/// The section of this name, if there is one. Of several, the stub would take the first.
fn only<'h>(headers: &'h Headers, name: &'static str) -> Result<Option<&'h Section>, UkiError> {
    let mut filled = [0; 8];
    for (to, from) in filled.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let mut found = headers.sections.iter().filter(|s| s.name == filled);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(UkiError::Section {
            name,
            what: "is there twice",
        }),
        (first, None) => Ok(first),
    }
}

/// What of a section is in memory, all of it from the file.
fn contents<'a>(
    bytes: &'a [u8],
    section: &Section,
    name: &'static str,
) -> Result<&'a [u8], UkiError> {
    let wrong = |what| UkiError::Section { name, what };
    if section.memory_bytes == 0 {
        return Err(wrong("is empty"));
    }
    if section.memory_bytes > section.file_bytes {
        return Err(wrong("is longer in memory than in the file"));
    }
    let end = section.start.checked_add(section.memory_bytes);
    let contents = end.and_then(|end| bytes.get(section.start..end));
    contents.ok_or(wrong("lies past the file"))
}

fn appended(append: &str) -> Result<String, PredictError> {
    check_cmdline(append)?;
    let wrong = |what| UkiError::Append {
        got: append.into(),
        what,
    };
    if append.starts_with('@') {
        return Err(wrong("it chooses a profile").into());
    }
    match mangled(append.as_bytes()) {
        text if text.is_empty() => Err(wrong("it is blank").into()),
        text => Ok(text),
    }
}

/// ASCII text without white space around it, control characters as spaces.
fn mangled(text: &[u8]) -> String {
    let spaced = |byte: &u8| match byte {
        0..=b' ' | 0x7f => ' ',
        byte => char::from(*byte),
    };
    let spaced: String = text.iter().map(spaced).collect();
    spaced.trim_matches(' ').to_owned()
}

fn padded(hash: &mut Sha384, part: &[u8]) {
    hash.update(part);
    hash.update(&[0; 3][..part.len().next_multiple_of(4) - part.len()]);
}

/// The archive that the stub makes of a section (`pack_cpio_literal`): a directory, a file in it, the end mark.
fn archive(hash: &mut Sha384, file: &str, contents: &[u8]) {
    padded(hash, &entry(1, 0o040_555, 0, ".extra"));
    let name = format!(".extra/{file}");
    padded(hash, &entry(2, 0o100_444, contents.len(), &name));
    padded(hash, contents);
    padded(hash, &entry(0, 0, 0, "TRAILER!!!").to_ascii_uppercase());
}

/// The header of a newc entry (Linux, `buffer-format.rst`): inode, mode, owner, group, links, time, size, four numbers of
/// devices, length of the name, checksum; then the name.
fn entry(inode: u32, mode: u32, bytes: usize, name: &str) -> Vec<u8> {
    let mut header = String::from("070701");
    let (bytes, name_bytes) = (bytes as u32, name.len() as u32 + 1);
    for field in [inode, mode, 0, 0, 1, 0, bytes, 0, 0, 0, 0, name_bytes, 0] {
        header += &format!("{field:08x}");
    }
    header += name;
    header.push('\0');
    header.into_bytes()
}

fn ipl(digest: Digest48, from: String) -> PredictedEvent {
    PredictedEvent {
        register: Register::Rtmr2,
        kind: EventKind::Ipl,
        digest,
        from,
    }
}

enum Treatment {
    Known,
    Refused(&'static str),
}

const SDMAGIC: &str = ".sdmagic";
const LINUX: &str = ".linux";
const CMDLINE: &str = ".cmdline";
const INITRD: &str = ".initrd";
const UCODE: &str = ".ucode";
const PCRSIG: &str = ".pcrsig";
const DEVICE_TREES: &str = "is for machines with device trees, and no log has shown its effect";
/// In the order in which they are measured. `.pcrsig` is not: it signs the rest.
const KNOWN: [(&str, Treatment); 14] = [
    (LINUX, Treatment::Known),
    (".osrel", Treatment::Known),
    (CMDLINE, Treatment::Known),
    (INITRD, Treatment::Known),
    (UCODE, Treatment::Known),
    (".splash", Treatment::Known),
    (".dtb", Treatment::Refused(DEVICE_TREES)),
    (".uname", Treatment::Known),
    (".sbat", Treatment::Known),
    (PCRSIG, Treatment::Known),
    (".pcrpkey", Treatment::Known),
    (
        ".profile",
        Treatment::Refused("makes one of several profiles, of which the host chooses"),
    ),
    (".dtbauto", Treatment::Refused(DEVICE_TREES)),
    (".hwids", Treatment::Refused(DEVICE_TREES)),
];
/// Sections of which the stub makes files for the initrd, in the order in which it joins them.
const EXTRA: [(&str, &str); 3] = [
    (PCRSIG, "tpm2-pcr-signature.json"),
    (".pcrpkey", "tpm2-pcr-public-key.pem"),
    (".osrel", "os-release"),
];
