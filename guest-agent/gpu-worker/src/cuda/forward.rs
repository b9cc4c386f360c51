//! The decoder: what a step launches, in order.

use std::collections::BTreeMap;
use std::path::Path;

use engine::decoder::parts::{LayerPart, Part};
use engine::sampling::Choice;
use engine::scheduler::Tokens;
use engine::{
    BLOCK_TOKENS, BlockTable, Choosers, EngineError, Forward, ForwardShape, Packing, Row, served,
};
use kernels::Kind;
use model::Vocabulary;
use model::decoder::{Activation, Config};

use super::buffers::{Buffers, Extent, Kernels, attended, cache_bytes, columns};
use super::choose::Choosing;
use super::device::{Argument, Counters, Device, Graph, Memory};
use super::step::{self, STRUCT_WORDS, Shape};
use super::weights::{Matrix, Weights, held};
use super::{CudaError, Facts};

/// Rows of one step at most: a long prompt's, computed together.
const ROWS_MAX: usize = 512;
/// Sequences of one step at most.
const SCORED_MAX: usize = 64;
/// What attention's kernels have room for.
const WIDTH_MAX: usize = 256;
const GROUP_MAX: usize = 8;
/// Threads of a block that runs over a row, and of one that runs over a vocabulary.
const THREADS: usize = 256;
const THREADS_SAMPLE: usize = 1024;

/// A decoder in a GPU's memory.
pub struct CudaForward {
    // Graphs and memory go before the device.
    graphs: BTreeMap<Shape, Option<Graph>>,
    buffers: Buffers,
    weights: Weights,
    forbidden: Memory,
    kernels: Kernels,
    config: Config,
    tokens: Tokens,
    shape: ForwardShape,
    words: Vec<u32>,
    output: Vec<u32>,
    device: Device,
}

impl CudaForward {
    /// As [`super::load`].
    pub fn load(
        directory: &Path,
        packing: Option<Packing>,
        kv_mib: Option<u64>,
        context_max: usize,
        cubins: &Path,
    ) -> Result<(Self, Tokens, Facts), CudaError> {
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
        Ok((forward, tokens, facts))
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
        let quantisation = served::name(match packing {
            Packing::All(Kind::F32) => Kind::Bf16,
            Packing::All(kind) => kind,
            Packing::AsStored => match served::most(&opened) {
                Kind::F32 => Kind::Bf16,
                kind => kind,
            },
        });
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

    fn choosing(&self, shape: Shape) -> Choosing<'_> {
        let vocabulary = self.shape.vocabulary;
        Choosing {
            device: &self.device,
            buffers: &self.buffers,
            shape,
            vocabulary,
        }
    }

    /// Everything that a step of this shape launches.
    fn launch(&self, shape: Shape) -> Result<(), CudaError> {
        if shape.rows == 0 {
            return Ok(());
        }
        let (config, buffers, kernels) = (&self.config, &self.buffers, &self.kernels);
        let embedding = self.weights.matrix(Part::Embedding)?;
        let [numbers, scales, minima] = embedding.arguments();
        let (hidden, width) = (&buffers.hidden, config.hidden as u32);
        self.device.launch(
            kernels.embed[embedding.index()],
            [shape.rows, 1, 1],
            THREADS,
            &[
                numbers,
                scales,
                minima,
                buffers.input.at(shape.of_rows(0)),
                hidden.into(),
                width.into(),
                (embedding.columns as u32).into(),
                config.embedding_scale.into(),
            ],
        )?;
        for layer in 0..config.layers.len() {
            self.attend(layer, &shape)?;
            self.feed(layer, &shape)?;
        }
        if shape.scored == 0 {
            return Ok(());
        }
        let norm = self.weights.vector(Part::Norm).ok_or(CudaError::Range)?;
        self.norm(
            hidden,
            Some(buffers.input.at(shape.scored_rows())),
            norm,
            shape.scored,
        )?;
        let output = if config.tied {
            embedding
        } else {
            self.weights.matrix(Part::Output)?
        };
        self.product(
            output,
            &buffers.normed,
            None,
            &buffers.scores,
            shape.scored,
            false,
        )?;
        if let Some(cap) = config.score_cap {
            let count = shape.scored * config.vocabulary;
            let blocks = count.div_ceil(THREADS).min(1024);
            let arguments = [(&buffers.scores).into(), (count as u64).into(), cap.into()];
            self.device
                .launch(kernels.cap_scores, [blocks, 1, 1], THREADS, &arguments)?;
        }
        if shape.chooses {
            self.sample(&shape)
        } else {
            Ok(())
        }
    }

