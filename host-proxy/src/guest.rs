//! The stream to the guest: a Unix socket where the guest is a process; where it is a virtual machine, vsock or the Unix
//! socket of vhost-device-vsock.
//!
//! Promises: one exchange per stream; nothing is read without a deadline; no more than one frame and one read of
//! [`PASSED_BYTES_MAX`] is in memory; a frame over its limit or out of order ends the stream. Dropping the stream tells the guest that the client
//! has left.

use crate::api_error::ApiError;
use crate::limits::{GUEST_CONNECT, HYBRID_REPLY_BYTES_MAX, PASSED_BYTES_MAX, WRITE_BYTES_MAX};
use axum::http::StatusCode;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf,
};
use tokio::net::UnixStream;
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
    /// `hybrid:PATH:PORT`: the socket of vhost-device-vsock, which connects to a port of its guest when asked to.
    Hybrid {
        /// The socket.
        path: PathBuf,
        /// The guest's port.
        port: u32,
    },
    /// No address: a test that plays the guest's socket opens streams itself.
    Dialled(Dial),
}

/// Opens a connection without a socket: for a test that plays the network.
#[derive(Clone)]
pub struct Dial(pub Arc<dyn Fn() -> io::Result<DuplexStream> + Send + Sync>);

impl PartialEq for Dial {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Dial {}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}

/// Not an address of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a guest's address is unix:PATH, vsock:CID:PORT or hybrid:PATH:PORT")]
pub struct GuestAddressError;

/// Why an exchange with a guest failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestError {
    #[error("the guest cannot be reached: {0}")]
    Unreachable(io::Error),
    #[error("the guest sent nothing until the deadline")]
    Timeout,
    #[error("the guest's stream ended early: {0}")]
    Truncated(io::Error),
    #[error("the guest violated the protocol: {0}")]
    Protocol(#[from] FrameError),
}

/// A connected stream.
pub(crate) struct GuestStream {
    read: ReadHalf<Box<dyn Duplex>>,
    write: WriteHalf<Box<dyn Duplex>>,
    decoder: FrameDecoder,
    /// Whether there was more than the last read had room for.
    more: bool,
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
            Some(("hybrid", rest)) => {
                // From the right: a path may have colons.
                let (path, port) = rest.rsplit_once(':').ok_or(GuestAddressError)?;
                if path.is_empty() {
                    return Err(GuestAddressError);
                }
                Ok(GuestAddress::Hybrid {
                    path: path.into(),
                    port: number(port)?,
                })
            }
            _ => Err(GuestAddressError),
        }
    }
}

impl fmt::Display for GuestAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GuestAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            GuestAddress::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            GuestAddress::Hybrid { path, port } => write!(f, "hybrid:{}:{port}", path.display()),
            GuestAddress::Dialled(_) => f.write_str("dialled"),
        }
    }
}

