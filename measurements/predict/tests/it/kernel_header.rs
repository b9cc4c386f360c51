//! Kernels with QEMU's header: when they are measured so, and what then.

use crate::common::made;
use predict::{Boot, Edk2Release, HeaderError, KernelHeader, PredictError, direct};
use registers::Digest48;

const RELEASE: Edk2Release = Edk2Release::STABLE202502;

/// Which versions change the kernel: the table of `predict/header.rs`.
#[test]
fn qemu_and_firmware_decide_whether_the_kernel_is_changed() {
    let memory_mib = 2048;
    let check = |qemu, edk2: &str, patched: [bool; 2]| {
        for (trust_domain, patched) in [false, true].into_iter().zip(patched) {
            let expected = match patched {
                true => KernelHeader::PatchedByQemu { memory_mib },
                false => KernelHeader::AsOnDisk,
            };
            let got = KernelHeader::of(qemu, edk2.parse().unwrap(), trust_domain, memory_mib);
            assert_eq!(got, Ok(expected), "{qemu} {edk2} {trust_domain}");
        }
    };
    check("8.2.2", "202402", [true, true]);
    check("9.2.1", "202502", [true, true]);
    check("10.0.13", "202211", [true, true]);
    check("10.1", "202411", [true, true]);
    check("10.2.1", "202411", [true, false]);
    check("10.0.13", "202502", [false, false]);
    check("11.1.3", "202608", [false, false]);
}

#[test]
fn versions_nobody_looked_at_are_refused_by_name() {
    for qemu in [
        "7.2.22", "11.2", "12.0", "", "ten", "10", "10.0.1.2", "+10.0", "10.x",
    ] {
        let expected = HeaderError::Qemu { got: qemu.into() };
        assert_eq!(KernelHeader::of(qemu, RELEASE, true, 1), Err(expected));
    }
}

/// A program that is also a Linux kernel to QEMU: boot protocol 2.15, may be loaded high and its initrd above 4 GiB.
fn linux() -> Vec<u8> {
    let mut kernel = made::kernel();
    let mut put = |at: usize, bytes: &[u8]| kernel[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x202, b"HdrS\x0f\x02");
    put(0x211, &[1]);
    put(0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(0x236, &[0x3f, 0]);
    kernel
}

fn patched(
    kernel: &[u8],
    initrd: Option<&[u8]>,
    memory_mib: u64,
) -> Result<Digest48, PredictError> {
    let header = KernelHeader::PatchedByQemu { memory_mib };
    let boot = Boot::Direct {
        kernel,
        initrd,
        cmdline: "quiet",
        header,
    };
    boot.events(RELEASE).map(|events| events[0].digest)
}

/// Expected: the fields as QEMU's source has them, put in by hand.
#[test]
fn qemus_header_has_its_fields() {
    let check = |memory_mib, initrd: Option<&[u8]>, address: u32, edit: &[(usize, u8)]| {
        let mut kernel = linux();
        edit.iter().for_each(|(at, value)| kernel[*at] = *value);
        let got = patched(&kernel, initrd, memory_mib);
        let mut put = |at: usize, bytes: &[u8]| kernel[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x210, &[0xb0, 0x81]);
        put(0x224, &[0x00, 0xfe]);
        put(0x228, &[0, 0, 2, 0]);
        if let Some(initrd) = initrd {
            put(0x218, &address.to_le_bytes());
            put(0x21c, &(initrd.len() as u32).to_le_bytes());
        }
        let expected = direct::rtmr1(&kernel, RELEASE).unwrap()[0].digest;
        assert_eq!(got, Ok(expected), "{memory_mib}");
    };
    let initrd = vec![7; 5000];
    check(1024, Some(&initrd), 0x3ffd_6000, &[]);
    check(2815, Some(&initrd), 0xafed_6000, &[]);
    check(2816, Some(&initrd), 0x7ffd_6000, &[]);
    check(65536, Some(&initrd), 0x7ffd_6000, &[]);
    check(1024, None, 0, &[]);
    // A kernel whose initrd must be lower than memory would let it: initrd_addr_max is then 0x37ffffff.
    check(
        1024,
        Some(&initrd),
        0x37ff_e000,
        &[(0x236, 0), (0x22f, 0x37)],
    );
    assert_ne!(
        patched(&linux(), None, 1024),
        Ok(direct::rtmr1(&linux(), RELEASE).unwrap()[0].digest)
    );
}

#[test]
fn kernels_whose_header_qemu_treats_otherwise_are_refused() {
    let check = |at: usize, value: u8, what| {
        let mut kernel = linux();
        kernel[at] = value;
        let expected = PredictError::Header(HeaderError::Kernel { what });
        assert_eq!(patched(&kernel, None, 1024), Err(expected));
    };
    check(0x202, b'h', "it has no setup header");
    check(0x206, 0x0b, "its boot protocol is older than 2.12");
    check(0x211, 0, "its boot protocol is older than 2.12");
    let boot = Boot::Direct {
        kernel: &linux(),
        initrd: None,
        cmdline: "quiet vga=ask",
        header: KernelHeader::PatchedByQemu { memory_mib: 1024 },
    };
    let what = "the command line has `vga=`, which QEMU puts into it";
    let expected = PredictError::Header(HeaderError::Kernel { what });
    assert_eq!(boot.events(RELEASE), Err(expected));
    let initrd = vec![7; 1 << 20];
    let expected = HeaderError::Initrd {
        got: 1 << 20,
        max: (1 << 20) - 0x28001,
    };
    assert_eq!(patched(&linux(), Some(&initrd), 1), Err(expected.into()));
    for got_mib in [0, predict::limits::MEMORY_MIB_MAX + 1] {
        let refused = Err(PredictError::Memory { got_mib });
        assert_eq!(patched(&linux(), None, got_mib), refused);
    }
}
