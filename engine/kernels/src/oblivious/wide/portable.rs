//! What every processor has: arrays, which the compiler makes into its vectors. Masks are numbers, all ones or all zeros, made by
//! arithmetic.

use super::{LANES, Wide};

type Lanes = [u32; LANES];

/// [`crate::Path::Portable`].
pub struct Portable;

#[inline(always)]
fn map(a: Lanes, f: impl Fn(u32) -> u32) -> Lanes {
    let mut out = a;
    for lane in &mut out {
        *lane = f(*lane);
    }
    out
}

#[inline(always)]
fn zip(a: Lanes, b: Lanes, f: impl Fn(u32, u32) -> u32) -> Lanes {
    let mut out = a;
    for (lane, b) in out.iter_mut().zip(b) {
        *lane = f(*lane, b);
    }
    out
}

#[inline(always)]
fn zip_floats(a: Lanes, b: Lanes, f: impl Fn(f32, f32) -> f32) -> Lanes {
    zip(a, b, |a, b| {
        f(f32::from_bits(a), f32::from_bits(b)).to_bits()
    })
}

/// The lanes, about which the optimiser knows nothing, in registers of four: else it makes vectors of one lane of several blocks,
/// which takes twice the time.
#[inline(always)]
#[expect(unsafe_code)]
#[cfg(target_arch = "x86_64")]
fn hidden(lanes: Lanes) -> Lanes {
    // SAFETY: both are 64 bytes, of which any are a value.
    let mut registers: [std::arch::x86_64::__m128i; 4] = unsafe { std::mem::transmute(lanes) };
    let [a, b, c, d] = &mut registers;
    // SAFETY: no instruction at all; the registers stay as they are.
    unsafe {
        std::arch::asm!(
            "/* {0} {1} {2} {3} */",
            inout(xmm_reg) * a,
            inout(xmm_reg) * b,
            inout(xmm_reg) * c,
            inout(xmm_reg) * d,
            options(pure, nomem, nostack, preserves_flags),
        )
    };
    // SAFETY: as above.
    unsafe { std::mem::transmute(registers) }
}

#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
fn hidden(lanes: Lanes) -> Lanes {
    map(lanes, super::super::mask::hide)
}

impl Wide for Portable {
    type Ints = Lanes;
    type Floats = Lanes;
    type Mask = Lanes;

    #[inline(always)]
    fn load(from: &[u32; LANES]) -> Lanes {
        hidden(*from)
    }
    #[inline(always)]
    fn load_bytes(from: &[u8; 4 * LANES]) -> Lanes {
        let mut lanes = [0; LANES];
        for (lane, bytes) in lanes.iter_mut().zip(from.as_chunks::<4>().0) {
            *lane = u32::from_le_bytes(*bytes);
        }
        lanes
    }
    #[inline(always)]
    fn load_floats(from: &[f32; LANES]) -> Lanes {
        from.map(f32::to_bits)
    }
    #[inline(always)]
    fn store(ints: Lanes, to: &mut [u32; LANES]) {
        *to = ints;
    }
    #[inline(always)]
    fn store_floats(floats: Lanes, to: &mut [f32; LANES]) {
        *to = floats.map(f32::from_bits);
    }
    #[inline(always)]
    fn splat(value: u32) -> Lanes {
        [value; LANES]
    }
    #[inline(always)]
    fn splat_float(value: f32) -> Lanes {
        [value.to_bits(); LANES]
    }

    #[inline(always)]
    fn add(a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, u32::wrapping_add)
    }
    #[inline(always)]
    fn sub(a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, u32::wrapping_sub)
    }
    #[inline(always)]
    fn mul(a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, u32::wrapping_mul)
    }
    #[inline(always)]
    fn and(a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn or(a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn xor(a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a ^ b)
    }
    #[inline(always)]
    fn shift_left<const BY: u32>(a: Lanes) -> Lanes {
        map(a, |a| a << BY)
    }
    #[inline(always)]
    fn shift_right<const BY: u32>(a: Lanes) -> Lanes {
        map(a, |a| a >> BY)
    }
    #[inline(always)]
    fn shift_right_signed<const BY: u32>(a: Lanes) -> Lanes {
        map(a, |a| (a as i32 >> BY) as u32)
    }
    #[inline(always)]
    fn shift_right_each(a: Lanes, by: Lanes) -> Lanes {
        zip(a, by, |a, by| a >> (by & 31))
    }
    #[inline(always)]
    fn look_up(table: Lanes, index: Lanes) -> Lanes {
        let mut out = [0; LANES];
        for (number, entry) in (0u32..).zip(table) {
            let hit = Self::equal(index, [number; LANES]);
            out = zip(out, hit, |out, hit| out | (hit & entry));
        }
        out
    }

    #[inline(always)]
    fn equal(a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| u32::from(a == b).wrapping_neg())
    }
    #[inline(always)]
    fn greater(a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| u32::from(a as i32 > b as i32).wrapping_neg())
    }
    #[inline(always)]
    fn both(a: Lanes, b: Lanes) -> Lanes {
        Self::and(a, b)
    }
    #[inline(always)]
    fn either(a: Lanes, b: Lanes) -> Lanes {
        Self::or(a, b)
    }
    #[inline(always)]
    fn select(mask: Lanes, yes: Lanes, no: Lanes) -> Lanes {
        Self::xor(no, Self::and(mask, Self::xor(no, yes)))
    }

    #[inline(always)]
    fn conceal(mask: Lanes) -> Lanes {
        hidden(mask)
    }

    #[inline(always)]
    fn add_floats(a: Lanes, b: Lanes) -> Lanes {
        zip_floats(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub_floats(a: Lanes, b: Lanes) -> Lanes {
        zip_floats(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul_floats(a: Lanes, b: Lanes) -> Lanes {
        zip_floats(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div_floats(a: Lanes, b: Lanes) -> Lanes {
        zip_floats(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn max_floats(a: Lanes, b: Lanes) -> Lanes {
        let larger = zip(a, b, |a, b| {
            u32::from(f32::from_bits(a) > f32::from_bits(b)).wrapping_neg()
        });
        Self::select(hidden(larger), a, b)
    }
    #[inline(always)]
    fn bits(a: Lanes) -> Lanes {
        a
    }
    #[inline(always)]
    fn floats(a: Lanes) -> Lanes {
        a
    }
    #[inline(always)]
    fn to_floats(a: Lanes) -> Lanes {
        map(a, |a| (a as i32 as f32).to_bits())
    }
    #[inline(always)]
    fn truncate(a: Lanes) -> Lanes {
        map(a, |a| f32::from_bits(a) as i32 as u32)
    }
}
