//! Where work runs that waits for a disk or a processor, which no task may do.

use tokio::task::{JoinError, spawn_blocking};

/// Where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Blocking {
    /// On threads of their own.
    #[default]
    Threads,
    /// At once, within the task that asks: for a simulation on one thread, whose order must not depend on how long threads take.
    AtOnce,
}

impl Blocking {
    /// Runs `work`. An error: it panicked on its thread, or the runtime is shutting down.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        match self {
            Blocking::Threads => spawn_blocking(work).await,
            Blocking::AtOnce => Ok(work()),
        }
    }

    /// Starts `work`, for whose end nobody waits.
    pub(crate) fn start(self, work: impl FnOnce() + Send + 'static) {
        match self {
            Blocking::Threads => drop(spawn_blocking(work)),
            Blocking::AtOnce => work(),
        }
    }
}
