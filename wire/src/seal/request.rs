//! The sealed request, opened: binary HTTP (RFC 9292) in chunks, with the envelope's digest inside. Its
//! body pads itself ([`crate::Request::encode`]).

use super::chunks::{Chunk, ChunkReader};
use super::{
    AEAD_ID, Aead, CancelSecret, ENC_BYTES, HEADER_BYTES, KDF_ID, KEM_ID, Kdf, Kem, ReceiptKey,
    ResponseSealer, SealError,
};
use crate::limits::SEALED_REQUEST_BYTES_MAX;
use crate::{Digest, Endpoint, EnvelopeDigest, KemKey, sha256};
use bhttp::Message;
use hpke::aead::AeadCtxR;
use hpke::{Deserializable, Kem as _, OpModeR, Serializable};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

const INFO: &[u8] = b"message/bhttp chunked request";
pub(super) const ENVELOPE_FIELD: &[u8] = b"x-envelope-digest";

/// The guest's secret key to one [`KemKey`]. It lives in memory, for one boot, and is erased when dropped.
pub struct SealingKey {
    id: u8,
    secret: <Kem as hpke::Kem>::PrivateKey,
    public: Vec<u8>,
}

/// What a client asks, inside the seal.
#[derive(Clone, PartialEq, Eq)]
pub struct JobRequest {
    /// What is asked for; it must be the envelope's.
    pub endpoint: Endpoint,
    /// [`crate::Request::encode`].
    pub body: Zeroizing<Vec<u8>>,
}

/// A job that a guest opened, and what seals its answer.
pub struct OpenedJob {
    /// What is asked.
    pub request: JobRequest,
    /// Seals the answer.
    pub sealer: ResponseSealer,
    /// Commitment salts, known to client and guest alone.
    pub commitments: Commitments,
    /// Seals the receipt.
    pub receipt_key: ReceiptKey,
    /// What a cancel of this job shows.
    pub cancel: CancelSecret,
}

/// Salted commitments to request and answer. The salts come from the seal, so a receipt shown to others
/// cannot be searched for likely prompts.
#[derive(Clone, PartialEq, Eq)]
pub struct Commitments {
    request: Zeroizing<[u8; 32]>,
    response: Zeroizing<[u8; 32]>,
}

impl Commitments {
    pub(super) fn export(export: impl Fn(&[u8], &mut [u8])) -> Self {
        let (mut request, mut response) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        export(b"chrysalis/commitment/request/v1", &mut request[..]);
        export(b"chrysalis/commitment/response/v1", &mut response[..]);
        Commitments { request, response }
    }

    /// The salts of request and answer, by which others can be shown what was committed to.
    pub fn salts(&self) -> ([u8; 32], [u8; 32]) {
        (*self.request, *self.response)
    }

    /// With the salts that somebody shows.
    pub fn of_salts(request: [u8; 32], response: [u8; 32]) -> Self {
        Commitments {
            request: Zeroizing::new(request),
            response: Zeroizing::new(response),
        }
    }

    /// The commitment to a request's body.
    pub fn request(&self, body: &[u8]) -> Digest {
        sha256("chrysalis/request/v1", &[&self.request[..], body])
    }

    /// The commitment to an answer, by the last link of its frame chain.
    pub fn response(&self, frames: Digest) -> Digest {
        sha256("chrysalis/response/v1", &[&self.response[..], &frames.0])
    }
}

impl SealingKey {
    /// Makes a key pair from 32 bytes of fresh randomness.
    pub fn generate(id: u8, rng: &mut impl CryptoRng) -> Self {
        let mut ikm = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut ikm[..]);
        let (secret, public) = Kem::derive_keypair(&ikm[..]);
        SealingKey {
            id,
            secret,
            public: public.to_bytes().to_vec(),
        }
    }

    /// The entry of the keyset.
    pub fn public(&self) -> KemKey {
        KemKey {
            id: self.id,
            kem: KEM_ID,
            kdf: KDF_ID,
            aead: AEAD_ID,
            public: self.public.clone(),
        }
    }
}

impl OpenedJob {
    /// The encapsulated key of a sealed request: what the envelope's signature and the replay cache are about.
    pub fn encapsulated_key(sealed: &[u8]) -> Result<&[u8], SealError> {
        sealed
            .get(HEADER_BYTES..HEADER_BYTES + ENC_BYTES)
            .ok_or(SealError::Truncated)
    }
}

