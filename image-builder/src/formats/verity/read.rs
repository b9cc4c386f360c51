//! Reading an image as a guest's kernel does: a block is believed when every hash from the top down to it fits.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{BLOCK, BLOCK_BYTES, DIGESTS_PER_BLOCK, Root, salted, starts};

/// An image with its tree behind it, of which nothing is believed.
#[derive(Debug)]
pub struct Reader<'a> {
    image: &'a File,
    root: Root,
    /// Where each level begins, lowest first.
    levels: Vec<u64>,
}

/// Why a block is not believed. Whoever keeps the image is at fault.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum VerityFault {
    #[error("the root has no block {block}")]
    Outside { block: u64 },
    #[error("block {block} is not what its hash says")]
    Data { block: u64 },
    #[error("the hash tree is changed in block {block} of the image")]
    Tree { block: u64 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<'a> Reader<'a> {
    /// Of an image as [`append`](super::append) leaves it.
    pub fn new(image: &'a File, root: Root) -> Self {
        Self {
            image,
            root,
            levels: starts(root.data_blocks),
        }
    }

    /// Reads a block of data and checks it.
    pub fn block(&self, block: u64) -> Result<[u8; BLOCK], VerityFault> {
        if block >= self.root.data_blocks {
            return Err(VerityFault::Outside { block });
        }
        let mut expected = self.root.hash;
        for (place, index) in self.path(block).into_iter().zip(self.indices(block)) {
            let hashes = self.read(place)?;
            if salted(&self.root.salt, &hashes) != expected {
                return Err(VerityFault::Tree { block: place });
            }
            expected.copy_from_slice(&hashes[32 * index..][..32]);
        }
        let data = self.read(block)?;
        match salted(&self.root.salt, &data) == expected {
            true => Ok(data),
            false => Err(VerityFault::Data { block }),
        }
    }

    /// The blocks of the tree that a block of data is checked by, the top first, as blocks of the image.
    pub fn path(&self, block: u64) -> Vec<u64> {
        let levels = self.levels.iter().zip(1..);
        let place = |(start, level)| start + block / DIGESTS_PER_BLOCK.pow(level);
        let mut path: Vec<u64> = levels.map(place).collect();
        path.reverse();
        path
    }

    /// Which hash of each of these blocks.
    fn indices(&self, block: u64) -> Vec<usize> {
        let levels = (0..self.levels.len() as u32).rev();
        let index = |level| block / DIGESTS_PER_BLOCK.pow(level) % DIGESTS_PER_BLOCK;
        levels.map(|level| index(level) as usize).collect()
    }

    fn read(&self, block: u64) -> io::Result<[u8; BLOCK]> {
        let mut bytes = [0; BLOCK];
        self.image.read_exact_at(&mut bytes, block * BLOCK_BYTES)?;
        Ok(bytes)
    }
}
