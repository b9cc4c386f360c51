//! Which instructions compute: chosen once, at run time, and named in receipts, because the bits of a result are the same only
//! on the same path.

/// A set of instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// What every processor has.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL, VNNI and BF16.
    Avx512,
}

impl Path {
    /// All of them, the slowest first.
    pub const ALL: [Path; 3] = [Path::Portable, Path::Avx2, Path::Avx512];

    /// The fastest that this processor has.
    pub fn detect() -> Self {
        let here = Path::ALL.into_iter().filter(|path| path.is_here());
        here.max().unwrap_or(Path::Portable)
    }

    /// Whether this processor has it.
    #[cfg(target_arch = "x86_64")]
    pub fn is_here(self) -> bool {
        use std::arch::is_x86_feature_detected as has;
        match self {
            Path::Portable => true,
            Path::Avx2 => has!("avx2") && has!("fma") && has!("f16c"),
            Path::Avx512 => {
                Path::Avx2.is_here()
                    && has!("avx512f")
                    && has!("avx512bw")
                    && has!("avx512dq")
                    && has!("avx512vl")
                    && has!("avx512vnni")
                    && has!("avx512bf16")
            }
        }
    }

    /// Whether this processor has it.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_here(self) -> bool {
        self == Path::Portable
    }

    /// Its name in a receipt (`determinism`). The number changes with the order of any reduction.
    pub fn name(self) -> &'static str {
        match self {
            Path::Portable => "portable-1",
            Path::Avx2 => "avx2-1",
            Path::Avx512 => "avx512-1",
        }
    }
}
