//! A test guest: sends a counted pattern to the host over vsock, to measure how much of it arrives and how fast.
//!
//! The pattern is the numbers 0, 1, 2, … as eight bytes each, most significant first, cut at the size that was asked for.

use crate::failure::Failure;
use crate::limits::{CONNECT_TRIES, PAUSE_MS, WRITE_BYTES_MAX};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, socket};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The host's context id.
pub const HOST: u32 = 2;
/// The host's port.
pub const PORT: u32 = 9200;
/// What is sent unless the command line says otherwise.
pub const BYTES: u64 = 64 << 20;

/// Sends `bytes` of the pattern to the host and waits for one byte that acknowledges them.
pub fn stream(bytes: u64) -> Result<(), Failure> {
    let mut host = reach().map_err(Failure::system("connecting to the host"))?;
    send(&mut host, bytes).map_err(Failure::io("sending to the host"))?;
    let mut answer = [0];
    host.read_exact(&mut answer)
        .map_err(Failure::io("waiting for the host's answer"))
}

/// Writes the pattern in chunks of at most [`WRITE_BYTES_MAX`].
pub fn send(to: &mut impl Write, bytes: u64) -> std::io::Result<()> {
    let mut chunk = [0; WRITE_BYTES_MAX];
    let mut sent = 0;
    while sent < bytes {
        let room = (bytes - sent).min(WRITE_BYTES_MAX as u64) as usize;
        fill(&mut chunk, sent / 8);
        to.write_all(&chunk[..room])?;
        sent += room as u64;
    }
    Ok(())
}

/// Fills a chunk with the numbers from `first` on.
fn fill(chunk: &mut [u8; WRITE_BYTES_MAX], first: u64) {
    let (numbers, _) = chunk.as_chunks_mut::<8>();
    for (number, bytes) in (first..).zip(numbers) {
        *bytes = number.to_be_bytes();
    }
}

/// Retries, since the host's side may still be starting.
fn reach() -> Result<File, Errno> {
    let mut last = Errno::ETIMEDOUT;
    for _ in 0..CONNECT_TRIES {
        let socket = socket(
            AddressFamily::Vsock,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        match connect(socket.as_raw_fd(), &VsockAddr::new(HOST, PORT)) {
            Ok(()) => return Ok(socket.into()),
            Err(errno) => last = errno,
        }
        std::thread::sleep(Duration::from_millis(PAUSE_MS));
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers what it was given and how long each chunk was; takes it all.
    #[derive(Default)]
    struct Chunks(Vec<u8>, Vec<usize>);

    impl Write for Chunks {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.extend_from_slice(bytes);
            self.1.push(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_pattern_counts_on_over_chunks_and_ends_where_it_should() {
        for bytes in [1, 7, 8, 9, 16383, 16384, 16385, 100_003] {
            let mut chunks = Chunks::default();
            send(&mut chunks, bytes).unwrap();
            let expected: Vec<u8> = (0u64..)
                .flat_map(u64::to_be_bytes)
                .take(bytes as usize)
                .collect();
            assert!(chunks.0 == expected, "{bytes}");
            assert!(chunks.1.iter().all(|chunk| *chunk <= WRITE_BYTES_MAX));
        }
    }
}
