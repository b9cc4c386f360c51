//! Element by element: activations, products and sums.

use crate::error::KernelError;
use crate::exp::exp_lanes;
use crate::kernels::Kernels;
use crate::pool::Tile;
use crate::simd::{self, Compute, LANES, Simd};

/// Elements of a chunk.
const CHUNK: usize = 8192;

impl Kernels {
    /// `gate = gate * sigmoid(gate) * up`.
    ///
    /// # Errors
    /// The lengths differ.
    pub fn silu_mul(&self, gate: &mut [f32], up: &[f32]) -> Result<(), KernelError> {
        self.each(gate, Some(up), Function::SiluMul)
    }

    /// `gate = gelu(gate) * up` with the approximation by tanh: `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
    ///
    /// # Errors
    /// The lengths differ.
    pub fn gelu_tanh_mul(&self, gate: &mut [f32], up: &[f32]) -> Result<(), KernelError> {
        self.each(gate, Some(up), Function::GeluTanhMul)
    }

    /// `x = x / 2 * (1 + erf(x / sqrt(2)))`. The error function is Abramowitz and Stegun's 7.1.26 with an absolute error below 2e-7.
    ///
    /// # Errors
    /// None today.
    pub fn gelu(&self, x: &mut [f32]) -> Result<(), KernelError> {
        self.each(x, None, Function::Gelu)
    }

    /// `x = x + y`.
    ///
    /// # Errors
    /// The lengths differ.
    pub fn add(&self, x: &mut [f32], y: &[f32]) -> Result<(), KernelError> {
        self.each(x, Some(y), Function::Add)
    }

    /// `x = x + bias` for each row of `x`, as wide as `bias`.
    ///
    /// # Errors
    /// `bias` is empty, or `x` no whole number of rows.
    pub fn add_bias(&self, x: &mut [f32], bias: &[f32]) -> Result<(), KernelError> {
        let width = bias.len();
        if width == 0 {
            return Err(KernelError::shape("width of a bias", 0));
        }
        KernelError::length("rows with a bias", x.len(), x.len() / width * width)?;
        let height = CHUNK.div_ceil(width);
        self.pool.tiles(x, width, (height, width), |mut tile| {
            for row in 0..tile.height {
                let pairs = tile.row(row).iter_mut().zip(bias);
                pairs.for_each(|(x, bias)| *x += bias);
            }
        });
        Ok(())
    }

    fn each(
        &self,
        x: &mut [f32],
        y: Option<&[f32]>,
        function: Function,
    ) -> Result<(), KernelError> {
        if let Some(y) = y {
            KernelError::length("the second operand", y.len(), x.len())?;
        }
        let length = x.len();
        self.pool.tiles(x, length, (1, CHUNK), |tile| {
            self.instructions.run(Each { y, function, tile });
        });
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Function {
    SiluMul,
    GeluTanhMul,
    Gelu,
    Add,
}

struct Each<'a> {
    y: Option<&'a [f32]>,
    function: Function,
    tile: Tile<'a, f32>,
}

impl Compute for Each<'_> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Simd>(mut self, s: S) {
        let from = self.tile.left;
        let x = self.tile.row(0);
        let y = self.y.map(|y| &y[from..from + x.len()]).unwrap_or_default();
        match self.function {
            Function::SiluMul => each::<S, SiluMul>(s, x, y),
            Function::GeluTanhMul => each::<S, GeluTanhMul>(s, x, y),
            Function::Add => each::<S, Add>(s, x, y),
            Function::Gelu => {
                for x in x.chunks_mut(LANES) {
                    let value = gelu(s, simd::load_partial(s, x));
                    simd::store_partial(s, value, x);
                }
            }
        }
    }
}

/// A function of sixteen elements and their second operands.
trait Elementwise {
    fn of<S: Simd>(s: S, x: S::F, y: S::F) -> S::F;
}

#[inline(always)]
fn each<S: Simd, E: Elementwise>(s: S, x: &mut [f32], y: &[f32]) {
    for (x, y) in x.chunks_mut(LANES).zip(y.chunks(LANES)) {
        let value = E::of(s, simd::load_partial(s, x), simd::load_partial(s, y));
        simd::store_partial(s, value, x);
    }
}

struct SiluMul;
struct GeluTanhMul;
struct Add;

impl Elementwise for SiluMul {
    #[inline(always)]
    fn of<S: Simd>(s: S, x: S::F, y: S::F) -> S::F {
        s.mul(s.mul(x, sigmoid(s, x)), y)
    }
}

impl Elementwise for GeluTanhMul {
    #[inline(always)]
    fn of<S: Simd>(s: S, x: S::F, y: S::F) -> S::F {
        s.mul(gelu_tanh(s, x), y)
    }
}

impl Elementwise for Add {
    #[inline(always)]
    fn of<S: Simd>(s: S, x: S::F, y: S::F) -> S::F {
        s.add(x, y)
    }
}

/// 1 / (1 + exp(-x)). From -87 down it is that of -87, 1.6e-38, so that no result is subnormal.
#[inline(always)]
fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp_lanes(s, s.sub(s.splat(0.0), x))))
}

/// tanh(x) = 2 sigmoid(2x) - 1, with an absolute error below 2e-7.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let twice = sigmoid(s, s.add(x, x));
    s.sub(s.add(twice, twice), s.splat(1.0))
}

#[inline(always)]
fn gelu_tanh<S: Simd>(s: S, x: S::F) -> S::F {
    // x / 2 * (1 + tanh(z)) = x * sigmoid(2z)
    let square = s.mul(x, x);
    let inner = s.mul_add(
        square,
        s.splat(2.0 * 0.797_884_6 * 0.044_715),
        s.splat(2.0 * 0.797_884_6),
    );
    s.mul(x, sigmoid(s, s.mul(x, inner)))
}

#[inline(always)]
fn gelu<S: Simd>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    let magnitude = s.max(x, s.sub(s.splat(0.0), x));
    let z = s.mul(magnitude, s.splat(std::f32::consts::FRAC_1_SQRT_2));
    let t = s.div(one, s.mul_add(z, s.splat(0.327_591_1), one));
    let mut polynomial = s.splat(1.061_405_4);
    for coefficient in [-1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6] {
        polynomial = s.mul_add(polynomial, t, s.splat(coefficient));
    }
    let gaussian = exp_lanes(s, s.sub(s.splat(0.0), s.mul(z, z)));
    // 1 - erf(z) for z >= 0.
    let tail = s.mul(s.mul(polynomial, t), gaussian);
    // x * (1 + erf(x / sqrt 2)) / 2 is x - x * tail / 2 for x >= 0 and x * tail / 2 below.
    let half = s.mul(s.mul(x, s.splat(0.5)), tail);
    s.if_less(x, s.splat(0.0), half, s.sub(x, half))
}
