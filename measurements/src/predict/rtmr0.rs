//! RTMR0: what the firmware was configured with.
//!
//! **One firmware profile.** The list below is what edk2 up to stable202502 measures in a direct boot. Later versions
//! measure fw_cfg's boot menu and order and SMBIOS besides, and write other boot options. A file does not say its edk2
//! version where it could be read reliably, so the caller must know it; the image builder locks the firmware package.
//! What can be seen is refused: a variable store that is not empty, as with enrolled Secure Boot keys.

use super::acpi::{self, AcpiFiles};
use super::bytes::{array_at, guid, u16_at, utf16};
use super::hob::td_hob;
use super::tdvf::Tdvf;
use super::{EventKind, PredictError, PredictedEvent};
use crate::{Digest48, Register};

/// The events of RTMR0, in order, but for the ACPI tables, which [`with_acpi`] puts in their place.
pub(super) fn without_acpi(
    tdvf: &Tdvf<'_>,
    memory_mib: u64,
) -> Result<[Vec<PredictedEvent>; 2], PredictError> {
    let store = tdvf.variable_store()?;
    check_empty(store)?;
    let hob = td_hob(tdvf, memory_mib)?;
    let mut before = vec![
        event(
            EventKind::HandoffTables2,
            &hob,
            format!("TD HOB, {memory_mib} MiB"),
        ),
        event(
            EventKind::FirmwareBlob2,
            store,
            "configuration volume of the firmware",
        ),
    ];
    for (namespace, name) in SECURE_BOOT {
        let absent = variable(&namespace, name, &[]);
        let from = format!("variable {name}, absent");
        before.push(event(EventKind::VariableDriverConfig, &absent, from));
    }
    before.push(event(EventKind::Separator, &[0; 4], "separator"));
    // Variables of this kind are measured as their bare data.
    let after = vec![
        event(
            EventKind::VariableBoot,
            &0u16.to_le_bytes(),
            "variable BootOrder, 0000",
        ),
        event(
            EventKind::VariableBoot,
            &boot_option_ui_app(),
            "variable Boot0000, UiApp",
        ),
    ];
    Ok([before, after])
}

/// The whole list.
pub(super) fn with_acpi(
    tdvf: &Tdvf<'_>,
    memory_mib: u64,
    acpi: &AcpiFiles,
) -> Result<Vec<PredictedEvent>, PredictError> {
    let [mut events, after] = without_acpi(tdvf, memory_mib)?;
    for (name, bytes) in acpi::in_order(acpi)? {
        events.push(event(EventKind::PlatformConfigFlags, bytes, name));
    }
    events.extend(after);
    Ok(events)
}

fn event(kind: EventKind, measured: &[u8], from: impl Into<String>) -> PredictedEvent {
    PredictedEvent {
        register: Register::Rtmr0,
        kind,
        digest: Digest48::of(measured),
        from: from.into(),
    }
}

/// UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile, section 10.2.6): GUID, u64 characters of the name, u64
/// bytes of data, name in UTF-16, data.
fn variable(namespace: &[u8; 16], name: &str, data: &[u8]) -> Vec<u8> {
    let name = utf16(name);
    let mut bytes = namespace.to_vec();
    bytes.extend((name.len() as u64 / 2).to_le_bytes());
    bytes.extend((data.len() as u64).to_le_bytes());
    bytes.extend(name);
    bytes.extend(data);
    bytes
}

/// EFI_LOAD_OPTION (UEFI 2.10, section 3.1.3) of the firmware's setup program. In a direct boot nobody runs it, but it
/// is the one boot option that the boot manager finds.
fn boot_option_ui_app() -> Vec<u8> {
    let path = [
        device_path_node(MEDIA, FIRMWARE_VOLUME, &DXE_FIRMWARE_VOLUME),
        device_path_node(MEDIA, FIRMWARE_FILE, &UI_APP),
        device_path_node(END, END_ENTIRE, &[]),
    ]
    .concat();
    let mut option = (ACTIVE | HIDDEN | CATEGORY_APP).to_le_bytes().to_vec();
    option.extend((path.len() as u16).to_le_bytes());
    option.extend(utf16("UiApp\0"));
    option.extend(path);
    option
}

/// u8 type, u8 subtype, u16 length of all, data.
fn device_path_node(kind: u8, subtype: u8, data: &[u8]) -> Vec<u8> {
    let [low, high] = (4 + data.len() as u16).to_le_bytes();
    [&[kind, subtype, low, high], data].concat()
}

/// The store is a firmware volume (PI 1.8, volume 3, section 3.2.1) that holds one variable store (edk2's
/// `AuthenticatedVariable.h`) whose first variable, if there were one, would begin with 0x55AA. Any other layout is
/// refused too: what lies in it could not be known.
fn check_empty(store: &[u8]) -> Result<(), PredictError> {
    let first_variable = array_at(store, 40)
        .filter(|signature| signature == b"_FVH")
        .and_then(|_: [u8; 4]| u16_at(store, 48))
        .map(usize::from)
        .filter(|header| array_at(store, *header) == Some(AUTHENTICATED_VARIABLES))
        .and_then(|header| array_at(store, header + VARIABLE_STORE_HEADER_BYTES));
    match first_variable {
        Some([0xff, 0xff]) => Ok(()),
        _ => Err(PredictError::VariableStore),
    }
}

/// Measured whether they exist or not, in this order.
const SECURE_BOOT: [([u8; 16], &str); 5] = [
    (GLOBAL_VARIABLE, "SecureBoot"),
    (GLOBAL_VARIABLE, "PK"),
    (GLOBAL_VARIABLE, "KEK"),
    (IMAGE_SECURITY_DATABASE, "db"),
    (IMAGE_SECURITY_DATABASE, "dbx"),
];
const GLOBAL_VARIABLE: [u8; 16] = guid(
    0x8be4df61,
    0x93ca,
    0x11d2,
    [0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c],
);
const IMAGE_SECURITY_DATABASE: [u8; 16] = guid(
    0xd719b2cb,
    0x3d3a,
    0x4596,
    [0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f],
);
/// gEfiAuthenticatedVariableGuid.
const AUTHENTICATED_VARIABLES: [u8; 16] = guid(
    0xaaf32c78,
    0x947b,
    0x439a,
    [0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92],
);
const VARIABLE_STORE_HEADER_BYTES: usize = 28;
/// OvmfPkg's DXEFV.
const DXE_FIRMWARE_VOLUME: [u8; 16] = guid(
    0x7cb8bdc9,
    0xf8eb,
    0x4f34,
    [0xaa, 0xea, 0x3e, 0xe4, 0xaf, 0x65, 0x16, 0xa1],
);
/// MdeModulePkg's UiApp.
const UI_APP: [u8; 16] = guid(
    0x462caa21,
    0x7614,
    0x4503,
    [0x83, 0x6e, 0x8a, 0xb6, 0xf4, 0x66, 0x23, 0x31],
);
/// LOAD_OPTION_ACTIVE, LOAD_OPTION_HIDDEN, LOAD_OPTION_CATEGORY_APP.
const ACTIVE: u32 = 0x1;
const HIDDEN: u32 = 0x8;
const CATEGORY_APP: u32 = 0x100;
/// Device path types and subtypes (UEFI 2.10, section 10.3).
const MEDIA: u8 = 4;
const FIRMWARE_FILE: u8 = 6;
const FIRMWARE_VOLUME: u8 = 7;
const END: u8 = 0x7f;
const END_ENTIRE: u8 = 0xff;
