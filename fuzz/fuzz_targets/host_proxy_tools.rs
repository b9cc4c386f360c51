//! The description of a launch's programs.
#![no_main]

use host_proxy::Tools;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Tools::from_json(bytes);
});
