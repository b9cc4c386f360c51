//! Rows of a packed table by secret numbers, each read of the table whole.
//!
//! For up to some hundred tokens at once, in one read of the table:
//!
//! 1. **Route.** In each panel of sixteen rows, the wanted ones are marked, and each gets the next free slot of sixteen lanes.
//! 2. **Collect.** Each line of a panel is permuted within a register, so that its wanted lanes are where their slots are, and
//!    joined to every vector of slots under a mask, that of some panels at once.
//! 3. **Pick.** Each token takes its row from all slots under masks, and the row is made into numbers.
//!
//! Collecting makes as many joins for each line as there are sixteens of tokens, which is far less than a masked read for each
//! token, and needs no more than the one read that compaction in several passes begins with.

use std::sync::{Mutex, PoisonError};

use super::gather::Gathered;
use super::mask::less;
use super::wide::{Block, LANES, Pass, Wide, pass};
use crate::error::KernelError;
use crate::half::from_f16;
use crate::kernels::Kernels;
use crate::memory::Line;
use crate::packed::{Kind, Packed};
use crate::pool::Tile;

/// Bytes of slots, which should stay in a second cache.
const SLOT_BYTES: usize = 512 << 10;
/// Tokens of one read of the table.
const TOKENS_MAX: usize = 512;
const VECTORS_MAX: usize = TOKENS_MAX / LANES;
/// Panels that are joined to the slots at once, so that these are loaded and stored so many times less.
const JOINED: usize = 8;

impl Kernels {
    /// Writes the numbers of the rows `tokens` of `table` to `out`, one row after the other; they are those of [`Packed::row`]. A
    /// token that is no row of the table gives zeros. Which rows these are shows in no address, branch or length.
    ///
    /// # Errors
    /// `out` does not have the columns of as many rows.
    pub fn embed(
        &self,
        table: &Packed,
        tokens: &[u32],
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let expected = tokens.len().saturating_mul(table.columns());
        KernelError::length("rows of a table", out.len(), expected)?;
        let row_bytes = table.panel_lines() * size_of::<u32>();
        let group = (SLOT_BYTES / row_bytes).clamp(LANES, TOKENS_MAX) / LANES * LANES;
        let outs = out.chunks_mut(group * table.columns());
        for (tokens, out) in tokens.chunks(group).zip(outs) {
            self.embed_group(table, tokens, out);
        }
        Ok(())
    }

    /// One row needs neither route nor slots: the panels are read in order, each thread a part of them.
    fn embed_one(&self, table: &Packed, token: u32, out: &mut [f32]) {
        let panels = table.rows().div_ceil(LANES);
        let part = panels.div_ceil(self.threads());
        let found = Mutex::new(vec![0; table.panel_lines()]);
        self.pool.chunks(panels.div_ceil(part), &|chunk| {
            let (first, end) = (chunk * part, ((chunk + 1) * part).min(panels));
            let mut lines = Gathered::new(table);
            let (table, gathered) = (table, &mut lines);
            pass(
                self.path,
                One {
                    table,
                    gathered,
                    panels: (first, end),
                    token,
                },
            );
            // Between the first row of these panels and the one behind the last.
            let (from, to) = ((first * LANES) as u64, (end * LANES) as u64);
            let here = less(token.into(), to) & !less(token.into(), from);
            let mut words = found.lock().unwrap_or_else(PoisonError::into_inner);
            lines.take(self.path, token, here, &mut words);
        });
        let words = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        numbers(table.kind(), &words, out);
    }

