//! The description of a launch's programs.
#![no_main]

use host_proxy::launch::Tools;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tools) = Tools::from_json(bytes) {
        let _ = tools.qemu();
    }
});
