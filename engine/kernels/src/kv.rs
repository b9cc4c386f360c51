//! Keys and values of earlier positions, in blocks of 32 tokens.
//!
//! A block holds, for each layer and each head, the keys transposed (for each element of a head its 32 positions: a score per lane
//! needs no sum across lanes) and the values (for each position its elements, filled up to a multiple of 32). Of one layer and head
//! the keys of all blocks stand together, then the values, so that blocks with consecutive numbers are read in one stream. Who owns
//! a block is the caller's business; here a block is a number.

use std::ops::Range;

use crate::error::KernelError;
use crate::half::to_f16;
use crate::memory::{self, Line, Lines};

/// Tokens of a block.
pub const BLOCK_TOKENS: usize = 32;
/// The widest head.
pub const HEAD_WIDTH_MAX: usize = 512;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvKind {
    /// 32 bits.
    F32,
    /// IEEE 754 binary16, rounded to the nearest.
    F16,
}

impl KvKind {
    /// Lines of 32 elements.
    pub(crate) const fn group_lines(self) -> usize {
        match self {
            KvKind::F32 => 2,
            KvKind::F16 => 1,
        }
    }
}

/// Shape of the keys and values of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// How they are stored.
    pub kind: KvKind,
    /// Layers that have some.
    pub layers: usize,
    /// Heads of keys, which are as many of values.
    pub heads: usize,
    /// Elements of a head.
    pub width: usize,
}

impl KvShape {
    /// Bytes of a block of [`BLOCK_TOKENS`] tokens, all layers, or `None` beyond what can be addressed.
    pub fn block_bytes(&self) -> Option<usize> {
        let heads = self.layers.checked_mul(self.heads)?;
        heads
            .checked_mul(self.head_lines()?)?
            .checked_mul(Line::BYTES)
    }

    /// Lines of the keys of a head in a block, and of its values.
    fn piece_lines(&self) -> [usize; 2] {
        let lines = self.kind.group_lines();
        [
            self.width * lines,
            self.width.next_multiple_of(BLOCK_TOKENS) * lines,
        ]
    }

    /// Both together, if that is a number.
    fn head_lines(&self) -> Option<usize> {
        let values = self
            .width
            .div_ceil(BLOCK_TOKENS)
            .checked_mul(BLOCK_TOKENS)?;
        self.width
            .checked_add(values)?
            .checked_mul(self.kind.group_lines())
    }
}

/// Memory for the keys and values of a number of blocks.
pub struct KvCache {
    shape: KvShape,
    blocks: usize,
    lines: Lines,
}

impl KvCache {
    /// Zeros for `blocks` blocks.
    ///
    /// # Errors
    /// A dimension is zero, a head wider than [`HEAD_WIDTH_MAX`], the product too large, or there is no memory.
    pub fn zeroed(shape: KvShape, blocks: usize) -> Result<Self, KernelError> {
        Self::of(shape, blocks, Lines::zeroed)
    }

    /// The same for one call.
    pub(crate) fn temporary(shape: KvShape, blocks: usize) -> Result<Self, KernelError> {
        Self::of(shape, blocks, Lines::temporary)
    }

    fn of(
        shape: KvShape,
        blocks: usize,
        memory: fn(usize) -> Result<Lines, KernelError>,
    ) -> Result<Self, KernelError> {
        let KvShape {
            layers,
            heads,
            width,
            ..
        } = shape;
        for (what, got) in [
            ("layers of a cache", layers),
            ("heads of a cache", heads),
            ("blocks of a cache", blocks),
        ] {
            if got == 0 {
                return Err(KernelError::shape(what, got));
            }
        }
        if !(1..=HEAD_WIDTH_MAX).contains(&width) {
            return Err(KernelError::shape("width of a head", width));
        }
        let bytes = shape
            .block_bytes()
            .and_then(|bytes| bytes.checked_mul(blocks));
        let bytes = bytes.ok_or(KernelError::shape("blocks of a cache", blocks))?;
        Ok(KvCache {
            shape,
            blocks,
            lines: memory(bytes / Line::BYTES)?,
        })
    }

    /// The shape of a token.
    pub fn shape(&self) -> &KvShape {
        &self.shape
    }

