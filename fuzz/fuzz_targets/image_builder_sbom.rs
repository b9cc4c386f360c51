//! A bill of materials: what was accepted is written as it was read.
#![no_main]

use image_builder::provenance::Bill;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(bill) = Bill::from_json(bytes) {
        assert_eq!(Bill::from_json(&bill.to_json()), Ok(bill));
    }
});
