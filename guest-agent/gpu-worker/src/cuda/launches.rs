//! What a step launches, in order.

use engine::decoder::parts::{LayerPart, Part};
use kernels::Kind;
use model::decoder::Activation;

use super::CudaError;
use super::buffers::{attended, columns};
use super::device::{Argument, Memory};
use super::forward::CudaForward;
use super::step::Shape;
use super::weights::Matrix;

/// Threads of a block that runs over a row, and of one that runs over a vocabulary.
const THREADS: usize = 256;
const THREADS_SAMPLE: usize = 1024;

impl CudaForward {
    /// Everything that a step of this shape launches.
    pub(super) fn launch(&self, shape: Shape) -> Result<(), CudaError> {
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
    /// Numbers, scales and minima, as a kernel takes them.
    pub fn arguments(&self) -> [Argument; 3] {
        [
            (&self.numbers).into(),
            self.scales.as_ref().into(),
            self.minima.as_ref().into(),
        ]
    }

    /// Its place among kinds of kernels.
    pub fn index(&self) -> usize {
        match self.kind {
            Kind::F32 | Kind::Bf16 => 0,
            Kind::Q8 => 1,
            Kind::Q4 => 2,
        }
    }
}
