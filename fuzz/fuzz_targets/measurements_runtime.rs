//! A list of runtime events.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = predict::rtmr3::events(bytes);
});
