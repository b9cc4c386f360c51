//! Against f64. What rounding to a kind costs is in `packed`; here the arithmetic is compared with that on the rounded weights.

use kernels::{Kind, Packed};

use crate::{kernels, numbers, paths, relative_error};

/// Weights of `kind` and the numbers that they stand for.
fn weights(kind: Kind, rows: usize, columns: usize) -> (Packed, Vec<f32>) {
    let mut packed = Packed::zeroed(kind, rows, columns).expect("small");
    let mut wide = numbers(3).normal(rows * columns);
    for (index, row) in wide.chunks_mut(columns).enumerate() {
        packed.set_row(index, row).expect("fits");
        packed.row(index, row).expect("is there");
    }
    (packed, wide)
}

#[test]
fn products_are_as_exact_as_their_kind() {
    for path in paths() {
        for kind in Kind::ALL {
            for (rows, columns, n) in [(1, 1, 1), (19, 33, 2), (64, 576, 7), (100, 1536, 16)] {
                let (packed, wide) = weights(kind, rows, columns);
                let x = numbers(4).normal(n * columns);
                let dot = |x: &[f32], w: &[f32]| -> f64 {
                    x.iter()
                        .zip(w)
                        .map(|(x, w)| f64::from(*x) * f64::from(*w))
                        .sum()
                };
                let expected: Vec<f64> = { x.chunks(columns) }
                    .flat_map(|x| wide.chunks(columns).map(move |w| dot(x, w)))
                    .collect();
                let mut y = vec![0.0; n * rows];
                kernels(path, 1).linear(&packed, &x, &mut y).expect("fits");
                let error = relative_error(&y, &expected);
                // bf16: activations rounded to 8 bits of fraction; q8 and q4: to the 127th part of the largest of 32.
                let most = match kind {
                    Kind::F32 => 2e-6,
                    Kind::Bf16 => 4e-3,
                    Kind::Q8 | Kind::Q4 => 1.2e-2,
                };
                assert!(
                    error < most,
                    "{} {kind:?} {rows}x{columns} n={n}: {error:e}",
                    path.name()
                );
            }
        }
    }
}

#[test]
fn norms_agree_with_f64() {
    for path in paths() {
        for width in [1, 15, 16, 100, 576] {
            let mut numbers = numbers(5);
            let (x, gamma, beta) = (
                numbers.normal(3 * width),
                numbers.normal(width),
                numbers.normal(width),
            );
            let rows = || {
                x.chunks(width)
                    .map(|row| row.iter().map(|x| f64::from(*x)).collect::<Vec<_>>())
            };
            let mean = |row: &[f64]| row.iter().sum::<f64>() / width as f64;
            let (mut rms, mut layer) = (Vec::new(), Vec::new());
            for row in rows() {
                let squares = |centre: f64| {
                    mean(&row.iter().map(|x| (x - centre).powi(2)).collect::<Vec<_>>())
                };
                let (centre, gain) = (mean(&row), { gamma.iter() }.map(|gamma| f64::from(*gamma)));
                let (root, deviation) = (
                    (squares(0.0) + 1e-5).sqrt(),
                    (squares(centre) + 1e-5).sqrt(),
                );
                rms.extend(
                    row.iter()
                        .zip(gain.clone())
                        .map(|(x, gamma)| x / root * gamma),
                );
                let shifted = row.iter().zip(gain).zip(&beta);
                layer.extend(
                    shifted.map(|((x, gamma), beta)| {
                        (x - centre) / deviation * gamma + f64::from(*beta)
                    }),
                );
            }
            let mut out = vec![0.0; x.len()];
            kernels(path, 1)
                .rms_norm(&x, &gamma, 1e-5, &mut out)
                .expect("fits");
            assert!(relative_error(&out, &rms) < 5e-7);
            kernels(path, 1)
                .layer_norm(&x, &gamma, &beta, 1e-5, &mut out)
                .expect("fits");
            assert!(relative_error(&out, &layer) < 5e-7);
        }
    }
}