    /// Adds to the rows what the attention of a layer makes of them.
    fn attend(&self, index: usize, shape: &Shape) -> Result<(), CudaError> {
        let (config, buffers) = (&self.config, &self.buffers);
        let (rows, width) = (shape.rows, config.head_width);
        let of = |part| self.weights.of_layer(index, part);
        let vector = |part| self.weights.vector_of(index, part);
        self.norm(
            &buffers.hidden,
            None,
            vector(LayerPart::AttentionNorm).ok_or(CudaError::Range)?,
            rows,
        )?;
        for (part, bias, out) in [
            (LayerPart::Query, LayerPart::QueryBias, &buffers.queries),
            (LayerPart::Key, LayerPart::KeyBias, &buffers.keys),
            (LayerPart::Value, LayerPart::ValueBias, &buffers.values),
        ] {
            self.product(of(part)?, &buffers.normed, vector(bias), out, rows, false)?;
        }
        let [keys, values] = &buffers.cache[index];
        let turns = config.layers[index]
            .rope
            .map(|rope| &self.weights.turns[rope]);
        let few = config.key_value_heads;
        for (x, norm, turns, cache, heads, scale) in [
            (
                &buffers.queries,
                vector(LayerPart::QueryNorm),
                turns,
                None,
                config.heads,
                config.attention_scale,
            ),
            (
                &buffers.keys,
                vector(LayerPart::KeyNorm),
                turns,
                Some(keys),
                few,
                1.0,
            ),
            (&buffers.values, None, None, Some(values), few, 1.0),
        ] {
            let arguments = [
                x.into(),
                norm.into(),
                turns.map(|turns| &turns[0]).into(),
                turns.map(|turns| &turns[1]).into(),
                cache.into(),
                buffers.input.at(shape.of_rows(1)),
                buffers.input.at(shape.of_rows(2)),
                (heads as u32).into(),
                (width as u32).into(),
                (config.norm_epsilon as f32).into(),
                scale.into(),
            ];
            self.device
                .launch(self.kernels.heads, [rows, heads, 1], 32, &arguments)?;
        }
        self.mix(index, shape)?;
        let after = vector(LayerPart::AfterAttentionNorm);
        self.added(
            of(LayerPart::Out)?,
            &buffers.mixed,
            vector(LayerPart::OutBias),
            after,
            rows,
        )
    }

    /// What each row sees of the keys and values up to its own, by as many rows at a time as there is room for.
    fn mix(&self, index: usize, shape: &Shape) -> Result<(), CudaError> {
        let (config, buffers) = (&self.config, &self.buffers);
        let [keys, values] = &buffers.cache[index];
        let (width, heads, few) = (config.head_width, config.heads, config.key_value_heads);
        let window = config.layers[index]
            .window
            .map_or(0, |window| window as u32);
        let some = attended(config, shape.parts, shape.rows);
        for first in (0..shape.rows).step_by(some) {
            let rows = some.min(shape.rows - first);
            let positions = buffers.input.at(shape.of_rows(1) + 4 * first);
            let arguments = [
                buffers.queries.at(4 * first * heads * width),
                keys.into(),
                values.into(),
                buffers.input.at(shape.tables()),
                buffers.input.at(shape.of_rows(3) + 4 * first),
                positions,
                (&buffers.scratch).into(),
                (few as u32).into(),
                (width as u32).into(),
                (shape.table_blocks() as u32).into(),
                (shape.parts as u32).into(),
                window.into(),
            ];
            let threads = 32 * (heads / few);
            self.device.launch(
                self.kernels.attend,
                [few, rows, shape.parts],
                threads,
                &arguments,
            )?;
            let out_columns = columns(heads * width);
            let arguments = [
                (&buffers.scratch).into(),
                positions,
                buffers.mixed.at(2 * first * out_columns),
                (heads as u32).into(),
                (width as u32).into(),
                (out_columns as u32).into(),
                (shape.parts as u32).into(),
                window.into(),
            ];
            self.device
                .launch(self.kernels.join, [rows, heads, 1], 32, &arguments)?;
        }
        Ok(())
    }

    /// Adds to the rows what the feed-forward part of a layer makes of them.
    fn feed(&self, index: usize, shape: &Shape) -> Result<(), CudaError> {
        let (config, buffers, rows) = (&self.config, &self.buffers, shape.rows);
        let of = |part| self.weights.of_layer(index, part);
        let vector = |part| self.weights.vector_of(index, part);
        self.norm(
            &buffers.hidden,
            None,
            vector(LayerPart::FeedNorm).ok_or(CudaError::Range)?,
            rows,
        )?;
        let width = config.intermediate;
        self.product(
            of(LayerPart::Gate)?,
            &buffers.normed,
            vector(LayerPart::GateBias),
            &buffers.gate,
            rows,
            false,
        )?;
        self.product(
            of(LayerPart::Up)?,
            &buffers.normed,
            vector(LayerPart::UpBias),
            &buffers.up,
            rows,
            false,
        )?;
        let gelu = u32::from(config.activation == Activation::GeluTanh);
        let arguments = [
            (&buffers.gate).into(),
            (&buffers.up).into(),
            (&buffers.active).into(),
            (width as u32).into(),
            (columns(width) as u32).into(),
            gelu.into(),
        ];
        let grid = [rows, width.div_ceil(THREADS), 1];
        self.device
            .launch(self.kernels.activate, grid, THREADS, &arguments)?;
        let after = vector(LayerPart::AfterFeedNorm);
        self.added(
            of(LayerPart::Down)?,
            &buffers.active,
            vector(LayerPart::DownBias),
            after,
            rows,
        )
    }

