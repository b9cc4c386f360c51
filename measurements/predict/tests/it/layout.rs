//! TDVF metadata in any layout: what each section adds to MRTD, which layouts QEMU does not load as the design guide says, and
//! lengths that lie.

use crate::common::made;
use predict::{
    Firmware, FirmwareBuild, FirmwareError, PageOrder, Platform, PredictError, mrtd, rtmr0,
    tdvf::{SectionKind, Tdvf, TdvfError},
};
use registers::Digest48;
use sha2::{Digest, Sha384};

const ORDERS: [PageOrder; 2] = [PageOrder::SinglePass, PageOrder::TwoPass];

#[test]
fn mrtd_has_what_the_list_of_sections_says_in_its_order() {
    let mut all = Vec::new();
    for (name, sections) in made::layouts() {
        let firmware = made::firmware_of(&sections);
        for order in ORDERS {
            let expected = by_hand(&firmware, &sections, order);
            assert_eq!(mrtd(&firmware, order), Ok(expected), "{name}");
            all.push(expected);
        }
    }
    // A second payload differs from the first in what is measured; memory that comes later is as good as none.
    all.sort();
    all.dedup();
    assert!(all.len() >= 2 * made::layouts().len() - 4, "{}", all.len());
}

#[test]
fn memory_that_is_added_later_is_in_no_mrtd() {
    let [bfv, cfv, hob, temporary] = made::SECTIONS;
    let without = made::firmware_of(&[bfv, cfv, hob]);
    let mut later = temporary;
    later[5] = 2;
    let mut permanent = later;
    permanent[4] = 4;
    for section in [later, permanent] {
        let mut file = made::firmware_of(&[bfv, cfv, hob, section]);
        // The list itself lies in measured code here.
        file[0x3000..0x3090].copy_from_slice(&without[0x3000..0x3090]);
        let mut longer = without.clone();
        longer[0x3090..0x30b0].copy_from_slice(&file[0x3090..0x30b0]);
        assert_eq!(mrtd(&file, ORDERS[0]), mrtd(&longer, ORDERS[0]));
    }
}

#[test]
fn qemu_starts_ordinary_layouts_and_each_other_is_refused_by_name() {
    let refusal = |sections: &[made::Section]| {
        let firmware = made::firmware_of(sections);
        assert!(mrtd(&firmware, PageOrder::SinglePass).is_ok());
        let made = match Firmware::new(&firmware, FirmwareBuild::STABLE202502) {
            Ok(made) => made,
            // Where its code does not begin with the volume.
            Err(FirmwareError::Volume(_)) => {
                return Tdvf::parse(&firmware).unwrap().check_qemu().err();
            }
            Err(other) => panic!("{other}"),
        };
        match rtmr0(&Platform::new(made, 2048), &made::acpi()) {
            Ok(_) => None,
            Err(PredictError::Firmware(refusal)) => Some(refusal),
            Err(other) => panic!("{other}"),
        }
    };
    let [bfv, cfv, hob, temporary] = made::SECTIONS;
    let not_as_qemu = |index, kind, what| Some(TdvfError::NotAsQemu { index, kind, what });
    let kind_refused = "QEMU refuses sections of this kind";
    let added = "QEMU passes over PAGE.AUG and adds its pages before the start";
    let filled = "QEMU fills its memory with what follows in the file";
    let within = "KVM refuses bytes that begin within a page";
    let not_one = |kind, got| Some(TdvfError::NotOne { kind, got });
    use SectionKind::*;
    let expected = [
        ("sorted by nothing", None),
        ("two of code", None),
        ("two, turned", None),
        ("one measured", None),
        ("zeros behind", not_as_qemu(0, Bfv, filled)),
        ("store measured", None),
        ("zeros measured", None),
        ("memory later", not_as_qemu(3, TempMem, added)),
        ("code alone", not_one(TdHob, 0)),
        ("permanent", not_as_qemu(4, PermMem, kind_refused)),
        ("permanent, later", not_as_qemu(4, PermMem, kind_refused)),
        ("payload", not_as_qemu(4, Payload, kind_refused)),
        ("payload of the host", not_as_qemu(4, Payload, kind_refused)),
    ];
    let layouts = made::layouts();
    assert_eq!(layouts.len(), expected.len());
    for ((name, sections), (of, expected)) in layouts.into_iter().zip(expected) {
        assert_eq!((name, refusal(&sections)), (of, expected));
    }
    let shifted = [0x1100, 0x1000, 0xffff_d000, 0x1000, 0, 1];
    let refused = refusal(&[cfv, shifted, hob, temporary]);
    assert_eq!(refused, not_as_qemu(1, Bfv, within));
    // Nor does RTMR0 follow where the firmware could read another variable store.
    let second_store = [0x1000, 0x1000, 0x10_0000, 0x1000, 1, 0];
    let two_stores = [bfv, cfv, hob, temporary, second_store];
    assert_eq!(refusal(&two_stores), not_one(Cfv, 2));
}

