//! A firmware file: its TDX metadata, and what is predicted from it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use measurements::predict::{PageOrder, mrtd, rtmr0_around_acpi};

fuzz_target!(|bytes: &[u8]| {
    let _ = mrtd(bytes, PageOrder::SinglePass);
    let _ = rtmr0_around_acpi(bytes, 2048);
});
