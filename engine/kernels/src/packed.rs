//! Weights, packed: sixteen output rows interleaved, so that one vector holds the same columns of sixteen rows and a product
//! needs no sum across lanes.
//!
//! A **panel** is sixteen rows; the last one is filled up with rows of zeros. Within a panel, in lines of 64 bytes:
//!
//! | kind | unit | its lines |
//! |---|---|---|
//! | [`Kind::F32`] | 1 column | 1: sixteen f32 |
//! | [`Kind::Bf16`] | 2 columns | 1: sixteen pairs of bf16, the even column in the lower half |
//! | [`Kind::Q8`] | 64 columns | 17: sixteen f16 scales of the first 32 columns and of the second; then per 4 columns sixteen times 4 weights plus 128 |
//! | [`Kind::Q4`] | 32 columns | 5: sixteen f16 scales, sixteen f16 minima; then per 8 columns sixteen times 4 bytes, the lower halves for columns 0 to 15 of the block, the upper for 16 to 31 |
//!
//! Columns are filled up to a unit with zeros. All is little-endian.

mod blocks;

use crate::error::KernelError;
use crate::half::{from_bf16, from_f16, to_bf16};
use crate::memory::{self, Line, Lines};
use crate::simd::LANES;

/// Columns that share a scale.
pub const BLOCK_COLUMNS: usize = 32;
/// Bytes of a block as GGUF's Q8_0 has it: an f16 scale, 32 i8.
pub const Q8_0_BYTES: usize = 34;
/// Bytes of a block as GGUF's Q4_0 has it: an f16 scale, 32 u4 that mean themselves minus 8.
pub const Q4_0_BYTES: usize = 18;
/// Bytes of a block as GGUF's Q4_1 has it: f16 scale, f16 minimum, 32 u4.
pub const Q4_1_BYTES: usize = 20;

/// How a weight is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// 32 bits, as they are.
    F32,
    /// The upper 16 bits of an f32, rounded. A subnormal weight is zero.
    Bf16,
    /// 8 bits times an f16 scale for each 32 columns.
    Q8,
    /// 4 bits times an f16 scale plus an f16 minimum for each 32 columns.
    Q4,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::F32, Kind::Bf16, Kind::Q8, Kind::Q4];

    /// Its name in a packed file and in a receipt.
    pub fn name(self) -> &'static str {
        match self {
            Kind::F32 => "f32",
            Kind::Bf16 => "bf16",
            Kind::Q8 => "q8",
            Kind::Q4 => "q4",
        }
    }

    /// Columns of a unit and its lines.
    pub(crate) const fn unit(self) -> (usize, usize) {
        match self {
            Kind::F32 => (1, 1),
            Kind::Bf16 => (2, 1),
            Kind::Q8 => (2 * BLOCK_COLUMNS, 17),
            Kind::Q4 => (BLOCK_COLUMNS, 5),
        }
    }

    /// Bytes of `rows` by `columns` packed, or `None` beyond what can be addressed.
    pub fn bytes(self, rows: usize, columns: usize) -> Option<usize> {
        let bytes = self.lines(rows, columns)?.checked_mul(Line::BYTES)?;
        isize::try_from(bytes).ok().map(|_| bytes)
    }

    fn lines(self, rows: usize, columns: usize) -> Option<usize> {
        let (unit, lines) = self.unit();
        let panel = columns.div_ceil(unit).checked_mul(lines)?;
        rows.div_ceil(LANES).checked_mul(panel)
    }
}

/// [`BLOCK_COLUMNS`] weights of a row: scale and minimum in f16 where the kind has them; bf16, weights plus 128, or 4 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs)]
pub struct Block {
    pub scale: u16,
    pub minimum: u16,
    pub numbers: [u16; BLOCK_COLUMNS],
}

/// A matrix of weights: `rows` outputs by `columns` inputs.
pub struct Packed {
    kind: Kind,
    rows: usize,
    columns: usize,
    lines: Lines,
}

impl Packed {
    /// Zeros.
    ///
    /// # Errors
    /// A dimension is zero or the product too large, or there is no memory.
    pub fn zeroed(kind: Kind, rows: usize, columns: usize) -> Result<Self, KernelError> {
        let lines = Self::lines_of(kind, rows, columns)?;
        Ok(Packed {
            kind,
            rows,
            columns,
            lines: Lines::zeroed(lines)?,
        })
    }

