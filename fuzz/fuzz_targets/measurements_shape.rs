//! A shape file, and the tables of whatever it describes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use predict::acpi::{Shape, acpi_files};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(shape) = Shape::from_json(bytes) {
        assert_eq!(Shape::from_json(&shape.to_json()).as_ref(), Ok(&shape));
        let _ = acpi_files(&shape);
    }
});
