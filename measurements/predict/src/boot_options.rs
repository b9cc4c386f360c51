//! Boot options that the firmware finds for itself. In a direct boot nobody runs them, but they are measured.
//!
//! Variables of this kind are measured as their bare data, without their names.

use super::bytes::{guid, utf16};
use super::release::Layout;
use super::{EventKind, PredictedEvent};
use registers::Digest48;

/// `BootOrder` and the options it lists.
pub(super) fn events(layout: &Layout) -> impl Iterator<Item = PredictedEvent> + use<> {
    let register = layout.boot_variables;
    let measured = measured(layout.settings).into_iter();
    measured.map(move |(from, data)| PredictedEvent {
        register,
        kind: EventKind::VariableBoot,
        digest: Digest48::of(&data),
        from,
    })
}

/// As data with a name for people.
fn measured(two: bool) -> Vec<(String, Vec<u8>)> {
    let options: &[(u32, &str, [u8; 16])] = match two {
        false => &[(ACTIVE | HIDDEN | CATEGORY_APP, "UiApp", UI_APP)],
        true => &[
            (
                ACTIVE | HIDDEN | CATEGORY_APP,
                "BootManagerMenuApp",
                BOOT_MANAGER_MENU_APP,
            ),
            (ACTIVE | CATEGORY_APP, "EFI Firmware Setup", UI_APP),
        ],
    };
    let numbers = 0..options.len() as u16;
    let names: Vec<String> = numbers
        .clone()
        .map(|number| format!("{number:04X}"))
        .collect();
    let mut measured = vec![(
        format!("variable BootOrder, {}", names.join(" ")),
        numbers.flat_map(u16::to_le_bytes).collect(),
    )];
    for (name, (attributes, title, program)) in names.iter().zip(options) {
        let option = boot_option(*attributes, title, *program);
        measured.push((format!("variable Boot{name}, {title}"), option));
    }
    measured
}

/// EFI_LOAD_OPTION (UEFI 2.10, section 3.1.3) of a program in the firmware: u32 attributes, u16 bytes of the path, title with
/// a final zero, path.
fn boot_option(attributes: u32, title: &str, program: [u8; 16]) -> Vec<u8> {
    let path = [
        device_path_node(MEDIA, FIRMWARE_VOLUME, &DXE_FIRMWARE_VOLUME),
        device_path_node(MEDIA, FIRMWARE_FILE, &program),
        device_path_node(END, END_ENTIRE, &[]),
    ]
    .concat();
    let mut option = attributes.to_le_bytes().to_vec();
    option.extend((path.len() as u16).to_le_bytes());
    option.extend(utf16(title));
    option.extend([0, 0]);
    option.extend(path);
    option
}

/// u8 type, u8 subtype, u16 length of all, data.
fn device_path_node(kind: u8, subtype: u8, data: &[u8]) -> Vec<u8> {
    let [low, high] = (4 + data.len() as u16).to_le_bytes();
    [&[kind, subtype, low, high], data].concat()
}

/// OvmfPkg's DXEFV.
const DXE_FIRMWARE_VOLUME: [u8; 16] = guid(
    0x7cb8bdc9,
    0xf8eb,
    0x4f34,
    [0xaa, 0xea, 0x3e, 0xe4, 0xaf, 0x65, 0x16, 0xa1],
);
/// MdeModulePkg's UiApp, whose later title is "EFI Firmware Setup".
const UI_APP: [u8; 16] = guid(
    0x462caa21,
    0x7614,
    0x4503,
    [0x83, 0x6e, 0x8a, 0xb6, 0xf4, 0x66, 0x23, 0x31],
);
/// MdeModulePkg's BootManagerMenuApp.
const BOOT_MANAGER_MENU_APP: [u8; 16] = guid(
    0xeec25bdc,
    0x67f2,
    0x4d95,
    [0xb1, 0xd5, 0xf8, 0x1b, 0x20, 0x39, 0xd1, 0x1d],
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