    /// From the bytes of [`as_bytes`](Self::as_bytes). Any bytes are a matrix; who needs the right ones compares a digest.
    ///
    /// # Errors
    /// As [`zeroed`](Self::zeroed); the bytes are not as many as the shape says.
    pub fn from_bytes(
        kind: Kind,
        rows: usize,
        columns: usize,
        bytes: &[u8],
    ) -> Result<Self, KernelError> {
        let lines = Self::lines_of(kind, rows, columns)?;
        KernelError::length("packed bytes", bytes.len(), lines * Line::BYTES)?;
        let mut packed = Self::zeroed(kind, rows, columns)?;
        packed.as_bytes_mut().copy_from_slice(bytes);
        Ok(packed)
    }

    fn lines_of(kind: Kind, rows: usize, columns: usize) -> Result<usize, KernelError> {
        for (what, got) in [("rows", rows), ("columns", columns)] {
            if got == 0 {
                return Err(KernelError::shape(what, got));
            }
        }
        let bytes = kind.bytes(rows, columns);
        let bytes = bytes.ok_or(KernelError::shape(
            "rows times columns",
            rows.saturating_mul(columns),
        ))?;
        Ok(bytes / Line::BYTES)
    }

    /// How its weights are stored.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of memory that the weights take.
    pub fn bytes(&self) -> usize {
        self.lines.len() * Line::BYTES
    }

    /// The packed form, for a file.
    pub fn as_bytes(&self) -> &[u8] {
        memory::bytes(&self.lines)
    }

