//! A decoder on an NVIDIA GPU: [`engine::Forward`] by the kernels of `kernels/*.cu`, through the CUDA driver.
//!
//! **Trusts.** The driver, the cubins beside the worker, and the model's files as `model` judges them.
//!
//! **Promises.** What [`engine::Forward`] promises: a row's bits depend on its own sequence alone. One copy in, one copy out and one
//! wait for each step, whatever its size; no host memory is pinned or mapped.
//!
//! **Lacks.** Keys and values in fewer bits than bf16, and weights in 32: those become bf16. More than one GPU. **It was never run on a
//! GPU** (unverified on hardware): tests run it on an emulation of the driver, which executes the same kernels on the host and says
//! nothing about a cubin.

mod buffers;
mod choose;
mod device;
mod forward;
mod launches;
mod layout;
mod step;
mod weights;

use std::collections::BTreeMap;
use std::path::Path;

use crate::Computing;
use engine::scheduler::Limits;
use engine::{EngineError, Packing};
use model::FileDigest;
use wire::LoadPlan;

/// What single kernels are launched with: for tests.
#[doc(hidden)]
pub mod parts {
    pub use super::buffers::Kernels;
    pub use super::device::{Argument, Device, Function, Memory};
    pub use super::weights::Matrix;
}

pub use device::Counters;
pub use forward::CudaForward;

/// What was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What the driver calls the GPU.
    pub device: String,
    /// How most weights are kept: `bf16`, `q8` or `q4`.
    pub quantisation: &'static str,
    /// The class of devices and programs on which a job gives the same bits.
    pub determinism: String,
    /// Bytes of the GPU's memory that weights, keys and values, and buffers take.
    pub bytes: u64,
    /// The files that the weights came from, as they were read.
    pub sources: BTreeMap<String, FileDigest>,
}

/// Loads the model that an agent plans for. `cubins` has `product.cubin`, `layer.cubin`, `attention.cubin` and `sample.cubin`; where
/// the plan has no `kv_mib`, keys and values of four of the longest jobs fit.
///
/// # Errors
/// There is no driver or no GPU, the model is not usable or has a shape that no kernel has, a cubin is missing, or memory is short.
pub fn load(plan: &LoadPlan, cubins: &Path) -> Result<Computing, CudaError> {
    let (mut forward, tokens, facts, root) = CudaForward::load(
        Path::new(&plan.directory),
        plan.weights
            .map(|weights| Packing::All(gpu_jobs::kind(weights))),
        plan.kv_mib.map(u64::from),
        plan.context_max as usize,
        cubins,
    )?;
    forward.ends_with_its_gpu = true;
    Ok(Computing {
        forward: Box::new(forward),
        tokens,
        limits: Limits {
            sequences_max: forward::SCORED_MAX,
            ..Limits::default()
        },
        root: root.0,
        quantisation: facts.quantisation.into(),
        determinism: facts.determinism,
    })
}

/// Why there is no decoder on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum CudaError {
    #[error("this machine has no CUDA driver: libcuda.so.1 is not found")]
    NoDriver,
    #[error("the driver has {0} GPUs; a worker computes on one")]
    Count(i32),
    #[error("the CUDA driver refused {call}: error {code}")]
    Call { call: &'static str, code: u32 },
    #[error("the cubins have no kernel called {0}: they are of another version of this program")]
    Kernel(&'static str),
    #[error("{file}: {why}")]
    Cubin { file: String, why: String },
    #[error("no kernel computes {0}")]
    Unsupported(String),
    #[error("the model needs {needed} MiB of the GPU's memory; {free} MiB are free")]
    Memory { needed: u64, free: u64 },
    #[error("the model needs more memory than can be addressed")]
    Endless,
    #[error("a launch is larger than a grid can be")]
    Grid,
    #[error("a copy is larger than its memory")]
    Range,
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the model's files: {0}")]
    Files(String),
}
