//! What people write in YAML: a recipe, and a lock of models.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = image_builder::lock::Recipe::parse(text);
    let _ = image_builder::lock::ModelLock::parse(text);
});
