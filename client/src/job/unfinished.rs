//! A job whose answer did not arrive whole: it is cancelled, and what was made of it is paid for.
//!
//! ```text
//! Sealed ─send─► Answering ─► the application leaves, a deadline passes, or the stream breaks
//!                               └─► Unfinished ─cancel─► the guest ends it ─fetch─► receipt ─pay─► voucher on disk
//! ```
//! Trusted: nobody on the way. The proxy can neither forge a cancel nor read a receipt. Promised: a receipt is paid once, for exactly
//! the prompt that was sealed and at most the completion that was asked for.

use super::Payment;
use crate::budget::{Begun, BudgetError, Reservation};
use crate::error::{ClientError, Executed};
use crate::limits::REPLY_BYTES_MAX;
use crate::session::{Session, Shared, proxy_error, proxy_refused, unix_s};
use crate::transport::{Ask, Transport};
use settlement::{Nano, SignedCap, SignedCharge};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;
use wire::{
    AnswerClaims, Cancel, Digest, EnvelopeDigest, Frame, FrameDecoder, FrameKind, Keyset,
    PayerRead, Receipt, ReceiptKey, RequestClaims, Usage,
};

/// How often a receipt is asked for after a cancel, and how long apart: the guest ends a job within one interval of its records.
const FETCHES: u32 = 20;
const FETCH_PAUSE: Duration = Duration::from_millis(500);
/// After which a proxy that does not answer is asked no more in this run: two of its calls may take their longest.
const FETCH_TIME: Duration = Duration::from_secs(45);

/// What ends a job early, and what fetches and opens its receipt.
#[derive(Clone)]
pub struct Unfinished {
    // Not kept alive by this: a client that is closed gives its state file back at once.
    pub(crate) shared: Weak<Shared>,
    pub(crate) keyset: Keyset,
    pub(crate) deposit: Nano,
    pub(crate) proxy: Transport,
    pub(crate) envelope: EnvelopeDigest,
    pub(crate) cap: SignedCap,
    // Held until it is known what the job cost.
    pub(crate) reservation: Arc<Reservation>,
    pub(crate) request: Digest,
    pub(crate) most: Usage,
    pub(crate) receipt_key: ReceiptKey,
    pub(crate) cancel: Cancel,
}

/// Ends a job that nobody waits for any more, when it is dropped.
#[derive(Default)]
pub(crate) struct Ending(Option<Unfinished>);

impl Ending {
    /// The job is on disk, and from now on dropping this ends it.
    pub(crate) fn arm(&mut self, unfinished: Unfinished) -> Result<(), BudgetError> {
        if let Some(shared) = unfinished.shared.upgrade() {
            shared.budget.begin(&unfinished.begun())?;
        }
        self.0 = Some(unfinished);
        Ok(())
    }

    /// The job has ended by itself, and is to be paid if its answer is verified.
    pub(crate) fn disarm(&mut self) {
        self.0 = None;
    }

    /// The job has ended, and there is nothing to pay.
    pub(crate) fn forget(&mut self) {
        if let Some(unfinished) = self.0.take() {
            unfinished.owes_nothing();
        }
    }

    pub(crate) fn unfinished(&self) -> Option<&Unfinished> {
        self.0.as_ref()
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let (Some(unfinished), Ok(runtime)) =
            (self.0.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(unfinished.end());
        }
    }
}

impl Unfinished {
    /// A job that an earlier run of this program left. `None`: the keyset that its receipt is signed under is not on file any more.
    pub(crate) fn left(
        (begun, reservation): (Begun, Reservation),
        session: &Session,
        proxy: Transport,
    ) -> Result<Option<Unfinished>, ClientError> {
        let shared = session.shared();
        let Some(known) = shared.budget.keyset(&begun.keyset)? else {
            shared.budget.owes_nothing(&begun.envelope);
            return Ok(None);
        };
        Ok(Some(Unfinished {
            shared: Arc::downgrade(shared),
            keyset: known.keyset,
            deposit: session.channel().state.deposit,
            proxy,
            envelope: begun.envelope,
            cap: shared.budget.cap(&begun),
            reservation: Arc::new(reservation),
            request: begun.request,
            most: begun.most,
            receipt_key: ReceiptKey::from_bytes(begun.receipt_key),
            cancel: Cancel::decode(&begun.cancel)
                .map_err(|e| BudgetError::Storage(e.to_string()))?,
        }))
    }

    fn begun(&self) -> Begun {
        Begun {
            envelope: self.envelope,
            keyset: self.keyset.digest(),
            job: self.cap.cap.job,
            cost_max: self.cap.cap.most,
            request: self.request,
            most: self.most,
            amount: self.reservation.amount(),
            receipt_key: *self.receipt_key.as_bytes(),
            cancel: self.cancel.encode(),
            spender: self.reservation.spender().name().to_owned(),
        }
    }

