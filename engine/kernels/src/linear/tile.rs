//! A tile of outputs: some panels of weights times some rows of activations, in registers.

use crate::activations::Block;
use crate::memory::Line;
use crate::packed::Packed;
use crate::pool::Tile;
use crate::simd::{self, LANES, Simd};

/// How the units of a panel are multiplied.
pub(super) trait Multiply {
    /// What a row of activations consists of.
    type X: Copy;
    /// The lines and activations of a unit.
    type Lines: Copy;
    type Xs: Copy;
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

/// Writes the tile's outputs: its panels by twos, or by fours for a single row of `x`, whose elements are `stride` apart.
#[inline(always)]
pub(super) fn outputs<S: Simd, M: Multiply>(
    s: S,
    weights: &Packed,
    (x, stride): (&[M::X], usize),
    tile: &mut Tile<'_, f32>,
) {
    let first = tile.left / LANES;
    let end = (tile.left + tile.width).div_ceil(LANES);
    let n = tile.height;
    let mut row = 0;
    while row < n {
        let rows = (n - row).div_ceil((n - row).div_ceil(6));
        let x = &x[row * stride..];
        match rows {
            1 => panels::<S, M, 4, 1>(s, weights, (x, stride), (first, end), row, tile),
            2 => panels::<S, M, 2, 2>(s, weights, (x, stride), (first, end), row, tile),
            3 => panels::<S, M, 2, 3>(s, weights, (x, stride), (first, end), row, tile),
            4 => panels::<S, M, 2, 4>(s, weights, (x, stride), (first, end), row, tile),
            5 => panels::<S, M, 2, 5>(s, weights, (x, stride), (first, end), row, tile),
            _ => panels::<S, M, 2, 6>(s, weights, (x, stride), (first, end), row, tile),
        }
        row += rows;
    }
}

/// The panels from `first` to `end`, `P` at a time, for `R` rows of `x`.
#[inline(always)]
fn panels<S: Simd, M: Multiply, const P: usize, const R: usize>(
    s: S,
    weights: &Packed,
    (x, stride): (&[M::X], usize),
    (first, end): (usize, usize),
    row: usize,
    tile: &mut Tile<'_, f32>,
) {
    let xs: [&[M::Xs]; R] = std::array::from_fn(|r| M::row(&x[r * stride..(r + 1) * stride]));
    let mut panel = first;
    while panel + P <= end {
        let w = std::array::from_fn(|p| M::panel(weights.panel(panel + p)));
        let acc = product::<S, M, P, R>(s, w, xs);
        store(s, acc, (panel - first) * LANES, row, tile);
        panel += P;
    }
    while panel < end {
        let acc = product::<S, M, 1, R>(s, [M::panel(weights.panel(panel))], xs);
        store(s, acc, (panel - first) * LANES, row, tile);
        panel += 1;
    }
}

#[inline(always)]
fn product<S: Simd, M: Multiply, const P: usize, const R: usize>(
    s: S,
    w: [&[M::Lines]; P],
    x: [&[M::Xs]; R],
) -> [[S::F; R]; P] {
    let mut acc = [[s.splat(0.0); R]; P];
    let units = w[0].len();
    let w = w.map(|w| &w[..units]);
    let x = x.map(|x| &x[..units]);
    for unit in 0..units {
        M::multiply(s, w.map(|w| &w[unit]), x.map(|x| &x[unit]), &mut acc);
    }
    acc
}

#[inline(always)]
fn store<S: Simd, const P: usize, const R: usize>(
    s: S,
    acc: [[S::F; R]; P],
    left: usize,
    row: usize,
    tile: &mut Tile<'_, f32>,
) {
    for (p, acc) in acc.into_iter().enumerate() {
        for (r, acc) in acc.into_iter().enumerate() {
            simd::store_partial(s, acc, &mut tile.row(row + r)[left + p * LANES..]);
        }
    }
}

pub(super) struct F32;

impl Multiply for F32 {
    type X = f32;
    type Lines = Line;
    type Xs = f32;

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
        let w = w.map(|w| s.line_f32(w));
        for r in 0..R {
            let x = s.splat(*x[r]);
            for p in 0..P {
                acc[p][r] = s.mul_add(w[p], x, acc[p][r]);
            }
        }
    }
}

pub(super) struct Bf16;

impl Multiply for Bf16 {
    type X = i32;
    type Lines = Line;
    type Xs = i32;

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
        let w = w.map(|w| s.line(w));
        for r in 0..R {
            let x = s.splat_i(*x[r]);
            for p in 0..P {
                acc[p][r] = s.dot_bf16(acc[p][r], w[p], x);
            }
        }
    }
}

pub(super) struct Q8;

impl Multiply for Q8 {
    type X = Block;
    type Lines = [Line; 17];
    type Xs = [Block; 2];

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
            let mut dot: [[S::I; R]; P] =
                std::array::from_fn(|_| std::array::from_fn(|r| s.splat_i(x[r][half].start)));
            for group in 0..8 {
                let w = w.map(|w| s.line(&w[1 + 8 * half + group]));
                for r in 0..R {
                    let x = s.splat_i(x[r][half].quants[group]);
                    for p in 0..P {
                        dot[p][r] = s.dot_q8(dot[p][r], w[p], x);
                    }
                }
            }
            for p in 0..P {
                let scale = s.load_f16(&w[p][0].halves()[half]);
                for r in 0..R {
                    let scale = s.mul(scale, s.splat(x[r][half].scale));
                    acc[p][r] = s.mul_add(scale, s.to_f32(dot[p][r]), acc[p][r]);
                }
            }
        }
    }
}

pub(super) struct Q4;

impl Multiply for Q4 {
    type X = Block;
    type Lines = [Line; 5];
    type Xs = Block;

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
            let w = w.map(|w| s.line(&w[1 + group]));
            let lower = w.map(|w| s.and_i(w, low));
            let upper = w.map(|w| s.and_i(s.shift_right::<4>(w), low));
            for r in 0..R {
                let x = [x[r].quants[group], x[r].quants[4 + group]].map(|x| s.splat_i(x));
                for p in 0..P {
                    dot[p][r] = s.dot_q4(dot[p][r], lower[p], x[0]);
                    dot[p][r] = s.dot_q4(dot[p][r], upper[p], x[1]);
                }
            }
        }
        for p in 0..P {
            let [scale, minimum] = w[p][0].halves();
            let [scale, minimum] = [s.load_f16(scale), s.load_f16(minimum)];
            for r in 0..R {
                let scale = s.mul(scale, s.splat(x[r].scale));
                acc[p][r] = s.mul_add(minimum, s.splat(x[r].sum), acc[p][r]);
                acc[p][r] = s.mul_add(scale, s.to_f32(dot[p][r]), acc[p][r]);
            }
        }
    }
}