impl GuestAddress {
    /// Opens a stream for one exchange.
    pub(crate) async fn connect(&self) -> Result<GuestStream, GuestError> {
        let connecting = async {
            Ok::<Box<dyn Duplex>, io::Error>(match self {
                GuestAddress::Unix(path) => Box::new(UnixStream::connect(path).await?),
                GuestAddress::Vsock { cid, port } => {
                    let address = tokio_vsock::VsockAddr::new(*cid, *port);
                    Box::new(tokio_vsock::VsockStream::connect(address).await?)
                }
                GuestAddress::Hybrid { path, port } => Box::new(connect_hybrid(path, *port).await?),
                GuestAddress::Dialled(Dial(dial)) => Box::new(dial()?),
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
            more: false,
        })
    }
}

impl GuestStream {
    /// Sends `request` (whole frames) and gives the first frame of the answer.
    ///
    /// It reads while it writes: a guest may refuse a job before it has read all of it, and would otherwise wait for us
    /// while we wait for it. When writing fails the answer may still be on its way, so only reading decides.
    pub(crate) async fn ask(
        &mut self,
        request: &[u8],
        until: Instant,
    ) -> Result<Frame, GuestError> {
        let Self {
            read,
            write,
            decoder,
            more,
        } = self;
        let writing = async {
            for chunk in request.chunks(WRITE_BYTES_MAX) {
                write.write_all(chunk).await?;
            }
            write.flush().await
        };
        let reading = timeout_at(until, next_frame(read, decoder, more));
        tokio::pin!(writing, reading);
        let flatten = |answer| match answer {
            Ok(frame) => frame,
            Err(_elapsed) => Err(GuestError::Timeout),
        };
        tokio::select! {
            biased;
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
    pub(crate) fn next(
        &mut self,
        until: Instant,
    ) -> impl Future<Output = Result<Frame, GuestError>> + Send {
        let Self {
            read,
            decoder,
            more,
            ..
        } = self;
        async move {
            match timeout_at(until, next_frame(read, decoder, more)).await {
                Ok(frame) => frame,
                Err(_elapsed) => Err(GuestError::Timeout),
            }
        }
    }

    /// The next frame, if all of it was read already.
    pub(crate) fn ready(&mut self) -> Result<Option<Frame>, GuestError> {
        Ok(self.decoder.next_frame()?)
    }
}

/// Connects to a guest's port through the Unix socket at `path`.
///
/// The protocol is vhost-device-vsock's (and Firecracker's): `CONNECT <port>\n`, answered by `OK <number>\n` once the guest
/// has accepted, or by the end of the stream. After that line the stream is the guest's.
async fn connect_hybrid(path: &Path, port: u32) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(path).await?;
    stream
        .write_all(format!("CONNECT {port}\n").as_bytes())
        .await?;
    let refused = |words: &str| io::Error::new(io::ErrorKind::InvalidData, words);
    // Byte by byte, so that nothing after the line is taken from the frames.
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            byte if line.len() < HYBRID_REPLY_BYTES_MAX => line.push(byte),
            _ => return Err(refused("the vsock socket's reply is too long")),
        }
    }
    let number = line.strip_prefix(b"OK ").unwrap_or_default();
    if number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
        return Err(refused("the vsock socket did not reply OK"));
    }
    Ok(stream)
}

async fn next_frame(
    read: &mut ReadHalf<Box<dyn Duplex>>,
    decoder: &mut FrameDecoder,
    more: &mut bool,
) -> Result<Frame, GuestError> {
    loop {
        if let Some(frame) = decoder.next_frame()? {
            tracing::trace!(kind = ?frame.kind, bytes = frame.payload.len(), "frame from the guest");
            return Ok(frame);
        }
        let space = decoder.space();
        // Only where frames are large and many: an idle stream keeps the room that it has.
        if *more {
            space.reserve_exact(PASSED_BYTES_MAX);
        }
        let room = space.capacity() - space.len();
        let got = read.read_buf(space).await.map_err(GuestError::Truncated)?;
        if got == 0 {
            return Err(GuestError::Truncated(io::ErrorKind::UnexpectedEof.into()));
        }
        *more = got == room && got > WRITE_BYTES_MAX / 2;
    }
}

impl GuestError {
    /// A client learns no more of what the guest sent.
    pub(crate) fn protocol_reply() -> ApiError {
        let words = "the guest violated the protocol";
        ApiError::refuse(StatusCode::BAD_GATEWAY, "guest_protocol", words).after_start()
    }
}

