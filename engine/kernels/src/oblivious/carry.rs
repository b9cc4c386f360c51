//! The row of the best score, carried along while the scores are computed: where the table of embeddings is the output's too,
//! a greedy completion needs no further read of it for the embedding of its next token.
//!
//! The product is made in chunks of panels that fit a second cache. As soon as a chunk's scores are there, its best is found and
//! its panels are read once more, from the cache: each line is kept under a mask that is set in the lane of the best row alone,
//! and only if that row is better than all before it. So addresses and branches tell nothing of which row it is.

use std::sync::{Mutex, PoisonError};

use super::argmax::{Best, Race, key};
use super::embed::numbers;
use super::gather::Gathered;
use super::mask::declassify;
use super::wide::{Block, LANES, Pass, Wide, pass};
use crate::error::KernelError;
use crate::kernels::Kernels;
use crate::memory::Line;
use crate::packed::Packed;

/// Bytes of panels between product and second look.
const CHUNK_BYTES: usize = 128 << 10;

/// The rows of a table that may be carried.
pub struct Choices(Vec<Block<u32>>);

impl Choices {
    /// Of a table of `rows`, the first `size` but for those of `never`. Which ones these are is public.
    pub fn new(rows: usize, size: usize, never: &[u32]) -> Self {
        let mut lanes = vec![Block([0; LANES]); rows.div_ceil(LANES)];
        for row in 0..size.min(rows) {
            lanes[row / LANES].0[row % LANES] = u32::MAX;
        }
        for row in never.iter().map(|row| *row as usize) {
            if let Some(block) = lanes.get_mut(row / LANES) {
                block.0[row % LANES] = 0;
            }
        }
        Choices(lanes)
    }
}

impl Kernels {
    /// [`Kernels::linear`] of one row `x`, whose bits it gives, and with it the row of `table` that has the best score, the lowest
    /// number among equals: its number, and its numbers in `row`, which are those of [`Packed::row`].
    ///
    /// # Errors
    /// `x` or `row` does not have the table's columns, `y` not its rows, the choices are of a table of another size, or none of
    /// them has a score that is a number.
    pub fn linear_carrying(
        &self,
        table: &Packed,
        x: &[f32],
        y: &mut [f32],
        choices: &Choices,
        row: &mut [f32],
    ) -> Result<u32, KernelError> {
        KernelError::length("a row of activations", x.len(), table.columns())?;
        KernelError::length("a carried row", row.len(), table.columns())?;
        let panels = table.rows().div_ceil(LANES);
        KernelError::length("panels of choices", choices.0.len(), panels)?;
        let lines = table.panel_lines();
        let chunk = (CHUNK_BYTES / (lines * Line::BYTES)).max(1);
        // One for each thread that took a chunk: whoever takes one takes the first that is free.
        let found = Mutex::new(Vec::new());
        let free = || found.lock().unwrap_or_else(PoisonError::into_inner);
        self.linear_in_chunks(table, x, y, chunk, &|tile| {
            let mine = free().pop();
            let mut mine = mine.unwrap_or_else(|| Found::new(table));
            let (first, scores) = (tile.left / LANES, tile.row(0));
            let look = Look {
                table,
                first,
                scores,
                choices: &choices.0[first..],
                found: &mut mine,
            };
            pass(self.path, look);
            free().push(mine);
        })?;
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (mut best, mut words) = (Best::NONE, vec![0; lines]);
        for found in &found {
            let (better, wanted) = (found.best.beats(best), found.best.index);
            found.lines.take(self.path, wanted, better, &mut words);
            best = found.best.or(best);
        }
        if declassify(super::mask::equal(best.index, Best::NONE.index)) {
            return Err(KernelError::shape("rows with a score", 0));
        }
        numbers(table.kind(), &words, row);
        Ok(best.index)
    }
}

/// The best row so far of the chunks that one thread took.
struct Found {
    best: Best,
    lines: Gathered,
}

impl Found {
    fn new(table: &Packed) -> Self {
        Found {
            best: Best::NONE,
            lines: Gathered::new(table),
        }
    }
}

/// Looks through the panels of a chunk.
struct Look<'a> {
    table: &'a Packed,
    /// The number of the first panel.
    first: usize,
    scores: &'a [f32],
    choices: &'a [Block<u32>],
    found: &'a mut Found,
}

