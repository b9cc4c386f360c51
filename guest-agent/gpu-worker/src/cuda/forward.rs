//! The decoder: how it is loaded, and its steps.

use std::collections::BTreeMap;
use std::path::Path;

use engine::sampling::Choice;
use engine::scheduler::Tokens;
use engine::{
    BLOCK_TOKENS, BlockTable, Choosers, EngineError, Forward, ForwardShape, Packing, Row, served,
};
use kernels::Kind;
use model::decoder::Config;
use model::{ModelRoot, Vocabulary};

use super::buffers::{Buffers, Extent, Kernels, cache_bytes};
use super::choose::Choosing;
use super::device::{Counters, Device, Graph, Memory};
use super::step::{self, STRUCT_WORDS, Shape};
use super::weights::{Weights, held};
use super::{CudaError, Facts};

/// Rows of one step at most: a long prompt's, computed together.
const ROWS_MAX: usize = 512;
/// Sequences of one step at most.
pub const SCORED_MAX: usize = 64;
/// What attention's kernels have room for.
const WIDTH_MAX: usize = 256;
const GROUP_MAX: usize = 8;

/// A decoder in a GPU's memory.
pub struct CudaForward {
    // Graphs and memory go before the device.
    graphs: BTreeMap<Shape, Option<Graph>>,
    pub(super) buffers: Buffers,
    pub(super) weights: Weights,
    pub(super) forbidden: Memory,
    pub(super) kernels: Kernels,
    pub(super) config: Config,
    pub(super) tokens: Tokens,
    shape: ForwardShape,
    words: Vec<u32>,
    output: Vec<u32>,
    /// Whether a failure of the driver ends the process. Its agent takes that as the loss of the GPU; jobs that went on would fail one
    /// by one.
    pub(super) ends_with_its_gpu: bool,
    pub(super) device: Device,
}

impl CudaForward {
    /// As [`super::load`].
    pub fn load(
        directory: &Path,
        packing: Option<Packing>,
        kv_mib: Option<u64>,
        context_max: usize,
        cubins: &Path,
    ) -> Result<(Self, Tokens, Facts, ModelRoot), CudaError> {
        let files = engine::weights::read(directory)
            .map_err(|error| CudaError::Files(error.to_string()))?;
        let model = |error: model::ModelError| CudaError::Engine(error.into());
        let config = Config::of(&files).map_err(model)?;
        let vocabulary = Vocabulary::parse(files.tokenizer(), config.vocabulary).map_err(model)?;
        let tokens = Tokens::of(kernels::Path::detect(), &vocabulary, &config.end_tokens);
        let weights = files.open_weights().map_err(model)?;
        let (forward, facts) = Self::of(
            config,
            &tokens,
            weights,
            packing,
            kv_mib,
            context_max,
            cubins,
        )?;
        let root = files
            .root()
            .map_err(|error| CudaError::Files(error.to_string()))?;
        Ok((forward, tokens, facts, root))
    }

    /// The same of weights that come from elsewhere.
    pub fn of(
        config: Config,
        tokens: &Tokens,
        opened: model::weights::Weights,
        packing: Option<Packing>,
        kv_mib: Option<u64>,
        context_max: usize,
        cubins: &Path,
    ) -> Result<(Self, Facts), CudaError> {
        let device = Device::open()?;
        supported(&config)?;
        let packing = packing.unwrap_or(Packing::AsStored);
        let context = config.context.min(context_max).max(1);
        let one = context.div_ceil(BLOCK_TOKENS);
        let block_bytes =
            2 * config.layers.len() * (cache_bytes(&config, 1) - cache_bytes(&config, 0));
        let blocks = match kv_mib {
            Some(mib) => usize::try_from((mib << 20) / block_bytes as u64).unwrap_or(usize::MAX),
            None => 4 * one,
        };
        let extent = Extent {
            rows: ROWS_MAX,
            scored: SCORED_MAX,
            context,
            blocks: blocks.clamp(1, 1 << 24),
        };
        let weights =
            Weights::bytes(&config, &opened, packing, context).ok_or(CudaError::Endless)?;
        let needed = weights.saturating_add(Buffers::bytes(&config, &extent));
        let free = device.free_bytes()?;
        if needed > free {
            return Err(CudaError::Memory {
                needed: needed.div_ceil(1 << 20),
                free: free >> 20,
            });
        }
        let quantisation = quantisation(packing, &opened);
        let kernels = Kernels::load(&device, cubins)?;
        let weights = Weights::load(&device, &config, opened, packing, context)?;
        let facts = Facts {
            device: device.name().to_owned(),
            quantisation,
            determinism: format!("sm_90a/{quantisation}/engine-{}", env!("CARGO_PKG_VERSION")),
            bytes: needed,
            sources: weights.sources.clone(),
        };
        let forward = CudaForward {
            graphs: BTreeMap::new(),
            buffers: Buffers::new(&device, &config, &extent)?,
            forbidden: held(&device, &tokens.forbidden)?,
            weights,
            kernels,
            shape: ForwardShape {
                context,
                vocabulary: config.vocabulary,
                kv_token_bytes: config.key_value_bytes(2),
                blocks: extent.blocks,
                rows_max: extent.rows,
                scored_max: extent.scored,
            },
            config,
            tokens: tokens.clone(),
            words: Vec::new(),
            output: Vec::new(),
            ends_with_its_gpu: false,
            device,
        };
        forward.device.wait()?;
        Ok((forward, facts))
    }

