//! What it costs to find embeddings without telling which: `cargo run --release -p kernels --example embedding`.
//!
//! The unit is T1, one read of the table, in the same run. The tables are those of SmolLM2-135M and of Qwen2.5-0.5B in q8; so
//! many copies are gone through in turn that none is left in a cache. One thread; medians of the ratios of rounds. The bars: half
//! of T1 for a row that is carried along with the scores, 1.1 T1 for one that is looked for, (1 + log2 2n) T1 for n of them.

use std::hint::black_box;
use std::time::Instant;

use kernels::oblivious::Choices;
use kernels::{Kernels, Kind, Packed, Path};

const ROUNDS: usize = 31;
const COPIES_BYTES: usize = 512 << 20;
const COUNTS: [usize; 4] = [1, 16, 64, 512];

fn main() {
    let kernels = Kernels::new(Path::detect(), 1).expect("this processor's path");
    println!("{}, one thread", kernels.path().name());
    for (rows, columns) in [(49_152, 576), (151_936, 896)] {
        let mut tables = vec![table(rows, columns)];
        while tables.len() * tables[0].bytes() < COPIES_BYTES {
            tables.push(table(rows, columns));
        }
        measure(&kernels, &tables);
    }
}

fn measure(kernels: &Kernels, tables: &[Packed]) {
    let (rows, columns) = (tables[0].rows(), tables[0].columns());
    let x: Vec<f32> = (0..columns).map(|k| (k % 13) as f32 - 6.0).collect();
    let (mut y, mut row) = (vec![0.0; rows], vec![0.0; columns]);
    let choices = Choices::new(rows, rows, &[]);
    let mut tables = tables.iter().cycle();
    let mut timed = |run: &mut dyn FnMut(&Packed)| {
        let table = tables.next().expect("a cycle has no end");
        let began = Instant::now();
        run(table);
        began.elapsed().as_secs_f64()
    };
    let (mut reads, mut carried, mut found) = (Vec::new(), Vec::new(), COUNTS.map(|_| Vec::new()));
    for _ in 0..ROUNDS {
        let read = timed(&mut read);
        let scores = timed(&mut |table| kernels.linear(table, &x, &mut y).expect("it fits"));
        let with_row = timed(&mut |table| {
            let best = kernels.linear_carrying(table, &x, &mut y, &choices, &mut row);
            black_box(best.expect("it fits"));
        });
        reads.push(read);
        carried.push((with_row - scores) / read);
        for (count, ratios) in COUNTS.into_iter().zip(&mut found) {
            let tokens: Vec<u32> = (0..count).map(|n| (n * 7919 % rows) as u32).collect();
            let mut out = vec![0.0; count * columns];
            let took =
                timed(&mut |table| kernels.embed(table, &tokens, &mut out).expect("it fits"));
            ratios.push(took / read);
        }
    }
    let (read, carried) = (median(reads), median(carried));
    println!("{rows} x {columns} q8: T1 is {:.2} ms", read * 1000.0);
    println!("  a row carried, beyond the scores {carried:6.2} T1");
    for (count, ratios) in COUNTS.into_iter().zip(found) {
        println!(
            "  {count:3} looked for                   {:6.2} T1",
            median(ratios)
        );
    }
}

/// Summed into 32 sums, so that the processor vectorises it.
fn read(table: &Packed) {
    let mut sums = [0u64; 32];
    for chunk in table.as_bytes().as_chunks::<256>().0 {
        for (sum, word) in sums.iter_mut().zip(chunk.as_chunks::<8>().0) {
            *sum ^= u64::from_le_bytes(*word);
        }
    }
    black_box(sums);
}

fn table(rows: usize, columns: usize) -> Packed {
    let mut table = Packed::zeroed(Kind::Q8, rows, columns).expect("memory");
    for (index, byte) in table.as_bytes_mut().iter_mut().enumerate() {
        // Halves below infinity, whatever they scale.
        *byte = (index.wrapping_mul(31) % 59) as u8;
    }
    table
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
