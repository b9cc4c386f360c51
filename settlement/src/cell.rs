//! TON cells: how fields are laid out in one, and the hash by which a TVM knows it.
//!
//! Ordinary cells only, built and never parsed: vouchers, charges, closes and a channel's initial state need no more. Written
//! from "Telegram Open Network Virtual Machine", sections 3.1.1 to 3.1.5; tests hold it against `tonlib-core`, `tycho-types`
//! and what @ton/core computes.

use crate::{Address, Nano};
use sha2::{Digest, Sha256};

/// TVM 3.1.1: data bits of a cell.
const BITS_MAX: usize = 1_023;
/// TVM 3.1.1: references of a cell.
const REFERENCES_MAX: usize = 4;
/// What validators accept (`CellTraits::max_depth`).
const DEPTH_MAX: u16 = 1_024;

const FITS: &str = "the layout fits a cell whatever the values";

/// Writes the fields of one cell, most significant bit first.
///
/// Every layout of this crate fits 1,023 bits and 4 references by arithmetic over the widths of its fields, so a cell that
/// overflows is a mistake in a layout, not in a value, and panics.
pub(crate) trait Layout: Sized {
    /// What comes out.
    type Cell;

    fn new() -> Self;

    /// The low `bits` bits of `value`, at most 64; the others are zero.
    fn uint(self, bits: usize, value: u64) -> Self;

    fn reference(self, cell: &Self::Cell) -> Self;

    fn build(self) -> Self::Cell;

    fn int32(self, value: i32) -> Self {
        self.uint(32, value.cast_unsigned().into())
    }

    fn bytes(self, value: &[u8]) -> Self {
        value
            .iter()
            .fold(self, |cell, byte| cell.uint(8, (*byte).into()))
    }

    /// `VarUInteger 16`: a length in bytes (4 bits), then that many bytes without leading zeros.
    fn coins(self, amount: Nano) -> Self {
        let bytes = amount.0.to_be_bytes();
        let significant = &bytes[(amount.0.leading_zeros() / 8) as usize..];
        self.uint(4, significant.len() as u64).bytes(significant)
    }

    /// `addr_std$10 anycast:nothing$0 workchain:int8 address:bits256`.
    fn address(self, address: &Address) -> Self {
        self.uint(3, 0b100)
            .uint(8, address.workchain.cast_unsigned().into())
            .bytes(&address.hash)
    }
}

/// `StateInit` of an account: `split_depth:nothing special:nothing code:just data:just library:nothing`. Its hash is the address.
pub(crate) fn state_init<L: Layout>(code: &L::Cell, data: &L::Cell) -> L::Cell {
    L::new()
        .uint(5, 0b00110)
        .reference(code)
        .reference(data)
        .build()
}

/// What a cell contributes to the cells that refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CellHash {
    /// The representation hash.
    pub(crate) hash: [u8; 32],
    /// How many references lead down to the deepest cell below.
    pub(crate) depth: u16,
}

/// The [`Layout`] that keeps no cells, only hashes.
pub(crate) struct CellHasher {
    data: Vec<u8>,
    bits: usize,
    references: Vec<CellHash>,
}

impl Layout for CellHasher {
    type Cell = CellHash;

    fn new() -> CellHasher {
        CellHasher {
            data: Vec::with_capacity(BITS_MAX.div_ceil(8)),
            bits: 0,
            references: Vec::new(),
        }
    }

    fn uint(mut self, bits: usize, value: u64) -> CellHasher {
        assert!(bits == 64 || bits < 64 && value >> bits == 0, "{FITS}");
        assert!(self.bits + bits <= BITS_MAX, "{FITS}");
        let mut left = bits;
        while left > 0 {
            let used = self.bits % 8;
            if used == 0 {
                self.data.push(0);
            }
            let taken = left.min(8 - used);
            let part = (value >> (left - taken)) as u8 & (0xff >> (8 - taken));
            *self.data.last_mut().expect("the byte begun last") |= part << (8 - used - taken);
            self.bits += taken;
            left -= taken;
        }
        self
    }

    fn reference(mut self, cell: &CellHash) -> CellHasher {
        assert!(self.references.len() < REFERENCES_MAX, "{FITS}");
        self.references.push(*cell);
        self
    }

