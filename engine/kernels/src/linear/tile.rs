//! A tile of outputs: some panels of weights times some rows of activations, in registers.

use crate::activations::Block;
use crate::memory::Line;
use crate::packed::Packed;
use crate::pool::Tile;
use crate::simd::{self, LANES, Simd, unroll};

/// Bytes of a panel times rows up to which panels are read one at a time, measured.
const STREAMED_BYTES: usize = 80 << 10;

/// How the units of a panel are multiplied.
pub(super) trait Multiply {
    /// What a row of activations consists of.
    type X: Copy + Sync;
    /// The lines of a unit.
    type Lines;
    /// The activations of a unit.
    type Xs;
    /// The most rows of a tile where there are 32 registers.
    const ROWS: usize;

    fn panel(lines: &[Line]) -> &[Self::Lines];
    fn row(x: &[Self::X]) -> &[Self::Xs];
    /// Adds the products of one unit.
    fn multiply<S: Simd, const P: usize, const R: usize>(
        s: S,
        w: [&Self::Lines; P],
        x: [&Self::Xs; R],
        acc: &mut [[S::F; R]; P],
    );
}

/// Rows of activations, `stride` elements apart.
pub(super) struct Activations<'a, X> {
    pub x: &'a [X],
    pub stride: usize,
}

/// Writes the tile's outputs, some panels and rows at a time: as many as the registers hold. With `REORDER` a single row has
/// two sums for each output, so that its bits depend on how many rows there are: what the fixed order is measured against.
#[inline(always)]
pub(super) fn outputs<S: Simd, M: Multiply, const REORDER: bool>(
    s: S,
    weights: &Packed,
    x: &Activations<'_, M::X>,
    tile: &mut Tile<'_, f32>,
) {
    let most = match S::REGISTERS {
        32 => M::ROWS,
        8 => 4,
        _ => 2,
    };
    let mut row = 0;
    while row < tile.height {
        let left = tile.height - row;
        let rows = left.div_ceil(left.div_ceil(most));
        // The first pass brings the weights from memory, and two short panels at once are two streams that end too soon.
        let is_streamed = row == 0 && weights.panel_lines() * Line::BYTES * rows <= STREAMED_BYTES;
        match rows {
            1 if REORDER => panels::<S, M, 1, 1, 2>(s, weights, x, row, tile),
            1 => panels::<S, M, 1, 1, 1>(s, weights, x, row, tile),
            2 if S::REGISTERS < 32 || is_streamed => {
                panels::<S, M, 1, 2, 1>(s, weights, x, row, tile)
            }
            3 if S::REGISTERS == 8 || S::REGISTERS == 32 && is_streamed => {
                panels::<S, M, 1, 3, 1>(s, weights, x, row, tile);
            }
            4 if S::REGISTERS == 8 || S::REGISTERS == 32 && is_streamed => {
                panels::<S, M, 1, 4, 1>(s, weights, x, row, tile);
            }
            5 if S::REGISTERS == 32 && is_streamed => {
                panels::<S, M, 1, 5, 1>(s, weights, x, row, tile)
            }
            6 if S::REGISTERS == 32 && is_streamed => {
                panels::<S, M, 1, 6, 1>(s, weights, x, row, tile)
            }
            2 if S::REGISTERS == 32 => panels::<S, M, 2, 2, 1>(s, weights, x, row, tile),
            3 if S::REGISTERS == 32 => panels::<S, M, 2, 3, 1>(s, weights, x, row, tile),
            4 if S::REGISTERS == 32 => panels::<S, M, 2, 4, 1>(s, weights, x, row, tile),
            5 if S::REGISTERS == 32 => panels::<S, M, 2, 5, 1>(s, weights, x, row, tile),
            6 if S::REGISTERS == 32 => panels::<S, M, 2, 6, 1>(s, weights, x, row, tile),
            7 if S::REGISTERS == 32 => panels::<S, M, 2, 7, 1>(s, weights, x, row, tile),
            8 if S::REGISTERS == 32 => panels::<S, M, 2, 8, 1>(s, weights, x, row, tile),
            _ => {}
        }
        row += rows;
    }
}

