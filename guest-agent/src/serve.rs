//! Serving: one exchange per stream (boundary B1). What arrives is bounded in size and time before anything looks at it.

use crate::boot::Attested;
use crate::chunked_writer::ChunkedWriter;
use crate::exposure::Exposure;
use crate::job::{Admission, Refused};
use crate::log;
use crate::platform::Platform;
use crate::replay::ReplayCache;
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use registers::{GpuBinding, ReportData};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use wire::limits::{FRAME_BYTES_MAX, SEALED_REQUEST_BYTES_MAX};
use wire::{
    Event, Evidence, Frame, FrameDecoder, FrameError, FrameKind, RefusalCode, SignedRefusal,
};

/// How long a request may take to arrive.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// Jobs that compute at once.
const JOBS_RUNNING: usize = 2;
/// Jobs that wait for their turn.
const JOBS_WAITING: usize = 32;

/// An agent that answers.
pub struct Serving<P> {
    admission: Arc<Admission>,
    platform: Arc<Mutex<P>>,
    events: Arc<Vec<Event>>,
    running: Arc<Semaphore>,
    slots: Arc<Semaphore>,
}

impl<P> Clone for Serving<P> {
    fn clone(&self) -> Self {
        Serving {
            admission: self.admission.clone(),
            platform: self.platform.clone(),
            events: self.events.clone(),
            running: self.running.clone(),
            slots: self.slots.clone(),
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
    #[error("the platform did not quote: {0}")]
    Quote(String),
    #[error("the job failed: {0}")]
    Job(String),
}

/// One request as it arrived.
enum Request {
    Attest { nonce: [u8; 32] },
    Job { envelope: Vec<u8>, sealed: Vec<u8> },
}

impl<P: Platform> Serving<P> {
    pub(crate) fn new(attested: Attested<P>) -> Self {
        let keyset_digest = attested.keyset.digest();
        let admission = Admission {
            replay: Mutex::new(ReplayCache::new(attested.keyset.jobs_max)),
            exposure: Exposure::new(attested.keyset.exposure_max),
            keyset: attested.keyset,
            keyset_digest,
            keys: attested.keys,
            models: attested.models,
        };
        Serving {
            admission: Arc::new(admission),
            platform: Arc::new(Mutex::new(attested.platform)),
            events: Arc::new(attested.events),
            running: Arc::new(Semaphore::new(JOBS_RUNNING)),
            slots: Arc::new(Semaphore::new(JOBS_RUNNING + JOBS_WAITING)),
        }
    }

    /// Answers the one request of a stream.
    pub async fn exchange<S>(&self, stream: S) -> Result<(), ExchangeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut reader, mut writer) = tokio::io::split(ChunkedWriter(stream));
        let arrived = Instant::now();
        let request = tokio::time::timeout(REQUEST_TIME, read_request(&mut reader));
        match request.await.map_err(|_| ExchangeError::TooSlow)?? {
            Request::Attest { nonce } => self.attest(nonce, &mut writer).await?,
            Request::Job { envelope, sealed } => {
                self.job(&envelope, &sealed, &mut writer, arrived).await?
            }
        }
        writer.shutdown().await?;
        Ok(())
    }

    async fn attest<W: AsyncWrite + Unpin>(
        &self,
        nonce: [u8; 32],
        out: &mut W,
    ) -> Result<(), ExchangeError> {
        let report_data =
            ReportData::bind(&self.admission.keyset_digest.0, &nonce, GpuBinding::None);
        let platform = self.platform.clone();
        // Quoting is slow on real machines and blocks.
        let quote = tokio::task::spawn_blocking(move || {
            let mut platform = platform
                .lock()
                .map_err(|_| "an earlier quote failed badly".to_owned())?;
            platform.quote(&report_data).map_err(|e| e.to_string())
        });
        let quote = quote
            .await
            .map_err(|e| ExchangeError::Quote(e.to_string()))?
            .map_err(ExchangeError::Quote)?;
        let evidence = Evidence {
            version: 1,
            keyset: self.admission.keyset.encode(),
            quote,
            events: self.events.to_vec(),
        };
        out.write_all(&Frame::data(&evidence.encode())).await?;
        out.write_all(&Frame::encode(FrameKind::End, b"")).await?;
        out.flush().await?;
        Ok(())
    }

    async fn job<W: AsyncWrite + Unpin>(
        &self,
        envelope: &[u8],
        sealed: &[u8],
        out: &mut W,
        arrived: Instant,
    ) -> Result<(), ExchangeError> {
        let screened = match self.admission.screen(envelope, sealed) {
            Ok(screened) => screened,
            Err(refused) => return self.refuse(refused, out).await,
        };
        let Ok(_slot) = self.slots.try_acquire() else {
            return self.refuse(screened.refused(RefusalCode::Busy), out).await;
        };
        let admitted = match self.admission.admit(screened, &mut UnwrapErr(SysRng)) {
            Ok(admitted) => admitted,
            Err(refused) => return self.refuse(refused, out).await,
        };
        let _running = self
            .running
            .acquire()
            .await
            .map_err(|e| ExchangeError::Job(e.to_string()))?;
        admitted
            .run(&self.admission, out, arrived)
            .await
            .map_err(|e| ExchangeError::Job(e.to_string()))
    }

    async fn refuse<W: AsyncWrite + Unpin>(
        &self,
        (name, code): Refused,
        out: &mut W,
    ) -> Result<(), ExchangeError> {
        log::line(format_args!("refused a job: {code:?}"));
        let refusal = SignedRefusal::sign(name, code, &self.admission.keys.receipt);
        out.write_all(&Frame::encode(FrameKind::Refused, &refusal.encode()))
            .await?;
        out.write_all(&Frame::encode(FrameKind::End, b"")).await?;
        out.flush().await?;
        Ok(())
    }
}

async fn read_request<R: AsyncRead + Unpin>(reader: &mut R) -> Result<Request, ExchangeError> {
    let mut decoder = FrameDecoder::default();
    let mut request: Option<Request> = None;
    loop {
        while let Some(frame) = decoder.next_frame()? {
            match (&mut request, frame.kind) {
                (None, FrameKind::OpenAttest) => {
                    let length = frame.payload.len();
                    let nonce = frame
                        .payload
                        .try_into()
                        .map_err(|_| ExchangeError::Nonce(length))?;
                    request = Some(Request::Attest { nonce });
                }
                (None, FrameKind::OpenJob) => {
                    request = Some(Request::Job {
                        envelope: frame.payload,
                        sealed: Vec::new(),
                    });
                }
                (Some(Request::Job { sealed, .. }), FrameKind::Data) => {
                    if sealed.len() + frame.payload.len() > SEALED_REQUEST_BYTES_MAX {
                        return Err(ExchangeError::TooLong);
                    }
                    sealed.extend_from_slice(&frame.payload);
                }
                (Some(_), FrameKind::End) => {
                    return request.ok_or(ExchangeError::Frame(FrameError::Truncated));
                }
                (_, kind) => return Err(FrameError::OutOfPlace(kind).into()),
            }
        }
        let mut bytes = [0; FRAME_BYTES_MAX];
        match reader.read(&mut bytes).await? {
            0 => return Err(FrameError::Truncated.into()),
            n => decoder.push(&bytes[..n]),
        }
    }
}
