//! The sealed answer, made: a response nonce, then chunks. The first chunk is the head of an indeterminate-length binary HTTP
//! response, each following chunk is one content chunk that holds one record, the last one closes the message.

use super::RESPONSE_NONCE_BYTES;
use super::chunks::put_varint;
use crate::RecordBytes;
use chacha20poly1305::aead::{Aead as _, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hkdf::Hkdf;
use rand_core::CryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

pub(super) const LABEL: &[u8] = b"message/bhttp chunked response";
const CONTENT_TYPE: &str = "application/vnd.chrysalis.records";

/// The AEAD of one answer and the counter of its chunks (RFC 9458 §4.4, chunked draft §6.2).
pub(super) struct ChunkKey {
    pub(super) aead: ChaCha20Poly1305,
    nonce: Zeroizing<[u8; 12]>,
    counter: u64,
}

impl ChunkKey {
    pub(super) fn derive(
        secret: &[u8; 32],
        enc: &[u8],
        nonce: &[u8; RESPONSE_NONCE_BYTES],
    ) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(&[enc, nonce].concat()), secret);
        let (mut key, mut base) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 12]));
        hkdf.expand(b"key", &mut key[..])
            .expect("32 bytes are within HKDF's limit");
        hkdf.expand(b"nonce", &mut base[..])
            .expect("12 bytes are within HKDF's limit");
        ChunkKey {
            aead: ChaCha20Poly1305::new(&Key::from(*key)),
            nonce: base,
            counter: 0,
        }
    }

    pub(super) fn next_nonce(&mut self) -> Nonce {
        let mut nonce = *self.nonce;
        for (byte, count) in nonce[4..].iter_mut().zip(self.counter.to_be_bytes()) {
            *byte ^= count;
        }
        self.counter += 1;
        Nonce::from(nonce)
    }

    /// Seals one chunk and appends it, framed.
    pub(super) fn seal(&mut self, plaintext: &[u8], last: bool, out: &mut Vec<u8>) {
        let nonce = self.next_nonce();
        let sealed = self.aead.encrypt(
            &nonce,
            Payload {
                msg: plaintext,
                aad: aad(last),
            },
        );
        let sealed = sealed.expect("a chunk is far below ChaCha20-Poly1305's limit of 256 GiB");
        put_varint(out, if last { 0 } else { sealed.len() });
        out.extend_from_slice(&sealed);
    }
}

pub(super) fn aad(last: bool) -> &'static [u8] {
    if last { b"final" } else { b"" }
}

/// Seals one answer, record by record.
pub struct ResponseSealer {
    key: ChunkKey,
    started: bool,
    nonce: [u8; RESPONSE_NONCE_BYTES],
}

impl ResponseSealer {
    pub(super) fn new(
        enc: &[u8],
        export: &dyn Fn(&[u8], &mut [u8]),
        rng: &mut impl CryptoRng,
    ) -> Self {
        let mut nonce = [0; RESPONSE_NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let mut secret = Zeroizing::new([0; 32]);
        export(LABEL, &mut secret[..]);
        ResponseSealer {
            key: ChunkKey::derive(&secret, enc, &nonce),
            started: false,
            nonce,
        }
    }

    /// The next bytes of the answer, holding this record.
    pub fn seal(&mut self, record: &RecordBytes) -> Vec<u8> {
        let mut out = Vec::new();
        if !std::mem::replace(&mut self.started, true) {
            out.extend_from_slice(&self.nonce);
            self.key.seal(&head(), false, &mut out);
        }
        let mut content = Zeroizing::new(Vec::with_capacity(record.len() + 4));
        put_varint(&mut content, record.len());
        content.extend_from_slice(record);
        self.key.seal(&content, false, &mut out);
        out
    }

    /// The last bytes of the answer: without them the client knows that it was cut short.
    pub fn finish(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.started {
            out.extend_from_slice(&self.nonce);
            self.key.seal(&head(), false, &mut out);
        }
        // End of content, no trailers.
        self.key.seal(&[0, 0], true, &mut out);
        out
    }
}

/// The head of the answer: indeterminate-length response (RFC 9292 §3.2), status 200, one field, end of fields.
pub(super) fn head() -> Vec<u8> {
    let mut out = vec![3];
    put_varint(&mut out, 200);
    for text in ["content-type", CONTENT_TYPE] {
        put_varint(&mut out, text.len());
        out.extend_from_slice(text.as_bytes());
    }
    out.push(0);
    out
}
