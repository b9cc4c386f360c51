//! What a run computed, to the bit, for comparing it with another: the same file from two machines says that they agree.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The program and its version.
    pub engine: String,
    /// The instructions that computed: bits are equal only on the same path.
    pub path: String,
    pub threads: usize,
    /// How weights were kept.
    pub kind: String,
    /// SHA-256 of each file of weights, by name.
    pub weights: Vec<(String, String)>,
    pub completions: Vec<Completion>,
}

/// A prompt and what followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completion {
    pub prompt: Vec<u32>,
    pub tokens: Vec<u32>,
    /// The first eight bytes of SHA-256 over the scores that each token was chosen from, as little-endian f32.
    pub scores: Vec<String>,
}

/// The digest of one row of scores.
pub fn digest(scores: &[f32]) -> String {
    let mut hash = Sha256::new();
    let mut bytes = Vec::with_capacity(16 * 1024);
    for chunk in scores.chunks(4096) {
        bytes.clear();
        chunk
            .iter()
            .for_each(|score| bytes.extend_from_slice(&score.to_le_bytes()));
        hash.update(&bytes);
    }
    hex::encode(&hash.finalize()[..8])
}
