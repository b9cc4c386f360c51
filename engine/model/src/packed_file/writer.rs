//! From parts to a file.

use std::io::Write;

use sha2::{Digest, Sha256};

use super::{
    HEADER_ALIGNMENT, HEADER_BYTES_MAX, Header, MAGIC, PackedFileError, START_BYTES, VERSION,
    padding,
};

/// A file that is being written: the header stands, its parts follow.
pub struct Writer<W> {
    header: Header,
    content: W,
    hash: Sha256,
    next: usize,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    pub fn start(header: Header, content: W) -> Result<Self, PackedFileError> {
        header.check()?;
        let text = serde_json::to_vec(&header)
            .map_err(|error| PackedFileError::Header(error.to_string()))?;
        let end = (START_BYTES + text.len() as u64).next_multiple_of(HEADER_ALIGNMENT);
        let length = end - START_BYTES;
        if length > HEADER_BYTES_MAX {
            return Err(PackedFileError::HeaderLength(length));
        }
        let mut start = [
            &MAGIC[..],
            &VERSION.to_le_bytes(),
            &(length as u32).to_le_bytes(),
            &text,
        ]
        .concat();
        start.resize(end as usize, b' ');
        let mut writer = Writer {
            header,
            content,
            hash: Sha256::new(),
            next: 0,
        };
        writer.put(&start)?;
        Ok(writer)
    }

    /// Writes the next part.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), PackedFileError> {
        let part = self.header.parts.get(self.next);
        let part = part.ok_or(PackedFileError::NoMoreParts(self.next))?;
        if part.bytes != bytes.len() as u64 {
            return Err(PackedFileError::Part {
                name: part.name.clone(),
                found: bytes.len() as u64,
                expected: part.bytes,
            });
        }
        let zeros = padding(part.bytes);
        self.put(bytes)?;
        self.put(&[0; 64][..zeros])?;
        self.next += 1;
        Ok(())
    }

    /// Writes the digest and gives it, once all parts were written.
    pub fn finish(mut self) -> Result<[u8; 32], PackedFileError> {
        let left = self.header.parts.len() - self.next;
        if left > 0 {
            return Err(PackedFileError::PartsLeft(left));
        }
        let digest: [u8; 32] = self.hash.finalize().into();
        self.content
            .write_all(&digest)
            .map_err(PackedFileError::unreadable)?;
        self.content.flush().map_err(PackedFileError::unreadable)?;
        Ok(digest)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), PackedFileError> {
        self.hash.update(bytes);
        self.content
            .write_all(bytes)
            .map_err(PackedFileError::unreadable)
    }
}
