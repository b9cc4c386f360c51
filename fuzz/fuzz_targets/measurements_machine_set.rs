//! An image in many machines, as a file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use diagnose::MachineSet;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(set) = MachineSet::from_json(bytes) {
        assert_eq!(MachineSet::from_json(&set.to_json()).as_ref(), Ok(&set));
    }
});
