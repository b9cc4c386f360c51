//! From a path chosen at run time to code compiled for it.

use crate::error::KernelError;
use crate::path::Path;
use crate::simd::Compute;
#[cfg(target_arch = "x86_64")]
use crate::simd::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use crate::simd::avx512::Avx512;
use crate::simd::portable::Portable;

/// The instructions of this processor, proved by detection.
#[derive(Clone, Copy)]
pub(crate) enum Instructions {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Instructions {
    /// Those of `path`.
    ///
    /// # Errors
    /// This processor lacks them.
    pub fn of(path: Path) -> Result<Self, KernelError> {
        let found = match path {
            Path::Portable => Some(Self::Portable(Portable)),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => Avx512::detect().map(Self::Avx512),
            #[cfg(not(target_arch = "x86_64"))]
            Path::Avx2 | Path::Avx512 => None,
        };
        found.ok_or(KernelError::PathMissing(path))
    }

    /// Runs `computation`, compiled for them.
    #[inline]
    pub fn run<C: Compute>(self, computation: C) -> C::Output {
        match self {
            Self::Portable(portable) => computation.compute(portable),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.run(computation),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => avx512.run(computation),
        }
    }
}