impl From<GuestError> for ApiError {
    fn from(error: GuestError) -> Self {
        tracing::warn!(%error, "guest");
        let refuse = ApiError::refuse;
        match error {
            GuestError::Unreachable(_) => {
                let words = "the guest cannot be reached";
                refuse(StatusCode::SERVICE_UNAVAILABLE, "guest_unreachable", words)
            }
            GuestError::Timeout => {
                let words = "the guest did not answer in time";
                refuse(StatusCode::GATEWAY_TIMEOUT, "guest_timeout", words).after_start()
            }
            GuestError::Truncated(_) => {
                let words = "the guest's answer is incomplete";
                refuse(StatusCode::BAD_GATEWAY, "guest_truncated", words).after_start()
            }
            GuestError::Protocol(_) => GuestError::protocol_reply(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_unix_paths_and_vsock_ports_are_addresses() {
        let check = |text: &str, expected: Result<GuestAddress, GuestAddressError>| {
            assert_eq!(text.parse(), expected, "{text}");
            if let Ok(address) = expected {
                assert_eq!(address.to_string(), text);
            }
        };
        check(
            "unix:/run/guest",
            Ok(GuestAddress::Unix("/run/guest".into())),
        );
        check(
            "vsock:3:5000",
            Ok(GuestAddress::Vsock { cid: 3, port: 5000 }),
        );
        check(
            "hybrid:/run/a:b.sock:9000",
            Ok(GuestAddress::Hybrid {
                path: "/run/a:b.sock".into(),
                port: 9000,
            }),
        );
        for text in [
            "",
            "unix:",
            "vsock:3",
            "vsock:3:",
            "vsock:-1:5",
            "vsock:3:4294967296",
            "hybrid:",
            "hybrid:/run/a",
            "hybrid::9000",
            "hybrid:/run/a:",
            "hybrid:/run/a:-1",
            "tcp:1:2",
            "/run/guest",
        ] {
            check(text, Err(GuestAddressError));
        }
    }

    /// Connects through a socket that replies to the first line with `answer` and then echoes.
    async fn through(answer: &'static [u8]) -> (String, Result<GuestStream, GuestError>) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("vsock.sock");
        let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
        let played = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("one connection");
            let mut asked = vec![0; "CONNECT 9000\n".len()];
            stream.read_exact(&mut asked).await.expect("a line");
            stream.write_all(answer).await.expect("written");
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                // The test may have ended.
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
            String::from_utf8(asked).expect("text")
        });
        let guest = GuestAddress::Hybrid { path, port: 9000 }.connect().await;
        (played.await.expect("played"), guest)
    }

    #[tokio::test]
    async fn a_hybrid_stream_carries_frames_after_one_line() {
        let until = Instant::now() + Duration::from_secs(10);
        // The first frame may come together with the line.
        let early = Frame::data(b"early");
        let answer = [b"OK 1073741824\n".as_slice(), &early].concat().leak();
        let (asked, guest) = through(answer).await;
        assert_eq!(asked, "CONNECT 9000\n");
        let mut guest = guest.expect("connected");
        let first = guest.next(until).await.expect("a frame");
        assert_eq!(first.payload, b"early");
        let echoed = Frame::data(&[7; 40_000]);
        let first = guest.ask(&echoed, until).await.expect("a frame");
        let mut got = first.payload.len();
        while got < 40_000 {
            got += guest.next(until).await.expect("a frame").payload.len();
        }
        assert_eq!(got, 40_000);
    }

    #[tokio::test]
    async fn a_hybrid_socket_that_answers_anything_else_is_no_guest() {
        let endless = [b'1'; HYBRID_REPLY_BYTES_MAX + 2].as_slice();
        for answer in [
            b"\n".as_slice(),
            b"OK\n",
            b"OK \n",
            b"OK -1\n",
            b"OK 1 \n",
            b"ok 1\n",
            b"KO 1\n",
            endless,
        ] {
            let (_, guest) = through(answer).await;
            let error = guest.err().expect("refused");
            assert!(
                matches!(&error, GuestError::Unreachable(e) if e.kind() == io::ErrorKind::InvalidData),
                "{error}"
            );
        }
        // No line at all: the deadline decides.
        let (_, guest) = through(b"OK 1").await;
        let error = guest.err().expect("refused");
        assert!(
            matches!(&error, GuestError::Unreachable(e) if e.kind() == io::ErrorKind::TimedOut),
            "{error}"
        );
    }
}
