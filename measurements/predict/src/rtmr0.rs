//! RTMR0: what the firmware was configured with.
//!
//! | event | if |
//! |---|---|
//! | list of memory ranges, variable store | |
//! | settings of fw_cfg, each that exists | the [layout](super::Layout) has them |
//! | five Secure Boot variables, separator | |
//! | ACPI files, as the script lists them | the layout has them |
//! | the entry of db that the kernel is signed under | Secure Boot is on |
//! | SMBIOS | the layout has it |
//! | `BootOrder`, one option or two; separator | the layout has them in RTMR0 |

use super::acpi::files::{self, AcpiFiles};
use super::build::Firmware;
use super::fw_cfg::FwCfg;
use super::hob::td_hob;
use super::smbios::measured::{self, SmbiosError};
use super::tdvf::Tdvf;
use super::variables::{
    IMAGE_SECURITY_DATABASE, MEASURED, SecureBoot, StoreError, VariableStore, check_empty,
    variable_data,
};
use super::{EventKind, PredictError, PredictedEvent, boot, boot_options};
use registers::{Digest48, Register};

/// A firmware and the machine that it finds, but for the ACPI tables.
#[derive(Clone, Copy, Debug)]
pub struct Platform<'a> {
    /// The firmware, and how it was built.
    pub firmware: Firmware<'a>,
    /// Memory of the guest.
    pub memory_mib: u64,
    /// QEMU's `etc/smbios/smbios-tables`. Firmware before stable202505 measures none.
    pub smbios: Option<&'a [u8]>,
    /// Settings of fw_cfg. Firmware before stable202505 measures none.
    pub fw_cfg: FwCfg<'a>,
    /// The certificate of `db` under which the kernel is signed, as DER. Only a firmware with Secure Boot on has one; which
    /// of them it was is the caller's word, and the kernel's signature is not checked here.
    pub signer: Option<&'a [u8]>,
}

impl<'a> Platform<'a> {
    /// A direct boot of a firmware that measures no SMBIOS and checks no signature.
    pub fn new(firmware: Firmware<'a>, memory_mib: u64) -> Platform<'a> {
        Platform {
            firmware,
            memory_mib,
            smbios: None,
            fw_cfg: FwCfg::DIRECT_BOOT,
            signer: None,
        }
    }
}

/// The events of RTMR0, in order, before the ACPI tables and after them.
pub(super) fn without_acpi(
    tdvf: &Tdvf<'_>,
    platform: &Platform<'_>,
) -> Result<[Vec<PredictedEvent>; 2], PredictError> {
    let (store, build) = (tdvf.variable_store()?, platform.firmware.build());
    let layout = build.release().layout();
    let hob = td_hob(tdvf, platform.memory_mib)?;
    let mut before = vec![
        event(
            EventKind::HandoffTables2,
            &hob,
            format!("TD HOB, {} MiB", platform.memory_mib),
        ),
        event(
            EventKind::FirmwareBlob2,
            store,
            "configuration volume of the firmware",
        ),
    ];
    if layout.settings {
        for (name, data) in platform.fw_cfg.measured() {
            before.push(event(EventKind::PlatformConfigFlags, data, name));
        }
    }
    let (variables, authority) = if build.secure_boot() {
        let secure_boot = VariableStore::parse(store)?.secure_boot()?;
        let authority = authority(&secure_boot, platform.signer)?;
        (variables(secure_boot.data()), authority)
    } else {
        check_empty(store)?;
        let unused = platform
            .signer
            .map_or(Ok(()), |_| Err(StoreError::SignerUnused));
        unused?;
        (variables([None; 5]), None)
    };
    before.extend(variables);
    before.push(boot::separator(Register::Rtmr0));

    let mut after: Vec<PredictedEvent> = authority.into_iter().collect();
    if let Some(bios) = build.bios() {
        let tables = platform.smbios.ok_or(SmbiosError::Missing)?;
        let measured = measured::measured(tables, &bios)?;
        after.push(event(EventKind::HandoffTables, &measured, "SMBIOS"));
    }
    let variables = boot_options::events(layout);
    after.extend(variables.filter(|event| event.register == Register::Rtmr0));
    after.extend((layout.separator == Register::Rtmr0).then(|| boot::separator(Register::Rtmr0)));
    Ok([before, after])
}

/// The whole list.
pub(super) fn with_acpi(
    tdvf: &Tdvf<'_>,
    platform: &Platform<'_>,
    acpi: &AcpiFiles,
) -> Result<Vec<PredictedEvent>, PredictError> {
    let [mut events, after] = without_acpi(tdvf, platform)?;
    let measured = platform.firmware.build().release().layout().acpi;
    for (name, bytes) in files::in_order(acpi)?.into_iter().filter(|_| measured) {
        events.push(event(EventKind::PlatformConfigFlags, bytes, name));
    }
    events.extend(after);
    Ok(events)
}

/// The five variables of Secure Boot; an absent one is measured with no data.
fn variables(data: [Option<&[u8]>; 5]) -> Vec<PredictedEvent> {
    MEASURED
        .iter()
        .zip(data)
        .map(|((namespace, name), data)| {
            let from = match data {
                Some([0]) if *name == "SecureBoot" => "variable SecureBoot, off".into(),
                Some([1]) if *name == "SecureBoot" => "variable SecureBoot, on".into(),
                Some(data) => format!("variable {name}, {} bytes", data.len()),
                None => format!("variable {name}, absent"),
            };
            let measured = variable_data(namespace, name, data.unwrap_or_default());
            event(EventKind::VariableDriverConfig, &measured, from)
        })
        .collect()
}

/// With Secure Boot on, the firmware measures why it started the kernel: the entry of db with the signer's certificate
/// (edk2's `DxeImageVerificationLib`), once.
fn authority(
    secure_boot: &SecureBoot<'_>,
    signer: Option<&[u8]>,
) -> Result<Option<PredictedEvent>, StoreError> {
    match (secure_boot.on, signer) {
        (false, None) => Ok(None),
        (false, Some(_)) => Err(StoreError::SignerUnused),
        (true, None) => Err(StoreError::SignerMissing),
        (true, Some(certificate)) => {
            let entry = secure_boot.entry_of(certificate)?;
            let measured = variable_data(&IMAGE_SECURITY_DATABASE, "db", entry);
            let from = "variable db, the entry with the kernel's signer";
            Ok(Some(event(EventKind::VariableAuthority, &measured, from)))
        }
    }
}

fn event(kind: EventKind, measured: &[u8], from: impl Into<String>) -> PredictedEvent {
    PredictedEvent {
        register: Register::Rtmr0,
        kind,
        digest: Digest48::of(measured),
        from: from.into(),
    }
}
