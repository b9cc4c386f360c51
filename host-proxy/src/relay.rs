//! One job: HTTP in, guest stream out, frames back (trust boundary B1 from the host's side).
//!
//! ```text
//!  envelope read ──► signature ──► channel admitted ──► keyset known ──► rest read ──► place ──► guest asked ──► frames ──► End
//!     400               400           402, 403, 429     (a narrow lane)     400         503      503 (no)      cut: no End
//!                                                                                                504, 502 (maybe)
//! ```
//!
//! Promises: what costs a client nothing holds no place; a request is in memory once while the guest computes, an answer [`PASSES_WAITING`] times
//! [`PASSED_BYTES_MAX`] at most. A
//! charge is verified and on the disk before it is passed on, and the sealed receipt with it. A client that leaves ends nothing once
//! the guest was asked: its frames are read to the charge, which the payer owes, and the receipt can be fetched. A client that stays
//! and does not read makes the guest wait, and after a while end the job: what was made is billed, and the receipt is fetched
//! from the guest. Frame kinds and sizes may be traced, payloads never are.
//!
//! These checks protect the proxy only. The guest repeats those that need no chain.

use crate::api_error::{ApiError, Executed};
use crate::at_once::Running;
use crate::error::Error;
use crate::guest::{GuestError, GuestStream};
use crate::guests::{Guest, Place};
use crate::limits::{
    CUT_PAUSE, GUEST_GRACE, JOB_MAX, JOBS_PER_CHANNEL_MAX, PASSED_BYTES_MAX, PASSES_WAITING,
    RECEIPT_ATTEMPTS, RECEIPT_PAUSE, UPLOAD, UPLOAD_HEAD,
};
use crate::metrics::{JobEnded, Outcome};
use crate::proxy::{Proxy, Reservation};
use crate::receipts;
use crate::store::KeptReceipt;
use crate::voucher::VoucherRefused;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http_body_util::{BodyExt, Limited};
use settlement::{SignedCharge, SignedVoucher, VerifiedCap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use wire::limits::{
    ANSWER_BYTES_MAX, ENVELOPE_BYTES_MAX, FRAME_BYTES_MAX, SEALED_REQUEST_BYTES_MAX,
    STATEMENT_BYTES_MAX,
};
use wire::{
    Endpoint, EnvelopeDigest, Frame, FrameError, FrameKind, KeysetDigest, OpenedJob,
    SignedEnvelope, SignedRefusal,
};

/// Length, envelope and signature, as [`SignedEnvelope::encode`] writes them.
const SIGNED_ENVELOPE_BYTES_MAX: usize = 2 + ENVELOPE_BYTES_MAX + 64;
/// What must be there before anything can be judged: an envelope, and the encapsulated key that it is signed with.
const HEAD_BYTES_MAX: usize = SIGNED_ENVELOPE_BYTES_MAX + 7 + 1120;
/// Records of an answer with their chunk headers and tags.
const SEALED_ANSWER_BYTES_MAX: usize = ANSWER_BYTES_MAX + ANSWER_BYTES_MAX / 8;

/// Relays one sealed job to the guest, and the guest's frames to the client.
pub async fn job(proxy: Arc<Proxy>, body: Body) -> Result<Response, ApiError> {
    if proxy.is_draining() {
        return Err(ApiError::draining());
    }
    let mut upload = Upload::begin(body, SIGNED_ENVELOPE_BYTES_MAX + SEALED_REQUEST_BYTES_MAX)?;
    upload.read(HEAD_BYTES_MAX, UPLOAD_HEAD).await?;
    let (envelope, cap, sealed) = open_envelope(&upload.read)?;
    let (content, head_bytes) = (envelope.unverified(), upload.read.len() - sealed.len());
    let reservation = proxy.admit(content).await?;
    if proxy.guests.of(content.keyset).is_none() {
        proxy.search(content.keyset).await;
    }
    // A guest only refuses what is sealed to other keys, with its signature, which the client needs.
    let (guest, strange) = match proxy.guests.of(content.keyset) {
        Some(guest) => (guest.clone(), None),
        None => (proxy.guests.least_loaded(), Some(slot(&proxy.strange)?)),
    };
    let highest = reservation.highest.as_ref();
    let request = read_request(&proxy, upload, &envelope, highest, head_bytes).await?;
    let within = |from: Instant, ms: u32| {
        from + (Duration::from_millis(ms.into()) + GUEST_GRACE).min(JOB_MAX)
    };
    let waits_until = within(Instant::now(), content.first_token_ms);
    let place = proxy.guests.place(&guest, waits_until).await?;
    if proxy.is_draining() {
        return Err(ApiError::draining());
    }
    let key = (guest.index, envelope.digest());
    let running = proxy.running.enter(key, JOBS_PER_CHANNEL_MAX);
    let started = Instant::now();
    let until = within(started, content.deadline_ms);
    let first_until = until.min(within(started, content.first_token_ms));
    tracing::trace!(envelope = %envelope.digest(), bytes = request.len(), "job to the guest");
    let exchange = Exchange {
        keyset: content.keyset,
        order: Order::Begun,
        answer_bytes: 0,
        receipt: None,
        started,
        first: None,
        outcome: Outcome::Cut,
        until,
        envelope,
        cap,
        proxy,
        reservation: Some(reservation),
        place: Some((place, strange)),
        running: Some(running.ok_or_else(ApiError::busy)?),
    };
    let (begin, begun) = oneshot::channel();
    // Not this task's: it ends when the client leaves.
    tokio::spawn(exchange.run(guest, request, first_until, begin));
    let waiting = begun.await.map_err(|_| GuestError::protocol_reply())??;
    let stream = stream::unfold(Some((waiting, false)), next_passed);
    let kind = [(CONTENT_TYPE, "application/vnd.chrysalis.frames")];
    Ok((kind, Body::from_stream(stream)).into_response())
}

/// The next frame for the client. An answer that stops before its `End` is an error, so that the HTTP body stays unfinished, too.
async fn next_passed(
    waiting: Option<(mpsc::Receiver<Pass>, bool)>,
) -> Option<(std::io::Result<Bytes>, Option<(mpsc::Receiver<Pass>, bool)>)> {
    let (mut waiting, ended) = waiting?;
    match waiting.recv().await {
        Some(Pass { bytes, ended }) => Some((Ok(bytes), Some((waiting, ended)))),
        None if ended => None,
        None => Some((Err(std::io::ErrorKind::UnexpectedEof.into()), None)),
    }
}

fn slot(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
    of.clone().try_acquire_owned().map_err(|_| ApiError::busy())
}

/// Reads the rest of an admitted job and makes the guest's request of it.
async fn read_request(
    proxy: &Proxy,
    mut upload: Upload,
    envelope: &SignedEnvelope,
    highest: Option<&SignedVoucher>,
    head_bytes: usize,
) -> Result<Vec<u8>, ApiError> {
    let _one_of_many = proxy.uploads.try_acquire().map_err(|_| ApiError::busy())?;
    let sealed_bytes = envelope.unverified().sealed_bytes as usize;
    // One more, to see whether there is one.
    let whole = head_bytes + sealed_bytes;
    upload.read(whole + 1, UPLOAD).await?;
    let sealed = upload.read.get(head_bytes..).unwrap_or_default();
    if sealed.len() > sealed_bytes {
        return Err(too_long(whole));
    }
    if sealed.len() < sealed_bytes {
        let words = format!(
            "the sealed request has {} bytes, its envelope says {sealed_bytes}",
            sealed.len()
        );
        return Err(ApiError::bad_request("malformed", words));
    }
    // What the channel has promised before, so that the guest counts none of it for jobs of its boot.
    let held = highest.map(SignedVoucher::encode).unwrap_or_default();
    Ok([
        Frame::encode(FrameKind::Voucher, &held),
        Frame::encode(FrameKind::OpenJob, &envelope.encode()),
        Frame::data(sealed),
        Frame::encode(FrameKind::End, b""),
    ]
    .concat())
}

/// Reads the body of `POST /v1/vouchers`.
pub async fn read_voucher(body: Body) -> Result<SignedVoucher, ApiError> {
    let mut upload = Upload::begin(body, STATEMENT_BYTES_MAX)?;
    upload.read(STATEMENT_BYTES_MAX + 1, UPLOAD_HEAD).await?;
    if upload.read.len() > STATEMENT_BYTES_MAX {
        return Err(too_long(STATEMENT_BYTES_MAX));
    }
    Ok(SignedVoucher::decode(&upload.read).map_err(VoucherRefused::from)?)
}

/// One running job, from the guest's first frame to its last.
struct Exchange {
    proxy: Arc<Proxy>,
    envelope: SignedEnvelope,
    cap: VerifiedCap,
    keyset: KeysetDigest,
    order: Order,
    answer_bytes: usize,
    /// Sealed, until its charge comes.
    receipt: Option<Vec<u8>>,
    started: Instant,
    /// From then to the first frame.
    first: Option<Duration>,
    outcome: Outcome,
    until: Instant,
    /// Given back as soon as what the job cost is on the disk, before the client learns that it has ended.
    reservation: Option<Reservation>,
    place: Option<(Place, Option<OwnedSemaphorePermit>)>,
    running: Option<Running<(usize, EnvelopeDigest)>>,
}

/// Which frames may come: `Data* (Receipt? Charge)? End`, or `Refused End`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Begun,
    Answering,
    Receipted,
    Settled,
    Ended,
}

