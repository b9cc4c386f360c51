//! Where streams come from: vsock in a VM, a Unix socket in process mode.

use crate::platform::Platform;
use crate::{Serving, log};
use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener};

/// Streams open at once; a proxy has no use for more.
const STREAMS_MAX: usize = 128;

/// An address to listen on: `vsock:PORT` or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A port of this VM's vsock.
    Vsock(u32),
    /// A Unix socket.
    Unix(PathBuf),
}

/// An address that does not parse or cannot be bound.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum ListenError {
    #[error("`{0}` is neither vsock:PORT nor unix:PATH")]
    Address(String),
    #[error("listening on {address:?}: {source}")]
    Bind {
        address: Listen,
        source: std::io::Error,
    },
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let bad = || ListenError::Address(text.into());
        match text.split_once(':').ok_or_else(bad)? {
            ("vsock", port) => port.parse().map(Listen::Vsock).map_err(|_| bad()),
            ("unix", path) if !path.is_empty() => Ok(Listen::Unix(path.into())),
            _ => Err(bad()),
        }
    }
}

impl Listen {
    /// Binds, says that it listens, and serves until the process ends.
    pub async fn serve<P: Platform>(
        self,
        serving: Serving<P>,
        ready: impl FnOnce(),
    ) -> Result<Infallible, ListenError> {
        let slots = Arc::new(Semaphore::new(STREAMS_MAX));
        match self.clone() {
            Listen::Vsock(port) => {
                let bound = VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port));
                let listener = bound.map_err(|source| ListenError::Bind {
                    address: self,
                    source,
                })?;
                ready();
                loop {
                    let accepted = listener.accept().await.map(|(stream, _)| stream);
                    handle(accepted, &serving, &slots).await;
                }
            }
            Listen::Unix(path) => {
                let bound = UnixListener::bind(&path);
                let listener = bound.map_err(|source| ListenError::Bind {
                    address: self,
                    source,
                })?;
                ready();
                loop {
                    let accepted = listener.accept().await.map(|(stream, _)| stream);
                    handle(accepted, &serving, &slots).await;
                }
            }
        }
    }
}

async fn handle<P, S>(accepted: std::io::Result<S>, serving: &Serving<P>, slots: &Arc<Semaphore>)
where
    P: Platform,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = match accepted {
        Ok(stream) => stream,
        Err(error) => {
            log::line(format_args!("accepting a stream failed: {error}"));
            // Out of file descriptors, most likely: let some close instead of spinning.
            return tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let slot = slots
        .clone()
        .acquire_owned()
        .await
        .expect("this semaphore is never closed");
    let serving = serving.clone();
    tokio::spawn(async move {
        if let Err(error) = serving.exchange(stream).await {
            log::line(format_args!("an exchange ended early: {error}"));
        }
        drop(slot);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_vsock_ports_and_unix_paths_only() {
        assert_eq!("vsock:9000".parse::<Listen>().unwrap(), Listen::Vsock(9000));
        assert_eq!(
            "unix:a/b".parse::<Listen>().unwrap(),
            Listen::Unix("a/b".into())
        );
        for bad in ["", "vsock:", "vsock:x", "unix:", "tcp:1", "9000"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }
}
