//! The weights of a decoder as [`Decoder::load`](super::Decoder::load) keeps them, handed over one by one: for whoever keeps them
//! elsewhere, such as in the memory of a GPU. One tensor is held at a time.

use std::collections::BTreeMap;

use kernels::{Kind, Packed};
use model::decoder::Config;
use model::weights::{Tensor, Weights};
use model::{FileDigest, ModelError};

use super::parts::{LayerPart, Part, part};
use crate::EngineError;
use crate::packed::{Packing, set_row};

/// One tensor.
pub enum Piece<'a> {
    /// In [`Kind::Bf16`], [`Kind::Q8`] or [`Kind::Q4`].
    Matrix(&'a Packed),
    /// The weights of a norm, as they are multiplied, or a bias.
    Vector(&'a [f32]),
}

/// The kind in which a matrix is handed over: that of [`Packing::kind`], where nothing has 32 bits.
pub fn kind_of(packing: Packing, part: Part, tensor: &Tensor) -> Option<Kind> {
    let stored = *tensor.dtype.as_ref().ok()?;
    let table = matches!(part, Part::Embedding | Part::Output);
    Some(match packing.kind(stored, table) {
        Kind::F32 => Kind::Bf16,
        kind => kind,
    })
}

/// Hands over all weights, in the order of the files. Gives the digests of the files.
///
/// # Errors
/// A tensor is missing, extra, of another shape or type or not finite; and what `take` says.
pub fn read(
    config: &Config,
    weights: Weights,
    packing: Packing,
    take: &mut dyn FnMut(Part, Piece<'_>) -> Result<(), EngineError>,
) -> Result<BTreeMap<String, FileDigest>, EngineError> {
    let mut numbers = Vec::new();
    weights.read(&config.plan(), |tensor, rows| {
        let of = part(config, &tensor.name);
        let of = of.ok_or_else(|| ModelError::TensorExtra(tensor.name.clone()))?;
        let kind = kind_of(packing, of, tensor).filter(|_| tensor.shape.len() == 2);
        let Some(kind) = kind else {
            let plus = if config.norm_plus_one && of.is_norm() {
                1.0
            } else {
                0.0
            };
            let vector: Vec<f32> = rows.to_vec()?.iter().map(|weight| weight + plus).collect();
            return take(of, Piece::Vector(&vector));
        };
        numbers.resize(tensor.columns(), 0.0);
        let mut matrix = Packed::zeroed(kind, tensor.rows(), tensor.columns())?;
        while let Some(row) = rows.next()? {
            if !set_row(&mut matrix, row, &mut numbers)? {
                return Err(ModelError::TensorNotFinite(tensor.name.clone()).into());
            }
        }
        take(of, Piece::Matrix(&matrix))
    })
}

impl Part {
    fn is_norm(self) -> bool {
        use LayerPart as P;
        match self {
            Part::Norm => true,
            Part::Embedding | Part::Output => false,
            Part::Layer(_, part) => matches!(
                part,
                P::AttentionNorm
                    | P::QueryNorm
                    | P::KeyNorm
                    | P::AfterAttentionNorm
                    | P::FeedNorm
                    | P::AfterFeedNorm
            ),
        }
    }
}
