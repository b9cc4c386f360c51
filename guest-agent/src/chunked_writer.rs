//! A stream that writes in small chunks, because of what vsock does with large ones.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of one write. A guest that wrote 64 KiB at once to a vsock stream behind `vhost-device-vsock` 0.3.0 stalled each
/// time; with 16 KiB it never did.
pub(crate) const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// A stream of which each write takes at most [`CHUNK_BYTES_MAX`].
#[derive(Debug)]
pub(crate) struct ChunkedWriter<S>(pub(crate) S);

impl<S: AsyncRead + Unpin> AsyncRead for ChunkedWriter<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

/// Vectored writes stay what they are by default: one write of the first buffer.
impl<S: AsyncWrite + Unpin> AsyncWrite for ChunkedWriter<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let chunk = &bytes[..bytes.len().min(CHUNK_BYTES_MAX)];
        Pin::new(&mut self.0).poll_write(cx, chunk)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// Takes everything it is given and remembers how much that was each time.
    #[derive(Default)]
    struct Taken(Vec<u8>, Vec<usize>);

    impl AsyncWrite for Taken {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.extend_from_slice(bytes);
            self.1.push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_long_write_arrives_whole_and_in_chunks() {
        let max = CHUNK_BYTES_MAX;
        for (length, expected) in [
            (1, vec![1]),
            (max, vec![max]),
            (max + 1, vec![max, 1]),
            (3 * max, vec![max; 3]),
        ] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut writer = ChunkedWriter(Taken::default());
            writer.write_all(&bytes).await.unwrap();
            writer.flush().await.unwrap();
            assert!(writer.0.0 == bytes, "{length}");
            assert_eq!(writer.0.1, expected);
        }
    }

    #[tokio::test]
    async fn vectored_writes_are_chunked_too() {
        let long = vec![1; 2 * CHUNK_BYTES_MAX];
        let buffers = [io::IoSlice::new(&long), io::IoSlice::new(&long)];
        let mut writer = ChunkedWriter(Taken::default());
        let written = writer.write_vectored(&buffers).await.unwrap();
        assert_eq!(written, CHUNK_BYTES_MAX);
        assert_eq!(writer.0.1, [CHUNK_BYTES_MAX]);
    }
}
