//! Rows of a table by secret numbers: every row is read, and the wanted one is kept by a mask.

use super::mask::equal;
use super::wide::{LANES, Pass, Wide, pass};
use crate::Path;

/// Row `wanted` of a table whose rows are as long as `out`; zeros if there is no such row. One read of the table.
pub fn row(path: Path, table: &[f32], wanted: u32, out: &mut [f32]) {
    if !out.is_empty() {
        pass(path, Row { table, wanted, out });
    }
}

struct Row<'a> {
    table: &'a [f32],
    wanted: u32,
    out: &'a mut [f32],
}

impl Pass for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self) {
        let Row { table, wanted, out } = self;
        out.fill(0.0);
        for (number, row) in (0u32..).zip(table.chunks_exact(out.len())) {
            let mask = equal(number, wanted);
            let (rows, rest) = row.as_chunks::<LANES>();
            let (outs, out_rest) = out.as_chunks_mut::<LANES>();
            let wide = W::splat(mask);
            for (row, out) in rows.iter().zip(outs) {
                let kept = W::and(wide, W::bits(W::load_floats(row)));
                let sum = W::or(W::bits(W::load_floats(out)), kept);
                W::store_floats(W::floats(sum), out);
            }
            for (row, out) in rest.iter().zip(out_rest) {
                *out = f32::from_bits(out.to_bits() | (row.to_bits() & mask));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_comes_out_as_it_is() {
        for columns in [1, 15, 16, 33, 64] {
            let table: Vec<f32> = (0..columns * 37).map(|n| n as f32 - 99.5).collect();
            for path in Path::ALL.into_iter().filter(|path| path.is_here()) {
                let mut out = vec![7.0; columns];
                for (number, expected) in (0..).zip(table.chunks(columns)) {
                    row(path, &table, number, &mut out);
                    assert_eq!(out, expected);
                }
                row(path, &table, 37, &mut out);
                assert_eq!(out, vec![0.0; columns]);
            }
        }
    }
}
