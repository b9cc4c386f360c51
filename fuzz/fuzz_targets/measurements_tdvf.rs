//! A firmware file: its TDX metadata, and what is predicted from it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use predict::{FirmwareBuild, PageOrder, Platform, mrtd, rtmr0_around_acpi};

fuzz_target!(|bytes: &[u8]| {
    let _ = mrtd(bytes, PageOrder::SinglePass);
    let build = FirmwareBuild::UP_TO_STABLE202502;
    let _ = rtmr0_around_acpi(&Platform::new(bytes, build, 2048));
});
