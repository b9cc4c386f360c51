//! A GGUF file: its header, the configuration that it amounts to, and all of its tensors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::gguf::Header;
use model::gguf::config::{Beside, config_json};
use model::weights::Part;
use model::{ModelError, Weights};

fuzz_target!(|bytes: &[u8]| {
    let length = bytes.len() as u64;
    let Ok(header) = Header::read(length, bytes) else {
        return;
    };
    let mut end = 0;
    for tensor in header.tensors() {
        assert!(tensor.data.start >= end);
        end = tensor.data.end;
    }
    assert!(header.bytes() + end <= length);
    for array in header.keys().filter_map(|key| header.array(key)) {
        let _ = array.texts(bytes);
        let _ = array.integers(bytes);
        let _ = array.floats(bytes);
    }
    let factors = [1.0; 32];
    let beside = Beside {
        rope_factors: Some(&factors),
        ..Beside::default()
    };
    let Ok(config) = config_json(&header, beside) else {
        return;
    };
    let Ok(config) = model::decoder::Config::parse(&config, None) else {
        return;
    };
    let part = Part {
        name: "a.gguf".into(),
        bytes: length,
        content: Box::new(std::io::Cursor::new(bytes.to_vec())),
    };
    let Ok(weights) = Weights::open(vec![part]) else {
        return;
    };
    let _ = weights.read(&config.plan(), |_, rows| rows.to_vec().map(|_| ()) as Result<(), ModelError>);
});
