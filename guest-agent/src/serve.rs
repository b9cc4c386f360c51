//! Serving: one exchange per stream (boundary B1). What arrives is bounded in size and time before anything looks at it.

use crate::boot::Attested;
use crate::chunked_writer::ChunkedWriter;
use crate::epochs::{Epoch, Epochs};
use crate::exposure::Exposure;
use crate::gpu::{Gpu, GpuError};
use crate::job::{Admission, Offered, Refused};
use crate::jobs::Jobs;
use crate::log::{self, Stages};
use crate::out::Out;
use crate::platform::Platform;
use registers::{Registers, ReportData};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wire::limits::{FRAME_BYTES_MAX, SEALED_REQUEST_BYTES_MAX};
use wire::{
    Cancel, EnvelopeDigest, EpochStatus, Event, Evidence, Frame, FrameDecoder, FrameError,
    FrameKind, GateRefusal, GpuReport, Load, Malformed, Random, RefusalCode, SignedRefusal, Status,
    Subject,
};

/// How long a request may take to arrive.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// Jobs of embeddings that compute at once.
const EMBEDDINGS_RUNNING: usize = 2;
/// Jobs that compute or wait for their turn.
const JOBS_OPEN: usize = 64;

/// An agent that answers.
pub struct Serving<P> {
    admission: Arc<Admission>,
    platform: Arc<Mutex<P>>,
    events: Arc<Vec<Event>>,
    running: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    about: Arc<About>,
    _turning: Arc<Turning>,
}

/// What does not change while it serves.
struct About {
    stages: Stages,
    registers: Registers,
}

/// Ends epochs on time, whether or not somebody asks for something. Ends with the last [`Serving`].
struct Turning(JoinHandle<()>);

impl Drop for Turning {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<P> Clone for Serving<P> {
    fn clone(&self) -> Self {
        Serving {
            admission: self.admission.clone(),
            platform: self.platform.clone(),
            events: self.events.clone(),
            running: self.running.clone(),
            slots: self.slots.clone(),
            about: self.about.clone(),
            _turning: self._turning.clone(),
        }
    }
}

/// Why an exchange ended early. The proxy is at fault, or the machine.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    #[error("the stream broke: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the sealed request is longer than {SEALED_REQUEST_BYTES_MAX} bytes")]
    TooLong,
    #[error("the request did not arrive within {REQUEST_TIME:?}")]
    TooSlow,
    #[error("an attestation request carries {0} bytes instead of a nonce of 32")]
    Nonce(usize),
    #[error("the host asks for the receipt of {0} bytes instead of a digest of 32")]
    Receipt(usize),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the platform did not quote: {0}")]
    Quote(String),
    #[error("the GPU is lost: {0}")]
    Lost(String),
    #[error("the job failed: {0}")]
    Job(String),
}

/// One request as it arrived.
enum Request {
    Attest {
        nonce: [u8; 32],
    },
    Job {
        voucher: Option<Vec<u8>>,
        envelope: Vec<u8>,
        sealed: Vec<u8>,
    },
    Cancel(Cancel),
    Receipt(EnvelopeDigest),
    Status,
}

impl<P: Platform> Serving<P> {
    pub(crate) fn new(mut attested: Attested<P>, random: Random) -> Self {
        let admission = Arc::new(Admission {
            exposure: Exposure::new(attested.epoch.keyset.exposure_max),
            jobs: Jobs::default(),
            gpu: attested.gpu.map(Arc::new),
            epochs: Epochs::new(attested.epoch),
            models: attested.models,
            random,
        });
        attested.stages.pass("serving");
        Serving {
            _turning: Arc::new(turning(&admission)),
            admission,
            about: Arc::new(About {
                stages: attested.stages,
                registers: attested.registers,
            }),
            platform: Arc::new(Mutex::new(attested.platform)),
            events: Arc::new(attested.events),
            running: Arc::new(Semaphore::new(EMBEDDINGS_RUNNING)),
            slots: Arc::new(Semaphore::new(JOBS_OPEN)),
        }
    }

    /// Slots that are taken: of jobs that compute or wait, and of embeddings that compute. None is once nothing is under way.
    pub fn in_use(&self) -> usize {
        let jobs = JOBS_OPEN - self.slots.available_permits();
        jobs + (EMBEDDINGS_RUNNING - self.running.available_permits())
    }

