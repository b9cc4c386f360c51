//! What tests ask, and how they put a file aside.

use super::{CHAT, EMBEDDER, World};
use serde_json::{Value, json};
use settlement::ChannelTerms;

pub fn chat_body(stream: bool) -> Value {
    json!({"model": CHAT, "messages": [{"role": "user", "content": "hello world hello"}], "stream": stream, "max_tokens": 8})
}

pub fn embeddings_body() -> Value {
    json!({"model": EMBEDDER, "input": ["hello world", "hello"]})
}

/// Copies a file in the world's directory, for tests that restore one.
pub fn copy(world: &World, from: &str, to: &str) {
    let path = |name: &str| world.directory.path().join(name);
    std::fs::copy(path(from), path(to)).unwrap();
}

impl World {
    /// The channel whose vouchers the guest's proxy takes, as if it had read the terms on the chain.
    pub fn is_paid_on(&self, terms: ChannelTerms) {
        *self.guest.terms.lock().unwrap() = terms;
    }
}
