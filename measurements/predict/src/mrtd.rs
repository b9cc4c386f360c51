//! MRTD: the guest's memory before its first instruction.
//!
//! The host adds pages one by one and may extend the register with their content; each step hashes a record (TDX Module
//! ABI, TDH.MEM.PAGE.ADD and TDH.MR.EXTEND). The sections and their order come from the firmware, the order within a
//! section from the version of QEMU. Processors, memory and devices play no part, and neither do pages that the host adds
//! to the running guest.

use sha2::{Digest, Sha384};

use super::tdvf::{PAGE_BYTES, Pages, Section, Tdvf, TdvfError};
use registers::Digest48;

/// In which order a host adds and extends the pages of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOrder {
    /// Each page is added, then extended: QEMU 9 and later, which includes every QEMU with TDX in its release.
    SinglePass,
    /// All pages of a section are added, then all extended: the QEMU 8 builds of Canonical and Intel.
    TwoPass,
}

/// The MRTD of a guest that starts with this firmware, under a host that loads what the design guide says. Whether QEMU does,
/// [`Tdvf::check_qemu`] says.
pub fn mrtd(firmware: &[u8], order: PageOrder) -> Result<Digest48, TdvfError> {
    Ok(of(&Tdvf::parse(firmware)?, order))
}

pub(super) fn of(tdvf: &Tdvf<'_>, order: PageOrder) -> Digest48 {
    let mut hash = Sha384::new();
    let before_the_start = |section: &&Section| section.pages != Pages::Later;
    for section in tdvf.sections().iter().filter(before_the_start) {
        let extend = |hash: &mut Sha384, page: u64| {
            if section.pages == Pages::Extended {
                extend_page(hash, page, page_bytes(tdvf, section, page));
            }
        };
        match order {
            PageOrder::SinglePass => {
                for page in pages(section) {
                    add_page(&mut hash, page);
                    extend(&mut hash, page);
                }
            }
            PageOrder::TwoPass => {
                pages(section).for_each(|page| add_page(&mut hash, page));
                pages(section).for_each(|page| extend(&mut hash, page));
            }
        }
    }
    Digest48(hash.finalize().into())
}

fn pages(section: &Section) -> impl Iterator<Item = u64> {
    section.memory.clone().step_by(PAGE_BYTES as usize)
}

/// What the file has for a page; zeros follow it.
fn page_bytes<'a>(tdvf: &Tdvf<'a>, section: &Section, page: u64) -> &'a [u8] {
    let data = tdvf.data(section);
    let start = usize::try_from(page - section.memory.start).unwrap_or(usize::MAX);
    let rest = data.get(start..).unwrap_or_default();
    &rest[..rest.len().min(PAGE_BYTES as usize)]
}

fn add_page(hash: &mut Sha384, page: u64) {
    hash.update(record(b"MEM.PAGE.ADD", page));
}

fn extend_page(hash: &mut Sha384, page: u64, bytes: &[u8]) {
    let mut content = [0; PAGE_BYTES as usize];
    content[..bytes.len()].copy_from_slice(bytes);
    for (chunk, address) in content
        .chunks(CHUNK_BYTES)
        .zip((page..).step_by(CHUNK_BYTES))
    {
        hash.update(record(b"MR.EXTEND", address));
        hash.update(chunk);
    }
}

/// 128 bytes: the operation's name, zeros, the address at offset 16, zeros.
fn record(name: &[u8], address: u64) -> [u8; 128] {
    let mut record = [0; 128];
    record[..name.len()].copy_from_slice(name);
    record[16..24].copy_from_slice(&address.to_le_bytes());
    record
}

/// TDH.MR.EXTEND takes 256 bytes at a time.
const CHUNK_BYTES: usize = 256;
