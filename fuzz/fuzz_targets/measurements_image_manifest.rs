//! An image manifest.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = predict::image::ImageManifest::from_json(bytes);
});
