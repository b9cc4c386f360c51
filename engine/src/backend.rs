//! Which Burn backend runs the models: the one place that names it. Everything else is generic over `B: Backend`.

/// The backend of [`crate::Embedder`] and [`crate::Chat`]: pure Rust on the CPU.
///
/// The CUDA backend is `cuda::CudaDecoder`, behind a feature: plain modules for now, on which a model is built by the same code.
pub type Cpu = burn::backend::Flex;

/// The only device that [`Cpu`] has.
pub fn cpu() -> <Cpu as burn::tensor::backend::BackendTypes>::Device {
    Default::default()
}
