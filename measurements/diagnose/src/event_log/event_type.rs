//! Names of event types.

use std::fmt;

use predict::rtmr3::DstackForm;

/// The type of an event, by its number (TCG PC Client Platform Firmware Profile, section 10.4.1). Not a closed list: a
/// number nobody knows is a type too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventType(pub u32);

impl EventType {
    pub(super) const NO_ACTION: EventType = EventType(3);
    pub(super) const SEPARATOR: EventType = EventType(4);
    pub(super) const ACTION: EventType = EventType(5);
    pub(super) const TAG: EventType = EventType(6);
    pub(super) const CRTM_VERSION: EventType = EventType(8);
    pub(super) const IPL: EventType = EventType(0xd);
    pub(super) const OMIT_BOOT_DEVICE_EVENTS: EventType = EventType(0x12);
    pub(super) const VARIABLE_DRIVER_CONFIG: EventType = EventType(0x8000_0001);
    pub(super) const VARIABLE_BOOT: EventType = EventType(0x8000_0002);
    pub(super) const BOOT_SERVICES_APPLICATION: EventType = EventType(0x8000_0003);
    pub(super) const BOOT_SERVICES_DRIVER: EventType = EventType(0x8000_0004);
    pub(super) const RUNTIME_SERVICES_DRIVER: EventType = EventType(0x8000_0005);
    pub(super) const GPT: EventType = EventType(0x8000_0006);
    pub(super) const EFI_ACTION: EventType = EventType(0x8000_0007);
    pub(super) const FIRMWARE_BLOB: EventType = EventType(0x8000_0008);
    pub(super) const HANDOFF_TABLES: EventType = EventType(0x8000_0009);
    pub(super) const FIRMWARE_BLOB2: EventType = EventType(0x8000_000a);
    pub(super) const HANDOFF_TABLES2: EventType = EventType(0x8000_000b);
    pub(super) const VARIABLE_BOOT2: EventType = EventType(0x8000_000c);
    pub(super) const GPT2: EventType = EventType(0x8000_000d);
    pub(super) const VARIABLE_AUTHORITY: EventType = EventType(0x8000_00e0);
    /// Chosen by dstack; no specification has it.
    pub(super) const DSTACK_RUNTIME: EventType = EventType(DstackForm::TYPE);

    /// Its name, if it has one.
    pub fn name(self) -> Option<&'static str> {
        NAMES
            .iter()
            .find(|(number, _)| *number == self.0)
            .map(|(_, name)| *name)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&format!("type {:#010x}", self.0)),
        }
    }
}

const NAMES: [(u32, &str); 40] = [
    (0, "EV_PREBOOT_CERT"),
    (1, "EV_POST_CODE"),
    (2, "EV_UNUSED"),
    (3, "EV_NO_ACTION"),
    (4, "EV_SEPARATOR"),
    (5, "EV_ACTION"),
    (6, "EV_EVENT_TAG"),
    (7, "EV_S_CRTM_CONTENTS"),
    (8, "EV_S_CRTM_VERSION"),
    (9, "EV_CPU_MICROCODE"),
    (0xa, "EV_PLATFORM_CONFIG_FLAGS"),
    (0xb, "EV_TABLE_OF_DEVICES"),
    (0xc, "EV_COMPACT_HASH"),
    (0xd, "EV_IPL"),
    (0xe, "EV_IPL_PARTITION_DATA"),
    (0xf, "EV_NONHOST_CODE"),
    (0x10, "EV_NONHOST_CONFIG"),
    (0x11, "EV_NONHOST_INFO"),
    (0x12, "EV_OMIT_BOOT_DEVICE_EVENTS"),
    (0x13, "EV_POST_CODE2"),
    (0x0800_0001, "dstack runtime event"),
    (0x8000_0001, "EV_EFI_VARIABLE_DRIVER_CONFIG"),
    (0x8000_0002, "EV_EFI_VARIABLE_BOOT"),
    (0x8000_0003, "EV_EFI_BOOT_SERVICES_APPLICATION"),
    (0x8000_0004, "EV_EFI_BOOT_SERVICES_DRIVER"),
    (0x8000_0005, "EV_EFI_RUNTIME_SERVICES_DRIVER"),
    (0x8000_0006, "EV_EFI_GPT_EVENT"),
    (0x8000_0007, "EV_EFI_ACTION"),
    (0x8000_0008, "EV_EFI_PLATFORM_FIRMWARE_BLOB"),
    (0x8000_0009, "EV_EFI_HANDOFF_TABLES"),
    (0x8000_000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"),
    (0x8000_000b, "EV_EFI_HANDOFF_TABLES2"),
    (0x8000_000c, "EV_EFI_VARIABLE_BOOT2"),
    (0x8000_000d, "EV_EFI_GPT_EVENT2"),
    (0x8000_0010, "EV_EFI_HCRTM_EVENT"),
    (0x8000_00e0, "EV_EFI_VARIABLE_AUTHORITY"),
    (0x8000_00e1, "EV_EFI_SPDM_FIRMWARE_BLOB"),
    (0x8000_00e2, "EV_EFI_SPDM_FIRMWARE_CONFIG"),
    (0x8000_00e3, "EV_EFI_SPDM_DEVICE_POLICY"),
    (0x8000_00e4, "EV_EFI_SPDM_DEVICE_AUTHORITY"),
];