    /// The packed form, to be filled from a file.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        memory::bytes_mut(&mut self.lines)
    }

    /// The lines of panel `index`; an empty slice beyond the last.
    #[inline]
    pub(crate) fn panel(&self, index: usize) -> &[Line] {
        let size = self.panel_lines();
        let panel = self.lines.get(index * size..(index + 1) * size);
        panel.unwrap_or_default()
    }

    /// Lines of a panel.
    pub(crate) fn panel_lines(&self) -> usize {
        let (unit, lines) = self.kind.unit();
        self.columns.div_ceil(unit) * lines
    }

    /// The bytes of the panel that holds `row`, and the row's lane in it.
    fn panel_of(&mut self, row: usize) -> Result<(&mut [u8], usize), KernelError> {
        if row >= self.rows {
            return Err(KernelError::shape("row", row));
        }
        let size = self.panel_lines();
        let start = row / LANES * size;
        Ok((
            memory::bytes_mut(&mut self.lines[start..start + size]),
            row % LANES,
        ))
    }

    /// Packs `weights` as a row: f32 as they are, bf16 to the nearest; q8 with the scale that maps the largest magnitude to 127; q4
    /// with scale and minimum from the range.
    ///
    /// # Errors
    /// No such row, another number of weights than columns, or a scale beyond f16.
    pub fn set_row(&mut self, row: usize, weights: &[f32]) -> Result<(), KernelError> {
        KernelError::length("a row of weights", weights.len(), self.columns)?;
        let kind = self.kind;
        let (panel, lane) = self.panel_of(row)?;
        for (index, block) in weights.chunks(BLOCK_COLUMNS).enumerate() {
            match kind {
                Kind::F32 => {
                    for (k, weight) in block.iter().enumerate() {
                        let column = index * BLOCK_COLUMNS + k;
                        put(panel, blocks::f32_at(column, lane), weight.to_le_bytes());
                    }
                }
                Kind::Bf16 => {
                    for (k, weight) in block.iter().enumerate() {
                        let column = index * BLOCK_COLUMNS + k;
                        put(
                            panel,
                            blocks::bf16_at(column, lane),
                            to_bf16(*weight).to_le_bytes(),
                        );
                    }
                }
                Kind::Q8 => {
                    let (scale, quants) =
                        blocks::quantise_q8(block).ok_or(KernelError::Scale { block: index })?;
                    put_q8(panel, index, lane, scale, quants);
                }
                Kind::Q4 => {
                    let (scale, minimum, quants) =
                        blocks::quantise_q4(block).ok_or(KernelError::Scale { block: index })?;
                    put_q4(panel, index, lane, [scale, minimum], quants);
                }
            }
        }
        Ok(())
    }

    /// Packs a row of little-endian bf16. A subnormal one becomes zero.
    ///
    /// # Errors
    /// No such row, another number of bytes than twice the columns, or another kind than [`Kind::Bf16`].
    pub fn set_row_bf16(&mut self, row: usize, bytes: &[u8]) -> Result<(), KernelError> {
        self.expect_kind(Kind::Bf16)?;
        KernelError::length("a row of bf16", bytes.len(), self.columns.saturating_mul(2))?;
        let (panel, lane) = self.panel_of(row)?;
        for (column, half) in bytes.as_chunks::<2>().0.iter().enumerate() {
            let half = to_bf16(from_bf16(u16::from_le_bytes(*half)));
            put(panel, blocks::bf16_at(column, lane), half.to_le_bytes());
        }
        Ok(())
    }

    /// Packs a row of GGUF's Q8_0 blocks, without loss.
    ///
    /// # Errors
    /// No such row, another number of bytes than the blocks have, columns that are no multiple of 32, or another kind than
    /// [`Kind::Q8`].
    pub fn set_row_q8(&mut self, row: usize, bytes: &[u8]) -> Result<(), KernelError> {
        self.expect_kind(Kind::Q8)?;
        let blocks = self.blocks_of::<Q8_0_BYTES>(bytes)?;
        let (panel, lane) = self.panel_of(row)?;
        for (index, block) in blocks.iter().enumerate() {
            let quants = std::array::from_fn(|k| block[2 + k] as i8);
            put_q8(panel, index, lane, [block[0], block[1]], quants);
        }
        Ok(())
    }

    /// Packs a row of GGUF's Q4_0 blocks, without loss: the minimum is -8 times the scale.
    ///
    /// # Errors
    /// As [`set_row_q8`](Self::set_row_q8) for [`Kind::Q4`]; a scale of which 8 times is beyond f16.
    pub fn set_row_q4_0(&mut self, row: usize, bytes: &[u8]) -> Result<(), KernelError> {
        self.expect_kind(Kind::Q4)?;
        let blocks = self.blocks_of::<Q4_0_BYTES>(bytes)?;
        let (panel, lane) = self.panel_of(row)?;
        for (index, block) in blocks.iter().enumerate() {
            let scale = [block[0], block[1]];
            let minimum =
                blocks::times_minus_8(scale).ok_or(KernelError::Scale { block: index })?;
            let nibbles = std::array::from_fn(|k| block[2 + k]);
            put_q4(
                panel,
                index,
                lane,
                [scale, minimum],
                blocks::unpack_q4(nibbles),
            );
        }
        Ok(())
    }

    /// Packs a row of GGUF's Q4_1 blocks, without loss.
    ///
    /// # Errors
    /// As [`set_row_q8`](Self::set_row_q8) for [`Kind::Q4`].
    pub fn set_row_q4_1(&mut self, row: usize, bytes: &[u8]) -> Result<(), KernelError> {
        self.expect_kind(Kind::Q4)?;
        let blocks = self.blocks_of::<Q4_1_BYTES>(bytes)?;
        let (panel, lane) = self.panel_of(row)?;
        for (index, block) in blocks.iter().enumerate() {
            let nibbles = std::array::from_fn(|k| block[4 + k]);
            let scale_and_minimum = [[block[0], block[1]], [block[2], block[3]]];
            put_q4(
                panel,
                index,
                lane,
                scale_and_minimum,
                blocks::unpack_q4(nibbles),
            );
        }
        Ok(())
    }

    fn expect_kind(&self, kind: Kind) -> Result<(), KernelError> {
        let (got, expected) = (self.kind.name(), kind.name());
        let wrong = KernelError::Kind { got, expected };
        (self.kind == kind).then_some(()).ok_or(wrong)
    }

    fn blocks_of<'a, const N: usize>(&self, bytes: &'a [u8]) -> Result<&'a [[u8; N]], KernelError> {
        if !self.columns.is_multiple_of(BLOCK_COLUMNS) {
            return Err(KernelError::shape(
                "columns of a row in blocks",
                self.columns,
            ));
        }
        let expected = (self.columns / BLOCK_COLUMNS).saturating_mul(N);
        KernelError::length("a row of blocks", bytes.len(), expected)?;
        Ok(bytes.as_chunks::<N>().0)
    }

    /// Block `index` of a row as it is stored, for devices that keep weights in another order; zeros behind the last column.
    ///
    /// # Errors
    /// No such row, or [`Kind::F32`], which has no blocks.
    pub fn block(&self, row: usize, index: usize) -> Result<Block, KernelError> {
        if row >= self.rows {
            return Err(KernelError::shape("row", row));
        }
        let mut block = Block::default();
        if index * BLOCK_COLUMNS >= self.columns {
            return Ok(block);
        }
        let panel = memory::bytes(self.panel(row / LANES));
        let (lane, first) = (row % LANES, index * BLOCK_COLUMNS);
        let half = |at: usize| u16::from_le_bytes([panel[at], panel[at + 1]]);
        let in_panel = BLOCK_COLUMNS.min(self.columns - first);
        match self.kind {
            Kind::F32 => {
                let (got, expected) = (self.kind.name(), "bf16, q8 or q4");
                return Err(KernelError::Kind { got, expected });
            }
            Kind::Bf16 => {
                for (k, number) in block.numbers[..in_panel].iter_mut().enumerate() {
                    *number = half(blocks::bf16_at(first + k, lane));
                }
            }
            Kind::Q8 => {
                block.scale = half(blocks::q8_scale_at(index, lane));
                for (k, number) in block.numbers.iter_mut().enumerate() {
                    *number = panel[blocks::q8_at(index, lane, k)].into();
                }
            }
            Kind::Q4 => {
                block.scale = half(blocks::q4_scale_at(index, lane));
                block.minimum = half(blocks::q4_minimum_at(index, lane));
                for (k, number) in block.numbers.iter_mut().enumerate() {
                    let (at, shift) = blocks::q4_at(index, lane, k);
                    *number = u16::from((panel[at] >> shift) & 15);
                }
            }
        }
        Ok(block)
    }

    /// Writes the numbers that `row` stands for to `out`; for tests and for what is slow anyway.
    ///
    /// # Errors
    /// No such row, or `out` is not as long as a row.
    pub fn row(&self, row: usize, out: &mut [f32]) -> Result<(), KernelError> {
        if row >= self.rows {
            return Err(KernelError::shape("row", row));
        }
        KernelError::length("a row of weights", out.len(), self.columns)?;
        let panel = memory::bytes(self.panel(row / LANES));
        let lane = row % LANES;
        let half = |at: usize| u16::from_le_bytes([panel[at], panel[at + 1]]);
        for (column, value) in out.iter_mut().enumerate() {
            let (block, k) = (column / BLOCK_COLUMNS, column % BLOCK_COLUMNS);
            *value = match self.kind {
                Kind::F32 => {
                    let at = blocks::f32_at(column, lane);
                    f32::from_le_bytes([panel[at], panel[at + 1], panel[at + 2], panel[at + 3]])
                }
                Kind::Bf16 => from_bf16(half(blocks::bf16_at(column, lane))),
                Kind::Q8 => {
                    let quant = i16::from(panel[blocks::q8_at(block, lane, k)]) - 128;
                    from_f16(half(blocks::q8_scale_at(block, lane))) * f32::from(quant)
                }
                Kind::Q4 => {
                    let (at, shift) = blocks::q4_at(block, lane, k);
                    let quant = f32::from((panel[at] >> shift) & 15);
                    let scale = from_f16(half(blocks::q4_scale_at(block, lane)));
                    scale * quant + from_f16(half(blocks::q4_minimum_at(block, lane)))
                }
            };
        }
        Ok(())
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Packed({}, {} x {})",
            self.kind.name(),
            self.rows,
            self.columns
        )
    }
}

fn put<const N: usize>(panel: &mut [u8], at: usize, bytes: [u8; N]) {
    panel[at..at + N].copy_from_slice(&bytes);
}

fn put_q8(
    panel: &mut [u8],
    block: usize,
    lane: usize,
    scale: [u8; 2],
    quants: [i8; BLOCK_COLUMNS],
) {
    put(panel, blocks::q8_scale_at(block, lane), scale);
    for (group, quants) in quants.as_chunks::<4>().0.iter().enumerate() {
        let bytes = quants.map(|quant| (quant as u8) ^ 0x80);
        put(panel, blocks::q8_at(block, lane, 4 * group), bytes);
    }
}

fn put_q4(
    panel: &mut [u8],
    block: usize,
    lane: usize,
    [scale, minimum]: [[u8; 2]; 2],
    quants: [u8; BLOCK_COLUMNS],
) {
    put(panel, blocks::q4_scale_at(block, lane), scale);
    put(panel, blocks::q4_minimum_at(block, lane), minimum);
    for k in 0..BLOCK_COLUMNS / 2 {
        let (at, _) = blocks::q4_at(block, lane, k);
        panel[at] = quants[k] | (quants[k + BLOCK_COLUMNS / 2] << 4);
    }
}
