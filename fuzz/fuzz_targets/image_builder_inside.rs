//! What lies inside an image's file: what was accepted can be read, and every byte belongs to something.
#![no_main]

use image_builder::formats::{Part, list};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = Part::whole(&bytes).expect("memory has a length");
    if let Ok(listing) = list(&whole) {
        for item in &listing.items {
            let mut read = 0;
            item.read(&whole, &mut |piece| read += piece.len() as u64)
                .expect("its extents were checked");
            let length: u64 = item.extents.iter().map(|one| one.end - one.start).sum();
            assert_eq!(read, length);
        }
        for at in (0..bytes.len() as u64).step_by(61) {
            let _ = listing.place(&whole, at).to_string();
        }
    }
});
