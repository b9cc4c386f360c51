//! One file of a model, opened: read once, within its limit, and hashed.

use std::io::Read;

use sha2::{Digest, Sha256};

use super::{File, FilesError};
use crate::limits;

/// A file that was opened and claims a size within its limit.
pub struct Opened {
    name: String,
    bytes: u64,
    bytes_max: u64,
    content: Box<dyn Read>,
}

/// Size and SHA-256 of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileDigest {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
}

/// A small file in memory.
pub(crate) struct Held {
    bytes: Vec<u8>,
    digest: FileDigest,
}

impl Held {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn digest(&self) -> FileDigest {
        self.digest
    }
}

impl Opened {
    /// Takes the file called `name` of `bytes` bytes, if it may be that large.
    pub fn new(name: &str, bytes: u64, content: impl Read + 'static) -> Result<Self, FilesError> {
        let file = File::ALL.into_iter().find(|file| file.name() == name);
        let opened = Opened {
            name: name.to_owned(),
            bytes,
            bytes_max: file.map_or(limits::WEIGHTS_BYTES_MAX, File::bytes_max),
            content: Box::new(content),
        };
        opened.within(bytes)?;
        Ok(opened)
    }

    /// All of a small file.
    pub fn bytes(self) -> Result<Vec<u8>, FilesError> {
        Ok(self.hold()?.bytes)
    }

    /// Reads to the end and hashes; the bytes are not kept.
    pub fn digest(self) -> Result<FileDigest, FilesError> {
        self.read(&mut |_| ())
    }

    /// Its length and what is in it, for whoever hashes it.
    pub(super) fn into_content(self) -> (u64, Box<dyn Read>) {
        (self.bytes, self.content)
    }

    pub(super) fn hold(self) -> Result<Held, FilesError> {
        let mut bytes = Vec::with_capacity(self.bytes as usize);
        let digest = self.read(&mut |chunk| bytes.extend_from_slice(chunk))?;
        Ok(Held { bytes, digest })
    }

    fn read(mut self, take: &mut dyn FnMut(&[u8])) -> Result<FileDigest, FilesError> {
        let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 256 * 1024]);
        loop {
            let read = self.content.read(&mut buffer);
            let chunk = &buffer[..read.map_err(FilesError::unreadable(&self.name))?];
            if chunk.is_empty() {
                let sha256 = hash.finalize().into();
                return Ok(FileDigest { bytes, sha256 });
            }
            bytes += chunk.len() as u64;
            // The file may grow while it is read.
            self.within(bytes)?;
            hash.update(chunk);
            take(chunk);
        }
    }

    fn within(&self, bytes: u64) -> Result<(), FilesError> {
        match bytes <= self.bytes_max {
            true => Ok(()),
            false => Err(FilesError::TooLarge {
                file: self.name.clone(),
                bytes,
                bytes_max: self.bytes_max,
            }),
        }
    }
}
