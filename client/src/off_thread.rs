//! Where work runs that would hold up the threads which wait for sockets.

use crate::error::ClientError;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Work that takes a while, such as compiling a form, away from the threads that wait for sockets. A runtime of one thread, which a
/// test with a clock of its own has, does it at once, so that two requests keep their order.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, ClientError> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        let message = "a request could not be prepared".into();
        Err(ClientError::Internal(message))
    })
}
