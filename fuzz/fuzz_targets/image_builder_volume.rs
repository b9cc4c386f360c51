//! A model's volume: the list of its files, and its description.
#![no_main]

use image_builder::formats::erofs::volume;
use image_builder::model::Description;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limit = bytes.len() as u64;
    for found in volume::list(bytes, limit).into_iter().flatten() {
        assert!(found.start + found.bytes <= limit || found.bytes == 0);
    }
    if let Ok(description) = Description::parse(bytes) {
        assert_eq!(description.to_json(), bytes);
    }
});
