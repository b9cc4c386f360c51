//! The header of a weights file, and the configurations beside it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = engine::tensors::Stored::parse(bytes);
    let _ = model::llama::Config::parse(bytes);
    let _ = model::bert::Config::parse(bytes);
});
