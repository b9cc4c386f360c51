//! The order of weights that the product kernels read (`kernels/product.cu` says it), made from packed ones without a change of a number.

use kernels::packed::BLOCK_COLUMNS;
use kernels::{Kind, Packed};

use super::CudaError;

/// What columns are filled up to with zeros.
pub const COLUMNS_UNIT: usize = 128;
/// What outputs are filled up to.
pub const OUTPUTS_UNIT: usize = 16;

/// A matrix as the kernels read it. Scales and minima are f16, and empty where the kind has none.
pub struct Layout {
    pub numbers: Vec<u8>,
    pub scales: Vec<u16>,
    pub minima: Vec<u16>,
}

/// Bytes of a matrix in all three parts, or none beyond what can be addressed.
pub fn bytes(kind: Kind, outputs: usize, columns: usize) -> Option<usize> {
    let blocks = columns
        .div_ceil(COLUMNS_UNIT)
        .checked_mul(COLUMNS_UNIT / BLOCK_COLUMNS)?;
    let of_block = match kind {
        Kind::F32 => return None,
        Kind::Bf16 => 64,
        Kind::Q8 => 34,
        Kind::Q4 => 20,
    };
    let rows = outputs.checked_next_multiple_of(OUTPUTS_UNIT)?;
    rows.checked_mul(blocks)?.checked_mul(of_block)
}

/// Rows of `matrix` from `first` on, `rows` of them, those behind the last all zeros.
pub fn rows_of(matrix: &Packed, first: usize, rows: usize) -> Result<Layout, CudaError> {
    let columns = matrix.columns().next_multiple_of(COLUMNS_UNIT);
    let (kind, blocks) = (matrix.kind(), columns / BLOCK_COLUMNS);
    let row_bytes = match kind {
        Kind::F32 => return Err(CudaError::Unsupported("weights of 32 bits".into())),
        Kind::Bf16 => 2 * columns,
        Kind::Q8 => columns,
        Kind::Q4 => columns / 2,
    };
    let halves = |has: bool| vec![0; if has { rows * blocks } else { 0 }];
    let mut layout = Layout {
        numbers: vec![0; rows * row_bytes],
        scales: halves(kind != Kind::Bf16),
        minima: halves(kind == Kind::Q4),
    };
    for row in 0..rows.min(matrix.rows().saturating_sub(first)) {
        let numbers = &mut layout.numbers[row * row_bytes..][..row_bytes];
        for index in 0..blocks {
            let block = matrix
                .block(first + row, index)
                .map_err(engine::EngineError::from)?;
            for (k, number) in block.numbers.into_iter().enumerate() {
                let (t, k) = (k / 8, k % 8);
                match kind {
                    Kind::F32 | Kind::Bf16 => {
                        let at = 2 * (index * BLOCK_COLUMNS + t * 8 + k);
                        numbers[at..at + 2].copy_from_slice(&number.to_le_bytes());
                    }
                    Kind::Q8 => numbers[index / 2 * 64 + t * 16 + index % 2 * 8 + k] = number as u8,
                    Kind::Q4 => {
                        let bit = 16 * (k % 2) + 4 * (k / 2);
                        let at = index / 4 * 64 + t * 16 + index % 4 * 4 + bit / 8;
                        numbers[at] |= (number as u8) << (bit % 8);
                    }
                }
            }
            if let Some(scale) = layout.scales.get_mut(row * blocks + index) {
                *scale = block.scale;
            }
            if let Some(minimum) = layout.minima.get_mut(row * blocks + index) {
                *minimum = block.minimum;
            }
        }
    }
    Ok(layout)
}