    /// Answers the one request of a stream.
    pub async fn exchange<S>(&self, stream: S) -> Result<(), ExchangeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut reader, writer) = tokio::io::split(ChunkedWriter(stream));
        let mut out = Out::new(writer);
        let arrived = Instant::now();
        let request = tokio::time::timeout(REQUEST_TIME, read_request(&mut reader));
        match request.await.map_err(|_| ExchangeError::TooSlow)?? {
            Request::Attest { nonce } => self.attest(nonce, &mut out).await?,
            Request::Job {
                voucher,
                envelope,
                sealed,
            } => {
                let offered = Offered {
                    envelope: &envelope,
                    sealed: &sealed,
                    voucher: voucher.as_deref(),
                };
                self.job(offered, &mut out, arrived).await?
            }
            Request::Cancel(cancel) => {
                self.admission.jobs.cancel(&cancel);
                out.send(&end()).await?;
            }
            Request::Receipt(envelope) => {
                let kept = self.admission.jobs.kept(&envelope);
                out.send(&kept.unwrap_or_else(end)).await?;
            }
            Request::Status => {
                out.send(&Frame::data(&self.status().encode())).await?;
                out.send(&end()).await?;
            }
        }
        out.close().await?;
        Ok(())
    }

    async fn attest<W: AsyncWrite + Unpin>(
        &self,
        nonce: [u8; 32],
        out: &mut Out<W>,
    ) -> Result<(), ExchangeError> {
        turn(&self.admission).await;
        if let Some(why) = self.admission.lost() {
            return Err(ExchangeError::Lost(why.to_owned()));
        }
        let epoch = self.admission.epochs.newest();
        let binding = GpuReport::binding(epoch.report.as_ref());
        let report_data = ReportData::bind(&epoch.digest.0, &nonce, binding);
        let platform = self.platform.clone();
        let quote = move || {
            let mut platform = platform
                .lock()
                .map_err(|_| "an earlier quote failed badly".to_owned())?;
            platform.quote(&report_data).map_err(|e| e.to_string())
        };
        let quoted = match P::QUOTES_BLOCK {
            true => {
                { tokio::task::spawn_blocking(quote).await }.unwrap_or_else(|e| Err(e.to_string()))
            }
            false => quote(),
        };
        let quote = quoted.map_err(ExchangeError::Quote)?;
        let (keyset, events) = (epoch.keyset.encode(), self.events.to_vec());
        let evidence = Evidence::new(keyset, quote, events, epoch.report.clone());
        out.send(&Frame::data(&evidence.encode())).await?;
        out.send(&end()).await?;
        Ok(())
    }

    fn status(&self) -> Status {
        let About { stages, registers } = &*self.about;
        let [r0, r1, r2, r3] = registers.rtmr;
        let epochs = self.admission.epochs.all();
        let epoch = |epoch: &Arc<Epoch>| EpochStatus {
            epoch: epoch.keyset.epoch,
            keyset: epoch.digest,
            age_s: epoch.age(now()).as_secs(),
            jobs: epoch.replay().seen(),
            jobs_max: epoch.keyset.jobs_max,
        };
        Status {
            version: 1,
            agent: concat!("guest-agent/", env!("CARGO_PKG_VERSION")).into(),
            profile: { epochs.first() }
                .map(|epoch| epoch.keyset.profile.clone())
                .unwrap_or_default(),
            stages: stages.passed(),
            up_ms: stages.up_ms(),
            registers: [registers.mrtd, r0, r1, r2, r3].map(|r| r.0).concat(),
            events: self.events.to_vec(),
            epochs: epochs.iter().map(epoch).collect(),
            load: Load {
                jobs: (JOBS_OPEN - self.slots.available_permits()) as u32,
                jobs_max: JOBS_OPEN as u32,
            },
            gpus: self.gpus(),
            log: log::newest(),
        }
    }

    fn gpus(&self) -> Vec<String> {
        let named = |gpu: &Arc<Gpu>| match gpu.lost.why() {
            None => gpu.identity.to_string(),
            Some(why) => GateRefusal::cut(&format!("lost: {why}")),
        };
        self.admission.gpu.iter().map(named).collect()
    }

    async fn job<W: AsyncWrite + Unpin>(
        &self,
        offered: Offered<'_>,
        out: &mut Out<W>,
        arrived: Instant,
    ) -> Result<(), ExchangeError> {
        let screened = match self.admission.screen(&offered) {
            Ok(screened) => screened,
            Err(refused) => return self.refuse(refused, out).await,
        };
        if self.admission.lost().is_some() {
            let refused = self.admission.refuse(&screened, RefusalCode::StaleKeyset);
            return self.refuse(refused, out).await;
        }
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            let refused = self.admission.refuse(&screened, RefusalCode::Busy);
            return self.refuse(refused, out).await;
        };
        let admitted = match self
            .admission
            .admit(screened, &mut self.admission.random.rng())
        {
            Ok(admitted) => admitted,
            Err(refused) => return self.refuse(refused, out).await,
        };
        let facts = &admitted.facts;
        let open = { &self.admission.jobs }.open(facts.envelope_digest, facts.cancel.clone());
        let subject = Subject::Envelope(facts.envelope_digest);
        let epoch = facts.epoch.clone();
        let starting = admitted.start(slot, &self.running, &open, arrived);
        match starting.await {
            Ok(started) => {
                let run = started.run(&self.admission, &open, out, arrived);
                run.await.map_err(|e| ExchangeError::Job(e.to_string()))
            }
            Err(code) => self.refuse((subject, code, epoch), out).await,
        }
    }

    async fn refuse<W: AsyncWrite + Unpin>(
        &self,
        (subject, code, epoch): Refused,
        out: &mut Out<W>,
    ) -> Result<(), ExchangeError> {
        log::line(format_args!("refused a job: {code:?}"));
        let refusal = SignedRefusal::sign(subject, code, &epoch.keys.receipt);
        out.send(&Frame::encode(FrameKind::Refused, &refusal.encode()))
            .await?;
        out.send(&end()).await?;
        Ok(())
    }
}