    fn owes_nothing(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.budget.owes_nothing(&self.envelope);
        }
    }

    /// Tells the guest to end the job. What it has made until then is billed.
    pub async fn cancel(&self) -> Result<(), ClientError> {
        const WHAT: &str = "cancel";
        let ask = Ask {
            method: "POST",
            path: "/v1/cancel",
            content_type: "application/vnd.chrysalis.cancel",
            authorization: "",
            body: self.cancel.encode().to_vec(),
        };
        let reply = self.proxy.call(ask, REPLY_BYTES_MAX).await;
        let reply = reply.map_err(|e| proxy_error(WHAT, e, Executed::Maybe))?;
        match reply.status {
            200..=299 => Ok(()),
            status => Err(proxy_refused(WHAT, status, &reply.body, Executed::Maybe)),
        }
    }

    /// Pays for what was made, if the guest has signed a receipt: the voucher is on disk, and is sent with the next job. `None` while
    /// there is no receipt, and if it was paid before.
    pub async fn settle(&self) -> Result<Option<Payment>, ClientError> {
        let Some(authorization) = self.authorization()? else {
            return Ok(None);
        };
        match self.fetch(&authorization).await? {
            None => Ok(None),
            Some((receipt, charge)) => self.pay(&receipt, &charge),
        }
    }

    /// Cancels the job and waits a while for its receipt, which is paid.
    pub async fn end(self) {
        if let Err(error) = self.cancel().await {
            tracing::info!("a job could not be cancelled: {error}");
        }
        let (until, mut is_away) = (Instant::now() + FETCH_TIME, false);
        for _ in 0..FETCHES {
            is_away = match self.settle().await {
                Ok(Some(payment)) => {
                    return tracing::info!("an unfinished job cost {} nanoTON", payment.cost);
                }
                Ok(None) => false,
                Err(
                    error @ (ClientError::Unreachable(_)
                    | ClientError::ProxyMisbehaved { .. }
                    | ClientError::ProxyRefused { .. }
                    | ClientError::Budget(_)),
                ) => {
                    tracing::warn!("an unfinished job is not paid yet: {error}");
                    true
                }
                Err(error) => {
                    tracing::warn!("an unfinished job is not paid: {error}");
                    return self.owes_nothing();
                }
            };
            if self.shared.strong_count() == 0 || Instant::now() >= until {
                break;
            }
            tokio::time::sleep(FETCH_PAUSE).await;
        }
        // One that is away is asked again by the next run of this program.
        if !is_away {
            self.owes_nothing();
        }
    }

    /// The payer's word that it may read; `None` when this client is closed.
    fn authorization(&self) -> Result<Option<String>, ClientError> {
        let read = PayerRead {
            chain: self.cap.cap.chain,
            channel: self.cap.cap.channel,
            receipt: Some(self.envelope),
        };
        let now = unix_s()?;
        let shared = self.shared.upgrade();
        Ok(shared.map(|shared| read.sign(now, shared.budget.payer())))
    }

    async fn fetch(&self, authorization: &str) -> Result<Option<(Vec<u8>, Vec<u8>)>, ClientError> {
        const WHAT: &str = "receipt";
        let ask = Ask {
            method: "GET",
            path: &format!("/v1/receipts/{}", self.envelope),
            content_type: "",
            authorization,
            body: Vec::new(),
        };
        let reply = self.proxy.call(ask, REPLY_BYTES_MAX).await;
        let reply = reply.map_err(|e| proxy_error(WHAT, e, Executed::Maybe))?;
        match reply.status {
            200 => frames(&reply.body).map(Some),
            404 => Ok(None),
            status => Err(proxy_refused(WHAT, status, &reply.body, Executed::Maybe)),
        }
    }

    fn pay(&self, sealed: &[u8], charge: &[u8]) -> Result<Option<Payment>, ClientError> {
        let Some(shared) = self.shared.upgrade() else {
            return Ok(None);
        };
        let bytes = self.receipt_key.open(sealed).map_err(ClientError::Seal)?;
        let receipt = Receipt::decode(&bytes)?;
        let budget = &shared.budget;
        let claims = RequestClaims {
            envelope: self.envelope,
            cap: self.cap,
            payer_key: budget.payer().verifying_key().to_bytes(),
            request: self.request,
            answer: AnswerClaims::Cut { most: self.most },
        };
        let verified = receipt.verify(&self.keyset, &claims)?;
        if SignedCharge::decode(charge)? != *receipt.charge() {
            return Err(ClientError::ChargeMismatch);
        }
        let spender = self.reservation.spender();
        match budget.pay(&verified, &bytes, self.deposit, spender) {
            Ok(voucher) => Ok(Some(Payment {
                voucher,
                receipt: verified.digest(),
                cost: verified.core().cost,
                cumulative: voucher.voucher.cumulative,
            })),
            Err(BudgetError::PaidBefore) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The sealed receipt and the charge, as the proxy hands them over.
fn frames(body: &[u8]) -> Result<(Vec<u8>, Vec<u8>), ClientError> {
    let misshapen = || ClientError::ProxyMisbehaved {
        what: "receipt",
        detail: "it is not a receipt, a charge and an end".into(),
        executed: Executed::Maybe,
    };
    let mut decoder = FrameDecoder::default();
    decoder.push(body);
    let mut next = |kind| match decoder.next_frame() {
        Ok(Some(Frame { kind: got, payload })) if got == kind => Ok(payload),
        _ => Err(misshapen()),
    };
    let (receipt, charge) = (next(FrameKind::Receipt)?, next(FrameKind::Charge)?);
    next(FrameKind::End)?;
    Ok((receipt, charge))
}