#[test]
fn activations_agree_with_f64() {
    let x: Vec<f32> = (-2000..=2000).map(|i| i as f32 / 40.0).collect();
    let up = numbers(6).normal(x.len());
    let check = |name: &str, got: &[f32], of: &dyn Fn(f64) -> f64, up: &[f32], most: f64| {
        for ((got, x), up) in got.iter().zip(&x).zip(up) {
            let expected = of(f64::from(*x)) * f64::from(*up);
            let error = (f64::from(*got) - expected).abs();
            assert!(
                error <= most * expected.abs().max(1.0),
                "{name}({x}) = {got}, not {expected}"
            );
        }
    };
    let gelu_tanh =
        |x: f64| 0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044_715 * x.powi(3))).tanh());
    for path in paths() {
        let kernels = kernels(path, 1);
        let mut got = x.clone();
        kernels.silu_mul(&mut got, &up).expect("fits");
        check("silu", &got, &|x| x / (1.0 + (-x).exp()), &up, 5e-7);
        got.clone_from(&x);
        kernels.gelu_tanh_mul(&mut got, &up).expect("fits");
        check("gelu_tanh", &got, &gelu_tanh, &up, 1e-6);
        got.clone_from(&x);
        kernels.gelu(&mut got).expect("fits");
        check(
            "gelu",
            &got,
            &|x| 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
            &vec![1.0; x.len()],
            1e-6,
        );
        got.clone_from(&x);
        kernels.add(&mut got, &up).expect("fits");
        assert!(
            got.iter()
                .zip(&x)
                .zip(&up)
                .all(|((got, x), up)| *got == x + up)
        );
        got.clone_from(&x);
        kernels.add_bias(&mut got, &[1.0]).expect("fits");
        assert!(got.iter().zip(&x).all(|(got, x)| *got == x + 1.0));
    }
}

/// The error function by its series, and by its continued fraction where that is short.
fn erf(x: f64) -> f64 {
    let z = x.abs();
    let value = if z < 3.0 {
        let (mut term, mut sum) = (z, z);
        for n in 1..100 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let fraction = (1..60)
            .rev()
            .fold(0.0, |below, k| f64::from(k) / 2.0 / (z + below));
        1.0 - (-z * z).exp() / (z + fraction) / std::f64::consts::PI.sqrt()
    };
    value.copysign(x)
}

#[test]
fn rotations_agree_with_f64() {
    for path in paths() {
        for (heads, width) in [(1, 2), (3, 64), (2, 40)] {
            let mut numbers = numbers(7);
            let (rows, half) = (5, width / 2);
            let angles: Vec<f32> = numbers.normal(rows * half);
            let cosines: Vec<f32> = angles.iter().map(|angle| angle.cos()).collect();
            let sines: Vec<f32> = angles.iter().map(|angle| angle.sin()).collect();
            let x = numbers.normal(rows * heads * width);
            let mut expected = Vec::new();
            for (index, head) in x.chunks(width).enumerate() {
                let at = index / heads * half;
                for i in 0..width {
                    let (cosine, sine) = (
                        f64::from(cosines[at + i % half]),
                        f64::from(sines[at + i % half]),
                    );
                    let other = f64::from(head[(i + half) % width]);
                    let turned = if i < half { -other } else { other };
                    expected.push(f64::from(head[i]) * cosine + turned * sine);
                }
            }
            let mut got = x.clone();
            kernels(path, 1)
                .rope(&mut got, &cosines, &sines, heads, width)
                .expect("fits");
            assert!(relative_error(&got, &expected) < 1e-7);
        }
    }
}

#[test]
fn exp_is_exact_to_two_units_and_flushes_what_is_subnormal() {
    let mut worst = 0f64;
    for i in -87_000..88_000 {
        let x = i as f32 / 1000.0;
        let expected = f64::from(x).exp();
        worst = worst.max((f64::from(kernels::exp(x)) - expected).abs() / expected);
    }
    assert!(worst < 2e-7, "{worst:e}");
    assert_eq!(kernels::exp(0.0), 1.0);
    assert_eq!(kernels::exp(-88.0), 0.0);
    assert_eq!(kernels::exp(f32::NEG_INFINITY), 0.0);
    assert_eq!(kernels::exp(f32::MIN), 0.0);
    assert_eq!(kernels::exp(89.0), f32::INFINITY);
    assert_eq!(kernels::exp(f32::INFINITY), f32::INFINITY);
    assert!(kernels::exp(f32::NAN).is_nan());
    assert!((f64::from(kernels::exp(88.7)) / 88.7f32.to_owned() as f64).is_finite());
}
