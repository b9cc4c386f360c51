//! The seam between what computes a model and what decides which tokens it computes: rows of several sequences in, scores out.
//!
//! A [`Forward`] owns the memory of keys and values, divided into blocks of [`BLOCK_TOKENS`] tokens; its caller decides which block
//! belongs to which sequence. A sequence is a slot: an index into the block tables of one call, with no meaning beyond it.
//!
//! **Promises.** The scores of a row depend on the weights and on the tokens of its own sequence at its position and before, to
//! the bit: not on the rows beside it, nor on how its prompt was divided among calls, nor on which blocks hold it.

use kernels::oblivious::mask::declassify;
use kernels::sampling::{Choice, Sampler};

use crate::EngineError;

/// Tokens whose keys and values one block holds.
pub const BLOCK_TOKENS: usize = 32;

/// One token to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The sequence it belongs to: an index into the block tables of the call.
    pub sequence: usize,
    /// The token. Secret: nothing is addressed by it.
    pub token: u32,
    /// Its position in the sequence, from 0.
    pub position: u32,
    /// Whether the scores for the token that follows it are wanted.
    pub scored: bool,
    /// Whether the token that follows it will be the one of the best score, of those that may be chosen: its embedding may then be
    /// kept while scores are computed. This is public.
    pub keeps: bool,
    /// Whether the row before it, which the last call computed, was such a one, and this token followed.
    pub kept: bool,
}

/// The blocks of one sequence in order: block `i` holds positions `i * BLOCK_TOKENS` to `(i + 1) * BLOCK_TOKENS - 1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockTable(pub Vec<u32>);

/// What a [`Forward`] can hold and compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardShape {
    /// Tokens of one sequence at most, prompt and completion together.
    pub context: usize,
    /// Scores of one row: entries of the output, of which the last may be no tokens.
    pub vocabulary: usize,
    /// Bytes of the keys and values of one token over all layers.
    pub kv_token_bytes: usize,
    /// Blocks there are; they are numbered from 0.
    pub blocks: usize,
    /// Rows of one call at most.
    pub rows_max: usize,
    /// Rows of one call whose scores may be wanted at most.
    pub scored_max: usize,
}

impl ForwardShape {
    /// Refuses what [`Forward::forward`] says it refuses, before anything is computed. Tokens are compared without a branch on one of them.
    pub fn check(&self, rows: &[Row], tables: &[BlockTable]) -> Result<(), EngineError> {
        let refuse = |why| Err(EngineError::Computation(why));
        if rows.len() > self.rows_max {
            return refuse("more rows than fit one pass");
        }
        if rows.iter().filter(|row| row.scored).count() > self.scored_max {
            return refuse("more scored rows than fit one pass");
        }
        let mut unknown = 0u64;
        for row in rows {
            let Some(table) = tables.get(row.sequence) else {
                return refuse("a row belongs to no sequence");
            };
            let position = row.position as usize;
            if position >= self.context {
                return refuse("a row lies outside the context");
            }
            let Some(blocks) = table.0.get(..=position / BLOCK_TOKENS) else {
                return refuse("a sequence has too few blocks");
            };
            if blocks.iter().any(|block| *block as usize >= self.blocks) {
                return refuse("a sequence has a block that does not exist");
            }
            // 1 if the token is not below the size, by the borrow of the difference.
            let below = u64::from(row.token).wrapping_sub(self.vocabulary as u64) >> 63;
            unknown |= 1 ^ below;
        }
        match declassify(unknown as u32) {
            false => Ok(()),
            true => refuse("a token is outside the vocabulary"),
        }
    }
}

/// Who chooses the tokens that follow the scored rows of a call.
pub struct Choosers<'a> {
    /// Ids below this are tokens; the rest of the scores is padding and never chosen.
    pub size: usize,
    /// Tokens that no completion holds.
    pub forbidden: &'a [u32],
    /// One for each scored row, in the order of the rows.
    pub samplers: Vec<&'a mut Sampler>,
}

/// Computes rows.
pub trait Forward: Send {
    /// What fits.
    fn shape(&self) -> &ForwardShape;

    /// Computes `rows`, writes their keys and values into the blocks of their sequences, and replaces `scores` with those of the
    /// scored rows, `shape().vocabulary` numbers each, in the order of `rows`.
    ///
    /// The rows of one sequence stand in the order of their positions without a gap, and what comes before the first of them was
    /// computed by earlier calls into the same blocks. The rows of different sequences may be mixed. A block that two tables share
    /// (a common beginning) is read by both and must be written by neither.
    ///
    /// # Errors
    /// [`EngineError::Computation`] if more rows or scores are wanted than fit, a sequence has no table, a table is too short or
    /// names a block that does not exist, a position is outside the context, a token is outside the vocabulary, or a score is
    /// not finite. Then the blocks that the rows would have been written to hold nothing of use.
    fn forward(
        &mut self,
        rows: &[Row],
        tables: &[BlockTable],
        scores: &mut Vec<f32>,
    ) -> Result<(), EngineError>;

    /// Computes `rows` as [`Forward::forward`] does, and replaces `choices` with the token that follows each scored row; none where a
    /// score is not finite. `scores` is room that this method may use. A device chooses where the scores are; the same scores give
    /// the same tokens everywhere.
    ///
    /// A sampler's first choice tells a device of its constraints: until it has ended, its rows belong to the same sequence and
    /// nobody else's do.
    ///
    /// # Errors
    /// Those of [`Forward::forward`]. Then no sampler has taken a token.
    fn choose(
        &mut self,
        rows: &[Row],
        tables: &[BlockTable],
        choosers: Choosers<'_>,
        scores: &mut Vec<f32>,
        choices: &mut Vec<Option<Choice>>,
    ) -> Result<(), EngineError> {
        self.forward(rows, tables, scores)?;
        let width = self.shape().vocabulary.max(1);
        choices.clear();
        for (sampler, scores) in choosers
            .samplers
            .into_iter()
            .zip(scores.chunks_exact_mut(width))
        {
            let scores = &mut scores[..choosers.size.min(width)];
            for token in choosers.forbidden {
                if let Some(score) = scores.get_mut(*token as usize) {
                    *score = FORBIDDEN;
                }
            }
            choices.push(sampler.choose(scores).ok());
        }
        Ok(())
    }
}

/// A decoder, and what happens before each of its steps. Tokens are chosen on the host.
pub struct Before<F>(pub Box<dyn Forward>, pub F);

impl<F: FnMut(&[Row]) + Send> Forward for Before<F> {
    fn shape(&self) -> &ForwardShape {
        self.0.shape()
    }

    fn forward(
        &mut self,
        rows: &[Row],
        tables: &[BlockTable],
        scores: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        (self.1)(rows);
        self.0.forward(rows, tables, scores)
    }
}

/// The score of a token that no completion holds: less than any model says, and finite whatever a penalty makes of it.
pub const FORBIDDEN: f32 = -1e30;