/// Why a job's frames stop before their end.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error("the client did not read")]
    Slow,
    #[error("the answer is longer than {SEALED_ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("the charge is refused: {0}")]
    Charge(String),
    #[error("the refusal cannot be read: {0}")]
    Refusal(#[from] wire::Malformed),
    #[error(transparent)]
    Store(#[from] Error),
}

impl Exchange {
    /// Asks the guest and follows it to its end, whether or not there is still a client. `begin` gets the frames, or why there are none.
    async fn run(
        mut self,
        at: Arc<Guest>,
        request: Vec<u8>,
        first_until: Instant,
        begin: oneshot::Sender<Result<mpsc::Receiver<Pass>, ApiError>>,
    ) {
        let mut client = Client {
            frames: None,
            wait: self.proxy.client_wait,
            slow: false,
        };
        let followed = async {
            let mut guest = match at.address.connect().await {
                Ok(guest) => guest,
                Err(error) => {
                    at.refused("guest_unreachable");
                    return refuse(begin, error.into());
                }
            };
            let first = match guest.ask(&request, first_until).await {
                Ok(frame) => frame,
                // The client is told; what the job costs is still to come.
                Err(error @ GuestError::Timeout) => {
                    refuse(begin, error.into())?;
                    let frame = guest.next(self.until).await?;
                    self.examine(&frame).await?;
                    return self.pass_all(&mut guest, frame, &mut client).await;
                }
                Err(error) => return refuse(begin, error.into()),
            };
            drop(request);
            self.first = Some(self.started.elapsed());
            if let Err(stopped) = self.examine(&first).await {
                return refuse(begin, stopped.into());
            }
            let (frames, waiting) = mpsc::channel(PASSES_WAITING);
            client.frames = Some(frames);
            // It may have left already.
            let _ = begin.send(Ok(waiting));
            self.pass_all(&mut guest, first, &mut client).await
        };
        let followed = followed.await;
        // The guest's stream is closed: a guest that still computes ends the job.
        (self.place, self.running) = (None, None);
        if matches!(followed, Err(Stopped::Slow)) {
            self.outcome = Outcome::Slow;
        }
        self.count(&at);
        let Err(stopped) = followed else {
            return;
        };
        tracing::warn!(envelope = %self.envelope.digest(), %stopped, "a job was cut");
        // What came before the cut is to reach the client: hyper flushes only when it has to wait for more.
        tokio::time::sleep(CUT_PAUSE).await;
        drop(client);
        let broken = matches!(
            stopped,
            Stopped::Slow | Stopped::Guest(GuestError::Truncated(_) | GuestError::Timeout)
        );
        if broken && matches!(self.order, Order::Answering | Order::Receipted) {
            self.recover(&at).await;
        }
    }

    fn count(&self, at: &Guest) {
        let content = self.envelope.unverified();
        let offered = self.proxy.guests.offers(self.keyset, &content.model);
        let ended = JobEnded {
            guest: at.index,
            model: offered.then(|| content.model.clone()),
            operation: match content.endpoint {
                Endpoint::Embeddings => "embeddings",
                Endpoint::Chat => "chat",
                Endpoint::Rerank => "rerank",
            },
            sealed_bytes: content.sealed_bytes as usize,
            answer_bytes: self.answer_bytes,
            first: self.first,
            took: self.started.elapsed(),
            outcome: self.outcome,
        };
        self.proxy.metrics.job(&ended);
        self.proxy.telemetry.job(&ended, &self.proxy.metrics);
    }

    /// Fetches the receipt of a job whose stream broke after the guest had begun: what was made is owed, and the payer may want it.
    async fn recover(&self, at: &Guest) {
        let mut pause = RECEIPT_PAUSE;
        for _ in 0..RECEIPT_ATTEMPTS {
            tokio::time::sleep(pause).await;
            pause *= 2;
            match receipts::ask_guest(&self.proxy, at, self.envelope.digest()).await {
                Ok(Some(_)) => {
                    let recovered = &self.proxy.metrics.receipts_recovered;
                    recovered.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Ok(None) => {}
                Err(error) if error.executed == Executed::Maybe => return,
                Err(_) => {}
            }
        }
        tracing::warn!(envelope = %self.envelope.digest(), "the guest has no receipt of a cut job");
    }

    /// Passes on `first`, which was examined before the head of the answer was sent, and all that follow.
    async fn pass_all(
        &mut self,
        guest: &mut GuestStream,
        first: Frame,
        client: &mut Client,
    ) -> Result<(), Stopped> {
        let mut frame = first;
        let mut held = Vec::new();
        loop {
            let (bytes, next) = self.together(guest, &frame);
            held.extend(bytes);
            // A receipt is worth nothing without its charge, and behind that the end is mostly here already.
            let follows = matches!(next, Ok(Some(_))) || self.order == Order::Receipted;
            if !follows || self.order == Order::Answering || next.is_err() {
                let ended = self.order == Order::Ended;
                client.pass(std::mem::take(&mut held), ended).await;
            }
            match self.order {
                Order::Ended => return Ok(()),
                // The charge is here, so nothing is left to save.
                Order::Settled => {}
                _ if client.slow => return Err(Stopped::Slow),
                _ => {}
            }
            frame = match next? {
                Some(frame) => frame,
                None => guest.next(self.until).await?,
            };
            let examined = self.examine(&frame).await;
            if examined.is_err() && self.order == Order::Settled {
                client.pass(std::mem::take(&mut held), false).await;
            }
            examined?;
        }
    }

    /// This frame's bytes, and those of the records behind it that are here already; and the frame after these, if it is here, too.
    fn together(
        &mut self,
        guest: &mut GuestStream,
        frame: &Frame,
    ) -> (Vec<u8>, Result<Option<Frame>, Stopped>) {
        let mut bytes = Frame::encode(frame.kind, &frame.payload);
        let more = matches!(self.order, Order::Answering | Order::Settled);
        while more && bytes.len() + FRAME_BYTES_MAX < PASSED_BYTES_MAX {
            match guest.ready() {
                Ok(Some(next))
                    if (self.order, next.kind) == (Order::Answering, FrameKind::Data) =>
                {
                    if let Err(stopped) = self.count_answer(&next) {
                        return (bytes, Err(stopped));
                    }
                    bytes.extend(Frame::encode(next.kind, &next.payload));
                }
                Ok(next) => return (bytes, Ok(next)),
                Err(error) => return (bytes, Err(error.into())),
            }
        }
        (bytes, Ok(None))
    }

    fn count_answer(&mut self, frame: &Frame) -> Result<(), Stopped> {
        self.answer_bytes += frame.payload.len();
        if self.answer_bytes > SEALED_ANSWER_BYTES_MAX {
            return Err(Stopped::TooLong);
        }
        Ok(())
    }

    async fn examine(&mut self, frame: &Frame) -> Result<(), Stopped> {
        self.order = match (self.order, frame.kind) {
            (Order::Begun | Order::Answering, FrameKind::Data) => {
                self.count_answer(frame)?;
                Order::Answering
            }
            (Order::Begun | Order::Answering, FrameKind::Receipt) => {
                self.receipt = Some(frame.payload.clone());
                Order::Receipted
            }
            (Order::Begun | Order::Answering | Order::Receipted, FrameKind::Charge) => {
                self.keep_charge(&frame.payload).await?;
                self.reservation = None;
                self.outcome = Outcome::Answered;
                Order::Settled
            }
            (Order::Begun, FrameKind::Refused) => {
                let code = SignedRefusal::decode(&frame.payload)?.unverified_code();
                tracing::debug!(envelope = %self.envelope.digest(), ?code, "the guest refused");
                self.reservation = None;
                self.outcome = Outcome::Refused;
                Order::Settled
            }
            // An answer without a charge: accepted, then failed; nothing is owed.
            (Order::Answering | Order::Settled, FrameKind::End) if frame.payload.is_empty() => {
                if self.order == Order::Answering {
                    self.outcome = Outcome::Failed;
                }
                self.reservation = None;
                Order::Ended
            }
            (_, kind) => return Err(GuestError::from(FrameError::OutOfPlace(kind)).into()),
        };
        Ok(())
    }

    async fn keep_charge(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        let refuse = |why: &str| Stopped::Charge(why.to_owned());
        let unknown = || refuse("the guest's receipt key is not known");
        let receipt_key = self.proxy.guests.receipt_key(self.keyset);
        let receipt_key = receipt_key.ok_or_else(unknown)?;
        let charge = SignedCharge::decode(bytes)
            .and_then(|signed| signed.verify_under(&receipt_key, &self.cap))
            .map_err(|e| Stopped::Charge(e.to_string()))?;
        if charge.stake != self.proxy.payee.stake() {
            return Err(refuse("it names another stake"));
        }
        if charge.cumulative < charge.cost {
            return Err(refuse("its sum is below its cost"));
        }
        let kept = self.receipt.take().map(|receipt| KeptReceipt {
            envelope: self.envelope.digest(),
            channel: self.cap.channel,
            payer_key: self.envelope.unverified().terms.payer_key,
            receipt,
            charge: bytes.to_vec(),
        });
        let store = &self.proxy.store;
        let recorded = store.record(&receipt_key, &charge, kept).await?;
        recorded.map_err(|refused| Stopped::Charge(refused.to_string()))
    }
}

fn refuse<T>(begin: oneshot::Sender<Result<T, ApiError>>, why: ApiError) -> Result<(), Stopped> {
    // Whoever asked may have left.
    let _ = begin.send(Err(why));
    Ok(())
}

/// Frames for the client.
#[derive(Debug)]
struct Pass {
    bytes: Bytes,
    /// The job's `End` is the last of them.
    ended: bool,
}

/// Where frames go, as long as somebody takes them.
struct Client {
    frames: Option<mpsc::Sender<Pass>>,
    /// How much longer the guest may be kept waiting for this client.
    wait: Duration,
    /// Whether it stayed, and did not read.
    slow: bool,
}

impl Client {
    async fn pass(&mut self, bytes: Vec<u8>, ended: bool) {
        let Some(frames) = &self.frames else {
            return;
        };
        let (began, bytes) = (Instant::now(), bytes.into());
        let pass = Pass { bytes, ended };
        match timeout(self.wait, frames.send(pass)).await {
            Ok(Ok(())) => self.wait = self.wait.saturating_sub(began.elapsed()),
            Ok(Err(_)) => {
                tracing::debug!("the client has left; its charge is still read");
                self.frames = None;
            }
            Err(_elapsed) => {
                self.frames = None;
                self.slow = true;
            }
        }
    }
}

fn open_envelope(body: &[u8]) -> Result<(SignedEnvelope, VerifiedCap, &[u8]), ApiError> {
    let (envelope, sealed) = SignedEnvelope::decode_prefix(body)
        .map_err(|e| ApiError::bad_request("malformed", e.to_string()))?;
    if envelope.unverified().sealed_bytes as usize > SEALED_REQUEST_BYTES_MAX {
        return Err(too_long(SEALED_REQUEST_BYTES_MAX));
    }
    let enc = OpenedJob::encapsulated_key(sealed)
        .map_err(|e| ApiError::bad_request("malformed", e.to_string()))?;
    let cap = envelope
        .verify(enc)
        .map_err(|e| ApiError::bad_request("envelope_signature", e.to_string()))?
        .cap();
    Ok((envelope, cap, sealed))
}

/// A request's body, read as far as it is needed.
pub(crate) struct Upload {
    body: Limited<Body>,
    bytes_max: usize,
    pub(crate) read: Vec<u8>,
}

impl Upload {
    /// Refuses a body that says it is too long.
    pub(crate) fn begin(body: Body, bytes_max: usize) -> Result<Self, ApiError> {
        if HttpBody::size_hint(&body).lower() > bytes_max as u64 {
            return Err(too_long(bytes_max));
        }
        Ok(Upload {
            body: Limited::new(body, bytes_max),
            bytes_max,
            read: Vec::new(),
        })
    }

    /// Reads until there are `bytes`, or the body has ended.
    pub(crate) async fn read(&mut self, bytes: usize, within: Duration) -> Result<(), ApiError> {
        let until = Instant::now() + within;
        while self.read.len() < bytes {
            match timeout_at(until, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    self.read
                        .extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
                }
                Ok(None) => break,
                Ok(Some(Err(error))) if error.is::<http_body_util::LengthLimitError>() => {
                    return Err(too_long(self.bytes_max));
                }
                Ok(Some(Err(_))) => {
                    let words = "the request's body is incomplete";
                    return Err(ApiError::bad_request("cut", words));
                }
                Err(_elapsed) => {
                    let words = format!(
                        "the request's body did not come within {} s",
                        within.as_secs()
                    );
                    return Err(ApiError::refuse(StatusCode::REQUEST_TIMEOUT, "slow", words));
                }
            }
        }
        Ok(())
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
