//! What people write in YAML: a recipe, and a lock of models.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = image_builder::recipe::Recipe::parse(text);
    let _ = image_builder::ModelLock::parse(text);
});
