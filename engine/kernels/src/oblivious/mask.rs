//! Masks that the optimiser cannot see through, and the one way in which a secret bit becomes public.
//!
//! A mask is all ones or all zeros. rustc turns `sum |= row & mask` into a comparison and a jump where it can prove what a mask
//! is: then only the wanted row is read, and who sees addresses sees which. [`hide`] ends such proofs.

/// `value`, about which the optimiser knows nothing from here on.
#[inline(always)]
#[expect(unsafe_code)]
#[cfg(target_arch = "x86_64")]
pub fn hide(value: u32) -> u32 {
    let mut value = value;
    // SAFETY: no instruction at all; the operand stays as it is.
    unsafe {
        std::arch::asm!("/* {0:e} */", inout(reg) value, options(pure, nomem, nostack, preserves_flags))
    };
    value
}

/// `value`, about which the optimiser knows nothing from here on.
#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
pub fn hide(value: u32) -> u32 {
    std::hint::black_box(value)
}

/// All ones if the two are equal, else zeros.
#[inline(always)]
pub fn equal(a: u32, b: u32) -> u32 {
    let difference = a ^ b;
    // The top bit of `d | -d` is set for all `d` but zero.
    hide(((difference | difference.wrapping_neg()) >> 31).wrapping_sub(1))
}

/// All ones if `a < b`, else zeros.
#[inline(always)]
pub fn less(a: u64, b: u64) -> u32 {
    // The borrow of the subtraction, by Hacker's Delight, 2-13.
    let borrow = (!a & b) | ((!a | b) & a.wrapping_sub(b));
    hide(((borrow >> 63) as u32).wrapping_neg())
}

/// All ones if `a > b` as signed numbers, else zeros.
#[inline(always)]
pub fn greater_signed(a: i32, b: i32) -> u32 {
    let difference = i64::from(b) - i64::from(a);
    hide(((difference as u64 >> 63) as u32).wrapping_neg())
}

/// `yes` under a mask of ones, `no` under zeros.
#[inline(always)]
pub fn select(mask: u32, yes: u32, no: u32) -> u32 {
    no ^ ((no ^ yes) & mask)
}

/// `yes` under a mask of ones, `no` under zeros.
#[inline(always)]
pub fn select_wide(mask: u32, yes: u64, no: u64) -> u64 {
    no ^ ((no ^ yes) & widen(mask))
}

/// The same mask over 64 bits.
#[inline(always)]
pub fn widen(mask: u32) -> u64 {
    i64::from(mask as i32) as u64
}

/// Makes one secret bit public: whether the mask is not zero. The only branch on a secret in this crate; the tests under
/// valgrind excuse it by this function's name.
#[inline(never)]
#[expect(unsafe_code)]
#[cfg(target_arch = "x86_64")]
pub fn declassify(mask: u32) -> bool {
    let mut public: u32;
    // SAFETY: compares and jumps within these lines; writes one register and the flags.
    unsafe {
        std::arch::asm!(
            "xor {public:e}, {public:e}",
            "test {mask:e}, {mask:e}",
            "jz 2f",
            "mov {public:e}, 1",
            "2:",
            mask = in(reg) mask,
            public = out(reg) public,
            options(pure, nomem, nostack),
        )
    };
    public == 1
}

/// Makes one secret bit public: whether the mask is not zero.
#[inline(never)]
#[cfg(not(target_arch = "x86_64"))]
pub fn declassify(mask: u32) -> bool {
    std::hint::black_box(mask) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_ones_or_zeros_at_every_edge() {
        let edges = [0, 1, 2, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, u32::MAX];
        for a in edges {
            for b in edges {
                let mask = |truth: bool| if truth { u32::MAX } else { 0 };
                assert_eq!(equal(a, b), mask(a == b));
                assert_eq!(less(a.into(), b.into()), mask(a < b));
                let (high, low) = (u64::from(a) << 32, u64::from(b) << 32 | 1);
                assert_eq!(less(high, low), mask(high < low));
                assert_eq!(less(low, high), mask(low < high));
                assert_eq!(
                    greater_signed(a as i32, b as i32),
                    mask(a as i32 > b as i32)
                );
                assert_eq!(select(mask(a < b), a, b), a.min(b));
                assert_eq!(select_wide(mask(high < low), high, low), high.min(low));
            }
            assert_eq!(declassify(a), a != 0);
        }
    }
}
