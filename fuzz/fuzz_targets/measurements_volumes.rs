//! Firmware volumes, packed or not, in which the driver that measures is looked for: the code of a firmware file of its own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use predict::{Firmware, FirmwareBuild};

#[allow(dead_code, reason = "one of its files is used")]
#[path = "../../measurements/predict/tests/it/made.rs"]
mod made;

fuzz_target!(|bytes: &[u8]| {
    let mut firmware = made::firmware();
    let code = &mut firmware[0x1000..0x3000];
    let length = bytes.len().min(code.len());
    code.fill(0xff);
    code[..length].copy_from_slice(&bytes[..length]);
    let _ = Firmware::new(&firmware, FirmwareBuild::STABLE202502);
});
