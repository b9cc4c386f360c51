//! A model's volume: the list of its files, and its description.
#![no_main]

use image_builder::formats::Part;
use image_builder::formats::erofs::reader::volume_files;
use image_builder::model::parse_description;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limit = bytes.len() as u64;
    let whole = Part::whole(&bytes).expect("memory has a length");
    for file in volume_files(&whole).into_iter().flatten() {
        assert!(file.extents.iter().all(|extent| extent.end <= limit));
    }
    if let Ok(description) = parse_description(bytes) {
        assert_eq!(description.to_json(), bytes);
    }
});
