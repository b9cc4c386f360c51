//! ACPI tables of another origin, and the script that follows from them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use predict::acpi::{files_of_tables, files::allocated_by};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(files) = files_of_tables(bytes) {
        allocated_by(&files["etc/table-loader"]).expect("a script that was made here is one");
    }
});
