//! A unified kernel image by both boot methods, the second from a disk whose first blocks follow the image; and a kernel whose
//! header QEMU fills in. Two bytes say where the image ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use predict::{Boot, BootMethod, Edk2Release, KernelHeader};

fuzz_target!(|bytes: &[u8]| {
    let Some((end, rest)) = bytes.split_first_chunk() else {
        return;
    };
    let end = usize::from(u16::from_le_bytes(*end)).min(rest.len());
    let (uki, table) = rest.split_at(end);
    let append = Some("console=ttyS0");
    let methods = [
        BootMethod::Kernel { append: None },
        BootMethod::Kernel { append },
        BootMethod::Disk {
            table,
            loader: Some(uki),
        },
    ];
    for method in methods {
        let _ = Boot::Uki { uki, method }.events(Edk2Release::STABLE202502);
    }
    let _ = Boot::Direct {
        kernel: uki,
        initrd: Some(table),
        cmdline: "console=ttyS0",
        header: KernelHeader::PatchedByQemu { memory_mib: 2048 },
    }
    .events(Edk2Release::FIRST);
});
