//! Interoperation with the `ohttp` crate, an implementation that is not ours: both directions of the request, and of the
//! answer. Its stream client holds a response nonce of at most 16 bytes and cannot take ChaCha20-Poly1305's 32, so the
//! direction "our answer, its client" is shown by making, from its answer's nonce, the very bytes that it made.

use super::chunks::{Chunk, ChunkReader, put_varint};
use super::response::ChunkKey;
use super::tests::{job, rng};
use super::*;
use crate::{AnswerWriter, Endpoint};
use chacha20poly1305::aead::{Aead as _, Payload};
use futures::executor::block_on;
use futures::io::{AsyncReadExt, AsyncWriteExt, Cursor};
use ohttp::hpke::{Aead as OtherAead, Kdf as OtherKdf, Kem as OtherKem};
use ohttp::{ClientRequest, KeyConfig, Server, SymmetricSuite};

const SUITE: SymmetricSuite =
    SymmetricSuite::new(OtherKdf::HkdfSha256, OtherAead::ChaCha20Poly1305);

fn server() -> (Server, crate::KemKey) {
    let config = KeyConfig::new(1, OtherKem::XWing, vec![SUITE]).unwrap();
    // RFC 9458 §3.1: key id, KEM id, public key, length and list of symmetric suites.
    let public = config.encode().unwrap()[3..3 + 1216].to_vec();
    (
        Server::new(config).unwrap(),
        crate::KemKey {
            id: 1,
            kem: KEM_ID,
            kdf: KDF_ID,
            aead: AEAD_ID,
            public,
        },
    )
}

fn sealed_to(key: &crate::KemKey, body: &[u8]) -> SealedJob {
    let payer = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let request = JobRequest {
        endpoint: Endpoint::Chat,
        body: zeroize::Zeroizing::new(body.to_vec()),
    };
    sender::seal_to(
        key,
        super::tests::envelope(&payer),
        &request,
        &payer,
        &mut rng(),
    )
    .unwrap()
}

#[test]
fn the_ohttp_crate_opens_our_request() {
    for size in [10, 40_000] {
        let (server, key) = server();
        let sealed = sealed_to(&key, &vec![b'q'; size]);
        let mut stream = server.decapsulate_stream(Cursor::new(sealed.request));
        let mut plaintext = Vec::new();
        block_on(stream.read_to_end(&mut plaintext)).unwrap();
        let message =
            bhttp::Message::read_bhttp(&mut std::io::Cursor::new(&plaintext[..])).unwrap();
        assert_eq!(message.content(), vec![b'q'; size]);
        assert_eq!(message.control().path(), Some(&b"/v1/chat/completions"[..]));
        assert_eq!(
            message.header().get(b"x-envelope-digest"),
            Some(sealed.envelope.digest().to_string().as_bytes())
        );
    }
}

#[test]
fn we_open_a_request_of_the_ohttp_crate() {
    let key = SealingKey::generate(1, &mut rng());
    let public = key.public().public;
    let config = [
        &[1][..],
        &KEM_ID.to_be_bytes(),
        &public,
        &4u16.to_be_bytes(),
        &KDF_ID.to_be_bytes(),
        &AEAD_ID.to_be_bytes(),
    ];
    let client = ClientRequest::from_encoded_config(&config.concat()).unwrap();

    let envelope = job(b"", &key).envelope.digest();
    let mut message = bhttp::Message::request(
        b"POST".into(),
        b"https".into(),
        b"".into(),
        b"/v1/embeddings".into(),
    );
    message.put_header("x-envelope-digest", envelope.to_string());
    message.write_content(b"from elsewhere");
    let mut plaintext = Vec::new();
    message
        .write_bhttp(bhttp::Mode::KnownLength, &mut plaintext)
        .unwrap();

    let mut sealed = Vec::new();
    let mut stream = client.encapsulate_stream(Cursor::new(&mut sealed)).unwrap();
    block_on(async {
        stream.write_all(&plaintext).await?;
        stream.close().await
    })
    .unwrap();
    drop(stream);
    let opened = open_job(&key, &sealed, envelope, &mut rng()).unwrap();
    assert_eq!(&opened.request.body[..], b"from elsewhere");
}

#[test]
fn answers_agree_byte_for_byte_with_those_of_the_ohttp_crate() {
    let (server, key) = server();
    let sealed = sealed_to(&key, b"question");
    let mut stream = server.decapsulate_stream(Cursor::new(sealed.request));
    block_on(stream.read_to_end(&mut Vec::new())).unwrap();
    let mut theirs = Vec::new();
    let mut answer = stream.response(Cursor::new(&mut theirs)).unwrap();
    let record = AnswerWriter::new(Endpoint::Chat, EnvelopeDigest::default()).ids(&[7], None);
    let mut content = Vec::new();
    put_varint(&mut content, record.len());
    content.extend_from_slice(&record);
    block_on(async {
        answer.write_all(b"head").await?;
        answer.write_all(&content).await?;
        answer.close().await
    })
    .unwrap();
    drop(answer);

    // We open theirs.
    let (nonce, body) = theirs.split_first_chunk::<RESPONSE_NONCE_BYTES>().unwrap();
    let mut reader = ChunkReader::default();
    reader.push(body);
    let mut chunk_key = sealed.opener.chunk_key(nonce);
    for want in [&b"head"[..], &content] {
        let Some(Chunk::Middle(chunk)) = reader.next_chunk().unwrap() else {
            panic!("a chunk")
        };
        let nonce = chunk_key.next_nonce();
        assert_eq!(
            chunk_key
                .aead
                .decrypt(
                    &nonce,
                    Payload {
                        msg: &chunk,
                        aad: b""
                    }
                )
                .unwrap(),
            want
        );
    }
    // We make theirs.
    let mut chunk_key: ChunkKey = sealed.opener.chunk_key(nonce);
    let mut ours = nonce.to_vec();
    for (plaintext, last) in [(&b"head"[..], false), (&content, false), (&[], true)] {
        chunk_key.seal(plaintext, last, &mut ours);
    }
    assert_eq!(ours, theirs);
}
