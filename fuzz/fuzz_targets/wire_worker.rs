//! What an agent and the worker on its GPU say to each other: what is read is written again as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = wire::WorkerRequest::decode(bytes) {
        assert_eq!(*request.encode(), bytes);
    }
    if let Ok(answer) = wire::WorkerAnswer::decode(bytes) {
        assert_eq!(*answer.encode(), bytes);
        if let wire::WorkerAnswer::Tokens(tokens) = answer {
            let _ = tokens.iter().map(|token| (token.id(), token.logprobs())).count();
        }
    }
});
