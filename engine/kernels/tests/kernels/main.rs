//! The kernels against arithmetic in f64, and every row's bits against the company it keeps.

mod accuracy;
mod attention;
mod invariance;
mod packed;
mod shapes;

use kernels::{Kernels, Path};

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Between -1 and 1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// `count` of about normal distribution.
    fn normal(&mut self, count: usize) -> Vec<f32> {
        let mut one = || (0..6).map(|_| self.unit()).sum::<f32>() / std::f32::consts::SQRT_2;
        (0..count).map(|_| one()).collect()
    }
}

fn numbers(seed: u64) -> Numbers {
    Numbers(0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
}

/// The paths of this processor. One that it lacks is counted as skipped, with `CI=true` too: no machine has all.
fn paths() -> impl Iterator<Item = Path> {
    Path::ALL.into_iter().filter(|path| {
        if !path.is_here() {
            without::lacks("instructions", path.name());
        }
        path.is_here()
    })
}

fn kernels(path: Path, threads: usize) -> Kernels {
    Kernels::new(path, threads).expect("a path of this processor")
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The norm of the difference over the norm of what is expected.
fn relative_error(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let pairs = || got.iter().zip(expected);
    let difference: f64 = pairs().map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    (difference / pairs().map(|(_, b)| b * b).sum::<f64>()).sqrt()
}