    /// Blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.lines.len() * Line::BYTES
    }

    /// Writes keys and values of one token, `heads * width` each, as token `slot` of `block`.
    ///
    /// # Errors
    /// There is no such layer, block or slot, or a slice has another length.
    pub fn write(
        &mut self,
        layer: usize,
        block: u32,
        slot: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<(), KernelError> {
        let KvShape {
            kind, heads, width, ..
        } = self.shape;
        if slot >= BLOCK_TOKENS {
            return Err(KernelError::shape("slot of a block", slot));
        }
        KernelError::length("keys", keys.len(), heads * width)?;
        KernelError::length("values", values.len(), heads * width)?;
        for head in 0..heads {
            let [key_lines, value_lines] = self.pieces(layer, block, head)?;
            let part = head * width..(head + 1) * width;
            let stride = width.next_multiple_of(BLOCK_TOKENS);
            match kind {
                KvKind::F32 => {
                    let keys = keys[part.clone()].iter().map(|x| x.to_le_bytes());
                    let values = values[part].iter().map(|x| x.to_le_bytes());
                    scatter(&mut self.lines[key_lines], slot, BLOCK_TOKENS, keys);
                    scatter(&mut self.lines[value_lines], slot * stride, 1, values);
                }
                KvKind::F16 => {
                    let keys = keys[part.clone()].iter().map(|x| to_f16(*x).to_le_bytes());
                    let values = values[part].iter().map(|x| to_f16(*x).to_le_bytes());
                    scatter(&mut self.lines[key_lines], slot, BLOCK_TOKENS, keys);
                    scatter(&mut self.lines[value_lines], slot * stride, 1, values);
                }
            }
        }
        Ok(())
    }

    /// Copies all layers of a block to another, as when a sequence forks within it.
    ///
    /// # Errors
    /// There is no such block.
    pub fn copy_block(&mut self, from: u32, to: u32) -> Result<(), KernelError> {
        self.each_piece(|cache, layer, head| {
            let (from, to) = (
                cache.pieces(layer, from, head)?,
                cache.pieces(layer, to, head)?,
            );
            for (from, to) in from.into_iter().zip(to) {
                cache.lines.copy_within(from, to.start);
            }
            Ok(())
        })
    }

    /// Overwrites a block with zeros.
    ///
    /// # Errors
    /// There is no such block.
    pub fn clear_block(&mut self, block: u32) -> Result<(), KernelError> {
        self.each_piece(|cache, layer, head| {
            for piece in cache.pieces(layer, block, head)? {
                cache.lines[piece].fill(Line::ZERO);
            }
            Ok(())
        })
    }

    fn each_piece(
        &mut self,
        mut of: impl FnMut(&mut Self, usize, usize) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        for layer in 0..self.shape.layers {
            for head in 0..self.shape.heads {
                of(self, layer, head)?;
            }
        }
        Ok(())
    }

    /// Where keys and values of a head stand in a block.
    fn pieces(
        &self,
        layer: usize,
        block: u32,
        head: usize,
    ) -> Result<[Range<usize>; 2], KernelError> {
        if layer >= self.shape.layers {
            return Err(KernelError::shape("layer of a cache", layer));
        }
        self.checked(block)?;
        Ok(self.pieces_of(layer, block, head))
    }

    #[inline(always)]
    fn pieces_of(&self, layer: usize, block: u32, head: usize) -> [Range<usize>; 2] {
        let [keys, values] = self.shape.piece_lines();
        let start = (layer * self.shape.heads + head) * (keys + values) * self.blocks;
        let first_key = start + block as usize * keys;
        let first_value = start + self.blocks * keys + block as usize * values;
        [
            first_key..first_key + keys,
            first_value..first_value + values,
        ]
    }

    /// The block's number, if there is such a block.
    pub(crate) fn checked(&self, block: u32) -> Result<usize, KernelError> {
        let index = block as usize;
        let wrong = KernelError::shape("block of a cache", index);
        (index < self.blocks).then_some(index).ok_or(wrong)
    }

    /// Keys of a head in a block that was checked.
    #[inline(always)]
    pub(crate) fn keys(&self, layer: usize, block: u32, head: usize) -> &[Line] {
        let [keys, _] = self.pieces_of(layer, block, head);
        &self.lines[keys]
    }

    /// Values of a head in a block that was checked.
    #[inline(always)]
    pub(crate) fn values(&self, layer: usize, block: u32, head: usize) -> &[Line] {
        let [_, values] = self.pieces_of(layer, block, head);
        &self.lines[values]
    }
}

impl std::fmt::Debug for KvCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KvCache({:?}, {} blocks)", self.shape, self.blocks)
    }
}

/// Writes elements at `first`, `first + stride`, ...
fn scatter<const N: usize>(
    lines: &mut [Line],
    first: usize,
    stride: usize,
    elements: impl Iterator<Item = [u8; N]>,
) {
    let slots = memory::bytes_mut(lines)
        .as_chunks_mut::<N>()
        .0
        .iter_mut()
        .skip(first)
        .step_by(stride);
    slots
        .zip(elements)
        .for_each(|(slot, element)| *slot = element);
}
