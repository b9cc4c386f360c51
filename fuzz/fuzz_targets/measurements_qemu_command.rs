//! A command line of QEMU, and the tables of its machine.
#![no_main]

use libfuzzer_sys::fuzz_target;
use predict::acpi::{Qemu, Shape, acpi_files};

fuzz_target!(|line: &str| {
    if let Ok(shape) = Shape::from_command_line(Qemu::V10_0_13, line) {
        let _ = acpi_files(&shape);
    }
});
