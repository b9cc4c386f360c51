//! A model's files, judged by what their names say, one by one and together. The first byte chooses the name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::Judge;
use model::tensors::Header;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    let name = NAMES[usize::from(*choice) % NAMES.len()];
    let mut judge = Judge::default();
    let whole = judge.file(name, bytes.len() as u64, bytes).is_ok();
    let _ = judge.finish();
    if let Ok(header) = Header::read(bytes.len() as u64, bytes) {
        let mut end = header.bytes();
        let mut tensors: Vec<_> = header.names().filter_map(|name| header.tensor(name)).collect();
        tensors.sort_by_key(|tensor| (tensor.data.start, tensor.data.end));
        for tensor in tensors {
            assert_eq!(header.bytes() + tensor.data.start, end);
            end = header.bytes() + tensor.data.end;
        }
        assert_eq!(end, bytes.len() as u64);
    }
    if whole && name.ends_with(".json") {
        assert!(model::json::check_object(bytes).is_ok());
    }
});

const NAMES: [&str; 5] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "d/tokenizer.model",
    "merges.txt",
];
