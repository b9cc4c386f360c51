//! A firmware file: its TDX metadata, and what is predicted from it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use predict::{Firmware, FirmwareBuild, PageOrder, Platform, mrtd, rtmr0_around_acpi};

fuzz_target!(|bytes: &[u8]| {
    let _ = mrtd(bytes, PageOrder::SinglePass);
    if let Ok(firmware) = Firmware::new(bytes, FirmwareBuild::STABLE202502) {
        let _ = rtmr0_around_acpi(&Platform::new(firmware, 2048));
    }
});
