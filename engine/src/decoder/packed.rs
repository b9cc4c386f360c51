//! The extension of a Burn backend that computes decoder layers on packed weights, one op per layer.
//!
//! Weights, keys and values stay in the backend's own places ([`PackedBackend::Decoder`]); what passes from op to op is a float
//! tensor `[rows_max, hidden]`, of which an op computes the first rows in place.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use kernels::Attend;

use super::rotary::Rotation;
use crate::EngineError;
use crate::forward::{BlockTable, Row};

/// A backend with packed decoders.
pub trait PackedBackend: Backend {
    /// The packed weights of one decoder, its keys and values, and the buffers of its ops.
    type Decoder: Send;

    /// The embeddings of the rows, `[rows_max, hidden]`. `reused` is what [`PackedBackend::layer`] gave last, if anything did.
    fn embed(
        decoder: &mut Self::Decoder,
        step: &Step<'_>,
        reused: Option<FloatTensor<Self>>,
    ) -> Result<FloatTensor<Self>, EngineError>;

    /// Layer `index`: from what it takes to what it gives, both `[rows_max, hidden]`. The rows' keys and values are written.
    fn layer(
        decoder: &mut Self::Decoder,
        index: usize,
        hidden: FloatTensor<Self>,
        step: &Step<'_>,
    ) -> Result<FloatTensor<Self>, EngineError>;

    /// The scores of the scored rows, from what the last layer gave; the tensor is left as it is.
    ///
    /// # Errors
    /// [`EngineError::Computation`] if a number that enters the output is not finite.
    fn scores(
        decoder: &mut Self::Decoder,
        hidden: &FloatTensor<Self>,
        step: &Step<'_>,
        scores: &mut Vec<f32>,
    ) -> Result<(), EngineError>;
}

/// The rows that one pass computes, checked.
pub struct Step<'a> {
    /// In the order of their positions within a sequence.
    pub rows: &'a [Row],
    /// By sequence.
    pub tables: &'a [BlockTable],
    /// The rows in runs of consecutive positions of one sequence.
    pub runs: &'a [Attend<'a>],
    /// By rotation of the configuration.
    pub turns: &'a [Turns],
}

/// Cosines and sines of the rows of a step under one rotation, half a head's width for each row.
#[derive(Debug, Default)]
pub struct Turns {
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Turns {
    /// Replaces them by those of `rows`.
    pub fn fill(&mut self, rotation: &Rotation, rows: &[Row]) {
        let half = rotation.frequencies.len();
        self.cosines.resize(rows.len() * half, 0.0);
        self.sines.resize(rows.len() * half, 0.0);
        let out = self.cosines.chunks_exact_mut(half);
        let out = out.zip(self.sines.chunks_exact_mut(half));
        for (row, (cosines, sines)) in rows.iter().zip(out) {
            rotation.at(row.position, cosines, sines);
        }
    }

    /// Cosines of all rows.
    pub fn cosines(&self) -> &[f32] {
        &self.cosines
    }

    /// Sines of all rows.
    pub fn sines(&self) -> &[f32] {
        &self.sines
    }
}
