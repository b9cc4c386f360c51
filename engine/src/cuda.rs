//! Models on an NVIDIA GPU, by Burn's own CUDA backend.
//!
//! **Unverified on hardware**: this compiles and links, and what it computes is tested on another backend; no GPU has run it.

use burn::backend::Cuda;
use burn::backend::cuda::CudaDevice;
use cudarc::driver::{result, sys};

use crate::reference::Plain;

/// A decoder on a GPU.
pub type CudaDecoder = Plain<Cuda<f32, i32>>;

/// Why there is no GPU to compute on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum CudaError {
    #[error(
        "this machine has no CUDA driver: libcuda.so.1 is not found; install NVIDIA's driver, or compute on the CPU"
    )]
    NoDriver,
    #[error("the CUDA driver does not start: {0}; `nvidia-smi` says more")]
    Driver(String),
    #[error("there is no GPU number {index}; the driver has {count}, from 0 on")]
    NoDevice { index: usize, count: usize },
}

/// GPU number `index`, from 0.
///
/// # Errors
/// There is no driver, it does not start, or it has no such GPU.
pub fn device(index: usize) -> Result<CudaDevice, CudaError> {
    if !has_driver() {
        return Err(CudaError::NoDriver);
    }
    let failed = |error: result::DriverError| CudaError::Driver(format!("{error:?}"));
    result::init().map_err(failed)?;
    let count = result::device::get_count().map_err(failed)?;
    let count = usize::try_from(count).unwrap_or(0);
    match index < count {
        true => Ok(CudaDevice::new(index)),
        false => Err(CudaError::NoDevice { index, count }),
    }
}

/// Whether the driver's library is there. Burn and cudarc would panic without it.
#[expect(
    unsafe_code,
    reason = "opening a library runs what it has to run first"
)]
fn has_driver() -> bool {
    // SAFETY: opens NVIDIA's `libcuda` if the system's loader finds it, as any use of CUDA does, and nothing else.
    unsafe { sys::is_culib_present() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_driver_or_a_device_it_is_said() {
        match device(usize::MAX) {
            Err(CudaError::NoDriver) => assert!(!has_driver()),
            Err(CudaError::NoDevice { count, .. }) => assert!(has_driver() && count > 0),
            Err(CudaError::Driver(_)) => assert!(has_driver()),
            Ok(device) => panic!("{device:?}"),
        }
    }
}
