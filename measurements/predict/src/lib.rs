//! What a TDX guest should measure to, computed from its image and its machine.
//!
//! **What it is.** The measurements of a TDX guest that QEMU starts with a kernel (`-kernel`) or with a unified kernel
//! image, from the firmware, what it starts, the memory size and QEMU's ACPI tables ([`predict`]); the machine that QEMU is
//! told ([`qemu`]), its tables made as QEMU makes them ([`acpi`], [`smbios`]); the manifest of an image ([`image`]).
//! `docs/measurements.md` has each rule, `docs/measurements-evidence.md` how it was confirmed.
//!
//! **Trusts.** The caller, for the versions behind the files: QEMU and edk2 ([`KernelHeader::of`] knows what they decide of
//! the kernel's digest, [`Layout`] and [`FirmwareBuild`] have the rest), Linux 6.9 or later. No byte of a file is trusted: a
//! [`Firmware`] is one whose compressed volumes have the driver that measures.
//!
//! **Promises.** The same inputs give the same events. It refuses what it cannot predict for certain: a wrong
//! prediction does no harm, because no guest has such registers, but a guess would hide why a register differs. No input makes it panic.
//!
//! **Lacks.** Files, sockets, a clock, a random source: files are arguments. It judges no quote.

#![forbid(unsafe_code)]

pub mod acpi;
pub mod authenticode;
mod boot;
mod boot_options;
mod build;
mod bytes;
pub mod direct;
mod fw_cfg;
mod gpt;
mod header;
mod hob;
pub mod image;
pub mod limits;
mod mrtd;
mod pe;
pub mod qemu;
mod release;
mod rtmr0;
pub mod rtmr3;
pub mod smbios;
pub mod tdvf;
mod uki;
mod variables;
mod verity;

use serde::{Deserialize, Serialize};

use crate::acpi::Tables;
use acpi::files::{AcpiError, AcpiFiles};
use authenticode::PeError;
pub use boot::{Boot, BootMethod};
pub use build::{BiosInformation, BuildError, Firmware, FirmwareBuild, FirmwareError};
pub use fw_cfg::FwCfg;
pub use gpt::GptError;
pub use header::{HeaderError, KernelHeader};
pub use mrtd::{PageOrder, mrtd};
use registers::{Digest48, Register, Registers};
pub use release::{Edk2Release, Edk2ReleaseError, Layout};
pub use rtmr0::Platform;
pub use smbios::measured::SmbiosError;
pub use tdvf::volumes::VolumeError;
use tdvf::{Tdvf, TdvfError};
pub use uki::{STUBS, UkiError};
pub use variables::StoreError;
pub use verity::{VERITY_BLOCK_BYTES, VerityHash};

/// Everything that a boot measures.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The firmware and the machine that it finds.
    pub platform: Platform<'a>,
    /// In which order QEMU adds the firmware's pages.
    pub page_order: PageOrder,
    /// QEMU's ACPI files for this machine. Those that [`acpi_files`](crate::acpi::acpi_files) makes, so that registers from here can be a policy's.
    pub acpi: &'a Tables,
    /// What the firmware starts.
    pub boot: Boot<'a>,
}

/// What a guest will measure to, and what leads there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// The initial memory.
    pub mrtd: Digest48,
    /// The events of RTMR0, then of RTMR1, then of RTMR2, each in order.
    pub events: Vec<PredictedEvent>,
}

/// One thing that a guest measures while it boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictedEvent {
    /// The register it extends.
    pub register: Register,
    /// Its type in the event log.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// What extends the register.
    pub digest: Digest48,
    /// What was measured, for people.
    pub from: String,
}

/// Types of events (TCG PC Client Platform Firmware Profile, section 10.4.1) that a boot logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// Four zero bytes between phases.
    #[serde(rename = "EV_SEPARATOR")]
    Separator,
    /// What the kernel's stub measures.
    #[serde(rename = "EV_EVENT_TAG")]
    Tag,
    /// What systemd's stub measures.
    #[serde(rename = "EV_IPL")]
    Ipl,
    /// ACPI tables.
    #[serde(rename = "EV_PLATFORM_CONFIG_FLAGS")]
    PlatformConfigFlags,
    /// A Secure Boot variable.
    #[serde(rename = "EV_EFI_VARIABLE_DRIVER_CONFIG")]
    VariableDriverConfig,
    /// A boot variable.
    #[serde(rename = "EV_EFI_VARIABLE_BOOT")]
    VariableBoot,
    /// A program.
    #[serde(rename = "EV_EFI_BOOT_SERVICES_APPLICATION")]
    BootServicesApplication,
    /// The partition table of the disk that is booted from.
    #[serde(rename = "EV_EFI_GPT_EVENT")]
    Gpt,
    /// A sentence.
    #[serde(rename = "EV_EFI_ACTION")]
    Action,
    /// A volume of the firmware.
    #[serde(rename = "EV_EFI_PLATFORM_FIRMWARE_BLOB2")]
    FirmwareBlob2,
    /// The list of memory ranges.
    #[serde(rename = "EV_EFI_HANDOFF_TABLES2")]
    HandoffTables2,
    /// SMBIOS.
    #[serde(rename = "EV_EFI_HANDOFF_TABLES")]
    HandoffTables,
    /// The key under which a program was let in.
    #[serde(rename = "EV_EFI_VARIABLE_AUTHORITY")]
    VariableAuthority,
}

