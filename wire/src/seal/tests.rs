use super::sender::seal_to;
use super::*;
use crate::limits::RECORD_BYTES;
use crate::{Ask, ChatRequest, Digest, Endpoint, Envelope, EnvelopeDigest, KeysetDigest, Request};
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use settlement::{Address, ChainId, ChannelTerms, Nano};
use zeroize::Zeroizing;

pub(crate) fn rng() -> ChaCha20Rng {
    ChaCha20Rng::from_seed([7; 32])
}

pub(crate) fn envelope(payer: &SigningKey) -> Envelope {
    let address = Address {
        workchain: 0,
        hash: [4; 32],
    };
    Envelope {
        version: 1,
        job: [1; 16],
        keyset: KeysetDigest([2; 32]),
        model: "tiny-chat".into(),
        model_root: Digest([3; 32]),
        endpoint: Endpoint::Chat,
        cost_max: Nano(1_000_000),
        terms: ChannelTerms {
            chain: ChainId::EMBEDDED,
            payer: address,
            payee: address,
            payer_key: payer.verifying_key().to_bytes(),
            payee_key: [5; 32],
            close_delay_s: 3_600,
            claims_until: 2_000_000_000,
            salt: 0,
        },
        cap_signature: [0; 64],
        class: "standard".into(),
        deadline_ms: 60_000,
        first_token_ms: 30_000,
        sealed_bytes: 0,
        voucher: None,
    }
}

pub(super) fn job(body: &[u8], key: &SealingKey) -> SealedJob {
    let payer = SigningKey::from_bytes(&[9; 32]);
    let request = JobRequest {
        endpoint: Endpoint::Chat,
        body: Zeroizing::new(body.to_vec()),
    };
    seal_to(
        &key.public(),
        envelope(&payer),
        &request,
        &payer,
        &mut rng(),
    )
    .unwrap()
}

#[test]
fn a_job_opens_for_its_key_and_its_answer_for_its_client() {
    let key = SealingKey::generate(1, &mut rng());
    for size in [0, 1, 3000, 20_000, 100_000] {
        let body = vec![b'x'; size];
        let sealed = job(&body, &key);
        assert_eq!(
            sealed.envelope.unverified().sealed_bytes as usize,
            sealed.request.len()
        );
        let enc = OpenedJob::encapsulated_key(&sealed.request).unwrap();
        sealed.envelope.verify(enc).unwrap();
        let opened = open_job(&key, &sealed.request, sealed.envelope.digest(), &mut rng()).unwrap();
        assert_eq!(&opened.request.body[..], &body[..]);
        assert!(
            opened.commitments == sealed.commitments,
            "both sides export the same salts"
        );
        let receipt = opened.receipt_key.seal(b"receipt").unwrap();
        assert_eq!(sealed.receipt_key.open(&receipt), Ok(b"receipt".to_vec()));
        let cancel = sealed.cancel.cancel(sealed.envelope.digest());
        assert!(opened.cancel.made(&cancel));

        let want = [[b'y'; RECORD_BYTES], [0; RECORD_BYTES]];
        let (mut sealer, mut opener) = (opened.sealer, sealed.opener);
        let stream = [
            sealer.seal(&want[0]),
            sealer.seal(&want[1]),
            sealer.finish(),
        ];
        let mut records = Vec::new();
        for piece in stream.concat().chunks(100) {
            records.extend(opener.push(piece).unwrap());
        }
        opener.finish().unwrap();
        assert_eq!(records, want);
    }
}

#[test]
fn requests_of_one_bucket_have_one_length() {
    let key = SealingKey::generate(1, &mut rng());
    let length = |tokens: usize, parent| {
        let request = Request {
            model_root: Digest([3; 32]),
            parent,
            ask: Ask::Chat(ChatRequest::new(vec![1; tokens], 16)),
        };
        job(&request.encode().unwrap(), &key).request.len()
    };
    let lengths = [length(1, None), length(500, None), length(1, Some([1; 16]))];
    assert!(lengths.windows(2).all(|w| w[0] == w[1]), "{lengths:?}");
    assert!(length(600, None) > lengths[0]);
    let most = length(crate::limits::REQUEST_WORDS_MAX - 1, None);
    assert!(most <= crate::limits::SEALED_REQUEST_BYTES_MAX, "{most}");
}

#[test]
fn every_flipped_byte_of_a_sealed_request_is_refused() {
    let key = SealingKey::generate(1, &mut rng());
    let sealed = job(b"a question", &key);
    // Every byte of the header and the ends, every 37th between: one decapsulation each.
    let interesting = (0..sealed.request.len())
        .filter(|i| *i < 40 || i % 37 == 0 || i + 40 > sealed.request.len());
    for index in interesting {
        let mut bytes = sealed.request.clone();
        bytes[index] ^= 0x01;
        let opened = open_job(&key, &bytes, sealed.envelope.digest(), &mut rng());
        assert!(opened.is_err(), "byte {index}");
    }
    for length in (0..sealed.request.len()).step_by(61) {
        assert!(
            open_job(
                &key,
                &sealed.request[..length],
                sealed.envelope.digest(),
                &mut rng()
            )
            .is_err()
        );
    }
}

#[test]
fn a_body_grafted_under_another_envelope_is_refused() {
    let key = SealingKey::generate(1, &mut rng());
    let sealed = job(b"a question", &key);
    let other = EnvelopeDigest([8; 32]);
    let refused = open_job(&key, &sealed.request, other, &mut rng()).err();
    assert_eq!(
        refused,
        Some(SealError::EnvelopeDigest {
            got: sealed.envelope.digest(),
            want: other
        })
    );
    let another = SealingKey::generate(1, &mut ChaCha20Rng::from_seed([8; 32]));
    assert_eq!(
        open_job(
            &another,
            &sealed.request,
            sealed.envelope.digest(),
            &mut rng()
        )
        .err(),
        Some(SealError::NotAuthentic)
    );
}

#[test]
fn a_changed_cut_or_reordered_answer_is_refused() {
    let key = SealingKey::generate(1, &mut rng());
    let answer = || {
        let sealed = job(b"a question", &key);
        let opened = open_job(&key, &sealed.request, sealed.envelope.digest(), &mut rng()).unwrap();
        let mut sealer = opened.sealer;
        let pieces = [
            sealer.seal(&[1; RECORD_BYTES]),
            sealer.seal(&[2; RECORD_BYTES]),
            sealer.finish(),
        ];
        (sealed.opener, pieces)
    };
    let open =
        |mut opener: ResponseOpener, bytes: &[u8]| opener.push(bytes).and_then(|_| opener.finish());

    let (opener, pieces) = answer();
    assert_eq!(open(opener, &pieces.concat()), Ok(()));
    let whole = answer().1.concat();
    for index in (0..whole.len()).step_by(13) {
        let mut bytes = whole.clone();
        bytes[index] ^= 0x80;
        assert!(open(answer().0, &bytes).is_err(), "byte {index}");
    }
    let (opener, [one, two, _]) = answer();
    assert_eq!(
        open(opener, &[one, two].concat()),
        Err(SealError::Truncated),
        "no last chunk"
    );
    let (opener, [one, two, end]) = answer();
    let rest = one.len() - two.len();
    let swapped = [&one[..rest], &two, &one[rest..], &end].concat();
    assert_eq!(open(opener, &swapped), Err(SealError::NotAuthentic));
    let (opener, _) = answer();
    assert_eq!(open(opener, &[]), Err(SealError::Truncated));
}
