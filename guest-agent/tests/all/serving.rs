//! From boot to receipt, and each job that is refused.

use crate::world::*;
use ed25519_dalek::SigningKey;
use guest_agent::platform::{Platform, PlatformError};
use guest_agent::{BootError, Booted};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use registers::{Digest48, Registers, ReportData};
use settlement::{ChainId, Nano, SignedCharge, Voucher};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use wire::*;

#[tokio::test]
async fn a_job_is_answered_with_a_receipt_that_its_client_verifies() {
    let running = boot(&config(|_| ())).await;
    let job = running.seal(1, |_| ());
    let frames = running.send(&job.envelope.encode(), &job.request).await;
    let mut opener = job.opener;
    let records = opener.push(&body(&frames, FrameKind::Data)).unwrap();
    opener.finish().unwrap();

    let mut reader = AnswerReader::new(Endpoint::Chat, job.envelope.digest());
    let (mut ids, mut finish, mut receipt) = (Vec::new(), None, None);
    for record in &records {
        match reader.take(record).unwrap() {
            AnswerEvent::Ids {
                ids: more,
                finish: end,
            } => {
                ids.extend(more);
                finish = end;
            }
            AnswerEvent::Receipt(bytes) => receipt = Some(bytes),
            AnswerEvent::Part => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(finish, Some(Finish::Stop));
    assert_eq!(ids, random_model::answer(), "the end token is one of them");
    let receipt = Receipt::decode(&receipt.unwrap()).unwrap();
    let prompt = receipt.unverified().usage.prompt;
    assert_eq!(prompt as usize, random_model::prompt("Hello").len());
    let claims = RequestClaims {
        envelope: job.envelope.digest(),
        cap: job.envelope.unverified().cap(),
        payer_key: payer().verifying_key().to_bytes(),
        request: receipt.unverified().request,
        answer: AnswerClaims::Whole {
            response: job.commitments.response(reader.chain()),
            frames: reader.chain(),
            events: reader.chained(),
            usage: Usage {
                prompt,
                cached: 0,
                completion: ids.len() as u32,
            },
        },
    };
    let verified = receipt.verify(running.worker.keyset(), &claims).unwrap();
    assert!(prompt > 0 && verified.core().usage.completion > 0);
    let clear = SignedCharge::decode(&body(&frames, FrameKind::Charge)).unwrap();
    assert_eq!(clear.encode(), receipt.charge().encode());
}

#[tokio::test]
async fn a_job_runs_once_and_the_keys_wear_out() {
    let running = boot(&config(|_| ())).await;
    let job = running.seal(1, |_| ());
    let (envelope, sealed) = (job.envelope.encode(), job.request.clone());
    assert_eq!(running.code(job).await, None, "it runs");
    let again = running.refusal(&envelope, &sealed).await;
    assert_eq!(again.map(|(_, code)| code), Some(RefusalCode::Replay));
    // Channels that the payee knows to have paid may have all jobs, others a half.
    for number in 2..=5 {
        let job = running.seal(number, |_| ());
        assert_eq!(running.code_with(job, Some(voucher(1))).await, None);
    }
    let sixth = running.seal(6, |_| ());
    assert_eq!(
        running.code_with(sixth, Some(voucher(1))).await,
        Some(RefusalCode::KeysWorn)
    );
}

#[tokio::test]
async fn an_envelope_that_asks_for_something_else_is_refused_by_name() {
    let running = boot(&config(|c| c["jobs_max"] = 100.into())).await;
    type Change = fn(&mut Envelope);
    let cases: [(Change, RefusalCode); 7] = [
        (|e| e.terms.chain = ChainId(-3), RefusalCode::Chain),
        (|e| e.terms.payee = e.terms.payer, RefusalCode::Payee),
        (
            |e| e.terms.close_delay_s = 0,
            RefusalCode::CloseDelay {
                got_s: 0,
                min_s: 3_600,
                max_s: 30 * 86_400,
            },
        ),
        (|e| e.model = "another".into(), RefusalCode::Model),
        (|e| e.model_root = Digest([1; 32]), RefusalCode::Model),
        (|e| e.endpoint = Endpoint::Embeddings, RefusalCode::Model),
        (|e| e.cost_max = Nano(1), RefusalCode::CostMax),
    ];
    for (number, (change, code)) in cases.into_iter().enumerate() {
        assert_eq!(
            running.code(running.seal(number as u8, change)).await,
            Some(code),
            "case {number}"
        );
    }
    let foreign = Voucher {
        chain: ChainId::EMBEDDED,
        channel: PAYEE,
        cumulative: Nano(1),
        usage_root: [0; 32],
    };
    let foreign = foreign.sign(&payer()).encode();
    let job = running.seal(20, |e| e.voucher = Some(foreign));
    assert_eq!(
        running.code(job).await,
        Some(RefusalCode::Voucher),
        "a voucher of another channel"
    );
}

#[tokio::test]
async fn a_changed_envelope_or_request_is_refused_and_the_true_one_still_runs() {
    let running = boot(&config(|c| c["jobs_max"] = 100.into())).await;
    let job = running.seal(1, |_| ());
    let (envelope, sealed) = (job.envelope.encode(), job.request.clone());
    for index in (0..envelope.len()).step_by(7) {
        let mut changed = envelope.clone();
        changed[index] ^= 0x01;
        let (name, code) = running.refusal(&changed, &sealed).await.expect("refused");
        assert!(
            matches!(name, Subject::Unread(_)),
            "it does not speak of the true envelope"
        );
        assert!(
            matches!(code, RefusalCode::Envelope | RefusalCode::EnvelopeSignature),
            "byte {index}: {code:?}"
        );
    }
    let mut changed = sealed.clone();
    changed[20] ^= 0x01;
    let (_, code) = running.refusal(&envelope, &changed).await.expect("refused");
    assert_eq!(
        code,
        RefusalCode::EnvelopeSignature,
        "the payer signed over the encapsulated key"
    );
    assert_eq!(
        running.code(job).await,
        None,
        "changes by somebody else did not use it up"
    );
}

#[tokio::test]
async fn a_channel_that_owes_too_much_gets_no_more_until_it_pays() {
    let running = boot(&config(|c| {
        c["jobs_max"] = 100.into();
        c["exposure_max_nano"] = 100_000.into();
    }))
    .await;
    // 16 completion tokens at 2000 and some prompt tokens at 1000 nanoTON: two jobs fit, or three at most.
    let mut number = 0;
    while running.code(running.seal(number, |_| ())).await.is_none() {
        number += 1;
        assert!(number < 5, "the window never closed");
    }
    let voucher = Voucher {
        chain: ChainId::EMBEDDED,
        channel: terms().address(),
        cumulative: Nano(1),
        usage_root: [0; 32],
    };
    let unpaid = running.seal(50, |_| ());
    let (_, code) = running
        .refusal(&unpaid.envelope.encode(), &unpaid.request)
        .await
        .expect("refused");
    assert!(
        matches!(code, RefusalCode::Exposure { .. } | RefusalCode::KeysWorn),
        "{code:?}"
    );
    let foreign = voucher.sign(&SigningKey::from_bytes(&[8; 32])).encode();
    let job = running.seal(51, |e| e.voucher = Some(foreign));
    assert_eq!(
        running.code(job).await,
        Some(RefusalCode::Voucher),
        "the payer did not sign it"
    );
}

#[tokio::test]
async fn nonsense_on_the_stream_ends_the_exchange_without_an_answer() {
    let running = boot(&config(|_| ())).await;
    let streams = [
        vec![],
        vec![0xff; 100],
        end(),
        Frame::data(b"data first"),
        Frame::encode(FrameKind::OpenAttest, b"short nonce"),
        [
            Frame::encode(FrameKind::OpenJob, b""),
            Frame::encode(FrameKind::OpenJob, b""),
        ]
        .concat(),
        Frame::encode(FrameKind::OpenJob, b"")[..3].to_vec(),
    ];
    for bytes in streams {
        let (mut ours, theirs) = tokio::io::duplex(1 << 16);
        let serving = running.serving.clone();
        let agent = tokio::spawn(async move { serving.exchange(theirs).await });
        ours.write_all(&bytes).await.unwrap();
        ours.shutdown().await.unwrap();
        let mut answer = Vec::new();
        ours.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"", "{bytes:?}");
        assert!(agent.await.unwrap().is_err());
    }
}

/// A platform with the longest quote there may be.
struct LongQuote(InProcess);

impl Platform for LongQuote {
    fn extend(&mut self, digest: &Digest48) -> Result<(), PlatformError> {
        self.0.extend(digest)
    }
    fn registers(&mut self) -> Result<Registers, PlatformError> {
        self.0.registers()
    }
    fn quote(&mut self, _: &ReportData) -> Result<Vec<u8>, PlatformError> {
        Ok(vec![0; wire::limits::QUOTE_BYTES_MAX])
    }
}

/// A stream that remembers the length of each write it was asked for.
struct Recorded(DuplexStream, Arc<Mutex<Vec<usize>>>);

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.1.lock().unwrap().push(bytes.len());
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A vsock stream was seen to stall on writes of 64 KiB and never on 16 KiB.
#[tokio::test]
async fn no_write_to_the_proxy_is_longer_than_16_kib() {
    let booted = Booted::new(LongQuote(InProcess(module())), &config(|_| ()), true).unwrap();
    let measured = booted.measure(|| Ok(Digest48([7; 48])), models()).unwrap();
    let attested = measured
        .attest(&mut ChaCha20Rng::from_seed([1; 32]))
        .unwrap();
    let serving = attested.serve();

    let (mut ours, theirs) = tokio::io::duplex(1 << 16);
    let lengths = Arc::new(Mutex::new(Vec::new()));
    let recorded = Recorded(theirs, lengths.clone());
    let agent = tokio::spawn(async move { serving.exchange(recorded).await });
    let request = [Frame::encode(FrameKind::OpenAttest, &[9; 32]), end()].concat();
    ours.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer).await.unwrap();
    agent.await.unwrap().unwrap();

    assert!(answer.len() > 16 * 1024, "one write would not have done");
    let lengths = lengths.lock().unwrap();
    assert_eq!(lengths.iter().max(), Some(&(16 * 1024)));
}

