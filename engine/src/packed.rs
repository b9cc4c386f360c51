//! Packed matrices: which kind keeps what a file stores, how a row gets there, and products with them.

mod q4_k;

use kernels::oblivious::mask::declassify;
use kernels::{Kernels, Kind, Packed, Product};
use model::ModelError;
use model::dtype::Dtype;
use model::weights::{Row, Rows, Tensor};

use crate::EngineError;

/// How weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Each tensor by [`of_source`].
    AsStored,
    /// All in one kind; with [`Kind::Q4`] the table of embeddings and the output are [`Kind::Q8`].
    All(Kind),
}

/// The kind that keeps what is stored: exactly for F32, BF16, Q8_0, Q4_0 and Q4_1; Q4_K to the 11 bits of its scales, Q6_K with 8
/// bits and a scale for 32 numbers, F16 with the 8 bits of bf16.
pub fn of_source(stored: Dtype) -> Kind {
    match stored {
        Dtype::F32 => Kind::F32,
        Dtype::F16 | Dtype::Bf16 => Kind::Bf16,
        Dtype::Q8_0 | Dtype::Q6K => Kind::Q8,
        Dtype::Q4_0 | Dtype::Q4_1 | Dtype::Q4K => Kind::Q4,
    }
}

impl Packing {
    /// The kind of a matrix that is stored so; `table` says that it holds embeddings or the output.
    pub fn kind(self, stored: Dtype, table: bool) -> Kind {
        match self {
            Packing::AsStored => of_source(stored),
            Packing::All(Kind::Q4) if table => Kind::Q8,
            Packing::All(kind) => kind,
        }
    }
}

/// A matrix and its bias, which is empty if there is none.
pub(crate) struct Linear {
    pub weights: Packed,
    pub bias: Vec<f32>,
}

impl Linear {
    pub fn zeroed(
        kind: Kind,
        rows: usize,
        columns: usize,
        bias: bool,
    ) -> Result<Self, EngineError> {
        Ok(Linear {
            weights: Packed::zeroed(kind, rows, columns)?,
            bias: vec![0.0; if bias { rows } else { 0 }],
        })
    }

    /// Where `weight` or `bias` is kept.
    pub fn place(&mut self, is_bias: bool) -> Place<'_> {
        match is_bias {
            true => Place::Plain(&mut self.bias),
            false => Place::Matrix(&mut self.weights),
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.weights.bytes() + size_of_val(&self.bias[..])
    }
}

/// Where the numbers of a tensor are kept.
pub(crate) enum Place<'a> {
    Matrix(&'a mut Packed),
    /// The weights of a norm.
    Norm(&'a mut [f32]),
    /// A bias, or a table of which rows are read that everybody may know.
    Plain(&'a mut [f32]),
}

impl Place<'_> {
    /// Keeps all rows. `plus` is added to the weights of norms; `buffer` is for one row.
    pub fn take(
        self,
        tensor: &Tensor,
        rows: &mut Rows<'_>,
        plus: f32,
        buffer: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        match self {
            Place::Matrix(packed) => {
                buffer.resize(tensor.columns(), 0.0);
                while let Some(row) = rows.next()? {
                    if !set_row(packed, row, buffer)? {
                        return Err(ModelError::TensorNotFinite(tensor.name.clone()).into());
                    }
                }
            }
            Place::Norm(norm) => {
                let weights = rows.to_vec()?;
                norm.iter_mut()
                    .zip(weights)
                    .for_each(|(norm, weight)| *norm = weight + plus);
            }
            Place::Plain(numbers) => numbers.copy_from_slice(&rows.to_vec()?),
        }
        Ok(())
    }

    /// All numbers as the checkpoint has them, dequantised, row-major. `plus` was added to the weights of norms.
    pub fn numbers(&self, plus: f32) -> Option<Vec<f32>> {
        let packed = match self {
            Place::Norm(numbers) => return Some(numbers.iter().map(|x| x - plus).collect()),
            Place::Plain(numbers) => return Some(numbers.to_vec()),
            Place::Matrix(packed) => packed,
        };
        let mut numbers = vec![0.0; packed.rows() * packed.columns()];
        for (index, row) in numbers.chunks_exact_mut(packed.columns()).enumerate() {
            packed.row(index, row).ok()?;
        }
        Some(numbers)
    }
}

/// Packs a row: without a change where the kind has the form that is stored. `false`: a number is too large for the kind.
pub(crate) fn set_row(
    packed: &mut Packed,
    row: Row<'_>,
    numbers: &mut [f32],
) -> Result<bool, EngineError> {
    let index = row.index;
    match (packed.kind(), row.dtype) {
        (Kind::Bf16, Dtype::Bf16) => packed.set_row_bf16(index, row.bytes)?,
        (Kind::Q8, Dtype::Q8_0) => packed.set_row_q8(index, row.bytes)?,
        (Kind::Q4, Dtype::Q4_0) => packed.set_row_q4_0(index, row.bytes)?,
        (Kind::Q4, Dtype::Q4_1) => packed.set_row_q4_1(index, row.bytes)?,
        (Kind::Q4, Dtype::Q4K) => {
            let (blocks, _) = row.bytes.as_chunks::<{ q4_k::BLOCK_BYTES }>();
            let mut converted = vec![[0; q4_k::OUT_BYTES]; blocks.len()];
            for (block, out) in blocks.iter().zip(&mut converted) {
                q4_k::to_q4_1(block, out);
            }
            if !q4_k::is_finite(converted.as_flattened()) {
                return Ok(false);
            }
            packed.set_row_q4_1(index, converted.as_flattened())?;
        }
        _ => {
            row.to_f32(numbers);
            packed.set_row(index, numbers)?;
        }
    }
    Ok(true)
}

/// Products of `x` with matrices, each with its bias.
pub(crate) fn project(
    kernels: &Kernels,
    x: &[f32],
    into: &mut [(&Linear, &mut [f32])],
) -> Result<(), EngineError> {
    let products = into.iter_mut().map(|(linear, out)| Product {
        weights: &linear.weights,
        out,
    });
    kernels.linears(x, &mut products.collect::<Vec<_>>())?;
    for (linear, out) in into.iter_mut() {
        if !linear.bias.is_empty() {
            kernels.add_bias(out, &linear.bias)?;
        }
    }
    Ok(())
}

/// Whether all numbers are finite, without a branch on one of them.
pub(crate) fn finite(numbers: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    let infinite = numbers.iter().fold(0, |all, x| {
        all | u32::from(x.to_bits() & EXPONENT == EXPONENT)
    });
    !declassify(infinite)
}