    fn embed_group(&self, table: &Packed, tokens: &[u32], out: &mut [f32]) {
        if let [token] = tokens {
            return self.embed_one(table, *token, out);
        }
        let vectors = tokens.len().div_ceil(LANES);
        let panels = table.rows().div_ceil(LANES);
        let mut routes = vec![Route::default(); panels];
        let mut names = vec![Block([0; LANES]); vectors];
        let (routes_mut, names_mut) = (&mut routes[..], &mut names[..]);
        pass(
            self.path,
            Plan {
                tokens,
                routes: routes_mut,
                names: names_mut,
            },
        );

        let lines = table.panel_lines();
        let mut slots = vec![Block([0; LANES]); lines * vectors];
        let height = lines.div_ceil(self.threads());
        self.pool
            .tiles(&mut slots, vectors, (height, vectors), |tile| {
                let routes = &routes;
                pass(
                    self.path,
                    Collect {
                        table,
                        routes,
                        tile,
                    },
                );
            });

        let (columns, slots, names) = (table.columns(), &slots[..], &names[..]);
        self.pool.tiles(out, columns, (LANES, columns), |mut tile| {
            let mut words = vec![0; lines];
            for row in 0..tile.height {
                let token = tokens[tile.top + row];
                let words = &mut words[..];
                pass(
                    self.path,
                    Pick {
                        token,
                        names,
                        slots,
                        words,
                    },
                );
                numbers(table.kind(), words, tile.row(row));
            }
        });
    }
}

struct One<'a> {
    table: &'a Packed,
    gathered: &'a mut Gathered,
    panels: (usize, usize),
    token: u32,
}

impl Pass for One<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self) {
        self.gathered.look::<W>(self.table, self.panels, self.token);
    }
}

/// Where the rows of a panel go: for each lane of the slots, the lane it comes from and the vector of slots that it belongs to,
/// which is none for most lanes of most panels.
#[derive(Clone, Copy)]
struct Route {
    from: Block<u32>,
    vector: Block<u32>,
}

impl Default for Route {
    fn default() -> Self {
        Route {
            from: Block([0; LANES]),
            vector: Block([u32::MAX; LANES]),
        }
    }
}

struct Plan<'a> {
    tokens: &'a [u32],
    routes: &'a mut [Route],
    /// The number of the row in each slot, and 1; 0 where there is none.
    names: &'a mut [Block<u32>],
}

impl Pass for Plan<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self) {
        let (mut taken, mut at) = (0, W::count());
        for route in self.routes {
            let mut wanted = W::equal(at, W::splat(self.tokens[0]));
            for token in &self.tokens[1..] {
                wanted = W::either(wanted, W::equal(at, W::splat(*token)));
            }
            let wanted = W::lanes(W::keep(wanted, W::splat(u32::MAX)));
            let (mut from, mut vector) = (W::splat(0), W::splat(u32::MAX));
            for (lane, wanted) in (0u32..).zip(wanted) {
                // No lane has the number of one that is not wanted.
                let here = W::equal(W::count(), W::splat((taken % LANES as u32) | !wanted));
                from = W::select(here, W::splat(lane), from);
                vector = W::select(here, W::splat(taken / LANES as u32), vector);
                taken += wanted & 1;
            }
            W::store(from, &mut route.from.0);
            W::store(vector, &mut route.vector.0);
            let name = W::look_up(W::add(at, W::splat(1)), from);
            for (number, names) in (0u32..).zip(self.names.iter_mut()) {
                let here = W::keep(W::equal(vector, W::splat(number)), name);
                W::store(W::or(W::load(&names.0), here), &mut names.0);
            }
            at = W::add(at, W::splat(LANES as u32));
        }
    }
}

struct Collect<'a> {
    table: &'a Packed,
    routes: &'a [Route],
    /// Rows are lines of a panel, columns vectors of slots.
    tile: Tile<'a, Block<u32>>,
}

