//! The hash at the top of a dm-verity tree, from the data below it.
//!
//! The format of the kernel's `Documentation/admin-guide/device-mapper/verity.rst`, version 1: SHA-256, blocks of 4096
//! bytes, the salt before each block. It is computed here a second time, apart from the builder that makes the tree, so
//! that a reader of an image need not believe the builder.

use sha2::{Digest, Sha256};

use registers::Digest32;

/// Bytes of a block, of data and of hashes alike.
pub const VERITY_BLOCK_BYTES: usize = 4096;

/// Takes the blocks of data in order.
pub struct VerityHash {
    salt: Digest32,
    hashes: Vec<u8>,
}

impl VerityHash {
    /// Before the first block.
    pub fn new(salt: Digest32) -> VerityHash {
        let hashes = Vec::new();
        VerityHash { salt, hashes }
    }

    /// The next block. Each costs 32 bytes of memory, so the caller bounds their number.
    pub fn block(&mut self, block: &[u8; VERITY_BLOCK_BYTES]) {
        self.hashes.extend(salted(&self.salt, block));
    }

    /// The hash at the top; none if there was no block.
    pub fn finish(self) -> Option<Digest32> {
        let mut hashes = self.hashes;
        while hashes.len() > 32 {
            let blocks = hashes.chunks(VERITY_BLOCK_BYTES).map(|chunk| {
                let mut block = [0; VERITY_BLOCK_BYTES];
                block[..chunk.len()].copy_from_slice(chunk);
                salted(&self.salt, &block)
            });
            hashes = blocks.flatten().collect();
        }
        hashes.try_into().ok().map(Digest32)
    }
}

fn salted(salt: &Digest32, block: &[u8; VERITY_BLOCK_BYTES]) -> [u8; 32] {
    Sha256::new()
        .chain_update(salt.0)
        .chain_update(block)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(blocks: usize) -> Option<String> {
        let mut hash = VerityHash::new(Digest32([7; 32]));
        for index in 0..blocks {
            hash.block(&[index as u8; VERITY_BLOCK_BYTES]);
        }
        hash.finish().map(|root| root.to_string())
    }

    // Expected values: `veritysetup format` of cryptsetup 2.7.5 over the same blocks.
    #[test]
    fn the_root_matches_another_implementation() {
        assert_eq!(root(0), None);
        for (blocks, expected) in EXPECTED {
            assert_eq!(root(blocks).as_deref(), Some(expected), "{blocks} blocks");
        }
    }

    const EXPECTED: [(usize, &str); 4] = [
        (
            1,
            "69ecf24343646bcbcebaad0b41765fd203dfb85bb15c25d51e4d92ca4fdb1b7b",
        ),
        (
            2,
            "aec5d7e4d5635e14081a843afced150cd4b7600d6db20a4485647e93a2cb46a0",
        ),
        (
            128,
            "b42c824ef787a446a7473b6f23f609c41b4810182f600c784a489481f2af4ab0",
        ),
        (
            300,
            "b8ffa765996661defb86b0f7cbf6b0c405897f168e11f8b9307032e57bebd630",
        ),
    ];
}
