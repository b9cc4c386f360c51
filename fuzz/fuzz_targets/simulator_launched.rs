//! The description of a machine that was launched.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(launched) = simulator::Launched::from_json(bytes) {
        assert!(launched.tpm_log.is_absolute());
    }
});
