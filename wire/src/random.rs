//! What keys, job ids and seals are drawn from: an argument, so that a simulation can tell a seed's story again.

use rand_core::CryptoRng;
use std::sync::Arc;

/// Makes a generator for each use: the kernel's in a program, one with a seed in a simulation.
#[derive(Clone)]
pub struct Random(Arc<Make>);

type Make = dyn Fn() -> Box<dyn CryptoRng + Send> + Send + Sync;

impl Random {
    /// By what makes one.
    pub fn new<R: CryptoRng + Send + 'static>(
        make: impl Fn() -> R + Send + Sync + 'static,
    ) -> Self {
        Random(Arc::new(move || Box::new(make())))
    }

    /// One generator.
    pub fn rng(&self) -> impl CryptoRng + Send + use<> {
        (self.0)()
    }
}