    /// TVM 3.1.4 and 3.1.5: SHA-256 over two descriptor bytes, the data, and the depths and hashes of what is referred to.
    fn build(mut self) -> CellHash {
        // d1 = references + 8 * exotic + 32 * level, d2 = floor(bits / 8) + ceil(bits / 8)
        let descriptors =
            [self.references.len(), self.bits / 8 + self.bits.div_ceil(8)].map(|d| d as u8);
        // An unfinished last byte ends in a one and zeros.
        if !self.bits.is_multiple_of(8) {
            *self.data.last_mut().expect("the byte begun last") |= 0x80 >> (self.bits % 8);
        }
        let mut hasher = Sha256::new();
        hasher.update(descriptors);
        hasher.update(&self.data);
        for reference in &self.references {
            hasher.update(reference.depth.to_be_bytes());
        }
        for reference in &self.references {
            hasher.update(reference.hash);
        }
        let depth = self
            .references
            .iter()
            .map(|reference| reference.depth + 1)
            .max();
        let depth = depth.unwrap_or(0);
        assert!(depth <= DEPTH_MAX, "{FITS}");
        CellHash {
            hash: hasher.finalize().into(),
            depth,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ton::{Tree, TreeBuilder};

    /// SplitMix64: the same cases on every run.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % bound
        }
    }

    /// A cell of fields and references that `seed` decides.
    fn random<L: Layout>(seed: u64, below: &[L::Cell]) -> L::Cell {
        let mut numbers = Numbers(seed);
        let mut room = BITS_MAX;
        let mut cell = L::new();
        for _ in 0..numbers.below(24) {
            let bits = 1 + numbers.below(64) as usize;
            if bits > room {
                break;
            }
            let value = match bits {
                64 => numbers.below(u64::MAX),
                _ => numbers.below(1 << bits),
            };
            cell = cell.uint(bits, value);
            room -= bits;
        }
        if !below.is_empty() {
            for _ in 0..numbers.below(5) {
                cell = cell.reference(&below[numbers.below(below.len() as u64) as usize]);
            }
        }
        cell.build()
    }

    #[test]
    fn cells_have_the_hashes_that_tonlib_core_computes() {
        let (mut ours, mut theirs): (Vec<CellHash>, Vec<Tree>) = (Vec::new(), Vec::new());
        for seed in 0..1_000 {
            ours.push(random::<CellHasher>(seed, &ours));
            theirs.push(random::<TreeBuilder>(seed, &theirs));
        }
        for (seed, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert_eq!(*ours, theirs.root(), "seed {seed}");
        }
        assert!(ours.iter().any(|cell| cell.depth > 5));
    }

    #[test]
    fn a_full_cell_has_its_hash_and_one_bit_more_is_refused() {
        fn full<L: Layout>() -> L {
            let leaf = L::new().build();
            (0..4).fold(L::new().bytes(&[0xa5; 127]).uint(7, 0x55), |cell, _| {
                cell.reference(&leaf)
            })
        }
        assert_eq!(
            full::<CellHasher>().build(),
            full::<TreeBuilder>().build().root()
        );
        let too_much: [fn(CellHasher) -> CellHasher; 3] = [
            |cell| cell.uint(1, 1),
            |cell| cell.reference(&CellHasher::new().build()),
            |cell| cell.uint(0, 1),
        ];
        for add in too_much {
            assert!(std::panic::catch_unwind(|| add(full())).is_err());
        }
    }

    /// The empty cell's hash is the one that block explorers show for it.
    #[test]
    fn the_empty_cell_has_its_known_hash() {
        let CellHash { hash, depth } = CellHasher::new().build();
        assert_eq!(
            hex::encode(hash),
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
        );
        assert_eq!(depth, 0);
    }

    #[test]
    fn every_bit_of_a_cell_counts() {
        let cell = |flipped: usize| {
            let mut data = [0x3c; 40];
            data[flipped / 8] ^= 0x80 >> (flipped % 8);
            let leaf = CellHasher::new().bytes(&data[8..]).build();
            CellHasher::new()
                .bytes(&data[..8])
                .reference(&leaf)
                .build()
                .hash
        };
        let hashes: std::collections::HashSet<[u8; 32]> = (0..320).map(cell).collect();
        assert_eq!(hashes.len(), 320);
    }
}
