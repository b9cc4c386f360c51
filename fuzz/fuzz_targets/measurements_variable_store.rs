//! A variable store, as a firmware with Secure Boot reads it: wrapped into a firmware file of its own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use predict::{Edk2Release, Firmware, FirmwareBuild, Platform, rtmr0_around_acpi};

#[allow(dead_code, reason = "one of its files is used")]
#[path = "../../measurements/predict/tests/it/made.rs"]
mod made;

fuzz_target!(|bytes: &[u8]| {
    let mut store = bytes.to_vec();
    store.resize(bytes.len().next_multiple_of(4096).max(4096), 0xff);
    let firmware = made::firmware_with_store(&store);
    let build = FirmwareBuild::new(Edk2Release::STABLE202502, None, true).expect("no SMBIOS");
    let firmware = Firmware::new(&firmware, build).expect("it measures");
    let _ = rtmr0_around_acpi(&Platform::new(firmware, 2048));
});