/// The panels of the tile, `P` at a time, for `R` rows of `x` from `row` on, with `A` sums for each output.
#[inline(always)]
fn panels<S: Simd, M: Multiply, const P: usize, const R: usize, const A: usize>(
    s: S,
    weights: &Packed,
    x: &Activations<'_, M::X>,
    row: usize,
    tile: &mut Tile<'_, f32>,
) {
    let at = |r: usize| (row + r) * x.stride..(row + r + 1) * x.stride;
    let xs: [&[M::Xs]; R] = std::array::from_fn(|r| M::row(&x.x[at(r)]));
    let first = tile.left / LANES;
    let end = (tile.left + tile.width).div_ceil(LANES);
    let mut panel = first;
    while panel + P <= end {
        let w = std::array::from_fn(|p| M::panel(weights.panel(panel + p)));
        product::<S, M, P, R, A>(s, w, xs, (row, (panel - first) * LANES), tile);
        panel += P;
    }
    while panel < end {
        let w = [M::panel(weights.panel(panel))];
        product::<S, M, 1, R, A>(s, w, xs, (row, (panel - first) * LANES), tile);
        panel += 1;
    }
}

/// `P` panels times `R` rows, written from `row` and `left` of the tile on. That the sums are stored by the function that makes
/// them keeps them in registers: returned, an array of more than ten vectors goes through memory in each step.
#[inline(always)]
fn product<S: Simd, M: Multiply, const P: usize, const R: usize, const A: usize>(
    s: S,
    w: [&[M::Lines]; P],
    x: [&[M::Xs]; R],
    (row, left): (usize, usize),
    tile: &mut Tile<'_, f32>,
) {
    let mut acc = [[[s.splat(0.0); R]; P]; A];
    let units = w[0].len();
    let w = w.map(|w| &w[..units]);
    let x = x.map(|x| &x[..units]);
    for first in (0..units / A * A).step_by(A) {
        unroll!(a < A {
            let unit = first + a;
            M::multiply(s, w.map(|w| &w[unit]), x.map(|x| &x[unit]), &mut acc[a]);
        });
    }
    for unit in units / A * A..units {
        M::multiply(s, w.map(|w| &w[unit]), x.map(|x| &x[unit]), &mut acc[0]);
    }
    unroll!(p < P {
        unroll!(r < R {
            let mut sum = acc[0][p][r];
            unroll!(a < A {
                if a != 0 {
                    sum = s.add(sum, acc[a][p][r]);
                }
            });
            simd::store_partial(s, sum, &mut tile.row(row + r)[left + p * LANES..]);
        });
    });
}

pub(super) struct F32;

impl Multiply for F32 {
    type X = f32;
    type Lines = Line;
    type Xs = f32;
    const ROWS: usize = 8;

    #[inline(always)]
    fn panel(lines: &[Line]) -> &[Line] {
        lines
    }
    #[inline(always)]
    fn row(x: &[f32]) -> &[f32] {
        x
    }
    #[inline(always)]
    fn multiply<S: Simd, const P: usize, const R: usize>(
        s: S,
        w: [&Line; P],
        x: [&f32; R],
        acc: &mut [[S::F; R]; P],
    ) {
        let mut line = [s.splat(0.0); P];
        unroll!(p < P {
            line[p] = s.line_f32(w[p]);
        });
        unroll!(r < R {
            let x = s.splat(*x[r]);
            unroll!(p < P {
                acc[p][r] = s.mul_add(line[p], x, acc[p][r]);
            });
        });
    }
}

pub(super) struct Bf16;

impl Multiply for Bf16 {
    type X = i32;
    type Lines = Line;
    type Xs = i32;
    const ROWS: usize = 8;

    #[inline(always)]
    fn panel(lines: &[Line]) -> &[Line] {
        lines
    }
    #[inline(always)]
    fn row(x: &[i32]) -> &[i32] {
        x
    }
    #[inline(always)]
    fn multiply<S: Simd, const P: usize, const R: usize>(
        s: S,
        w: [&Line; P],
        x: [&i32; R],
        acc: &mut [[S::F; R]; P],
    ) {
        let mut line = [s.splat_i(0); P];
        unroll!(p < P {
            line[p] = s.line(w[p]);
        });
        unroll!(r < R {
            let x = s.splat_i(*x[r]);
            unroll!(p < P {
                acc[p][r] = s.dot_bf16(acc[p][r], line[p], x);
            });
        });
    }
}