impl Pass for Collect<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self) {
        let Collect {
            table,
            routes,
            mut tile,
        } = self;
        let mut masks = [[Block([0; LANES]); JOINED]; VECTORS_MAX];
        let masks = &mut masks[..tile.width];
        for (group, routes) in routes.chunks(JOINED).enumerate() {
            let mut from = [W::splat(0); JOINED];
            for (number, masks) in (0u32..).zip(masks.iter_mut()) {
                *masks = [Block([0; LANES]); JOINED];
                for (mask, route) in masks.iter_mut().zip(routes) {
                    let here = W::equal(W::load(&route.vector.0), W::splat(number));
                    W::store(W::keep(here, W::splat(u32::MAX)), &mut mask.0);
                }
            }
            for (from, route) in from.iter_mut().zip(routes) {
                *from = W::load(&route.from.0);
            }
            let last = routes.len() - 1;
            // Behind the last panel its lines stand in, of which nothing is kept.
            let panels: [&[Line]; JOINED] = std::array::from_fn(|joined| {
                let panel = table.panel(group * JOINED + joined.min(last));
                &panel[tile.top..tile.top + tile.height]
            });
            for number in 0..tile.height {
                let is_halves = halves(table.kind(), tile.top + number);
                let mut moved = [W::splat(0); JOINED];
                for ((moved, panel), from) in moved.iter_mut().zip(&panels).zip(from) {
                    let line = W::load_bytes(&panel[number].0);
                    let line = match is_halves {
                        true => paired::<W>(line),
                        false => line,
                    };
                    *moved = W::look_up(line, from);
                }
                for (slots, masks) in tile.row(number).iter_mut().zip(masks.iter()) {
                    let mut joined = W::load(&slots.0);
                    for (moved, mask) in moved.iter().zip(masks) {
                        joined = W::or(joined, W::and(*moved, W::load(&mask.0)));
                    }
                    W::store(joined, &mut slots.0);
                }
            }
        }
    }
}

/// Whether a line holds two vectors of sixteen numbers of 16 bits, one after the other.
#[inline(always)]
fn halves(kind: Kind, line: usize) -> bool {
    let (_, unit) = kind.unit();
    matches!(kind, Kind::Q8 | Kind::Q4) && line.is_multiple_of(unit)
}

/// Of two vectors of sixteen numbers of 16 bits, both numbers of each lane in one: the first in the low half.
#[inline(always)]
pub(super) fn paired<W: Wide>(line: W::Ints) -> W::Ints {
    let word = W::shift_right::<1>(W::count());
    let shift = W::shift_left::<4>(W::and(W::count(), W::splat(1)));
    let first = W::shift_right_each(W::look_up(line, word), shift);
    let second = W::look_up(line, W::add(word, W::splat(8)));
    let second = W::shift_right_each(second, shift);
    W::or(W::and(first, W::splat(0xffff)), W::shift_left::<16>(second))
}

struct Pick<'a> {
    token: u32,
    names: &'a [Block<u32>],
    slots: &'a [Block<u32>],
    /// A row in 32 bits of each line.
    words: &'a mut [u32],
}

impl Pass for Pick<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self) {
        let name = W::splat(self.token.wrapping_add(1));
        let mut masks = [Block([0; LANES]); VECTORS_MAX];
        let masks = &mut masks[..self.names.len()];
        for (mask, names) in masks.iter_mut().zip(self.names) {
            let here = W::equal(W::load(&names.0), name);
            W::store(W::keep(here, W::splat(u32::MAX)), &mut mask.0);
        }
        let lines = self.slots.chunks_exact(masks.len());
        for (word, slots) in self.words.iter_mut().zip(lines) {
            let mut found = W::splat(0);
            for (slots, mask) in slots.iter().zip(masks.iter()) {
                found = W::or(found, W::and(W::load(&slots.0), W::load(&mask.0)));
            }
            let mut any = 0;
            for lane in W::lanes(found) {
                any |= lane;
            }
            *word = any;
        }
    }
}