/// Why nothing is predicted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum PredictError {
    #[error(transparent)]
    Firmware(#[from] TdvfError),
    #[error(transparent)]
    VariableStore(#[from] StoreError),
    #[error(transparent)]
    Smbios(#[from] SmbiosError),
    #[error(
        "{got_mib} MiB of memory are not enough for the firmware, or more than the {} MiB allowed",
        limits::MEMORY_MIB_MAX
    )]
    Memory { got_mib: u64 },
    #[error(transparent)]
    Acpi(#[from] AcpiError),
    #[error("the kernel: {0}")]
    Kernel(#[from] PeError),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Uki(#[from] UkiError),
    #[error(transparent)]
    Disk(#[from] GptError),
    #[error("RTMR0 of a boot from a disk is not known; RTMR1 and RTMR2 alone are")]
    BootOptions,
    #[error(
        "firmware of {} measures its boot options into RTMR1, and those of a boot from a disk are not known",
        Layout::ALL[0]
    )]
    DiskOptions,
    #[error(
        "the initrd has {got} bytes; it may be absent, or have 1 to {}",
        limits::INITRD_BYTES_MAX
    )]
    Initrd { got: usize },
    #[error(
        "the command line has {got} bytes; it must be printable ASCII and have 1 to {max} of them"
    )]
    Cmdline { got: usize, max: usize },
}

/// Predicts MRTD and RTMR0 to RTMR2. Of a boot from a disk, [`Boot::events`] has RTMR1 and RTMR2, and nobody RTMR0.
pub fn predict(inputs: &Inputs<'_>) -> Result<Prediction, PredictError> {
    if let Boot::Uki {
        method: BootMethod::Disk { .. },
        ..
    } = inputs.boot
    {
        return Err(PredictError::BootOptions);
    }
    let tdvf = for_qemu(inputs.platform.firmware.bytes())?;
    let mut events = rtmr0::with_acpi(&tdvf, &inputs.platform, inputs.acpi)?;
    events.extend(
        inputs
            .boot
            .events(inputs.platform.firmware.build().release())?,
    );
    Ok(Prediction {
        mrtd: mrtd::of(&tdvf, inputs.page_order),
        events,
    })
}

/// The events of RTMR0 but for the ACPI tables: those before the tables, and those after. For a reader who has no tables of
/// the machine and wants to check the rest.
pub fn rtmr0_around_acpi(
    platform: &Platform<'_>,
) -> Result<[Vec<PredictedEvent>; 2], PredictError> {
    rtmr0::without_acpi(&for_qemu(platform.firmware.bytes())?, platform)
}

/// The events of RTMR0, in order. With files of any origin, so for study: [`predict`] alone gives registers.
pub fn rtmr0(
    platform: &Platform<'_>,
    acpi: &AcpiFiles,
) -> Result<Vec<PredictedEvent>, PredictError> {
    rtmr0::with_acpi(&for_qemu(platform.firmware.bytes())?, platform, acpi)
}

/// What the list of memory ranges of a guest of this size extends RTMR0 by: the one event that depends on memory, beside the
/// ACPI tables.
pub fn memory_digest(firmware: &[u8], memory_mib: u64) -> Result<Digest48, PredictError> {
    let hob = hob::td_hob(&for_qemu(firmware)?, memory_mib)?;
    Ok(Digest48::of(&hob))
}

/// A machine of QEMU's starts with what QEMU loads.
fn for_qemu(firmware: &[u8]) -> Result<Tdvf<'_>, TdvfError> {
    let tdvf = Tdvf::parse(firmware)?;
    tdvf.check_qemu()?;
    Ok(tdvf)
}

/// The value of a register that these events extend, from zero; events of other registers are passed over.
pub fn replay(register: Register, events: &[PredictedEvent]) -> Digest48 {
    events
        .iter()
        .filter(|event| event.register == register)
        .fold(Digest48::ZERO, |value, event| {
            value.extended_by(&event.digest)
        })
}

impl Prediction {
    /// The registers. RTMR3 is zero: what extends it runs after the boot.
    pub fn registers(&self) -> Registers {
        Registers {
            mrtd: self.mrtd,
            rtmr: [
                replay(Register::Rtmr0, &self.events),
                replay(Register::Rtmr1, &self.events),
                replay(Register::Rtmr2, &self.events),
                Digest48::ZERO,
            ],
        }
    }
}
