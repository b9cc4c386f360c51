//! A reader that counts and hashes what passes through it, and passes no more than it was told to.
//!
//! Limits and digests ride on the stream, so that no caller can forget to check after the fact.

use std::fmt;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use registers::Digest32;

/// Wraps a reader; see the module.
pub struct Metered<R> {
    inner: R,
    hasher: Sha256,
    seen: u64,
    bytes_max: u64,
}

impl<R: Read> Metered<R> {
    /// Meters `inner` from its first byte.
    pub fn new(inner: R, bytes_max: u64) -> Self {
        Self::after(inner, Sha256::new(), 0, bytes_max)
    }

    /// Meters `inner` as the continuation of `seen` bytes that `hasher` has already taken.
    pub fn after(inner: R, hasher: Sha256, seen: u64, bytes_max: u64) -> Self {
        Self {
            inner,
            hasher,
            seen,
            bytes_max,
        }
    }

    /// Bytes that passed so far, those before a continuation included.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// What passed in all: its length and digest.
    pub fn finish(self) -> (u64, Digest32) {
        (self.seen, Digest32(self.hasher.finalize().into()))
    }

    /// The hash state and length, to continue from later.
    pub fn into_state(self) -> (u64, Sha256) {
        (self.seen, self.hasher)
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        let after = self.seen.saturating_add(got as u64);
        if after > self.bytes_max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                TooLong {
                    bytes_max: self.bytes_max,
                },
            ));
        }
        self.hasher.update(&buffer[..got]);
        self.seen = after;
        Ok(got)
    }
}

/// Passes no more than it was told to, and hashes nothing: for what comes out of bytes that were hashed before.
pub struct Limited<R> {
    inner: R,
    left: u64,
    bytes_max: u64,
}

impl<R: Read> Limited<R> {
    /// Lets `bytes_max` bytes of `inner` through; one more is an error.
    pub fn new(inner: R, bytes_max: u64) -> Self {
        Self {
            inner,
            left: bytes_max,
            bytes_max,
        }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        let Some(left) = self.left.checked_sub(got as u64) else {
            let bytes_max = self.bytes_max;
            let error = TooLong { bytes_max };
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        };
        self.left = left;
        Ok(got)
    }
}

/// The stream went on past its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    bytes_max: u64,
}

impl TooLong {
    /// Whether `error` came from a limit of this module rather than from the reader inside.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<TooLong>())
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} bytes", self.bytes_max)
    }
}

impl std::error::Error for TooLong {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &[u8], bytes_max: u64) -> Result<(u64, String), bool> {
        let mut metered = Metered::new(input, bytes_max);
        match io::copy(&mut metered, &mut io::sink()) {
            Ok(_) => {
                let (seen, digest) = metered.finish();
                Ok((seen, digest.to_string()))
            }
            Err(error) => Err(TooLong::is(&error)),
        }
    }

    #[test]
    fn the_digest_is_sha256_and_one_byte_over_the_limit_is_refused() {
        // FIPS 180-4 example "abc".
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(check(b"abc", 3), Ok((3, abc.into())));
        assert_eq!(check(b"abc", 4), Ok((3, abc.into())));
        assert_eq!(check(b"abc", 2), Err(true));
        assert_eq!(check(b"", 0).map(|(seen, _)| seen), Ok(0));
    }

    #[test]
    fn a_limit_alone_lets_just_so_many_bytes_through() {
        let read = |bytes_max| io::copy(&mut Limited::new(&b"abc"[..], bytes_max), &mut io::sink());
        assert_eq!(read(3).expect("within limit"), 3);
        assert!(TooLong::is(&read(2).expect_err("one byte over")));
    }

    #[test]
    fn a_continued_stream_has_the_digest_of_the_whole() {
        let mut head = Metered::new(&b"ab"[..], 3);
        io::copy(&mut head, &mut io::sink()).expect("a slice reads");
        let (seen, hasher) = head.into_state();
        let mut tail = Metered::after(&b"c"[..], hasher, seen, 3);
        io::copy(&mut tail, &mut io::sink()).expect("a slice reads");
        assert_eq!(
            tail.finish().1.to_string(),
            check(b"abc", 3).expect("within limit").1
        );
    }
}
