//! Whether QEMU changes the kernel before the firmware measures it.
//!
//! QEMU's loader for Linux (`hw/i386/x86-common.c`, `x86_load_linux`) fills in the kernel's setup header as a BIOS would
//! want it. Firmware that gets header and kernel in two pieces puts them together and measures the result: such a digest
//! depends on memory and initrd. QEMU 10.0 added fw_cfg's `etc/boot/kernel`, the file as it is, which OVMF prefers since
//! edk2 stable202502. QEMU 10.2 leaves the header alone for every confidential guest (commit a7542a38f399).
//!
//! | QEMU | edk2 | trust domain | measured |
//! |---|---|---|---|
//! | 8.0 to 9.2 | any | any | patched |
//! | 10.0, 10.1 | before stable202502 | any | patched |
//! | 10.2 and later | before stable202502 | no | patched |
//! | 10.2 and later | before stable202502 | yes | as on disk |
//! | 10.0 and later | stable202502 and later | any | as on disk |

use super::bytes::{u16_at, u32_at};
use super::{Edk2Release, PredictError};
use crate::limits;

/// Which bytes of the kernel the firmware measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelHeader {
    /// Those of the file.
    AsOnDisk,
    /// Those of the file, with QEMU's fields in the setup header.
    PatchedByQemu {
        /// Memory of the guest: it decides where QEMU puts the initrd.
        memory_mib: u64,
    },
}

/// Why it is not known which bytes are measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum HeaderError {
    #[error("QEMU {got:?} is not known: {}.0 to {}.{} are", QEMU_FIRST, QEMU_LAST.0, QEMU_LAST.1)]
    Qemu { got: String },
    #[error("QEMU's changes to this kernel's header are not known: {what}")]
    Kernel { what: &'static str },
    #[error("QEMU finds no room for an initrd of {got} bytes below {max}")]
    Initrd { got: usize, max: u64 },
}

impl KernelHeader {
    /// What QEMU and firmware of these versions do. `qemu` is a version as QEMU prints it, `10.0.13`; `trust_domain` says whether the guest is a confidential one to QEMU.
    pub fn of(
        qemu: &str,
        edk2: Edk2Release,
        trust_domain: bool,
        memory_mib: u64,
    ) -> Result<KernelHeader, HeaderError> {
        let version = qemu_version(qemu).ok_or_else(|| HeaderError::Qemu { got: qemu.into() })?;
        let takes_the_file = version >= QEMU_BOOT_KERNEL && edk2 >= Edk2Release::STABLE202502;
        let leaves_it_alone = version >= QEMU_CONFIDENTIAL && trust_domain;
        Ok(match takes_the_file || leaves_it_alone {
            true => KernelHeader::AsOnDisk,
            false => KernelHeader::PatchedByQemu { memory_mib },
        })
    }
}

/// Major and minor number, if they are of a version that is known.
fn qemu_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    let version = (number(parts.next()?)?, number(parts.next()?)?);
    let rest: Option<Vec<u32>> = parts.map(number).collect();
    let known = ((QEMU_FIRST, 0)..=QEMU_LAST).contains(&version) && rest?.len() <= 1;
    known.then_some(version)
}

/// Digits alone; `parse` takes a sign too.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// The kernel as such a QEMU hands it over. Offsets: Linux, `Documentation/arch/x86/boot.rst`, "The Real-Mode Kernel
/// Header".
pub(super) fn patched(
    kernel: &[u8],
    initrd: Option<&[u8]>,
    cmdline: &str,
    memory_mib: u64,
) -> Result<Vec<u8>, PredictError> {
    let unusual = |what| PredictError::Header(HeaderError::Kernel { what });
    if u32_at(kernel, 0x202) != Some(u32::from_le_bytes(*b"HdrS")) {
        return Err(unusual("it has no setup header"));
    }
    // Since Linux 3.8, of 2013.
    let protocol = u16_at(kernel, 0x206).unwrap_or(0);
    if protocol < 0x20c || kernel.get(0x211).is_none_or(|flags| flags & 1 == 0) {
        return Err(unusual("its boot protocol is older than 2.12"));
    }
    if cmdline.contains("vga=") {
        return Err(unusual(
            "the command line has `vga=`, which QEMU puts into it",
        ));
    }
    if !(1..=limits::MEMORY_MIB_MAX).contains(&memory_mib) {
        let got_mib = memory_mib;
        return Err(PredictError::Memory { got_mib });
    }
    let above_4g = u16_at(kernel, 0x236).unwrap_or(0) & 2 != 0;
    let kernels_max = match above_4g {
        true => u64::from(u32::MAX),
        false => u64::from(u32_at(kernel, 0x22c).unwrap_or(0)),
    };
    let memory = memory_mib << 20;
    let below_4g = if memory >= 0xb000_0000 {
        0x8000_0000
    } else {
        memory
    };
    let room = below_4g.saturating_sub(ACPI_DATA_BYTES);
    let initrd_max = if kernels_max >= room {
        room.saturating_sub(1)
    } else {
        kernels_max
    };

    let mut patched = kernel.to_vec();
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = patched.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0x210, &[0xb0]);
    put(0x211, &[kernel[0x211] | 0x80]);
    put(0x224, &0xfe00u16.to_le_bytes());
    put(0x228, &0x2_0000u32.to_le_bytes());
    if let Some(initrd) = initrd {
        let bytes = initrd.len() as u64;
        let none = HeaderError::Initrd {
            got: initrd.len(),
            max: initrd_max,
        };
        let free = initrd_max.checked_sub(bytes).filter(|free| *free > 0);
        let address = free.ok_or(none)? & !0xfff;
        put(0x218, &(address as u32).to_le_bytes());
        put(0x21c, &(bytes as u32).to_le_bytes());
    }
    Ok(patched)
}

const QEMU_FIRST: u32 = 8;
const QEMU_LAST: (u32, u32) = (11, 1);
const QEMU_BOOT_KERNEL: (u32, u32) = (10, 0);
const QEMU_CONFIDENTIAL: (u32, u32) = (10, 2);
/// `PC_MACHINE_ACPI_DATA_SIZE` of QEMU: 0x20000 and 0x8000.
const ACPI_DATA_BYTES: u64 = 0x2_8000;
