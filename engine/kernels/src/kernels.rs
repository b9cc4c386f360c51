//! The path and the threads that compute; what they compute is in the modules of the operations.

use crate::dispatch::Instructions;
use crate::error::KernelError;
use crate::path::Path;
use crate::pool::Pool;

/// A path and a pool of threads. Shared by reference or `Arc`; a call that comes while another one has the workers computes on its
/// own thread, with the same bits.
pub struct Kernels {
    pub(crate) path: Path,
    pub(crate) instructions: Instructions,
    pub(crate) pool: Pool,
}

impl Kernels {
    /// Computes on `path` with `threads`, the calling one included.
    ///
    /// # Errors
    /// This processor lacks the path, or the number of threads is out of range.
    pub fn new(path: Path, threads: usize) -> Result<Self, KernelError> {
        Ok(Kernels {
            path,
            instructions: Instructions::of(path)?,
            pool: Pool::new(threads)?,
        })
    }

    /// The path.
    pub fn path(&self) -> Path {
        self.path
    }

    /// Threads, the calling one included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }
}