pub(super) struct Q8;

impl Multiply for Q8 {
    type X = Block;
    type Lines = [Line; 17];
    type Xs = [Block; 2];
    const ROWS: usize = 6;

    #[inline(always)]
    fn panel(lines: &[Line]) -> &[[Line; 17]] {
        lines.as_chunks().0
    }
    #[inline(always)]
    fn row(x: &[Block]) -> &[[Block; 2]] {
        x.as_chunks().0
    }
    #[inline(always)]
    fn multiply<S: Simd, const P: usize, const R: usize>(
        s: S,
        w: [&[Line; 17]; P],
        x: [&[Block; 2]; R],
        acc: &mut [[S::F; R]; P],
    ) {
        for half in 0..2 {
            let mut scales = [s.splat(0.0); P];
            unroll!(p < P {
                scales[p] = s.load_f16(&w[p][0].halves()[half]);
            });
            let mut dot = [[s.splat_i(0); R]; P];
            unroll!(r < R {
                let start = s.splat_i(x[r][half].start);
                unroll!(p < P {
                    dot[p][r] = start;
                });
            });
            for group in 0..8 {
                let mut line = [s.splat_i(0); P];
                unroll!(p < P {
                    line[p] = s.line(&w[p][1 + 8 * half + group]);
                });
                unroll!(r < R {
                    let x = s.splat_i(x[r][half].quants[group]);
                    unroll!(p < P {
                        dot[p][r] = s.dot_q8(dot[p][r], line[p], x);
                    });
                });
            }
            unroll!(p < P {
                unroll!(r < R {
                    let scale = s.mul(scales[p], s.splat(x[r][half].scale));
                    acc[p][r] = s.mul_add(scale, s.to_f32(dot[p][r]), acc[p][r]);
                });
            });
        }
    }
}

pub(super) struct Q4;

impl Multiply for Q4 {
    type X = Block;
    type Lines = [Line; 5];
    type Xs = Block;
    const ROWS: usize = 6;

    #[inline(always)]
    fn panel(lines: &[Line]) -> &[[Line; 5]] {
        lines.as_chunks().0
    }
    #[inline(always)]
    fn row(x: &[Block]) -> &[Block] {
        x
    }
    #[inline(always)]
    fn multiply<S: Simd, const P: usize, const R: usize>(
        s: S,
        w: [&[Line; 5]; P],
        x: [&Block; R],
        acc: &mut [[S::F; R]; P],
    ) {
        let low = s.splat_i(0x0f0f_0f0f);
        let mut dot = [[s.splat_i(0); R]; P];
        for group in 0..4 {
            let mut lower = [s.splat_i(0); P];
            let mut upper = [s.splat_i(0); P];
            unroll!(p < P {
                let line = s.line(&w[p][1 + group]);
                lower[p] = s.and_i(line, low);
                upper[p] = s.and_i(s.shift_right::<4>(line), low);
            });
            unroll!(r < R {
                let first = s.splat_i(x[r].quants[group]);
                unroll!(p < P {
                    dot[p][r] = s.dot_q4(dot[p][r], lower[p], first);
                });
                let second = s.splat_i(x[r].quants[4 + group]);
                unroll!(p < P {
                    dot[p][r] = s.dot_q4(dot[p][r], upper[p], second);
                });
            });
        }
        unroll!(p < P {
            let [scale, minimum] = w[p][0].halves();
            let (scale, minimum) = (s.load_f16(scale), s.load_f16(minimum));
            unroll!(r < R {
                let scale = s.mul(scale, s.splat(x[r].scale));
                acc[p][r] = s.mul_add(minimum, s.splat(x[r].sum), acc[p][r]);
                acc[p][r] = s.mul_add(scale, s.to_f32(dot[p][r]), acc[p][r]);
            });
        });
    }
}
