//! RTMR1 and RTMR2: what is started, and how.
//!
//! ```text
//!  -kernel:  program ─► Calling… ─► separator ─────────────────────────► [kernel in it] ─► Exit… ─► Exit…
//!  disk:                Calling… ─► separator ─► GPT ─► [loader] ─► UKI ─► kernel in it ─► Exit… ─► Exit…     (RTMR1)
//!
//!  before edk2-stable202411 without that separator, in stable202211 with boot variables before Calling…
//!
//!  kernel:   LoadOptions ─► initrd
//!  UKI:      sections ─► [passed command line] ─► LoadOptions ─► initrd                                       (RTMR2)
//! ```

use super::authenticode::{self, authenticode};
use super::header::{KernelHeader, patched};
use super::uki::{Uki, UkiError};
use super::{Edk2Release, EventKind, PredictError, PredictedEvent, boot_options, direct, gpt};
use crate::limits;
use registers::{Digest48, Register};

/// What the firmware starts.
#[derive(Clone, Copy, Debug)]
pub enum Boot<'a> {
    /// QEMU's `-kernel` with a Linux kernel.
    Direct {
        /// The kernel as it lies on disk.
        kernel: &'a [u8],
        /// The initrd, if there is one.
        initrd: Option<&'a [u8]>,
        /// The command line as `-append` takes it.
        cmdline: &'a str,
        /// Which of the kernel's bytes are measured.
        header: KernelHeader,
    },
    /// A unified kernel image: one program made of systemd's stub, kernel, initrd and command line.
    Uki {
        /// The image as it lies on disk.
        uki: &'a [u8],
        /// How it gets to the firmware.
        method: BootMethod<'a>,
    },
}

/// How a unified kernel image gets to the firmware. No other program, driver or boot option runs before it.
#[derive(Clone, Copy, Debug)]
pub enum BootMethod<'a> {
    /// QEMU's `-kernel`, without `-initrd`.
    Kernel {
        /// `-append`. The stub takes it in the place of its own command line, and measures it, unless Secure Boot is on.
        append: Option<&'a str>,
    },
    /// A file on a disk that the firmware starts, itself or through a boot loader that passes no command line. What else
    /// lies in the disk's boot partition is not seen here: add-ons and credentials beside the image are measured too.
    Disk {
        /// The disk's first blocks, of 512 bytes each, with all of its partition table.
        table: &'a [u8],
        /// The program that the firmware starts first, if that is not the image itself: systemd-boot.
        loader: Option<&'a [u8]>,
    },
}

impl Boot<'_> {
    /// The events of RTMR1, then those of RTMR2, each in order, as firmware of this release measures them.
    pub fn events(&self, release: Edk2Release) -> Result<Vec<PredictedEvent>, PredictError> {
        match *self {
            Boot::Direct {
                kernel,
                initrd,
                cmdline,
                header,
            } => {
                let mut events = match header {
                    KernelHeader::AsOnDisk => direct::rtmr1(kernel, release)?,
                    KernelHeader::PatchedByQemu { memory_mib } => {
                        direct::check(cmdline, initrd)?;
                        let patched = patched(kernel, initrd, cmdline, memory_mib)?;
                        let kernel = authenticode(&patched)?;
                        direct::rtmr1_of(kernel, "kernel with QEMU's header", release)
                    }
                };
                events.extend(direct::rtmr2(cmdline, initrd)?);
                Ok(events)
            }
            Boot::Uki { uki, method } => {
                let uki = Uki::parse(uki)?;
                let mut events = rtmr1(&uki, method, release)?;
                let append = match method {
                    BootMethod::Kernel { append } => append,
                    BootMethod::Disk { .. } => None,
                };
                events.extend(uki.rtmr2(append)?);
                Ok(events)
            }
        }
    }
}

fn rtmr1(
    uki: &Uki<'_>,
    method: BootMethod<'_>,
    release: Edk2Release,
) -> Result<Vec<PredictedEvent>, PredictError> {
    let image = program(uki.authenticode()?, "unified kernel image, Authenticode");
    let kernel = program(
        uki.kernel_authenticode()?,
        "kernel in the image, Authenticode",
    );
    let mut events = Vec::new();
    match method {
        BootMethod::Kernel { .. } => {
            events.push(image);
            events.extend(ready_to_boot(release));
        }
        BootMethod::Disk { table, loader } => {
            if release.layout().boot_variables == Register::Rtmr1 {
                return Err(PredictError::DiskOptions);
            }
            events.extend(ready_to_boot(release));
            events.push(event(
                EventKind::Gpt,
                gpt::digest(table)?,
                "partition table of the disk",
            ));
            if let Some(loader) = loader {
                let headers = authenticode::headers(loader, limits::LOADER_BYTES_MAX);
                let digest = headers.and_then(|h| authenticode::of_program(loader, &h));
                let digest = digest.map_err(UkiError::Loader)?;
                events.push(program(digest, "boot loader, Authenticode"));
            }
            events.push(image);
        }
    }
    events.push(kernel);
    events.extend(leaving());
    Ok(events)
}

/// The boot manager starts an option.
pub(super) fn ready_to_boot(release: Edk2Release) -> Vec<PredictedEvent> {
    let layout = release.layout();
    let of_rtmr1 = |register| register == Register::Rtmr1;
    let variables = boot_options::events(layout);
    variables
        .filter(|_| of_rtmr1(layout.boot_variables))
        .chain([action("Calling EFI Application from Boot Option")])
        .chain(of_rtmr1(layout.separator).then(|| separator(Register::Rtmr1)))
        .collect()
}

/// Between two phases.
pub(super) fn separator(register: Register) -> PredictedEvent {
    PredictedEvent {
        register,
        ..event(EventKind::Separator, Digest48::of(&[0; 4]), "separator")
    }
}

/// The kernel leaves the firmware.
pub(super) fn leaving() -> [PredictedEvent; 2] {
    [
        action("Exit Boot Services Invocation"),
        action("Exit Boot Services Returned with Success"),
    ]
}

/// The firmware loads a program.
pub(super) fn program(digest: Digest48, from: &str) -> PredictedEvent {
    event(EventKind::BootServicesApplication, digest, from)
}

fn action(text: &str) -> PredictedEvent {
    event(EventKind::Action, Digest48::of(text.as_bytes()), text)
}

fn event(kind: EventKind, digest: Digest48, from: &str) -> PredictedEvent {
    PredictedEvent {
        register: Register::Rtmr1,
        kind,
        digest,
        from: from.into(),
    }
}
