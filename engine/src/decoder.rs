//! A decoder on packed weights: [`Forward`] over the ops of a [`PackedBackend`].

mod carry;
mod file;
mod flex;
mod load;
pub mod packed;
pub mod parts;
pub mod pieces;
pub mod rotary;

use std::collections::BTreeMap;

use burn::tensor::ops::FloatTensor;
use kernels::Attend;
use model::FileDigest;
use model::decoder::Config;

pub use file::FILE as PACKED_FILE;
pub use flex::PackedDecoder;
pub use load::{Options, blocks_for};
pub use packed::PackedBackend;

use crate::EngineError;
use crate::backend::Cpu;
use crate::forward::{BlockTable, Forward, ForwardShape, Row};
use packed::{Step, Turns};
use rotary::Rotation;

/// A decoder of any family on backend `B`.
pub struct Decoder<B: PackedBackend = Cpu> {
    config: Config,
    shape: ForwardShape,
    packed: B::Decoder,
    hidden: Option<FloatTensor<B>>,
    rotations: Vec<Rotation>,
    sources: BTreeMap<String, FileDigest>,
    turns: Vec<Turns>,
}

impl<B: PackedBackend> Decoder<B> {
    fn new(config: &Config, shape: ForwardShape, packed: B::Decoder) -> Self {
        let rotation = |rope| Rotation::new(rope, config.head_width);
        Decoder {
            rotations: config.ropes.iter().map(rotation).collect(),
            turns: config.ropes.iter().map(|_| Turns::default()).collect(),
            hidden: None,
            sources: BTreeMap::new(),
            config: config.clone(),
            shape,
            packed,
        }
    }

    /// What it computes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The files that its weights came from, as they were read.
    pub fn sources(&self) -> &BTreeMap<String, FileDigest> {
        &self.sources
    }

    /// The backend's part of it.
    pub fn packed(&mut self) -> &mut B::Decoder {
        &mut self.packed
    }

    /// [`Forward::forward`] that shows what enters the first layer and what each layer gives: for tests of the layers.
    pub fn forward_watched(
        &mut self,
        rows: &[Row],
        tables: &[BlockTable],
        scores: &mut Vec<f32>,
        watch: &mut dyn FnMut(&FloatTensor<B>),
    ) -> Result<(), EngineError> {
        self.shape.check(rows, tables)?;
        for (turns, rotation) in self.turns.iter_mut().zip(&self.rotations) {
            turns.fill(rotation, rows);
        }
        let runs = runs(rows, tables);
        let step = Step {
            rows,
            tables,
            runs: &runs,
            turns: &self.turns,
        };
        let mut hidden = B::embed(&mut self.packed, &step, self.hidden.take())?;
        watch(&hidden);
        for index in 0..self.config.layers.len() {
            hidden = B::layer(&mut self.packed, index, hidden, &step)?;
            watch(&hidden);
        }
        let scored = B::scores(&mut self.packed, &hidden, &step, scores);
        self.hidden = Some(hidden);
        scored
    }
}

impl<B: PackedBackend> Forward for Decoder<B>
where
    FloatTensor<B>: Send,
{
    fn shape(&self) -> &ForwardShape {
        &self.shape
    }

    fn forward(
        &mut self,
        rows: &[Row],
        tables: &[BlockTable],
        scores: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        self.forward_watched(rows, tables, scores, &mut |_| {})
    }
}

/// The rows in runs of consecutive positions of one sequence.
fn runs<'a>(rows: &[Row], tables: &'a [BlockTable]) -> Vec<Attend<'a>> {
    let follows = |a: &Row, b: &Row| a.sequence == b.sequence && a.position + 1 == b.position;
    let runs = rows.chunk_by(follows);
    runs.map(|run| Attend {
        blocks: &tables[run[0].sequence].0,
        position: run[0].position as usize,
        rows: run.len(),
    })
    .collect()
}