/// What the words of a row stand for.
pub(super) fn numbers(kind: Kind, words: &[u32], out: &mut [f32]) {
    let (columns, lines) = kind.unit();
    let low = |word: u32| from_f16(word as u16);
    let high = |word: u32| from_f16((word >> 16) as u16);
    for (words, out) in words.chunks_exact(lines).zip(out.chunks_mut(columns)) {
        match kind {
            Kind::F32 => out.fill(f32::from_bits(words[0])),
            Kind::Bf16 => {
                let both = [words[0] << 16, words[0] & 0xffff_0000];
                for (out, bits) in out.iter_mut().zip(both) {
                    *out = f32::from_bits(bits);
                }
            }
            Kind::Q8 => {
                let scales = [low(words[0]), high(words[0])];
                for (number, (out, word)) in out.chunks_mut(4).zip(&words[1..]).enumerate() {
                    for (out, byte) in out.iter_mut().zip(word.to_le_bytes()) {
                        *out = scales[number / 8] * f32::from(i16::from(byte) - 128);
                    }
                }
            }
            Kind::Q4 => {
                let (scale, minimum) = (low(words[0]), high(words[0]));
                for (column, out) in out.iter_mut().enumerate() {
                    let word = words[1 + column % 16 / 4];
                    let shift = 8 * (column % 4) + 4 * (column / 16);
                    *out = scale * ((word >> shift) & 15) as f32 + minimum;
                }
            }
        }
    }
}

const _: () = assert!(Line::BYTES == 4 * LANES);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Path;

    fn table(kind: Kind, rows: usize, columns: usize) -> Packed {
        let mut table = Packed::zeroed(kind, rows, columns).unwrap();
        for row in 0..rows {
            let weights: Vec<f32> = (0..columns)
                .map(|column| ((row * 31 + column * 7) % 201) as f32 / 50.0 - 2.0)
                .collect();
            table.set_row(row, &weights).unwrap();
        }
        table
    }

    fn check(kernels: &Kernels, table: &Packed, tokens: &[u32]) {
        let columns = table.columns();
        let mut found = vec![7.0; tokens.len() * columns];
        kernels.embed(table, tokens, &mut found).unwrap();
        let mut expected = vec![0.0; columns];
        for (token, found) in tokens.iter().zip(found.chunks(columns)) {
            table.row(*token as usize, &mut expected).unwrap();
            assert_eq!(found, expected, "{table:?} row {token} of {}", tokens.len());
        }
    }

    #[test]
    fn the_rows_are_those_of_the_table_for_every_kind_path_and_number_of_tokens() {
        for path in Path::ALL.into_iter().filter(|path| path.is_here()) {
            for threads in [1, 3] {
                let kernels = Kernels::new(path, threads).unwrap();
                for kind in Kind::ALL {
                    for (rows, columns) in [(1, 1), (37, 96), (300, 33), (64, 128)] {
                        let table = table(kind, rows, columns);
                        for count in [1, 2, 16, 17, 100] {
                            let tokens: Vec<u32> = (0..count as u32)
                                .map(|n| n.wrapping_mul(2_654_435_761) % rows as u32)
                                .collect();
                            check(&kernels, &table, &tokens);
                        }
                        // All at once, backwards, which is more than one group.
                        let all: Vec<u32> = (0..rows as u32).rev().cycle().take(600).collect();
                        check(&kernels, &table, &all);
                        check(&kernels, &table, &[rows as u32 - 1; 20]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_token_of_no_row_gives_zeros_and_a_wrong_length_is_refused() {
        let kernels = Kernels::new(Path::detect(), 1).unwrap();
        let table = table(Kind::Q8, 20, 64);
        let mut out = [1.0; 128];
        kernels.embed(&table, &[20, u32::MAX], &mut out).unwrap();
        assert!(out.iter().all(|number| *number == 0.0));
        for token in [20, 32, u32::MAX] {
            let mut out = [1.0; 64];
            kernels.embed(&table, &[token], &mut out).unwrap();
            assert_eq!(out, [0.0; 64]);
        }
        assert!(kernels.embed(&table, &[1], &mut out).is_err());
        assert!(kernels.embed(&table, &[], &mut []).is_ok());
    }
}
