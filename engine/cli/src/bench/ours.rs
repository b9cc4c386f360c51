//! This engine, timed as the peers are: what is timed begins with tokens and ends with scores.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use engine::decoder::Decoder;
use engine::forward::{BLOCK_TOKENS, BlockTable, Forward, Row};
use kernels::Kernels;
use kernels::oblivious::argmax;

/// A loaded decoder with memory for some sequences of one length.
pub struct Ours {
    decoder: Decoder,
    /// Whether embeddings are found without telling which, so that one stream is a greedy one and carries them along.
    hides: bool,
    tables: Vec<BlockTable>,
    scores: Vec<f32>,
    rows: Vec<Row>,
}

/// Rows of one pass: llama.cpp's batch.
pub const ROWS: usize = 512;

impl Ours {
    /// Gives each of `sequences` sequences blocks for `tokens` tokens.
    pub fn new(mut decoder: Decoder, hides: bool, sequences: usize, tokens: usize) -> Self {
        if hides {
            let vocabulary = decoder.shape().vocabulary;
            decoder.packed().carry_among(vocabulary, &[]);
        }
        let each = tokens.div_ceil(BLOCK_TOKENS) as u32;
        let table = |sequence: u32| BlockTable((sequence * each..(sequence + 1) * each).collect());
        Ours {
            decoder,
            hides,
            tables: (0..sequences as u32).map(table).collect(),
            scores: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn pass(&mut self) -> anyhow::Result<f64> {
        let began = Instant::now();
        self.decoder
            .forward(&self.rows, &self.tables, &mut self.scores)?;
        Ok(began.elapsed().as_secs_f64() * 1000.0)
    }

    /// A prompt of the first sequence: milliseconds.
    pub fn prefill(&mut self, tokens: &[u32]) -> anyhow::Result<f64> {
        self.prompt(0, tokens)
    }

    fn prompt(&mut self, sequence: usize, tokens: &[u32]) -> anyhow::Result<f64> {
        let mut took = 0.0;
        let positioned: Vec<_> = tokens.iter().copied().zip(0u32..).collect();
        for part in positioned.chunks(ROWS) {
            self.rows.clear();
            self.rows.extend(part.iter().map(|(token, position)| Row {
                sequence,
                token: *token,
                position: *position,
                scored: *position as usize + 1 == tokens.len(),
                keeps: false,
                kept: false,
            }));
            took += self.pass()?;
        }
        Ok(took)
    }

    /// Tokens of the first sequence, one after another: milliseconds of each. Where embeddings are hidden they are a greedy
    /// completion behind the first one.
    pub fn decode(&mut self, tokens: &[u32], position: usize) -> anyhow::Result<Vec<f64>> {
        if self.hides {
            return self.greedy(tokens, position);
        }
        self.steps(
            &tokens.iter().map(|token| vec![*token]).collect::<Vec<_>>(),
            &[position],
        )
    }

    fn greedy(&mut self, tokens: &[u32], position: usize) -> anyhow::Result<Vec<f64>> {
        let mut token = *tokens.first().context("no tokens")?;
        let mut each = Vec::new();
        for step in 0..tokens.len() {
            self.rows.clear();
            self.rows.push(Row {
                sequence: 0,
                token,
                position: (position + step) as u32,
                scored: true,
                keeps: true,
                kept: step > 0,
            });
            each.push(self.pass()?);
            token = argmax(kernels::Path::Portable, &self.scores).0.index;
        }
        Ok(each)
    }

    /// A prompt in each sequence, then steps with one token of each: milliseconds of each step.
    pub fn streams(
        &mut self,
        prompts: &[Vec<u32>],
        steps: &[Vec<u32>],
    ) -> anyhow::Result<Vec<f64>> {
        for (sequence, prompt) in prompts.iter().enumerate() {
            self.prompt(sequence, prompt)?;
        }
        let positions: Vec<usize> = prompts.iter().map(Vec::len).collect();
        self.steps(steps, &positions)
    }

    fn steps(&mut self, steps: &[Vec<u32>], positions: &[usize]) -> anyhow::Result<Vec<f64>> {
        let mut each = Vec::new();
        for (step, tokens) in steps.iter().enumerate() {
            self.rows.clear();
            let rows = tokens.iter().zip(positions).enumerate();
            self.rows
                .extend(rows.map(|(sequence, (token, position))| Row {
                    sequence,
                    token: *token,
                    position: (position + step) as u32,
                    scored: true,
                    keeps: false,
                    kept: false,
                }));
            each.push(self.pass()?);
        }
        Ok(each)
    }

    /// Bytes of weights that one token needs.
    pub fn weight_bytes(&mut self) -> usize {
        self.decoder.packed().weight_bytes()
    }

    pub fn vocabulary(&self) -> usize {
        self.decoder.shape().vocabulary
    }
}

/// Kernels on the best path, or on the one that is named.
pub fn kernels(threads: usize, path: Option<&str>) -> anyhow::Result<Arc<Kernels>> {
    let path = match path {
        None => kernels::Path::detect(),
        Some(name) => {
            let found = kernels::Path::ALL
                .into_iter()
                .find(|path| path.name() == name && path.is_here());
            found.with_context(|| format!("this processor has no path {name}"))?
        }
    };
    Ok(Arc::new(Kernels::new(path, threads)?))
}
