//! The stream to the guest: a Unix socket while the guest is a process, vsock once it is a machine.
//!
//! Promises: one exchange per stream; nothing is read without a deadline; no more than one frame and one read is
//! held; a frame over its limit or out of its place ends the stream. Dropping the stream is how the guest learns that
//! nobody waits any more.

use crate::limits::{GUEST_CONNECT, WRITE_BYTES_MAX};
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout, timeout_at};
use wire::{Frame, FrameDecoder, FrameError};

/// Where a guest listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestAddress {
    /// `unix:PATH`
    Unix(PathBuf),
    /// `vsock:CID:PORT`
    Vsock {
        /// The machine.
        cid: u32,
        /// Its port.
        port: u32,
    },
}

/// Not an address of a guest. The operator is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a guest's address is unix:PATH or vsock:CID:PORT")]
pub struct GuestAddressError;

/// Why an exchange with a guest failed.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// Nobody answers: nothing was sent.
    #[error("the guest cannot be reached: {0}")]
    Unreachable(io::Error),
    /// No frame came in time.
    #[error("the guest was silent until the deadline")]
    Silent,
    /// The stream ended, or broke, before its `End` frame.
    #[error("the guest's stream broke off: {0}")]
    Cut(io::Error),
    /// The guest sent what it may not send.
    #[error("the guest misbehaves: {0}")]
    Misbehaved(#[from] FrameError),
}

/// One stream, connected.
pub struct GuestStream {
    read: ReadHalf<Box<dyn Duplex>>,
    write: WriteHalf<Box<dyn Duplex>>,
    decoder: FrameDecoder,
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl FromStr for GuestAddress {
    type Err = GuestAddressError;

    fn from_str(text: &str) -> Result<Self, GuestAddressError> {
        let number = |text: &str| text.parse().map_err(|_| GuestAddressError);
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(GuestAddress::Unix(path.into())),
            Some(("vsock", rest)) => {
                let (cid, port) = rest.split_once(':').ok_or(GuestAddressError)?;
                Ok(GuestAddress::Vsock {
                    cid: number(cid)?,
                    port: number(port)?,
                })
            }
            _ => Err(GuestAddressError),
        }
    }
}

impl GuestAddress {
    /// Opens a stream for one exchange.
    pub async fn connect(&self) -> Result<GuestStream, GuestError> {
        let connecting = async {
            Ok::<Box<dyn Duplex>, io::Error>(match self {
                GuestAddress::Unix(path) => Box::new(tokio::net::UnixStream::connect(path).await?),
                GuestAddress::Vsock { cid, port } => {
                    let address = tokio_vsock::VsockAddr::new(*cid, *port);
                    Box::new(tokio_vsock::VsockStream::connect(address).await?)
                }
            })
        };
        let stream = timeout(GUEST_CONNECT, connecting)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(GuestError::Unreachable)?;
        let (read, write) = tokio::io::split(stream);
        Ok(GuestStream {
            read,
            write,
            decoder: FrameDecoder::default(),
        })
    }
}

impl GuestStream {
    /// Sends `request` (whole frames) and gives the first frame of the answer.
    ///
    /// It reads while it writes: a guest may refuse a job before it has read all of it, and would otherwise wait for us
    /// while we wait for it. When writing fails the answer may still be on its way, so only reading decides.
    pub async fn ask(&mut self, request: &[u8], until: Instant) -> Result<Frame, GuestError> {
        let Self {
            read,
            write,
            decoder,
        } = self;
        let writing = async {
            for piece in request.chunks(WRITE_BYTES_MAX) {
                write.write_all(piece).await?;
            }
            write.flush().await
        };
        let reading = timeout_at(until, next_frame(read, decoder));
        tokio::pin!(writing, reading);
        let flatten = |answer| match answer {
            Ok(frame) => frame,
            Err(_elapsed) => Err(GuestError::Silent),
        };
        tokio::select! {
            written = &mut writing => {
                if let Err(error) = written {
                    tracing::debug!(%error, "the guest stopped reading");
                }
            }
            answer = &mut reading => return flatten(answer),
        }
        flatten(reading.await)
    }

    /// The next frame, at `until` at the latest.
    pub fn next(
        &mut self,
        until: Instant,
    ) -> impl Future<Output = Result<Frame, GuestError>> + Send {
        let Self { read, decoder, .. } = self;
        async move {
            match timeout_at(until, next_frame(read, decoder)).await {
                Ok(frame) => frame,
                Err(_elapsed) => Err(GuestError::Silent),
            }
        }
    }
}

async fn next_frame(
    read: &mut ReadHalf<Box<dyn Duplex>>,
    decoder: &mut FrameDecoder,
) -> Result<Frame, GuestError> {
    let mut piece = [0; 4096];
    loop {
        if let Some(frame) = decoder.next_frame()? {
            tracing::trace!(kind = ?frame.kind, bytes = frame.payload.len(), "frame from the guest");
            return Ok(frame);
        }
        match read.read(&mut piece).await.map_err(GuestError::Cut)? {
            0 => return Err(GuestError::Cut(io::ErrorKind::UnexpectedEof.into())),
            got => decoder.push(&piece[..got]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unix_paths_and_vsock_ports_are_addresses() {
        let check =
            |text: &str, expected| assert_eq!(text.parse::<GuestAddress>(), expected, "{text}");
        check(
            "unix:/run/guest",
            Ok(GuestAddress::Unix("/run/guest".into())),
        );
        check(
            "vsock:3:5000",
            Ok(GuestAddress::Vsock { cid: 3, port: 5000 }),
        );
        for text in [
            "",
            "unix:",
            "vsock:3",
            "vsock:3:",
            "vsock:-1:5",
            "vsock:3:4294967296",
            "tcp:1:2",
            "/run/guest",
        ] {
            check(text, Err(GuestAddressError));
        }
    }
}
