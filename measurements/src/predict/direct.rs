//! RTMR1 and RTMR2 of a direct boot: QEMU hands the kernel, the initrd and the command line to the firmware.
//!
//! Holds for QEMU 10.0 and later with edk2 stable202502 and later: that pair passes the kernel as it lies on disk
//! (fw_cfg `etc/boot/kernel`). Older pairs patch the kernel's header first, in ways that depend on memory. RTMR2 comes
//! from the kernel's EFI stub (Linux 6.9 and later, `efi_measure_tagged_event`).

use super::authenticode::authenticode;
use super::bytes::utf16;
use super::{EventKind, PredictError, PredictedEvent};
use crate::{Digest48, Register, limits};

/// The events of RTMR1, in order.
pub fn rtmr1(kernel: &[u8]) -> Result<Vec<PredictedEvent>, PredictError> {
    let event = |kind, digest, from: &str| PredictedEvent {
        register: Register::Rtmr1,
        kind,
        digest,
        from: from.into(),
    };
    let action = |text: &str| event(EventKind::Action, Digest48::of(text.as_bytes()), text);
    Ok(vec![
        event(
            EventKind::BootServicesApplication,
            authenticode(kernel)?,
            "kernel, Authenticode",
        ),
        action("Calling EFI Application from Boot Option"),
        event(EventKind::Separator, Digest48::of(&[0; 4]), "separator"),
        action("Exit Boot Services Invocation"),
        action("Exit Boot Services Returned with Success"),
    ])
}

/// The events of RTMR2, in order.
pub fn rtmr2(cmdline: &str, initrd: Option<&[u8]>) -> Result<Vec<PredictedEvent>, PredictError> {
    check_cmdline(cmdline)?;
    let event = |digest, from: String| PredictedEvent {
        register: Register::Rtmr2,
        kind: EventKind::Tag,
        digest,
        from,
    };
    let Some(initrd) = initrd else {
        return Ok(vec![event(
            Digest48::of(&load_options(cmdline)),
            "LOADED_IMAGE::LoadOptions".into(),
        )]);
    };
    if initrd.is_empty() || initrd.len() > limits::INITRD_BYTES_MAX {
        return Err(PredictError::Initrd { got: initrd.len() });
    }
    // OvmfPkg's `X86QemuLoadImageLib` appends this when there is an initrd.
    let measured = format!("{cmdline} initrd=initrd");
    Ok(vec![
        event(
            Digest48::of(&load_options(&measured)),
            "LOADED_IMAGE::LoadOptions, with \" initrd=initrd\"".into(),
        ),
        event(Digest48::of(initrd), "Linux initrd".into()),
    ])
}

/// UTF-16 with a final zero.
fn load_options(cmdline: &str) -> Vec<u8> {
    let mut options = utf16(cmdline);
    options.extend([0, 0]);
    options
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
