//! MRTD as Microsoft's `igvm` computes it: another implementation of the same records, given the same pages.

use crate::common::{made, vector};
use igvm::{IgvmDirectiveHeader, measurement::generate_tdx_measurement};
use igvm_defs::{IgvmPageDataFlags, IgvmPageDataType};
use predict::{
    PageOrder, mrtd,
    tdvf::{Pages, Section, Tdvf},
};
use registers::Digest48;

const MASK: u32 = 1;
const PAGE: usize = 4096;

#[test]
fn igvm_computes_the_same_mrtd_of_each_firmware() {
    let files = [
        "firmware/ovmf-2025.02-8+deb13u1.fd",
        "firmware/ovmf-2025.02-3ubuntu2.fd",
    ];
    let real = files.into_iter().filter_map(vector);
    for firmware in real.chain([made::firmware()]) {
        let pages = pages(&Tdvf::parse(&firmware).unwrap());
        assert_eq!(mrtd(&firmware, PageOrder::SinglePass), Ok(measured(&pages)));
        assert_ne!(mrtd(&firmware, PageOrder::TwoPass), Ok(measured(&pages)));
    }
}

#[test]
fn igvm_computes_the_same_mrtd_of_each_layout() {
    for (name, sections) in made::layouts() {
        let firmware = made::firmware_of(&sections);
        let pages = pages(&Tdvf::parse(&firmware).unwrap());
        let ours = mrtd(&firmware, PageOrder::SinglePass);
        assert_eq!(ours, Ok(measured(&pages)), "{name}");
    }
}

/// So the comparison above sees what it must: order, addresses, content, and what is only added.
#[test]
fn igvm_computes_another_mrtd_of_other_pages() {
    let firmware = made::firmware();
    let pages = pages(&Tdvf::parse(&firmware).unwrap());
    let ours = mrtd(&firmware, PageOrder::SinglePass).unwrap();
    assert_eq!(measured(&pages), ours);
    let mut swapped = pages.clone();
    swapped.swap(0, 1);
    let mut moved = pages.clone();
    moved[0].address += PAGE as u64;
    let mut flipped = pages.clone();
    flipped[0].bytes.as_mut().unwrap()[PAGE - 1] ^= 1;
    let mut unmeasured = pages.clone();
    unmeasured[0].bytes = None;
    for other in [&pages[1..], &swapped, &moved, &flipped, &unmeasured] {
        assert_ne!(measured(other), ours);
    }
}

#[derive(Clone)]
struct Page {
    address: u64,
    /// `None` for a page that is added and not extended.
    bytes: Option<Vec<u8>>,
}

fn pages(tdvf: &Tdvf<'_>) -> Vec<Page> {
    let of_section = |section: &Section| {
        let mut bytes = tdvf.data(section).to_vec();
        let memory = section.memory.end - section.memory.start;
        bytes.resize(usize::try_from(memory).unwrap(), 0);
        let (extended, start) = (section.pages == Pages::Extended, section.memory.start);
        bytes
            .chunks(PAGE)
            .zip((start..).step_by(PAGE))
            .map(|(bytes, address)| Page {
                address,
                bytes: extended.then(|| bytes.to_vec()),
            })
            .collect::<Vec<_>>()
    };
    let sections = tdvf.sections().iter();
    let before_the_start = sections.filter(|section| section.pages != Pages::Later);
    before_the_start.flat_map(of_section).collect()
}

fn measured(pages: &[Page]) -> Digest48 {
    let header = |page: &Page| IgvmDirectiveHeader::PageData {
        gpa: page.address,
        compatibility_mask: MASK,
        flags: IgvmPageDataFlags::new().with_unmeasured(page.bytes.is_none()),
        data_type: IgvmPageDataType::NORMAL,
        data: page.bytes.clone().unwrap_or_default(),
    };
    let headers: Vec<_> = pages.iter().map(header).collect();
    Digest48(generate_tdx_measurement(&headers, MASK).unwrap())
}
