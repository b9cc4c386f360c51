//! The sealed answer, opened as it arrives (feature `client`): see [`super::response`] for its form.

use super::chunks::{Chunk, ChunkReader, take_varint};
use super::response::{ChunkKey, LABEL, aad, head};
use super::{RESPONSE_NONCE_BYTES, SealError};
use crate::RecordBytes;
use crate::limits::ANSWER_BYTES_MAX;
use chacha20poly1305::aead::{Aead as _, Payload};
use zeroize::Zeroizing;

/// Opens one answer as it arrives.
pub struct ResponseOpener {
    secret: Zeroizing<[u8; 32]>,
    enc: Vec<u8>,
    key: Option<ChunkKey>,
    nonce: Vec<u8>,
    chunks: ChunkReader,
    head_seen: bool,
    received: usize,
}

impl ResponseOpener {
    pub(super) fn new(enc: &[u8], export: &dyn Fn(&[u8], &mut [u8])) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        export(LABEL, &mut secret[..]);
        ResponseOpener {
            secret,
            enc: enc.to_vec(),
            key: None,
            nonce: Vec::new(),
            chunks: ChunkReader::default(),
            head_seen: false,
            received: 0,
        }
    }

    pub(super) fn chunk_key(&self, nonce: &[u8; RESPONSE_NONCE_BYTES]) -> ChunkKey {
        ChunkKey::derive(&self.secret, &self.enc, nonce)
    }

    /// Takes sealed bytes as they arrive and returns the records they complete.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<RecordBytes>, SealError> {
        self.received = self.received.saturating_add(bytes.len());
        if self.received > ANSWER_BYTES_MAX {
            return Err(SealError::TooLong {
                got: self.received,
                max: ANSWER_BYTES_MAX,
            });
        }
        if self.key.is_none() {
            let (nonce, rest) =
                bytes.split_at((RESPONSE_NONCE_BYTES - self.nonce.len()).min(bytes.len()));
            self.nonce.extend_from_slice(nonce);
            bytes = rest;
            let Ok(nonce) = <&[u8; RESPONSE_NONCE_BYTES]>::try_from(&self.nonce[..]) else {
                return Ok(Vec::new());
            };
            self.key = Some(self.chunk_key(nonce));
        }
        self.chunks.push(bytes);
        let mut records = Vec::new();
        while let Some(Chunk::Middle(chunk)) = self.chunks.next_chunk()? {
            let plaintext = self.open(&chunk, false)?;
            records.extend(self.content(&plaintext)?);
        }
        Ok(records)
    }

    /// To be called when the stream has ended: refuses an answer that was cut short.
    pub fn finish(mut self) -> Result<(), SealError> {
        let chunks = std::mem::take(&mut self.chunks);
        let Chunk::Last(last) = chunks.finish()? else {
            return Err(SealError::Truncated);
        };
        let plaintext = self.open(&last, true)?;
        if !self.head_seen || plaintext[..] != [0, 0] {
            return Err(SealError::Message("the answer does not end as it should"));
        }
        Ok(())
    }

    fn open(&mut self, chunk: &[u8], last: bool) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let key = self.key.as_mut().ok_or(SealError::Truncated)?;
        let nonce = key.next_nonce();
        let opened = key.aead.decrypt(
            &nonce,
            Payload {
                msg: chunk,
                aad: aad(last),
            },
        );
        opened
            .map(Zeroizing::new)
            .map_err(|_| SealError::NotAuthentic)
    }

    fn content(&mut self, plaintext: &[u8]) -> Result<Option<RecordBytes>, SealError> {
        if !std::mem::replace(&mut self.head_seen, true) {
            return match plaintext == head() {
                true => Ok(None),
                false => Err(SealError::Message(
                    "the answer's head is not the expected one",
                )),
            };
        }
        match take_varint(plaintext) {
            Some((length, record)) if length == record.len() as u64 => match record.try_into() {
                Ok(record) => Ok(Some(record)),
                Err(_) => Err(SealError::Message("a content chunk is not one record")),
            },
            _ => Err(SealError::Message("a chunk is not one content chunk")),
        }
    }
}
