//! The sealed request, made (feature `client`): see [`super::request`] for its form.

use super::chunks::put_varint;
use super::request::{ENVELOPE_FIELD, header, info};
use super::{
    AEAD_ID, Aead, CancelSecret, Commitments, ENC_BYTES, HEADER_BYTES, JobRequest, KDF_ID, KEM_ID,
    Kdf, Kem, ReceiptKey, ResponseOpener, SealError, TAG_BYTES,
};
use crate::limits::{CHUNK_BYTES_MAX, REQUEST_BYTES_MAX};
use crate::{AttestedWorker, Envelope, EnvelopeDigest, KemKey, SignedEnvelope};
use bhttp::{Message, Mode};
use ed25519_dalek::SigningKey;
use hpke::aead::AeadCtxS;
use hpke::{Deserializable, OpModeS, Serializable};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// A job ready to be carried, and what opens its answer.
pub struct SealedJob {
    /// The envelope in the clear, signed.
    pub envelope: SignedEnvelope,
    /// The chunked OHTTP request.
    pub request: Vec<u8>,
    /// Opens the answer.
    pub opener: ResponseOpener,
    /// Commitment salts, known to client and guest alone.
    pub commitments: Commitments,
    /// Opens the receipt, however late it comes.
    pub receipt_key: ReceiptKey,
    /// Cancels the job.
    pub cancel: CancelSecret,
}

/// Seals `request` to an attested worker. `envelope` is completed with the digest of the keyset and the length of the
/// sealed request, then signed with the payer's session key over itself and the encapsulated key.
pub fn seal_job(
    worker: &AttestedWorker,
    mut envelope: Envelope,
    request: &JobRequest,
    payer: &SigningKey,
    rng: &mut impl CryptoRng,
) -> Result<SealedJob, SealError> {
    let known = |k: &&KemKey| (k.kem, k.kdf, k.aead) == (KEM_ID, KDF_ID, AEAD_ID);
    let key = worker
        .keyset()
        .kem_keys
        .iter()
        .find(known)
        .ok_or(SealError::Suite)?;
    envelope.keyset = worker.keyset_digest();
    seal_to(key, envelope, request, payer, rng)
}

pub(super) fn seal_to(
    key: &KemKey,
    mut envelope: Envelope,
    request: &JobRequest,
    payer: &SigningKey,
    rng: &mut impl CryptoRng,
) -> Result<SealedJob, SealError> {
    // 1. The envelope must be final before its digest goes inside; its length field depends on the padded length,
    //    which the digest does not change.
    let length = plaintext(request, EnvelopeDigest::default())?.len();
    envelope.sealed_bytes = u32::try_from(sealed_length(length)).map_err(|_| too_long(length))?;
    // 2. Encapsulate, so that the payer can sign over the encapsulated key.
    let (enc, mut context) = setup_sender(key, rng)?;
    let envelope = envelope.sign(&enc, payer);
    // 3. Seal in chunks.
    let plaintext = plaintext(request, envelope.digest())?;
    let mut sealed = header(key.id).to_vec();
    sealed.extend_from_slice(&enc);
    let mut chunks = plaintext.chunks(CHUNK_BYTES_MAX).peekable();
    while let Some(chunk) = chunks.next() {
        let last = chunks.peek().is_none();
        let aad: &[u8] = if last { b"final" } else { b"" };
        let ciphertext = context
            .seal(chunk, aad)
            .map_err(|_| SealError::NotAuthentic)?;
        put_varint(&mut sealed, if last { 0 } else { ciphertext.len() });
        sealed.extend_from_slice(&ciphertext);
    }
    // 4. What opens the answer.
    let export = |label: &[u8], out: &mut [u8]| {
        context
            .export(label, out)
            .expect("32 bytes are within HKDF's limit")
    };
    let opener = ResponseOpener::new(&enc, &export);
    Ok(SealedJob {
        envelope,
        request: sealed,
        opener,
        commitments: Commitments::export(export),
        receipt_key: ReceiptKey::export(export),
        cancel: CancelSecret::export(export),
    })
}

type SenderContext = AeadCtxS<Aead, Kdf, Kem>;

fn setup_sender(
    key: &KemKey,
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, SenderContext), SealError> {
    let public =
        <Kem as hpke::Kem>::PublicKey::from_bytes(&key.public).map_err(|_| SealError::Suite)?;
    let (enc, context) =
        hpke::setup_sender_with_rng::<Aead, Kdf, Kem>(&OpModeS::Base, &public, &info(key.id), rng)
            .map_err(|_| SealError::Suite)?;
    Ok((enc.to_bytes().to_vec(), context))
}

fn too_long(got: usize) -> SealError {
    SealError::TooLong {
        got,
        max: REQUEST_BYTES_MAX,
    }
}

fn sealed_length(plaintext: usize) -> usize {
    let chunks = plaintext.div_ceil(CHUNK_BYTES_MAX);
    // A full chunk's length takes four bytes, the last one's a single zero.
    HEADER_BYTES + ENC_BYTES + plaintext + chunks * TAG_BYTES + (chunks - 1) * 4 + 1
}

fn plaintext(
    request: &JobRequest,
    envelope: EnvelopeDigest,
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    if request.body.len() > REQUEST_BYTES_MAX {
        return Err(too_long(request.body.len()));
    }
    let mut message = Message::request(
        b"POST".to_vec(),
        b"https".to_vec(),
        Vec::new(),
        request.endpoint.path().into(),
    );
    message.put_header("content-type", "application/octet-stream");
    message.put_header(ENVELOPE_FIELD, envelope.to_string());
    message.write_content(&request.body[..]);
    let mut out = Zeroizing::new(Vec::with_capacity(request.body.len() + 512));
    message
        .write_bhttp(Mode::KnownLength, &mut *out)
        .map_err(|_| SealError::Message("cannot be written"))?;
    Ok(out)
}
