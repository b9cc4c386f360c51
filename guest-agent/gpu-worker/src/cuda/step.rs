//! What one step computes, as the words of its only copy to the device.
//!
//! ```text
//! token, position, place, sequence   of each row
//! row                                of each scored row
//! how its token is chosen            of each scored row: `struct Sampling` of kernels/sample.cu, from an even word on
//! the classes that may follow        of each scored row
//! blocks                             of each sequence
//! ```

use engine::{BLOCK_TOKENS, BlockTable, EngineError, Row};

use super::buffers::parts;

/// Tokens of a part, as `kernels/attention.cu` has them.
pub const PART_TOKENS: usize = 256;
/// Words of `struct Sampling`.
pub const STRUCT_WORDS: usize = 22;
/// Words of a grammar's bits.
pub const ALLOWED_WORDS: usize = 16;
/// Words of one choice.
pub const SAMPLING_WORDS: usize = STRUCT_WORDS + ALLOWED_WORDS;

/// How many of everything a step has: all that its launches depend on, but for the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    pub rows: usize,
    pub scored: usize,
    pub tables: usize,
    /// Parts of the longest sequence; a power of two.
    pub parts: usize,
    /// Whether tokens are chosen, or scores wanted.
    pub chooses: bool,
    /// Whether it is a step of completions alone, which comes back with the same shape.
    pub repeats: bool,
}

impl Shape {
    /// That of rows that were checked. A step of completions is filled up with rows that nobody wants, to a power of two.
    pub fn of(rows: &[Row], tables: usize, chooses: bool) -> Self {
        let scored = rows.iter().filter(|row| row.scored).count();
        let repeats = chooses && scored == rows.len() && tables == rows.len();
        let filled = |count: usize| {
            if repeats {
                count.next_power_of_two()
            } else {
                count
            }
        };
        let last = rows.iter().map(|row| row.position as usize).max();
        Shape {
            rows: filled(rows.len()),
            scored: filled(scored),
            tables: filled(tables),
            parts: parts(last.unwrap_or(0) + 1),
            chooses,
            repeats,
        }
    }

    /// Blocks of a table.
    pub fn table_blocks(&self) -> usize {
        self.parts * PART_TOKENS / BLOCK_TOKENS
    }

    /// The byte at which tokens, positions, places or sequences begin: 0 to 3.
    pub fn of_rows(&self, which: usize) -> usize {
        4 * which * self.rows
    }

    /// The byte at which the scored rows begin.
    pub fn scored_rows(&self) -> usize {
        4 * 4 * self.rows
    }

    /// The byte at which the choices begin.
    pub fn samplings(&self) -> usize {
        4 * (4 * self.rows + self.scored).next_multiple_of(2)
    }

    /// The byte at which the bits of scored row `index` begin.
    pub fn allowed(&self, index: usize) -> usize {
        self.samplings() + 4 * (self.choosing() * STRUCT_WORDS + index * ALLOWED_WORDS)
    }

    /// The byte at which the blocks of the sequences begin.
    pub fn tables(&self) -> usize {
        self.samplings() + 4 * self.choosing() * SAMPLING_WORDS
    }

    fn choosing(&self) -> usize {
        if self.chooses { self.scored } else { 0 }
    }

    /// Words of all of it.
    pub fn words(&self) -> usize {
        self.tables() / 4 + self.tables * self.table_blocks()
    }
}

/// The sequences of rows in the order in which they come: their number at most `most`.
pub fn sequences(rows: &[Row], most: usize) -> Result<Vec<usize>, EngineError> {
    let mut found: Vec<usize> = Vec::new();
    for row in rows {
        if found.last() != Some(&row.sequence) && !found.contains(&row.sequence) {
            found.push(row.sequence);
        }
    }
    match found.len() <= most {
        true => Ok(found),
        false => Err(EngineError::Computation("more sequences than fit one pass")),
    }
}

/// Fills `words` with all but the choices. `unused` is a block that rows which nobody wants are written to.
pub fn fill(
    words: &mut Vec<u32>,
    shape: &Shape,
    rows: &[Row],
    sequences: &[usize],
    tables: &[BlockTable],
    unused: u32,
) {
    words.clear();
    words.resize(shape.words(), 0);
    let place = unused * BLOCK_TOKENS as u32;
    words[2 * shape.rows..3 * shape.rows].fill(place);
    let mut scored = 0;
    for (index, row) in rows.iter().enumerate() {
        let position = row.position as usize;
        let block = tables[row.sequence].0[position / BLOCK_TOKENS];
        let sequence = sequences
            .iter()
            .position(|sequence| *sequence == row.sequence);
        let of_row = [
            row.token,
            row.position,
            block * BLOCK_TOKENS as u32 + (position % BLOCK_TOKENS) as u32,
            sequence.unwrap_or_default() as u32,
        ];
        for (which, word) in of_row.into_iter().enumerate() {
            words[which * shape.rows + index] = word;
        }
        if row.scored {
            words[4 * shape.rows + scored] = index as u32;
            scored += 1;
        }
    }
    for index in rows.len()..shape.rows {
        // A step that is filled up has as many scored rows and tables as rows.
        words[3 * shape.rows + index] = index as u32;
        words[4 * shape.rows + index] = index as u32;
    }
    let of_tables = &mut words[shape.tables() / 4..];
    of_tables.fill(unused);
    for (sequence, out) in sequences
        .iter()
        .zip(of_tables.chunks_exact_mut(shape.table_blocks()))
    {
        out.iter_mut()
            .zip(&tables[*sequence].0)
            .for_each(|(out, block)| *out = *block);
    }
}