/// Looks after the epochs for as long as somebody serves with them.
fn turning(admission: &Arc<Admission>) -> Turning {
    let period = admission.epochs.period();
    let admission = Arc::downgrade(admission);
    Turning(tokio::spawn(async move {
        while let Some(admission) = admission.upgrade() {
            turn(&admission).await;
            drop(admission);
            tokio::time::sleep(period).await;
        }
    }))
}

/// Makes the next epoch if it is due; with a GPU, only if that signs for its keyset.
async fn turn(admission: &Admission) {
    let Some(gpu) = &admission.gpu else {
        return { &admission.epochs }.turn(now(), &mut admission.random.rng());
    };
    let _one_at_a_time = gpu.turning.lock().await;
    let due = admission.epochs.due(now());
    let next = match due.filter(|_| gpu.lost.why().is_none()) {
        None => None,
        Some(newest) => {
            let next = newest.next(now(), &mut admission.random.rng());
            attested(gpu, next).await
        }
    };
    admission.epochs.turn_to(now(), next);
}

/// An epoch with what the GPU signs for it; without that the GPU is lost.
async fn attested(gpu: &Arc<Gpu>, mut next: Epoch) -> Option<Epoch> {
    let (asked, keyset) = (gpu.clone(), next.digest);
    let report = tokio::task::spawn_blocking(move || asked.attest(keyset)).await;
    match report.unwrap_or(Err(GpuError::Panicked)) {
        Ok(report) => {
            next.report = Some(report);
            Some(next)
        }
        Err(error) => {
            gpu.lost.because(&error);
            None
        }
    }
}

/// By the clock that keys end by.
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

fn end() -> Vec<u8> {
    Frame::encode(FrameKind::End, b"")
}

async fn read_request<R: AsyncRead + Unpin>(reader: &mut R) -> Result<Request, ExchangeError> {
    let mut decoder = FrameDecoder::default();
    let (mut request, mut voucher) = (None, None);
    loop {
        while let Some(frame) = decoder.next_frame()? {
            let (kind, payload) = (frame.kind, frame.payload);
            request = match (request.take(), kind) {
                (None, FrameKind::Voucher) if voucher.is_none() => {
                    voucher = Some(payload);
                    None
                }
                (None, FrameKind::OpenJob) => Some(Request::Job {
                    voucher: voucher.take(),
                    envelope: payload,
                    sealed: Vec::new(),
                }),
                (None, kind) if voucher.is_none() => Some(short_request(kind, payload)?),
                (
                    Some(Request::Job {
                        voucher,
                        envelope,
                        mut sealed,
                    }),
                    FrameKind::Data,
                ) => {
                    if sealed.len() + payload.len() > SEALED_REQUEST_BYTES_MAX {
                        return Err(ExchangeError::TooLong);
                    }
                    sealed.extend_from_slice(&payload);
                    Some(Request::Job {
                        voucher,
                        envelope,
                        sealed,
                    })
                }
                (Some(request), FrameKind::End) => return Ok(request),
                (_, kind) => return Err(FrameError::OutOfPlace(kind).into()),
            };
        }
        let mut bytes = [0; FRAME_BYTES_MAX];
        match reader.read(&mut bytes).await? {
            0 => return Err(FrameError::Truncated.into()),
            n => decoder.push(&bytes[..n]),
        }
    }
}

/// A request whose first frame says everything.
fn short_request(kind: FrameKind, payload: Vec<u8>) -> Result<Request, ExchangeError> {
    let length = payload.len();
    match kind {
        FrameKind::OpenAttest => {
            let nonce = payload.try_into();
            let nonce = nonce.map_err(|_| ExchangeError::Nonce(length))?;
            Ok(Request::Attest { nonce })
        }
        FrameKind::OpenStatus if payload.is_empty() => Ok(Request::Status),
        FrameKind::OpenCancel => Ok(Request::Cancel(Cancel::decode(&payload)?)),
        FrameKind::OpenReceipt => {
            let envelope = payload.try_into();
            let envelope = envelope.map_err(|_| ExchangeError::Receipt(length))?;
            Ok(Request::Receipt(EnvelopeDigest(envelope)))
        }
        kind => Err(FrameError::OutOfPlace(kind).into()),
    }
}
