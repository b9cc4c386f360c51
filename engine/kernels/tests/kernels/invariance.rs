//! A row's bits depend on the row alone: for each kind and path, over numbers of rows, threads and positions.

use kernels::{Kind, Packed, Path};

use crate::{bits, kernels, numbers, paths};

const BATCHES: [usize; 8] = [1, 2, 3, 8, 13, 16, 64, 512];
const THREADS: [usize; 3] = [1, 2, 4];

fn weights(kind: Kind, rows: usize, columns: usize) -> Packed {
    let mut packed = Packed::zeroed(kind, rows, columns).expect("small");
    for (index, row) in numbers(8)
        .normal(rows * columns)
        .chunks(columns)
        .enumerate()
    {
        packed.set_row(index, row).expect("fits");
    }
    packed
}

#[test]
fn a_product_has_the_same_bits_in_any_company() {
    for path in paths() {
        for kind in Kind::ALL {
            for (rows, columns) in [(200, 576), (37, 100)] {
                let packed = weights(kind, rows, columns);
                let x = numbers(9).normal(512 * columns);
                let mut alone = vec![0.0; 512 * rows];
                let one = kernels(path, 1);
                for (x, y) in x.chunks(columns).zip(alone.chunks_mut(rows)) {
                    one.linear(&packed, x, y).expect("fits");
                }
                let alone = bits(&alone);
                for threads in THREADS {
                    let kernels = kernels(path, threads);
                    for n in BATCHES {
                        // At another position each time: the batch begins at row n / 2 and wraps around.
                        let row = |i: usize| (i + n / 2) % 512;
                        let batch: Vec<f32> = (0..n)
                            .flat_map(|i| &x[row(i) * columns..][..columns])
                            .copied()
                            .collect();
                        let mut y = vec![0.0; n * rows];
                        kernels.linear(&packed, &batch, &mut y).expect("fits");
                        for (i, y) in y.chunks(rows).enumerate() {
                            let expected = &alone[row(i) * rows..][..rows];
                            assert!(
                                bits(y) == expected,
                                "{} {kind:?} n={n} threads={threads} row {i}",
                                path.name()
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn products_together_have_the_bits_of_products_apart() {
    for path in paths() {
        let matrices = Kind::ALL.map(|kind| weights(kind, 48, 64));
        let x = numbers(10).normal(5 * 64);
        let kernels = kernels(path, 2);
        let mut together = [(); 4].map(|()| vec![0.0; 5 * 48]);
        let mut products: Vec<_> = { matrices.iter().zip(&mut together) }
            .map(|(weights, out)| kernels::Product { weights, out })
            .collect();
        kernels.linears(&x, &mut products).expect("fits");
        for (weights, together) in matrices.iter().zip(&together) {
            let mut apart = vec![0.0; 5 * 48];
            kernels.linear(weights, &x, &mut apart).expect("fits");
            assert_eq!(bits(together), bits(&apart));
        }
    }
}

#[test]
fn paths_agree_as_documented() {
    let x = numbers(11).normal(7 * 576);
    let product = |path: Path, kind: Kind| {
        let mut y = vec![0.0; 7 * 100];
        kernels(path, 1)
            .linear(&weights(kind, 100, 576), &x, &mut y)
            .expect("fits");
        bits(&y)
    };
    let fused: Vec<Path> = paths().filter(|path| *path != Path::Portable).collect();
    for kind in Kind::ALL {
        for pair in fused.windows(2) {
            assert_eq!(product(pair[0], kind), product(pair[1], kind), "{kind:?}");
        }
    }
    for path in fused {
        assert_eq!(
            product(path, Kind::Bf16),
            product(Path::Portable, Kind::Bf16)
        );
    }
}

#[test]
fn norms_rotations_and_activations_have_the_same_bits_in_any_company() {
    let (rows, width) = (64, 576);
    let mut numbers = numbers(12);
    let (x, y) = (numbers.normal(rows * width), numbers.normal(rows * width));
    let (gamma, beta) = (numbers.normal(width), numbers.normal(width));
    for path in paths() {
        let all = |threads: usize, n: usize| {
            let kernels = kernels(path, threads);
            let mut results = [(); 6].map(|()| Vec::new());
            for (x, y) in x.chunks(n * width).zip(y.chunks(n * width)) {
                let half = &y[..y.len() / 2];
                let mut out = [(); 6].map(|()| x.to_vec());
                kernels
                    .rms_norm(x, &gamma, 1e-6, &mut out[0])
                    .expect("fits");
                kernels
                    .layer_norm(x, &gamma, &beta, 1e-6, &mut out[1])
                    .expect("fits");
                let angles: Vec<f32> = { half.chunks(width / 2) }
                    .flat_map(|row| &row[..32])
                    .copied()
                    .collect();
                let angles = &angles[..x.len() / width * 32];
                kernels
                    .rope(&mut out[2], angles, angles, 9, 64)
                    .expect("fits");
                kernels.silu_mul(&mut out[3], y).expect("fits");
                kernels.gelu_tanh_mul(&mut out[4], y).expect("fits");
                kernels.gelu(&mut out[5]).expect("fits");
                results
                    .iter_mut()
                    .zip(out)
                    .for_each(|(all, out)| all.extend(bits(&out)));
            }
            // Rotations take other angles for other cuts here, so only the first row is the same.
            results[2].truncate(width);
            results
        };
        let alone = all(1, 1);
        for threads in THREADS {
            for n in [1, 3, 16, 64] {
                assert!(
                    all(threads, n) == alone,
                    "{} threads={threads} n={n}",
                    path.name()
                );
            }
        }
    }
}
