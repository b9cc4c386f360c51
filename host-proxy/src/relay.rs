//! One job: HTTP in, guest stream out, frames back (trust boundary B1 from the host's side).
//!
//! ```text
//!  body read ──► envelope checked ──► channel admitted ──► guest asked ──► frames passed on ──► End
//!     400           400                  402, 403             503 (no)       cut: no End
//!                                                             504, 502 (maybe)
//! ```
//!
//! Promises: a request is in memory once, an answer four frames at most; a charge is verified and on the disk before it is
//! passed on; a client that leaves closes the guest's stream. Frame kinds and sizes may be traced, payloads never are.
//!
//! These checks protect the proxy only. The guest repeats all of them.

use crate::api_error::ApiError;
use crate::error::Error;
use crate::guest::{GuestError, GuestStream};
use crate::limits::{FRAMES_WAITING, GUEST_GRACE, JOB_MAX, UPLOAD};
use crate::proxy::{Proxy, Reservation};
use crate::voucher::VoucherRefused;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http_body_util::{BodyExt, Limited};
use settlement::SignedCharge;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use wire::limits::{
    ANSWER_BYTES_MAX, ENVELOPE_BYTES_MAX, SEALED_REQUEST_BYTES_MAX, STATEMENT_BYTES_MAX,
};
use wire::{Frame, FrameError, FrameKind, KeysetDigest, OpenedJob, SignedEnvelope, SignedRefusal};

/// Length, envelope and signature, as [`SignedEnvelope::encode`] writes them.
const SIGNED_ENVELOPE_BYTES_MAX: usize = 2 + ENVELOPE_BYTES_MAX + 64;
/// Records of an answer with their chunk headers and tags.
const SEALED_ANSWER_BYTES_MAX: usize = ANSWER_BYTES_MAX + ANSWER_BYTES_MAX / 8;

/// Relays one sealed job to the guest, and the guest's frames to the client.
pub async fn job(proxy: Arc<Proxy>, body: Body) -> Result<Response, ApiError> {
    let Ok(slot) = proxy.jobs.clone().try_acquire_owned() else {
        return Err(ApiError::busy());
    };
    let body = read_body(body, SIGNED_ENVELOPE_BYTES_MAX + SEALED_REQUEST_BYTES_MAX).await?;
    let (envelope, sealed) = open_envelope(&body)?;
    let content = envelope.unverified();
    let reservation = proxy.admit(content).await?;
    if proxy.receipt_key(content.keyset).is_none() {
        proxy.search(content.keyset).await;
    }
    let started = Instant::now();
    let within = |ms: u32| started + (Duration::from_millis(ms.into()) + GUEST_GRACE).min(JOB_MAX);
    let until = within(content.deadline_ms);
    let mut exchange = Exchange {
        keyset: content.keyset,
        order: Order::Begun,
        answer_bytes: 0,
        until,
        envelope: envelope.clone(),
        proxy: proxy.clone(),
        reservation: Some(reservation),
        _slot: slot,
    };
    let request = [
        Frame::encode(FrameKind::OpenJob, &envelope.encode()),
        Frame::data(sealed),
        Frame::encode(FrameKind::End, b""),
    ]
    .concat();
    drop(body);
    tracing::trace!(envelope = %envelope.digest(), bytes = request.len(), "job to the guest");
    let mut guest = proxy.guest.connect().await?;
    let first = guest
        .ask(
            &request,
            until.min(within(exchange.envelope.unverified().first_token_ms)),
        )
        .await?;
    drop(request);
    exchange.examine(&first).await?;
    let (frames, waiting) = mpsc::channel(FRAMES_WAITING);
    tokio::spawn(exchange.pump(guest, first, frames));
    let stream = stream::unfold(waiting, |mut waiting| async {
        Some((waiting.recv().await?, waiting))
    });
    let kind = [(CONTENT_TYPE, "application/vnd.chrysalis.frames")];
    Ok((kind, Body::from_stream(stream)).into_response())
}

/// Reads the body of `POST /v1/vouchers`.
pub async fn read_voucher(body: Body) -> Result<settlement::SignedVoucher, ApiError> {
    let body = read_body(body, STATEMENT_BYTES_MAX).await?;
    Ok(settlement::SignedVoucher::decode(&body).map_err(VoucherRefused::from)?)
}

/// One running job, from the guest's first frame to its last.
struct Exchange {
    proxy: Arc<Proxy>,
    envelope: SignedEnvelope,
    keyset: KeysetDigest,
    order: Order,
    answer_bytes: usize,
    until: Instant,
    /// Given back as soon as what the job cost is on the disk, before the client learns that it has ended.
    reservation: Option<Reservation>,
    _slot: OwnedSemaphorePermit,
}

/// Which frames may come: `Data* Charge? End`, or `Refused End`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Begun,
    Answering,
    Settled,
    Ended,
}

