//! The embedding of a greedy completion's next token, kept while scores are computed from the same table.
//!
//! One row at a time: with several completions in a pass, one read of the table serves all of them.

use kernels::oblivious::{Choices, mask};
use kernels::{Kernels, Packed};

use super::flex::PackedDecoder;
use super::packed::Step;
use crate::EngineError;
use crate::forward::Row;

/// What may be chosen, and what was kept last.
pub(super) struct Carry {
    choices: Choices,
    kept: Option<Kept>,
    numbers: Vec<f32>,
}

/// Whose embedding the numbers are.
struct Kept {
    sequence: usize,
    position: u32,
    /// Secret.
    token: u32,
}

impl PackedDecoder {
    /// Says among which tokens a greedy completion chooses: those below `size`, but for those of `never`. From now on the next
    /// token's embedding comes along with the scores where the model's output is its table of embeddings.
    pub fn carry_among(&mut self, size: usize, never: &[u32]) {
        // Under a cap two scores may become equal that were not, and another token the best.
        let fits = self.output.is_none() && self.config.score_cap.is_none();
        self.carry = fits.then(|| Carry {
            choices: Choices::new(self.embedding.rows(), size, never),
            kept: None,
            numbers: vec![0.0; self.embedding.columns()],
        });
    }
}

impl Carry {
    /// The embedding of the only row of a step, if it was kept.
    ///
    /// # Errors
    /// It is another token's: whoever chose did not choose the best.
    pub fn kept_for(&mut self, step: &Step<'_>) -> Option<Result<&[f32], EngineError>> {
        let kept = self.kept.take()?;
        let [row] = step.rows else { return None };
        let place = (row.kept, row.sequence, row.position);
        if place != (true, kept.sequence, kept.position) {
            return None;
        }
        // Always equal, so nothing is told of either.
        Some(match mask::declassify(row.token ^ kept.token) {
            false => Ok(&self.numbers),
            true => Err(EngineError::Computation(
                "a greedy completion did not take the best token",
            )),
        })
    }

    /// The scores of `row`, whose last norm gave `normed`; the embedding of the best is kept.
    pub fn scores(
        &mut self,
        kernels: &Kernels,
        table: &Packed,
        row: &Row,
        normed: &[f32],
        scores: &mut [f32],
    ) -> Result<(), EngineError> {
        let Carry {
            choices, numbers, ..
        } = self;
        let token = kernels.linear_carrying(table, normed, scores, choices, numbers)?;
        self.kept = Some(Kept {
            sequence: row.sequence,
            position: row.position + 1,
            token,
        });
        Ok(())
    }
}