impl Pass for Look<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self) {
        let Look {
            table,
            first,
            scores,
            choices,
            found,
        } = self;
        let ones = W::splat(u32::MAX);
        let last = super::argmax::last(scores, f32::MIN);
        let mut at = W::add(W::count(), W::splat((first * LANES) as u32));
        let mut race = Race::<W>::new();
        for (scores, choices) in super::argmax::blocks(scores, &last).zip(choices) {
            let may = W::equal(W::load(&choices.0), ones);
            let keys = key::<W>(W::load_floats(scores));
            race.run(W::select(may, keys, W::splat(i32::MIN as u32)), at);
            at = W::add(at, W::splat(LANES as u32));
        }
        let best = race.best();
        // No lane has this number where the best so far is better.
        let wanted = best.index | !best.beats(found.best);
        found.best = best.or(found.best);
        let end = first + scores.len().div_ceil(LANES);
        found.lines.look::<W>(table, (first, end), wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Path};

    fn table(kind: Kind, rows: usize, columns: usize) -> Packed {
        let mut table = Packed::zeroed(kind, rows, columns).unwrap();
        for row in 0..rows {
            let weights =
                (0..columns).map(|column| ((row * 31 + column * 7) % 201) as f32 / 50.0 - 2.0);
            table.set_row(row, &weights.collect::<Vec<_>>()).unwrap();
        }
        table
    }

    fn check(kernels: &Kernels, table: &Packed, salt: usize, never: &[u32], size: usize) {
        let columns = table.columns();
        let x: Vec<f32> = (0..columns)
            .map(|k| ((k * salt) % 13) as f32 - 6.0)
            .collect();
        let (mut y, mut expected) = (vec![7.0; table.rows()], vec![0.0; table.rows()]);
        let (mut row, mut whole) = (vec![7.0; columns], vec![0.0; columns]);
        let choices = Choices::new(table.rows(), size, never);
        let index = kernels.linear_carrying(table, &x, &mut y, &choices, &mut row);
        kernels.linear(table, &x, &mut expected).unwrap();
        assert_eq!(y, expected);
        let allowed = |index: &usize| *index < size && !never.contains(&(*index as u32));
        let best = (0..table.rows())
            .filter(allowed)
            .fold(None, |best: Option<usize>, index| match best {
                Some(best) if expected[best] >= expected[index] => Some(best),
                _ => Some(index),
            });
        match best {
            Some(best) => {
                assert_eq!(index, Ok(best as u32), "{table:?} salt {salt}");
                table.row(best, &mut whole).unwrap();
                assert_eq!(row, whole, "{table:?} salt {salt}");
            }
            None => assert!(index.is_err()),
        }
    }

    #[test]
    fn the_row_is_the_best_ones_for_every_kind_path_and_number_of_threads() {
        for path in Path::ALL.into_iter().filter(|path| path.is_here()) {
            for threads in [1, 3] {
                let kernels = Kernels::new(path, threads).unwrap();
                for kind in Kind::ALL {
                    for (rows, columns) in [(1, 1), (37, 96), (3000, 33), (1030, 256)] {
                        let table = table(kind, rows, columns);
                        for salt in [0, 1, 3, 5, 11] {
                            check(&kernels, &table, salt, &[], rows);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_that_is_no_choice_is_not_carried() {
        let kernels = Kernels::new(Path::detect(), 2).unwrap();
        let table = table(Kind::Q8, 700, 64);
        let all: Vec<u32> = (0..700).collect();
        for salt in [1, 3, 5] {
            let mut never = Vec::new();
            for size in [700, 650, 33, 16, 1] {
                check(&kernels, &table, salt, &never, size);
                // The best of all, and rows beyond the table.
                never.extend([salt as u32 * 17, 200, 5, 699, 700, u32::MAX]);
                check(&kernels, &table, salt, &never, size);
            }
            check(&kernels, &table, salt, &all, 700);
            check(&kernels, &table, salt, &all[..699], 700);
        }
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let kernels = Kernels::new(Path::detect(), 1).unwrap();
        let table = table(Kind::F32, 20, 8);
        let choices = Choices::new(20, 20, &[]);
        let refused = |x: usize, y: usize, row: usize, choices: &Choices| {
            let (x, mut y, mut row) = (vec![1.0; x], vec![0.0; y], vec![0.0; row]);
            kernels
                .linear_carrying(&table, &x, &mut y, choices, &mut row)
                .is_err()
        };
        assert!(!refused(8, 20, 8, &choices));
        assert!(refused(16, 40, 8, &choices));
        assert!(refused(8, 19, 8, &choices));
        assert!(refused(8, 20, 7, &choices));
        assert!(refused(8, 20, 8, &Choices::new(40, 40, &[])));
    }
}
