//! Three versions, one a line: their order is one.
#![no_main]

use image_builder::lock::debian::Version;
use libfuzzer_sys::fuzz_target;
use std::cmp::Ordering;

fuzz_target!(|text: &str| {
    let mut lines = text.lines().map(Version::parse);
    let mut next = || lines.next().flatten();
    let (Some(a), Some(b), Some(c)) = (next(), next(), next()) else {
        return;
    };
    assert_eq!(a.cmp(&a), Ordering::Equal);
    assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
    if a.cmp(&b) == b.cmp(&c) {
        assert_eq!(a.cmp(&c), a.cmp(&b));
    }
});
