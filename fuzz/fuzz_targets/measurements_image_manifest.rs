//! An image manifest.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = measurements::ImageManifest::from_json(bytes);
});