/// Opens a sealed request whose envelope the caller has verified; `envelope` is that envelope's digest.
pub fn open_job(
    key: &SealingKey,
    sealed: &[u8],
    envelope: EnvelopeDigest,
    rng: &mut impl CryptoRng,
) -> Result<OpenedJob, SealError> {
    if sealed.len() > SEALED_REQUEST_BYTES_MAX {
        return Err(SealError::TooLong {
            got: sealed.len(),
            max: SEALED_REQUEST_BYTES_MAX,
        });
    }
    let body = sealed
        .strip_prefix(&header(key.id)[..])
        .ok_or(SealError::Suite)?;
    let (enc, body) = body
        .split_at_checked(ENC_BYTES)
        .ok_or(SealError::Truncated)?;
    let mut context = setup_receiver(key, enc)?;
    let mut plaintext = Zeroizing::new(Vec::with_capacity(body.len()));
    let mut reader = ChunkReader::default();
    reader.push(body);
    while let Some(Chunk::Middle(chunk)) = reader.next_chunk()? {
        let open = Zeroizing::new(
            context
                .open(&chunk, b"")
                .map_err(|_| SealError::NotAuthentic)?,
        );
        plaintext.extend_from_slice(&open);
    }
    if let Chunk::Last(chunk) = reader.finish()? {
        let open = Zeroizing::new(
            context
                .open(&chunk, b"final")
                .map_err(|_| SealError::NotAuthentic)?,
        );
        plaintext.extend_from_slice(&open);
    }
    let request = parse(&plaintext, envelope)?;
    let export = |label: &[u8], out: &mut [u8]| {
        context
            .export(label, out)
            .expect("32 bytes are within HKDF's limit")
    };
    let sealer = ResponseSealer::new(enc, &export, rng);
    Ok(OpenedJob {
        request,
        sealer,
        commitments: Commitments::export(export),
        receipt_key: ReceiptKey::export(export),
        cancel: CancelSecret::export(export),
    })
}

fn setup_receiver(key: &SealingKey, enc: &[u8]) -> Result<AeadCtxR<Aead, Kdf, Kem>, SealError> {
    let enc = <Kem as hpke::Kem>::EncappedKey::from_bytes(enc).map_err(|_| SealError::Truncated)?;
    hpke::setup_receiver::<Aead, Kdf, Kem>(&OpModeR::Base, &key.secret, &enc, &info(key.id))
        .map_err(|_| SealError::NotAuthentic)
}

pub(super) fn header(id: u8) -> [u8; HEADER_BYTES] {
    let [[k0, k1], [d0, d1], [a0, a1]] = [KEM_ID, KDF_ID, AEAD_ID].map(u16::to_be_bytes);
    [id, k0, k1, d0, d1, a0, a1]
}

pub(super) fn info(id: u8) -> Vec<u8> {
    [INFO, &[0], &header(id)].concat()
}

fn parse(plaintext: &[u8], envelope: EnvelopeDigest) -> Result<JobRequest, SealError> {
    let mut cursor = std::io::Cursor::new(plaintext);
    let message =
        Message::read_bhttp(&mut cursor).map_err(|_| SealError::Message("not binary HTTP"))?;
    if cursor.position() != plaintext.len() as u64 {
        return Err(SealError::Message("something follows it"));
    }
    let control = message.control();
    if control.method() != Some(b"POST") {
        return Err(SealError::Message("method is not POST"));
    }
    let mut endpoints = Endpoint::ALL.into_iter();
    let endpoint = endpoints.find(|e| control.path() == Some(e.path().as_bytes()));
    let endpoint = endpoint.ok_or(SealError::Message("unknown path"))?;
    let named = field(&message, ENVELOPE_FIELD).ok_or(SealError::Message("no envelope digest"))?;
    let named = EnvelopeDigest(named);
    if named != envelope {
        return Err(SealError::EnvelopeDigest {
            got: named,
            want: envelope,
        });
    }
    Ok(JobRequest {
        endpoint,
        body: Zeroizing::new(message.content().to_vec()),
    })
}

fn field<const N: usize>(message: &Message, name: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    hex::decode_to_slice(message.header().get(name)?, &mut out).ok()?;
    Some(out)
}