#[test]
fn sections_that_contradict_themselves_or_each_other_are_refused() {
    let refused = |changed: usize, section: made::Section, expected: TdvfError| {
        let mut sections = made::SECTIONS;
        sections[changed] = section;
        let firmware = made::firmware_of(&sections);
        for order in ORDERS {
            assert_eq!(
                mrtd(&firmware, order),
                Err(expected.clone()),
                "{section:x?}"
            );
        }
    };
    let malformed = |what| TdvfError::Malformed { what };
    let host = |index, kind| TdvfError::HostBytes { index, kind };
    let unknown = |index, kind, attributes| TdvfError::SectionUnknown {
        index,
        kind,
        attributes,
    };
    let no_memory = malformed("a section has no memory");
    refused(0, [0, 0, 0, 0, 0, 1], no_memory.clone());
    refused(3, [0, 0, 0x80_b000, 0, 3, 0], no_memory.clone());
    refused(3, [0, 0, 0x80_b000, 0, 4, 2], no_memory);
    let bytes = malformed("code without bytes, or bytes where none belong");
    refused(0, [0x1000, 0, 0xffff_d000, 0x3000, 0, 1], bytes.clone());
    for kind in [2, 3, 4, 6] {
        let section = [0x1000, 0x1000, 0x80_b000, 0x1000, kind, 0];
        refused(3, section, bytes.clone());
    }
    let both = malformed("a section is measured and added later");
    refused(3, [0, 0, 0x80_b000, 0x1000, 4, 3], both);
    refused(3, [0, 0, 0x80_b000, 0x1000, 4, 4], unknown(3, 4, 4));
    refused(3, [0, 0, 0x80_b000, 0x1000, 7, 0], unknown(3, 7, 0));
    refused(3, [0, 0, 0x80_b000, 0x1000, 8, 1], unknown(3, 8, 1));
    refused(
        2,
        [0, 0, 0x80_9000, 0x2000, 2, 1],
        host(2, SectionKind::TdHob),
    );
    refused(
        3,
        [0, 0, 0x80_b000, 0x1000, 5, 1],
        host(3, SectionKind::Payload),
    );
    let parameters = [0, 0, 0x80_b000, 0x1000, 6, 1];
    refused(3, parameters, host(3, SectionKind::PayloadParam));
    let shared = malformed("two sections share memory");
    refused(3, [0, 0, 0x80_a000, 0x1000, 3, 0], shared.clone());
    refused(3, [0, 0, 0x80_9000, 0x2000, 4, 2], shared.clone());
    refused(3, [0x1000, 0x1000, 0xffff_c000, 0x2000, 5, 1], shared);
    let two = TdvfError::NotOne {
        kind: SectionKind::TdHob,
        got: 2,
    };
    refused(3, [0, 0, 0x80_b000, 0x1000, 2, 0], two);
    let none = TdvfError::NotOne {
        kind: SectionKind::Bfv,
        got: 0,
    };
    refused(0, [0x1000, 0x3000, 0xffff_d000, 0x3000, 1, 1], none);
    let long = TdvfError::OverLimit {
        what: "bytes of memory",
        max: predict::limits::TDVF_MEMORY_BYTES_MAX,
    };
    refused(
        3,
        [0, 0, 1 << 40, predict::limits::TDVF_MEMORY_BYTES_MAX, 4, 0],
        long,
    );
}

