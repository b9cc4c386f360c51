//! The chunk framing of chunked OHTTP: each chunk is a QUIC variable-length integer and that many bytes; a length of
//! zero announces the last chunk, which fills the rest of the stream.

use super::{SealError, TAG_BYTES};
use crate::limits::CHUNK_BYTES_MAX;

/// Appends a QUIC variable-length integer (RFC 9000 §16).
pub(crate) fn put_varint(out: &mut Vec<u8>, value: usize) {
    let value = value as u64;
    match value {
        0..=0x3f => out.push(value as u8),
        0x40..=0x3fff => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        0x4000..=0x3fff_ffff => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// Reads a variable-length integer from the front; `None` when it is not all there.
pub(crate) fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let (head, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    let value = head
        .iter()
        .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    let mask = u64::MAX >> (64 - (8 * head.len() as u32 - 2));
    Some((value & mask, rest))
}

/// A chunk as it was framed.
pub(crate) enum Chunk {
    /// More follow.
    Middle(Vec<u8>),
    /// The last one.
    Last(Vec<u8>),
}

/// Takes ciphertext as it arrives, gives chunks.
#[derive(Default)]
pub(crate) struct ChunkReader {
    pending: Vec<u8>,
}

impl ChunkReader {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next chunk that is not the last, or `None` when more bytes are needed.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Chunk>, SealError> {
        let Some((length, rest)) = take_varint(&self.pending) else {
            return Ok(None);
        };
        if length > (CHUNK_BYTES_MAX + TAG_BYTES) as u64 {
            return Err(SealError::Truncated);
        }
        if length == 0 {
            // The last chunk ends with the stream: only `finish` knows where.
            if rest.len() > CHUNK_BYTES_MAX + TAG_BYTES {
                return Err(SealError::Truncated);
            }
            return Ok(None);
        }
        let Some(chunk) = rest.get(..length as usize) else {
            return Ok(None);
        };
        let chunk = chunk.to_vec();
        let used = self.pending.len() - rest.len() + chunk.len();
        self.pending.drain(..used);
        Ok(Some(Chunk::Middle(chunk)))
    }

    /// The last chunk, when the stream has ended.
    pub(crate) fn finish(self) -> Result<Chunk, SealError> {
        match take_varint(&self.pending) {
            Some((0, rest)) if rest.len() <= CHUNK_BYTES_MAX + TAG_BYTES => {
                Ok(Chunk::Last(rest.to_vec()))
            }
            _ => Err(SealError::Truncated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_length_integers_are_those_of_rfc_9000() {
        // RFC 9000, appendix A.1.
        let samples: [(&[u8], u64); 4] = [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ];
        for (bytes, value) in samples {
            assert_eq!(take_varint(bytes), Some((value, &[][..])));
            let mut out = Vec::new();
            put_varint(&mut out, value as usize);
            assert_eq!(out, bytes);
            assert_eq!(take_varint(&bytes[..bytes.len() - 1]), None);
        }
    }
}
