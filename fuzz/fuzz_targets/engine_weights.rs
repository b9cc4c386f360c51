//! The header of a weights file, its rows, and the configurations beside it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::ModelError;
use model::weights::{Part, Plan, Weights};

fuzz_target!(|bytes: &[u8]| {
    let _ = model::decoder::Config::parse(bytes, Some(bytes));
    let _ = model::Pooling::parse(Some(bytes), Some(bytes), 384);
    let _ = model::bert::Config::parse(bytes);
    let opened = Weights::open(vec![Part {
        name: "model.safetensors".into(),
        bytes: bytes.len() as u64,
        content: Box::new(std::io::Cursor::new(bytes.to_vec())),
    }]);
    let Ok(weights) = opened else { return };
    let mut plan = Plan::default();
    for tensor in weights.tensors() {
        plan.want(tensor.name.clone(), &tensor.shape);
    }
    let _ = weights.read(&plan, |_, rows| {
        while rows.next()?.is_some() {}
        Ok::<_, ModelError>(())
    });
});