/// The descriptor's length and count, the table's length, and those of its entries: none, one, odd, too long.
#[test]
fn no_length_in_the_metadata_is_believed() {
    let file = made::firmware();
    let put = |at: usize, value: &[u8]| {
        let mut file = file.clone();
        file[at..at + value.len()].copy_from_slice(value);
        mrtd(&file, PageOrder::SinglePass)
    };
    for length in [0, 1, 15, 16, 17, 143, 145, 0x1000, u32::MAX] {
        let what = "the descriptor's length is not that of its sections";
        let expected = Err(TdvfError::Malformed { what });
        assert_eq!(put(0x3004, &u32::to_le_bytes(length)), expected, "{length}");
    }
    for count in [0, 1, 3, 5, 32, 33, 59, 0x800_0000, u32::MAX] {
        let refusal = put(0x300c, &u32::to_le_bytes(count)).unwrap_err();
        let over = matches!(
            refusal,
            TdvfError::OverLimit {
                what: "sections",
                ..
            }
        );
        assert_eq!(
            over,
            count as usize > predict::limits::TDVF_SECTIONS_MAX,
            "{count}"
        );
    }
    // Read backwards from 0x3fd0: GUID and length of the table; GUID and length of our entry, its four bytes.
    let (table, entry, offset) = (0x3fce, 0x3fbc, 0x3fb8);
    assert!(put(table, &file[table..table + 2]).is_ok());
    for length in [0, 1, 17, 18, 19, 39, 0x3ffe, 0x3fff, 0xffff] {
        assert!(put(table, &u16::to_le_bytes(length)).is_err(), "{length}");
    }
    for length in [0, 1, 17, 18, 19, 21, 0x3fff, 0xffff] {
        assert!(put(entry, &u16::to_le_bytes(length)).is_err(), "{length}");
    }
    for from_end in [0, 1, 15, 16, 0xfff, 0x1001, 0x4000, 0x4001, u32::MAX] {
        let found = put(offset, &u32::to_le_bytes(from_end));
        assert!(found.is_err(), "{from_end}");
    }
    // A list of no sections, or of one too many for a limit, with lengths that agree.
    let none = made::firmware_of(&[]);
    let got = 0;
    let kind = SectionKind::Bfv;
    let expected = Err(TdvfError::NotOne { kind, got });
    assert_eq!(mrtd(&none, PageOrder::SinglePass), expected);
    let mut many = made::SECTIONS.to_vec();
    let pages = (0..).map(|page| [0, 0, 0x100_0000 + page * 0x1000, 0x1000, 3, 0]);
    many.extend(pages.take(predict::limits::TDVF_SECTIONS_MAX - many.len()));
    assert!(Tdvf::parse(&made::firmware_of(&many)).is_ok());
    many.push([0, 0, 0x200_0000, 0x1000, 3, 0]);
    let over = Tdvf::parse(&made::firmware_of(&many)).unwrap_err();
    assert!(matches!(over, TdvfError::OverLimit { .. }));
}

/// TDX Module ABI, TDH.MEM.PAGE.ADD and TDH.MR.EXTEND, from the list and the file alone.
fn by_hand(file: &[u8], sections: &[made::Section], order: PageOrder) -> Digest48 {
    let mut hash = Sha384::new();
    for &[offset, raw, address, memory, _, attributes] in sections {
        if attributes & 2 != 0 {
            continue;
        }
        let mut bytes = file[offset as usize..(offset + raw) as usize].to_vec();
        bytes.resize(memory as usize, 0);
        let mut extends = Vec::new();
        for (page, bytes) in bytes.chunks(4096).enumerate() {
            let page = address + 4096 * page as u64;
            let mut extend = Vec::new();
            for (chunk, bytes) in bytes.chunks(256).enumerate() {
                let at = page + 256 * chunk as u64;
                extend.extend(record(b"MR.EXTEND\0\0\0\0\0\0\0", at));
                extend.extend(bytes);
            }
            hash.update(record(b"MEM.PAGE.ADD\0\0\0\0", page));
            if attributes & 1 == 0 {
                continue;
            }
            match order {
                PageOrder::SinglePass => hash.update(extend),
                PageOrder::TwoPass => extends.extend(extend),
            }
        }
        hash.update(extends);
    }
    Digest48(hash.finalize().into())
}

fn record(name: &[u8; 16], address: u64) -> Vec<u8> {
    [&name[..], &address.to_le_bytes(), &[0; 104]].concat()
}
