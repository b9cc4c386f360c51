//! RTMR1 and RTMR2 of a direct boot: QEMU hands the kernel, the initrd and the command line to the firmware.
//!
//! RTMR2 comes from the kernel's EFI stub (Linux 6.9 and later, `efi_measure_tagged_event`).

use super::authenticode::authenticode;
use super::boot::{leaving, program, ready_to_boot};
use super::bytes::utf16;
use super::{Edk2Release, EventKind, PredictError, PredictedEvent};
use crate::limits;
use registers::{Digest48, Register};

/// The events of RTMR1, in order, where the kernel is measured as it lies on disk
/// ([`KernelHeader::AsOnDisk`](super::KernelHeader::AsOnDisk)).
pub fn rtmr1(kernel: &[u8], release: Edk2Release) -> Result<Vec<PredictedEvent>, PredictError> {
    Ok(rtmr1_of(authenticode(kernel)?, "kernel", release))
}

pub(super) fn rtmr1_of(kernel: Digest48, what: &str, release: Edk2Release) -> Vec<PredictedEvent> {
    let kernel = program(kernel, &format!("{what}, Authenticode"));
    [kernel]
        .into_iter()
        .chain(ready_to_boot(release))
        .chain(leaving())
        .collect()
}

/// The events of RTMR2, in order.
pub fn rtmr2(cmdline: &str, initrd: Option<&[u8]>) -> Result<Vec<PredictedEvent>, PredictError> {
    check(cmdline, initrd)?;
    let Some(initrd) = initrd else {
        return Ok(vec![load_options(cmdline, "LOADED_IMAGE::LoadOptions")]);
    };
    // OvmfPkg's `X86QemuLoadImageLib` appends this when there is an initrd.
    let measured = format!("{cmdline} initrd=initrd");
    Ok(vec![
        load_options(
            &measured,
            "LOADED_IMAGE::LoadOptions, with \" initrd=initrd\"",
        ),
        tag(Digest48::of(initrd), "Linux initrd"),
    ])
}

/// What the kernel's stub measures of its command line: UTF-16 with a final zero.
pub(super) fn load_options(cmdline: &str, from: &str) -> PredictedEvent {
    tag(Digest48::of(&options(cmdline)), from)
}

/// UTF-16 with a final zero.
pub fn options(cmdline: &str) -> Vec<u8> {
    let mut options = utf16(cmdline);
    options.extend([0, 0]);
    options
}

/// What the kernel's stub measures.
pub(super) fn tag(digest: Digest48, from: &str) -> PredictedEvent {
    PredictedEvent {
        register: Register::Rtmr2,
        kind: EventKind::Tag,
        digest,
        from: from.into(),
    }
}

pub(super) fn check(cmdline: &str, initrd: Option<&[u8]>) -> Result<(), PredictError> {
    check_cmdline(cmdline)?;
    match initrd.map(<[u8]>::len) {
        Some(got) if got == 0 || got > limits::INITRD_BYTES_MAX => {
            Err(PredictError::Initrd { got })
        }
        _ => Ok(()),
    }
}

/// Printable ASCII, which has one form in UTF-16 and none that a kernel cuts; not empty, because then the firmware
/// passes no options and the kernel measures none.
pub(crate) fn check_cmdline(cmdline: &str) -> Result<(), PredictError> {
    let plain = cmdline.bytes().all(|b| (b' '..=b'~').contains(&b));
    if cmdline.is_empty() || cmdline.len() > limits::CMDLINE_BYTES_MAX || !plain {
        return Err(PredictError::Cmdline {
            got: cmdline.len(),
            max: limits::CMDLINE_BYTES_MAX,
        });
    }
    Ok(())
}
