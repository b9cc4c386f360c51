//! From a path chosen at run time to code compiled for it.

use crate::error::KernelError;
use crate::path::Path;
use crate::simd::Simd;
use crate::simd::portable::Portable;

/// A computation written over [`Simd`]. `compute` and all that it calls are inlined into one function per path.
pub(crate) trait Compute {
    type Output;
    fn compute<S: Simd>(self, simd: S) -> Self::Output;
}

/// The instructions of this processor, proved by detection.
#[derive(Clone, Copy)]
pub(crate) enum Instructions {
    Portable,
}

impl Instructions {
    /// Those of `path`.
    ///
    /// # Errors
    /// This processor lacks them.
    pub fn of(path: Path) -> Result<Self, KernelError> {
        match path {
            _ if !path.is_here() => Err(KernelError::PathMissing(path)),
            Path::Portable | Path::Avx2 | Path::Avx512 => Ok(Self::Portable),
        }
    }

    #[inline]
    pub fn run<C: Compute>(self, computation: C) -> C::Output {
        match self {
            Self::Portable => computation.compute(Portable),
        }
    }
}