    /// What steps cost so far, loading included.
    pub fn counters(&self) -> Counters {
        self.device.counters()
    }

    /// Computes rows that were checked. With `choosers` their tokens are chosen; returns how many rows of scores were kept.
    fn step(
        &mut self,
        rows: &[Row],
        tables: &[BlockTable],
        choosers: Option<&Choosers<'_>>,
    ) -> Result<(Shape, usize), CudaError> {
        self.device.enter()?;
        let sequences = step::sequences(rows, self.shape.scored_max)?;
        let shape = Shape::of(rows, sequences.len(), choosers.is_some());
        step::fill(
            &mut self.words,
            &shape,
            rows,
            &sequences,
            tables,
            self.shape.blocks as u32,
        );
        let mut kept = 0;
        if let Some(choosers) = choosers {
            let scored = rows.iter().filter(|row| row.scored);
            let scored: Vec<usize> = scored.map(|row| row.sequence).collect();
            if scored
                .iter()
                .any(|sequence| *sequence >= self.shape.scored_max)
            {
                return Err(EngineError::Computation("a sequence beyond those of one pass").into());
            }
            let mut words = std::mem::take(&mut self.words);
            let filled = self
                .choosing(shape)
                .fill(&mut words, &scored, &choosers.samplers);
            self.words = words;
            kept = filled?;
        }
        self.device.copy_in(&self.buffers.input, 0, &self.words)?;
        // A step that comes back is launched once, so that the driver has loaded all of it, and captured the second time.
        match (shape.repeats, self.graphs.get(&shape)) {
            (false, _) => self.launch(shape)?,
            (true, None) => {
                self.launch(shape)?;
                self.graphs.insert(shape, None);
            }
            (true, Some(Some(graph))) => self.device.replay(graph)?,
            (true, Some(None)) => {
                let graph = self.device.capture(|| self.launch(shape))?;
                self.device.replay(&graph)?;
                self.graphs.insert(shape, Some(graph));
            }
        }
        Ok((shape, kept))
    }

    /// Tells the operator which call of the driver failed, and the caller only that the computation did. Nothing that the driver says
    /// afterwards can be relied on.
    fn told(&self, error: CudaError) -> EngineError {
        if let CudaError::Engine(error) = error {
            return error;
        }
        eprintln!("gpu-worker: {error}");
        if self.ends_with_its_gpu {
            std::process::abort();
        }
        EngineError::Computation("the GPU failed")
    }

    fn choosing(&self, shape: Shape) -> Choosing<'_> {
        let vocabulary = self.shape.vocabulary;
        Choosing {
            device: &self.device,
            buffers: &self.buffers,
            shape,
            vocabulary,
        }
    }
}

impl Forward for CudaForward {
    fn shape(&self) -> &ForwardShape {
        &self.shape
    }

    fn forward(
        &mut self,
        rows: &[Row],
        tables: &[BlockTable],
        scores: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        self.shape.check(rows, tables)?;
        let step = self.step(rows, tables, None);
        let (shape, _) = step.map_err(|error| self.told(error))?;
        scores.clear();
        scores.resize(shape.scored * self.shape.vocabulary, 0.0);
        self.device
            .copy_out(&self.buffers.scores, scores)
            .map_err(|error| self.told(error))?;
        match scores.iter().all(|score| score.is_finite()) {
            true => Ok(()),
            false => Err(EngineError::Computation("a result is not finite")),
        }
    }

    fn choose(
        &mut self,
        rows: &[Row],
        tables: &[BlockTable],
        choosers: Choosers<'_>,
        _: &mut Vec<f32>,
        choices: &mut Vec<Option<Choice>>,
    ) -> Result<(), EngineError> {
        self.shape.check(rows, tables)?;
        if choosers.size != self.tokens.size || choosers.forbidden != self.tokens.forbidden {
            return Err(EngineError::Computation(
                "other tokens than the model was loaded with",
            ));
        }
        let step = self.step(rows, tables, Some(&choosers));
        let (shape, kept) = step.map_err(|error| self.told(error))?;
        let mut output = std::mem::take(&mut self.output);
        output.resize(shape.scored + kept * self.shape.vocabulary, 0);
        let copied = self
            .device
            .copy_out(&self.buffers.output, &mut output)
            .map_err(|error| self.told(error));
        let size = self.tokens.size;
        let taken = copied.and_then(|()| {
            self.choosing(shape)
                .take(&output, size, choosers.samplers, choices)
        });
        self.output = output;
        taken
    }
}

/// How most weights are kept.
fn quantisation(packing: Packing, weights: &model::weights::Weights) -> &'static str {
    let kind = match packing {
        Packing::All(kind) => kind,
        Packing::AsStored => served::most(weights),
    };
    served::name(match kind {
        Kind::F32 => Kind::Bf16,
        kind => kind,
    })
}

/// What no kernel computes.
fn supported(config: &Config) -> Result<(), CudaError> {
    let refuse = |what: String| Err(CudaError::Unsupported(what));
    let (width, group) = (config.head_width, config.heads / config.key_value_heads);
    if width > WIDTH_MAX {
        return refuse(format!(
            "heads of {width} numbers; {WIDTH_MAX} are the most"
        ));
    }
    if group > GROUP_MAX {
        return refuse(format!(
            "{group} query heads to a key head; {GROUP_MAX} are the most"
        ));
    }
    Ok(())
}

const _: () = assert!(
    STRUCT_WORDS.is_multiple_of(2),
    "structs of eight-byte numbers follow each other"
);
