//! A RIM: XML, its canonical form, the layout of its signature and its digests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use gpu::{GpuRoots, Rim};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(rim) = Rim::parse("fuzzed", bytes) {
        let _ = rim.check(&GpuRoots::NVIDIA, 1_700_000_000);
    }
});
