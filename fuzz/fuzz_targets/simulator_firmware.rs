//! A firmware file, by the simulator's own files: where it and the predictor both have an answer, it is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use predict::{FirmwareBuild, PageOrder, Platform, mrtd, rtmr0_around_acpi};
use simulator::limits;

#[rustfmt::skip]
#[path = "../../measurements/simulator/src/firmware.rs"]
mod firmware;
#[rustfmt::skip]
#[path = "../../measurements/simulator/src/hand_off.rs"]
mod hand_off;

const MEMORY_MIB: u64 = 2048;

fuzz_target!(|bytes: &[u8]| {
    let Ok(firmware) = firmware::Firmware::parse(bytes) else {
        return;
    };
    if let Ok(predicted) = mrtd(bytes, PageOrder::SinglePass) {
        assert_eq!(firmware.mrtd(), predicted);
    }
    let hand_off = hand_off::hand_off_digest(firmware.sections(), MEMORY_MIB);
    let volume = firmware.configuration_volume();
    if let (Ok(hand_off), Ok(volume)) = (hand_off, volume)
        && let Ok(build) = predict::Firmware::new(bytes, FirmwareBuild::STABLE202502)
        && let Ok([before, _]) = rtmr0_around_acpi(&Platform::new(build, MEMORY_MIB))
    {
        assert_eq!([before[0].digest, before[1].digest], [hand_off, volume]);
    }
});
