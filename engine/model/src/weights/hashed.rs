//! A file that is hashed while it is read, and is as long as it was said to be.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::FileDigest;
use crate::whole::Flaw;

pub(super) struct Hashed {
    content: Box<dyn Read>,
    hash: Sha256,
    bytes: u64,
    expected: u64,
}

impl Hashed {
    pub(super) fn new(content: Box<dyn Read>, expected: u64) -> Self {
        let (hash, bytes) = (Sha256::new(), 0);
        Hashed {
            content,
            hash,
            bytes,
            expected,
        }
    }

    /// Reads what is left: padding.
    pub(super) fn finish(mut self) -> Result<FileDigest, Flaw> {
        io::copy(&mut self, &mut io::sink()).map_err(Flaw::unreadable)?;
        let (bytes, expected) = (self.bytes, self.expected);
        match bytes == expected {
            true => Ok(FileDigest {
                bytes,
                sha256: self.hash.finalize().into(),
            }),
            false => Err(Flaw::Changed { bytes, expected }),
        }
    }
}

impl Read for Hashed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // One byte more than expected is enough to see that there is more.
        let left = (self.expected - self.bytes.min(self.expected)).saturating_add(1);
        let most = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.content.read(&mut out[..most])?;
        self.bytes += read as u64;
        if self.bytes > self.expected {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        self.hash.update(&out[..read]);
        Ok(read)
    }
}
