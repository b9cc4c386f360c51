//! A unified kernel image by both roads, the second from a disk whose first blocks follow the image; and a kernel whose
//! header QEMU fills in. Two bytes say where the image ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use predict::{Boot, KernelHeader, UkiRoad};

fuzz_target!(|bytes: &[u8]| {
    let Some((end, rest)) = bytes.split_first_chunk() else {
        return;
    };
    let end = usize::from(u16::from_le_bytes(*end)).min(rest.len());
    let (uki, table) = rest.split_at(end);
    let append = Some("console=ttyS0");
    let roads = [
        UkiRoad::Kernel { append: None },
        UkiRoad::Kernel { append },
        UkiRoad::Disk {
            table,
            loader: Some(uki),
        },
    ];
    for road in roads {
        let _ = Boot::Uki { uki, road }.events();
    }
    let _ = Boot::Direct {
        kernel: uki,
        initrd: Some(table),
        cmdline: "console=ttyS0",
        header: KernelHeader::PatchedByQemu { memory_mib: 2048 },
    }
    .events();
});
