//! What is written to the proxy: each write within a time, or the stream counts as broken.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How long the proxy may take to accept one write. A record is due every few milliseconds; a proxy that drains its streams takes it at
/// once, however slow the client behind it is.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// The writing half of a stream.
pub(crate) struct Out<W> {
    stream: W,
    time: Duration,
}

impl<W: AsyncWrite + Unpin> Out<W> {
    pub(crate) fn new(stream: W) -> Self {
        Out {
            stream,
            time: WRITE_TIME,
        }
    }

    /// Writes whole frames.
    pub(crate) async fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        let writing = async {
            self.stream.write_all(frames).await?;
            self.stream.flush().await
        };
        in_time(self.time, writing).await
    }

    /// Ends the stream.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        in_time(self.time, self.stream.shutdown()).await
    }
}

async fn in_time(time: Duration, writing: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    match timeout(time, writing).await {
        Ok(written) => written,
        Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_does_not_read_breaks_the_stream() {
        let (ours, _theirs) = tokio::io::duplex(10);
        let mut out = Out {
            stream: ours,
            time: Duration::from_millis(50),
        };
        out.send(&[1; 10]).await.unwrap();
        let stalled = out.send(&[1; 10]).await.unwrap_err();
        assert_eq!(stalled.kind(), io::ErrorKind::TimedOut);
    }
}
