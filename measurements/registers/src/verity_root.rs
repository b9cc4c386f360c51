//! A read-only file system that its hash names: what a guest mounts as its root, or a model as its volume.

use serde::{Deserialize, Serialize};

use crate::Digest32;

/// A dm-verity device: SHA-256, blocks of 4096 bytes, the tree behind the data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerityRoot {
    /// The hash at the top of the tree.
    pub verity_hash: Digest32,
    /// What each hash begins with.
    pub salt: Digest32,
    /// Blocks of data.
    pub data_blocks: u64,
}

impl VerityRoot {
    /// What the word of a guest's command line begins with. The guest's stage 0 reads its root from it.
    pub const KEY: &str = "chrysalis.root=";

    /// The word of the command line that tells the guest which root to open.
    pub fn argument(&self) -> String {
        let VerityRoot {
            verity_hash,
            salt,
            data_blocks,
        } = self;
        format!("{}{verity_hash},{salt},{data_blocks}", VerityRoot::KEY)
    }
}
