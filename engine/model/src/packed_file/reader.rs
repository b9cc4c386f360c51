//! From a file to the places of its parts.

use std::io::Read;

use sha2::{Digest, Sha256};

use super::{
    DIGEST_BYTES, HEADER_ALIGNMENT, HEADER_BYTES_MAX, Header, MAGIC, PackedFileError, Part,
    START_BYTES, VERSION, padding,
};
use crate::json;

/// What is hashed at once, soon after it was read, while it is in the cache.
const CHUNK_BYTES: usize = 128 * 1024;

/// A file whose header was read; its parts come one after another.
pub struct Reader<R> {
    header: Header,
    content: R,
    /// What was read so far, where the digest is to be compared.
    hash: Option<Sha256>,
    next: usize,
}

impl<R: Read> Reader<R> {
    /// Reads the header of a file of `bytes` bytes. [`Reader::finish`] will compare the digest.
    pub fn open(bytes: u64, content: R) -> Result<Self, PackedFileError> {
        Self::start(bytes, content, Some(Sha256::new()))
    }

    /// The same for a file whose bytes something else vouches for, such as dm-verity below it: the digest is read and not compared,
    /// which takes two thirds of the time of loading.
    pub fn open_verified_elsewhere(bytes: u64, content: R) -> Result<Self, PackedFileError> {
        Self::start(bytes, content, None)
    }

    fn start(
        bytes: u64,
        mut content: R,
        mut hash: Option<Sha256>,
    ) -> Result<Self, PackedFileError> {
        let mut start = [0; START_BYTES as usize];
        fill(&mut content, &mut hash, &mut start)?;
        let (magic, rest) = start.split_at(MAGIC.len());
        let number = |range: &[u8]| range.try_into().map(u32::from_le_bytes).unwrap_or_default();
        let (version, length) = (number(&rest[..4]), u64::from(number(&rest[4..])));
        if magic != MAGIC {
            return Err(PackedFileError::Magic);
        }
        if version != VERSION {
            return Err(PackedFileError::Version(version));
        }
        if length > HEADER_BYTES_MAX
            || !(START_BYTES + length).is_multiple_of(HEADER_ALIGNMENT)
            || length > bytes
        {
            return Err(PackedFileError::HeaderLength(length));
        }
        let mut text = vec![0; length as usize];
        fill(&mut content, &mut hash, &mut text)?;
        let refused = |why: String| PackedFileError::Header(why);
        json::check_object(&text[..]).map_err(|flaw| refused(flaw.to_string()))?;
        let header: Header =
            serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
        header.check()?;
        match header.file_bytes(length) {
            Some(expected) if expected == bytes => {}
            expected => {
                return Err(PackedFileError::Length {
                    found: bytes,
                    expected: expected.unwrap_or(u64::MAX),
                });
            }
        }
        Ok(Reader {
            header,
            content,
            hash,
            next: 0,
        })
    }

    /// What the file says of itself. Not to be believed before [`Reader::finish`].
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The part that [`Reader::read`] reads next.
    pub fn next(&self) -> Option<&Part> {
        self.header.parts.get(self.next)
    }

    /// Reads the next part into its place, which has to be as long.
    pub fn read(&mut self, place: &mut [u8]) -> Result<(), PackedFileError> {
        let part = self.header.parts.get(self.next);
        let part = part.ok_or(PackedFileError::NoMoreParts(self.next))?;
        if part.bytes != place.len() as u64 {
            return Err(PackedFileError::Part {
                name: part.name.clone(),
                found: part.bytes,
                expected: place.len() as u64,
            });
        }
        fill(&mut self.content, &mut self.hash, place)?;
        let mut zeros = [0; 64];
        let zeros = &mut zeros[..padding(part.bytes)];
        fill(&mut self.content, &mut self.hash, zeros)?;
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(PackedFileError::Padding(part.name.clone()));
        }
        self.next += 1;
        Ok(())
    }

    /// Reads the digest at the end, once all parts were read, and gives it.
    pub fn finish(mut self) -> Result<(Header, [u8; 32]), PackedFileError> {
        let left = self.header.parts.len() - self.next;
        if left > 0 {
            return Err(PackedFileError::PartsLeft(left));
        }
        let mut digest = [0; DIGEST_BYTES as usize];
        fill(&mut self.content, &mut None, &mut digest)?;
        if let Some(hash) = self.hash
            && <[u8; 32]>::from(hash.finalize()) != digest
        {
            return Err(PackedFileError::Digest);
        }
        Ok((self.header, digest))
    }
}

fn fill(
    content: &mut impl Read,
    hash: &mut Option<Sha256>,
    place: &mut [u8],
) -> Result<(), PackedFileError> {
    let Some(hash) = hash else {
        return content
            .read_exact(place)
            .map_err(PackedFileError::unreadable);
    };
    for chunk in place.chunks_mut(CHUNK_BYTES) {
        content
            .read_exact(chunk)
            .map_err(PackedFileError::unreadable)?;
        hash.update(&*chunk);
    }
    Ok(())
}
