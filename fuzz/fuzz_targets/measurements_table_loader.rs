//! QEMU's script for ACPI tables.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = predict::acpi::files::allocated_by(bytes);
});