#[test]
fn a_boot_that_would_mislead_is_refused() {
    let boot = |config: &[u8], simulated| Booted::new(InProcess(module()), config, simulated).err();
    assert!(boot(&config(|_| ()), true).is_none());
    assert!(
        matches!(
            boot(&config(|_| ()), false),
            Some(BootError::Profile { .. })
        ),
        "sim profile, real binary"
    );
    let cpu = config(|c| c["profile"] = "cpu".into());
    assert!(
        matches!(boot(&cpu, true), Some(BootError::Profile { .. })),
        "real profile, simulated binary"
    );
    let live = config(|c| c["chain"] = (-239).into());
    assert!(matches!(
        boot(&live, true),
        Some(BootError::SimulatedOnLiveChain)
    ));
    let wrong = config(|c| c["models"][0]["root"] = "00".repeat(32).into());
    let measured = Booted::new(InProcess(module()), &wrong, true)
        .unwrap()
        .measure(|| Ok(Digest48([7; 48])), models());
    assert!(
        matches!(measured.err(), Some(BootError::Models(_))),
        "weights that the configuration does not name"
    );
}

/// A platform whose RTMR3 cannot be extended.
struct Unextendable;

impl Platform for Unextendable {
    fn extend(&mut self, _: &Digest48) -> Result<(), PlatformError> {
        Err(PlatformError::Refused {
            doing: "extending",
            why: "never".into(),
        })
    }
    fn registers(&mut self) -> Result<Registers, PlatformError> {
        unreachable!("what was not extended is not read")
    }
    fn quote(&mut self, _: &ReportData) -> Result<Vec<u8>, PlatformError> {
        unreachable!("no key exists")
    }
}

/// A volume's only voucher is the configuration. Were it opened first, this would wait a minute for a disk.
#[test]
fn no_volume_is_opened_before_its_configuration_is_measured() {
    let on_a_volume = config(|c| {
        c["models"][0]["volume"] = serde_json::json!({"salt": "44".repeat(32), "data_blocks": 5});
    });
    let boot = || Booted::new(Unextendable, &on_a_volume, true).unwrap();
    let measured = boot().measure(|| Ok(Digest48([7; 48])), models());
    assert!(matches!(measured.err(), Some(BootError::Platform(_))));
    let unhashed = boot().measure(|| Err(std::io::ErrorKind::NotFound.into()), models());
    assert!(matches!(unhashed.err(), Some(BootError::Program(_))));
}
