//! The weights of a decoder in a GPU's memory.

use std::collections::BTreeMap;

use engine::EngineError;
use engine::Packing;
use engine::decoder::parts::{LayerPart, Part};
use engine::decoder::pieces::{Piece, kind_of, read};
use engine::decoder::rotary::Rotation;
use kernels::{Kind, Packed};
use model::FileDigest;
use model::decoder::Config;
use model::weights::Weights as Files;

use super::CudaError;
use super::device::{Device, Memory};
use super::layout::{self, OUTPUTS_UNIT};

/// Rows that are brought into order at a time, so that little is held twice.
const ROWS: usize = 64 * OUTPUTS_UNIT;

/// A matrix.
pub struct Matrix {
    pub(super) kind: Kind,
    pub(super) outputs: usize,
    /// With what they are filled up by.
    pub columns: usize,
    pub(super) numbers: Memory,
    pub(super) scales: Option<Memory>,
    pub(super) minima: Option<Memory>,
}

/// All of them, by what they are for.
pub struct Weights {
    matrices: BTreeMap<Part, Matrix>,
    vectors: BTreeMap<Part, Memory>,
    /// Cosines and sines of each rotation for each position.
    pub turns: Vec<[Memory; 2]>,
    pub sources: BTreeMap<String, FileDigest>,
}

impl Weights {
    /// Reads them.
    pub fn load(
        device: &Device,
        config: &Config,
        files: Files,
        packing: Packing,
        context: usize,
    ) -> Result<Self, CudaError> {
        let (mut matrices, mut vectors) = (BTreeMap::new(), BTreeMap::new());
        let mut failed = None;
        let sources = read(config, files, packing, &mut |part, piece| {
            let kept = match piece {
                Piece::Matrix(matrix) => Matrix::new(device, matrix).map(|matrix| {
                    matrices.insert(part, matrix);
                }),
                Piece::Vector(numbers) => held(device, numbers).map(|memory| {
                    vectors.insert(part, memory);
                }),
            };
            kept.map_err(|error| {
                failed = Some(error);
                EngineError::Computation("the GPU does not take the weights")
            })
        });
        let sources = match (failed, sources) {
            (Some(error), _) => return Err(error),
            (None, sources) => sources?,
        };
        let half = config.head_width / 2;
        let mut turns = Vec::new();
        for rope in &config.ropes {
            let rotation = Rotation::new(rope, config.head_width);
            let (mut cosines, mut sines) = (vec![0.0; context * half], vec![0.0; context * half]);
            let each = cosines
                .chunks_exact_mut(half)
                .zip(sines.chunks_exact_mut(half));
            for (position, (cosines, sines)) in (0..).zip(each) {
                rotation.at(position, cosines, sines);
            }
            turns.push([held(device, &cosines)?, held(device, &sines)?]);
        }
        device.wait()?;
        Ok(Weights {
            matrices,
            vectors,
            turns,
            sources,
        })
    }

    /// Bytes that they take, turns among them.
    pub fn bytes(config: &Config, files: &Files, packing: Packing, context: usize) -> Option<u64> {
        let mut sum = config
            .ropes
            .len()
            .checked_mul(context)?
            .checked_mul(4 * config.head_width)?;
        for tensor in files.tensors() {
            let Some(part) = engine::decoder::parts::part(config, &tensor.name) else {
                continue;
            };
            let kind = kind_of(packing, part, tensor).filter(|_| tensor.shape.len() == 2);
            let bytes = match kind {
                Some(kind) => layout::bytes(kind, tensor.rows(), tensor.columns())?,
                None => tensor.columns().checked_mul(4)?,
            };
            sum = sum.checked_add(bytes)?;
        }
        u64::try_from(sum).ok()
    }

    /// A matrix that each model has.
    pub fn matrix(&self, part: Part) -> Result<&Matrix, CudaError> {
        self.matrices.get(&part).ok_or(CudaError::Range)
    }

    /// A matrix of layer `index`.
    pub fn of_layer(&self, index: usize, part: LayerPart) -> Result<&Matrix, CudaError> {
        self.matrix(Part::Layer(index, part))
    }

    /// A vector, if the family has it.
    pub fn vector(&self, part: Part) -> Option<&Memory> {
        self.vectors.get(&part)
    }

    /// A vector of layer `index`, if the family has it.
    pub fn vector_of(&self, index: usize, part: LayerPart) -> Option<&Memory> {
        self.vector(Part::Layer(index, part))
    }
}

impl Matrix {
    /// A packed matrix in the kernels' order.
    pub fn new(device: &Device, packed: &Packed) -> Result<Self, CudaError> {
        let rows = packed.rows().next_multiple_of(OUTPUTS_UNIT);
        let columns = packed.columns().next_multiple_of(layout::COLUMNS_UNIT);
        let blocks = rows * columns / 32;
        let numbers = match packed.kind() {
            Kind::Q4 => rows * columns / 2,
            Kind::Q8 => rows * columns,
            Kind::Bf16 | Kind::F32 => rows * columns * 2,
        };
        let halves = |has: bool| match has {
            true => device.zeros(2 * blocks).map(Some),
            false => Ok(None),
        };
        let matrix = Matrix {
            kind: packed.kind(),
            outputs: packed.rows(),
            columns,
            numbers: device.zeros(numbers)?,
            scales: halves(packed.kind() != Kind::Bf16)?,
            minima: halves(packed.kind() == Kind::Q4)?,
        };
        for first in (0..rows).step_by(ROWS) {
            let part = layout::rows_of(packed, first, ROWS.min(rows - first))?;
            device.copy_in(&matrix.numbers, numbers / rows * first, &part.numbers)?;
            for (memory, halves) in [
                (&matrix.scales, &part.scales),
                (&matrix.minima, &part.minima),
            ] {
                if let Some(memory) = memory {
                    device.copy_in(memory, 2 * (blocks / rows) * first, halves)?;
                }
            }
        }
        Ok(matrix)
    }
}

/// Numbers in a GPU's memory.
pub fn held<T: Copy>(device: &Device, numbers: &[T]) -> Result<Memory, CudaError> {
    let memory = device.zeros(size_of_val(numbers))?;
    device.copy_in(&memory, 0, numbers)?;
    Ok(memory)
}