/// Why a job's frames stop before their end.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error("the answer is longer than {SEALED_ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("the charge is refused: {0}")]
    Charge(String),
    #[error("the refusal cannot be read: {0}")]
    Refusal(#[from] wire::Malformed),
    #[error(transparent)]
    Store(#[from] Error),
    #[error("the client has left")]
    ClientLeft,
}

type Passed = Result<Bytes, std::io::Error>;

impl Exchange {
    async fn pump(mut self, mut guest: GuestStream, first: Frame, client: mpsc::Sender<Passed>) {
        if let Err(stopped) = self.pass_all(&mut guest, first, &client).await {
            tracing::warn!(envelope = %self.envelope.digest(), %stopped, "a job was cut");
            // An error, not an end: the HTTP body stays unfinished, too. The client may be gone already.
            let cut = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            let _ = timeout(GUEST_GRACE, client.send(Err(cut))).await;
        }
    }

    /// Passes on `first`, which was examined before the head of the answer was sent, and all that follow.
    async fn pass_all(
        &mut self,
        guest: &mut GuestStream,
        first: Frame,
        client: &mpsc::Sender<Passed>,
    ) -> Result<(), Stopped> {
        let mut frame = first;
        loop {
            let bytes = Frame::encode(frame.kind, &frame.payload);
            match timeout_at(self.until, client.send(Ok(bytes.into()))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(Stopped::ClientLeft),
            }
            if self.order == Order::Ended {
                return Ok(());
            }
            frame = tokio::select! {
                () = client.closed() => return Err(Stopped::ClientLeft),
                frame = guest.next(self.until) => frame?,
            };
            self.examine(&frame).await?;
        }
    }

    async fn examine(&mut self, frame: &Frame) -> Result<(), Stopped> {
        self.order = match (self.order, frame.kind) {
            (Order::Begun | Order::Answering, FrameKind::Data) => {
                self.answer_bytes += frame.payload.len();
                if self.answer_bytes > SEALED_ANSWER_BYTES_MAX {
                    return Err(Stopped::TooLong);
                }
                Order::Answering
            }
            (Order::Begun | Order::Answering, FrameKind::Receipt) => Order::Answering,
            (Order::Begun | Order::Answering, FrameKind::Charge) => {
                self.keep_charge(&frame.payload).await?;
                self.reservation = None;
                Order::Settled
            }
            (Order::Begun, FrameKind::Refused) => {
                let code = SignedRefusal::decode(&frame.payload)?.unverified_code();
                tracing::debug!(envelope = %self.envelope.digest(), ?code, "the guest refused");
                self.reservation = None;
                Order::Settled
            }
            // An answer without a charge: accepted, then failed; nothing is owed.
            (Order::Answering | Order::Settled, FrameKind::End) if frame.payload.is_empty() => {
                self.reservation = None;
                Order::Ended
            }
            (_, kind) => return Err(GuestError::from(FrameError::OutOfPlace(kind)).into()),
        };
        Ok(())
    }

    async fn keep_charge(&self, bytes: &[u8]) -> Result<(), Stopped> {
        let refuse = |why: &str| Stopped::Charge(why.to_owned());
        let unknown = || refuse("the guest's receipt key is not known");
        let receipt_key = self.proxy.receipt_key(self.keyset).ok_or_else(unknown)?;
        let envelope = self.envelope.unverified();
        let charge = SignedCharge::decode(bytes)
            .and_then(|signed| signed.verify(&receipt_key, &envelope.terms.payer_key))
            .map_err(|e| Stopped::Charge(e.to_string()))?;
        if charge.cap != envelope.cap() {
            return Err(refuse(
                "it is for another job or another cap than the envelope's",
            ));
        }
        if charge.stake != self.proxy.payee.address() {
            return Err(refuse("it names another stake"));
        }
        if charge.cumulative < charge.cost {
            return Err(refuse("its sum is below its cost"));
        }
        let store = self.proxy.store.clone();
        let recorded = store
            .on_disk(move |s| s.record(&receipt_key, &charge))
            .await?;
        recorded.map_err(|equivocation| Stopped::Charge(equivocation.to_string()))
    }
}

fn open_envelope(body: &[u8]) -> Result<(SignedEnvelope, &[u8]), ApiError> {
    let (envelope, sealed) = SignedEnvelope::decode_prefix(body)
        .map_err(|e| ApiError::bad_request("malformed", e.to_string()))?;
    if sealed.len() > SEALED_REQUEST_BYTES_MAX {
        return Err(too_long(SEALED_REQUEST_BYTES_MAX));
    }
    let enc = OpenedJob::encapsulated_key(sealed)
        .map_err(|e| ApiError::bad_request("malformed", e.to_string()))?;
    envelope
        .verify(enc)
        .map_err(|e| ApiError::bad_request("envelope_signature", e.to_string()))?;
    Ok((envelope, sealed))
}

async fn read_body(body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let collected = timeout(UPLOAD, Limited::new(body, bytes_max).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(too_long(bytes_max))
        }
        Ok(Err(_)) => Err(ApiError::bad_request(
            "cut",
            "the request's body is incomplete",
        )),
        Err(_elapsed) => {
            let words = "the request's body was not complete within 30 s";
            Err(ApiError::refuse(StatusCode::REQUEST_TIMEOUT, "slow", words))
        }
    }
}

fn too_long(bytes_max: usize) -> ApiError {
    let words = format!("at most {bytes_max} bytes are accepted");
    ApiError::refuse(StatusCode::PAYLOAD_TOO_LARGE, "too_long", words)
}

impl From<Stopped> for ApiError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Guest(error) => error.into(),
            Stopped::Store(error) => ApiError::internal(&error).after_start(),
            other => {
                tracing::warn!(%other, "guest");
                GuestError::protocol_reply()
            }
        }
    }
}
