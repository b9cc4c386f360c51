//! What is left for a client whose stream broke: the job's sealed receipt with its charge, and ending a job early.
//!
//! A receipt is kept when its charge comes. Of one that is not here (this program may have been killed) the guest is asked, and what
//! it answers is kept like any other. Only the payer may read: the charge tells what it owes.

use crate::api_error::ApiError;
use crate::channels::MaxAge;
use crate::clock::now_unix_s;
use crate::guest::GuestError;
use crate::guests::Guest;
use crate::limits::{GUEST_REPLY, UPLOAD_HEAD};
use crate::proxy::Proxy;
use crate::relay::Upload;
use crate::store::KeptReceipt;
use axum::body::Body;
use axum::http::StatusCode;
use settlement::SignedCharge;
use std::sync::Arc;
use tokio::time::Instant;
use wire::{CANCEL_BYTES, Cancel, EnvelopeDigest, Frame, FrameError, FrameKind, PayerRead};

/// The receipt of an envelope, for the payer who signed `authorization`, in the guest's frames.
pub(crate) async fn fetch(
    proxy: &Proxy,
    envelope: EnvelopeDigest,
    authorization: &str,
) -> Result<Vec<u8>, ApiError> {
    let kept = proxy.store.on_disk(move |s| s.receipt(&envelope)).await;
    let kept = match kept.map_err(|e| ApiError::internal(&e))? {
        Some(kept) => kept,
        None => ask_guests(proxy, envelope).await?.ok_or_else(absent)?,
    };
    let read = PayerRead {
        chain: proxy.payee.chain(),
        channel: kept.channel,
        receipt: Some(envelope),
    };
    let allowed = read.check(authorization, &kept.payer_key, now_unix_s());
    // A stranger does not learn that there is one.
    allowed.map_err(|_| absent())?;
    Ok([
        Frame::encode(FrameKind::Receipt, &kept.receipt),
        Frame::encode(FrameKind::Charge, &kept.charge),
        Frame::encode(FrameKind::End, b""),
    ]
    .concat())
}

fn absent() -> ApiError {
    let words = "no receipt of such an envelope is kept for whoever signed this request";
    ApiError::refuse(StatusCode::NOT_FOUND, "receipt", words)
}

/// Asks one guest after the other, and keeps what one has. Where none has it, the first one's failure is told, if there was one.
async fn ask_guests(
    proxy: &Proxy,
    envelope: EnvelopeDigest,
) -> Result<Option<KeptReceipt>, ApiError> {
    let mut failed = None;
    for guest in proxy.guests.by_load() {
        match ask_guest(proxy, &guest, envelope).await {
            Ok(Some(kept)) => return Ok(Some(kept)),
            Ok(None) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(None), Err)
}

/// Asks the guest, and keeps what it has.
pub(crate) async fn ask_guest(
    proxy: &Proxy,
    guest: &Guest,
    envelope: EnvelopeDigest,
) -> Result<Option<KeptReceipt>, ApiError> {
    let one_of_few = proxy.questions.try_acquire();
    let _one_of_few = one_of_few.map_err(|_| ApiError::busy())?;
    let frames = exchange(guest, FrameKind::OpenReceipt, &envelope.0).await?;
    let [receipt, charge] = frames.as_slice() else {
        return Ok(None);
    };
    if (receipt.kind, charge.kind) != (FrameKind::Receipt, FrameKind::Charge) {
        return Err(GuestError::protocol_reply());
    }
    let signed = SignedCharge::decode(&charge.payload).map_err(|_| GuestError::protocol_reply())?;
    let channel = signed.charge.channel();
    let payer_key = proxy.channel(&channel, MaxAge::Recent).await?.payer_key;
    let stake = proxy.payee.stake();
    let own = || proxy.guests.own_charge(&signed, &payer_key, &stake);
    let mut verified = own();
    if verified.is_none() {
        // This program may have restarted since the guest showed its keys.
        proxy.learn_anew().await;
        verified = own();
    }
    let (receipt_key, verified) = verified.ok_or_else(GuestError::protocol_reply)?;
    let kept = KeptReceipt {
        envelope,
        channel,
        payer_key,
        receipt: receipt.payload.clone(),
        charge: charge.payload.clone(),
    };
    let recorded = proxy
        .store
        .record(&receipt_key, &verified, Some(kept.clone()))
        .await;
    let recorded = recorded.map_err(|e| ApiError::internal(&e))?;
    recorded.map_err(|refused| {
        tracing::warn!(%refused, "a fetched charge");
        GuestError::protocol_reply()
    })?;
    Ok(Some(kept))
}

/// Hands a client's cancel to the guest, which alone can say whether it is the client's.
pub(crate) async fn cancel(proxy: &Proxy, body: Body) -> Result<(), ApiError> {
    let mut upload = Upload::begin(body, CANCEL_BYTES)?;
    upload.read(CANCEL_BYTES + 1, UPLOAD_HEAD).await?;
    let cancel = Cancel::decode(&upload.read);
    let cancel = cancel.map_err(|e| ApiError::bad_request("malformed", e.to_string()))?;
    let runs = |guest: &&Arc<Guest>| proxy.running.runs(&(guest.index, cancel.envelope));
    let guest = proxy.guests.iter().find(runs).ok_or_else(|| {
        let words = "no job of this envelope is running here";
        ApiError::refuse(StatusCode::NOT_FOUND, "job", words)
    })?;
    let one_of_few = proxy.questions.try_acquire();
    let _one_of_few = one_of_few.map_err(|_| ApiError::busy())?;
    exchange(guest, FrameKind::OpenCancel, &cancel.encode()).await?;
    Ok(())
}

/// One small question to the guest: the frames of its answer before the end.
async fn exchange(
    guest: &Guest,
    kind: FrameKind,
    payload: &[u8],
) -> Result<Vec<Frame>, GuestError> {
    const FRAMES_MAX: usize = 2;
    let until = Instant::now() + GUEST_REPLY;
    let mut guest = guest.address.connect().await?;
    let request = [
        Frame::encode(kind, payload),
        Frame::encode(FrameKind::End, b""),
    ];
    let mut frame = guest.ask(&request.concat(), until).await?;
    let mut frames = Vec::new();
    while frame.kind != FrameKind::End {
        if frames.len() == FRAMES_MAX {
            return Err(FrameError::OutOfPlace(frame.kind).into());
        }
        frames.push(frame);
        frame = guest.next(until).await?;
    }
    Ok(frames)
}
