//! Which Burn backend runs the models: the one place that names it. Everything else is generic over `B: Backend`.

/// The backend of [`crate::Embedder`] and [`crate::Chat`]: pure Rust on the CPU.
///
/// A CUDA backend, when it comes, is another alias here behind a feature, and a model is built on it by the same code.
pub type Cpu = burn::backend::Flex;

/// The only device that [`Cpu`] has.
pub fn cpu() -> <Cpu as burn::tensor::backend::BackendTypes>::Device {
    Default::default()
}