    /// The root mean square norm of rows of `x`, or of those that `some` names, into what enters products.
    fn norm(
        &self,
        x: &Memory,
        some: Option<Argument>,
        weights: &Memory,
        rows: usize,
    ) -> Result<(), CudaError> {
        let width = self.config.hidden;
        let arguments = [
            x.into(),
            some.unwrap_or(0u64.into()),
            weights.into(),
            (&self.buffers.normed).into(),
            (width as u32).into(),
            (columns(width) as u32).into(),
            (self.config.norm_epsilon as f32).into(),
        ];
        self.device
            .launch(self.kernels.rms_norm, [rows, 1, 1], THREADS, &arguments)
    }

    /// Adds a product to the rows, normed if there is a norm behind it.
    fn added(
        &self,
        matrix: &Matrix,
        x: &Memory,
        bias: Option<&Memory>,
        norm: Option<&Memory>,
        rows: usize,
    ) -> Result<(), CudaError> {
        let (hidden, out) = (&self.buffers.hidden, &self.buffers.out);
        let Some(norm) = norm else {
            return self.product(matrix, x, bias, hidden, rows, true);
        };
        self.product(matrix, x, bias, out, rows, false)?;
        let arguments = [
            hidden.into(),
            out.into(),
            norm.into(),
            (self.config.hidden as u32).into(),
            (self.config.norm_epsilon as f32).into(),
        ];
        self.device
            .launch(self.kernels.add_norm, [rows, 1, 1], THREADS, &arguments)
    }

    /// A product of rows with a matrix, by the kernel that takes about as many rows at a time. Its bits are the same in each.
    fn product(
        &self,
        matrix: &Matrix,
        x: &Memory,
        bias: Option<&Memory>,
        out: &Memory,
        rows: usize,
        add: bool,
    ) -> Result<(), CudaError> {
        let (size, at_once) = match rows {
            0..=8 => (0, 8),
            9..=16 => (1, 16),
            17..=32 => (2, 32),
            _ => (3, 64),
        };
        let [numbers, scales, minima] = matrix.arguments();
        let arguments = [
            numbers,
            scales,
            minima,
            x.into(),
            bias.into(),
            out.into(),
            (matrix.outputs as u32).into(),
            (matrix.columns as u32).into(),
            (rows as u32).into(),
            u32::from(add).into(),
        ];
        let grid = [matrix.outputs.div_ceil(16), rows.div_ceil(at_once), 1];
        self.device.launch(
            self.kernels.product[4 * matrix.index() + size],
            grid,
            THREADS,
            &arguments,
        )
    }

    fn sample(&self, shape: &Shape) -> Result<(), CudaError> {
        let buffers = &self.buffers;
        let arguments = [
            (&buffers.scores).into(),
            (&buffers.weights).into(),
            buffers.input.at(shape.samplings()),
            (&self.forbidden).into(),
            (self.tokens.forbidden.len() as u32).into(),
            (&buffers.output).into(),
            (self.tokens.size as u32).into(),
            (self.config.vocabulary as u32).into(),
        ];
        self.device.launch(
            self.kernels.sample,
            [shape.scored, 1, 1],
            THREADS_SAMPLE,
            &arguments,
        )
    }
}

impl Matrix {
    fn arguments(&self) -> [Argument; 3] {
        [
            (&self.numbers).into(),
            self.scales.as_ref().into(),
            self.minima.as_ref().into(),
        ]
    }

    /// Its place among kinds of kernels.
    fn index(&self) -> usize {
        match self.kind {
            Kind::F32 | Kind::Bf16 => 0,
            Kind::Q8 => 1,
            Kind::Q4 => 2,
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
        let (shape, _) = self.step(rows, tables, None).map_err(told)?;
        scores.clear();
        scores.resize(shape.scored * self.shape.vocabulary, 0.0);
        self.device
            .copy_out(&self.buffers.scores, scores)
            .map_err(told)?;
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
        let (shape, kept) = self.step(rows, tables, Some(&choosers)).map_err(told)?;
        let mut output = std::mem::take(&mut self.output);
        output.resize(shape.scored + kept * self.shape.vocabulary, 0);
        let copied = self
            .device
            .copy_out(&self.buffers.output, &mut output)
            .map_err(told);
        let size = self.tokens.size;
        let taken = copied.and_then(|()| {
            self.choosing(shape)
                .take(&output, size, choosers.samplers, choices)
        });
        self.output = output;
        taken
    }
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

/// The operator is told which call failed; who asked hears that the computation did.
fn told(error: CudaError) -> EngineError {
    match error {
        CudaError::Engine(error) => error,
        error => {
            eprintln!("gpu-worker: {error}");
            EngineError::Computation("the GPU failed")
        }
    }
}

const _: () = assert!(
    STRUCT_WORDS.is_multiple_of(2),
    "structs of eight-byte numbers follow each other"
);
