//! An event of a sealed answer. What decodes has one encoding, and vectors are as many as they say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{AnswerEvent, JobFailure};

fuzz_target!(|bytes: &[u8]| {
    let _ = JobFailure::decode(bytes);
    let Ok(event) = AnswerEvent::decode(bytes) else {
        return;
    };
    assert_eq!(event.encode(), bytes);
    if let AnswerEvent::Embeddings(vectors) = event {
        assert_eq!(vectors.iter().len(), vectors.count());
    }
});
