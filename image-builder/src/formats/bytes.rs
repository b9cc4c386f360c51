//! Bytes that are read at any place: a file, a piece of memory, or a part of either.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Why something cannot be looked into. Its author is at fault, or the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum ReadError {
    #[error("{what} lies behind the end of the file")]
    Cut { what: &'static str },
    #[error("{format} is broken: {problem}")]
    Broken {
        format: &'static str,
        problem: &'static str,
    },
    #[error("{format} uses {what}, which this program does not read")]
    Unknown {
        format: &'static str,
        what: &'static str,
    },
    #[error("{format} has more than {max} {what}")]
    TooMany {
        format: &'static str,
        what: &'static str,
        max: u64,
    },
    #[error("it is neither an archive, nor a file system, nor a program, nor a disk")]
    Strange,
    #[error("reading: {0}")]
    Disk(String),
}

/// Something with a length whose bytes can be read.
pub trait Bytes {
    /// Its length.
    fn length(&self) -> Result<u64, ReadError>;
    /// Fills the buffer from this place on.
    fn fill(&self, at: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Bytes for File {
    fn length(&self) -> Result<u64, ReadError> {
        let metadata = self.metadata();
        let metadata = metadata.map_err(|error| ReadError::Disk(error.to_string()))?;
        Ok(metadata.len())
    }

    fn fill(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, at)
    }
}

impl Bytes for Vec<u8> {
    fn length(&self) -> Result<u64, ReadError> {
        self.as_slice().length()
    }

    fn fill(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.as_slice().fill(at, buffer)
    }
}

impl Bytes for &[u8] {
    fn length(&self) -> Result<u64, ReadError> {
        Ok(self.len() as u64)
    }

    fn fill(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..));
        let from = from.and_then(|from| from.get(..buffer.len()));
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A part of something. Places are counted from its beginning.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    all: &'a dyn Bytes,
    start: u64,
    length: u64,
}

impl<'a> Part<'a> {
    /// All of it.
    pub fn whole(all: &'a dyn Bytes) -> Result<Self, ReadError> {
        let (start, length) = (0, all.length()?);
        Ok(Self { all, start, length })
    }

    /// Its length.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// `length` bytes of it from `start` on, which must be there.
    pub fn part(&self, start: u64, length: u64, what: &'static str) -> Result<Self, ReadError> {
        let end = start.checked_add(length);
        if end.is_none_or(|end| end > self.length) {
            return Err(ReadError::Cut { what });
        }
        Ok(Self {
            all: self.all,
            start: self.start + start,
            length,
        })
    }

    /// The bytes from `at` on that fill `buffer`.
    pub fn read(&self, at: u64, buffer: &mut [u8], what: &'static str) -> Result<(), ReadError> {
        let part = self.part(at, buffer.len() as u64, what)?;
        let read = self.all.fill(part.start, buffer);
        read.map_err(|error| ReadError::Disk(error.to_string()))
    }

    /// So many bytes from `at` on.
    pub fn array<const N: usize>(&self, at: u64, what: &'static str) -> Result<[u8; N], ReadError> {
        let mut bytes = [0; N];
        self.read(at, &mut bytes, what)?;
        Ok(bytes)
    }

    /// `length` bytes from `at` on. The caller has bounded the length.
    pub fn vec(&self, at: u64, length: usize, what: &'static str) -> Result<Vec<u8>, ReadError> {
        self.part(at, length as u64, what)?;
        let mut bytes = vec![0; length];
        self.read(at, &mut bytes, what)?;
        Ok(bytes)
    }
}

/// A little-endian number of `N` bytes in a structure that was read whole.
pub fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(wide)
}
