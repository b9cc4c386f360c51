//! A guest's evidence, with the payee's endorsement of the keyset in it.

use crate::api_error::ApiError;
use crate::guest::{GuestAddress, GuestError};
use crate::limits::ATTESTATION;
use crate::payee::Payee;
use crate::proxy::Proxy;
use crate::store::KeptEvidence;
use axum::http::StatusCode;
use tokio::time::Instant;
use wire::limits::EVIDENCE_BYTES_MAX;
use wire::{Cmw, Endorsement, Frame, FrameError, FrameKind, Keyset, KeysetDigest};

pub(crate) struct EndorsedEvidence {
    pub(crate) evidence: Vec<u8>,
    pub(crate) keyset: Keyset,
    pub(crate) endorsement: Endorsement,
}

/// Asks the guest for evidence and endorses its keyset if it pays this payee.
pub(crate) async fn ask(
    guest: &GuestAddress,
    payee: &Payee,
    nonce: &[u8; 32],
) -> Result<EndorsedEvidence, ApiError> {
    let until = Instant::now() + ATTESTATION;
    let mut guest = guest.connect().await?;
    let open = Frame::encode(FrameKind::OpenAttest, nonce);
    let request = [open, Frame::encode(FrameKind::End, b"")].concat();
    let mut frame = guest.ask(&request, until).await?;
    let mut evidence = Vec::new();
    loop {
        match frame.kind {
            FrameKind::Data if evidence.len() + frame.payload.len() <= EVIDENCE_BYTES_MAX => {
                evidence.extend_from_slice(&frame.payload);
            }
            FrameKind::End => break,
            other => return Err(GuestError::from(FrameError::OutOfPlace(other)).into()),
        }
        frame = guest.next(until).await?;
    }
    let (keyset, endorsement) = payee.endorse(&evidence).map_err(|refused| {
        tracing::error!(%refused, "the guest's keyset is not endorsed");
        not_endorsed()
    })?;
    Ok(EndorsedEvidence {
        evidence,
        keyset,
        endorsement,
    })
}

/// What is kept of a keyset, for whoever has a receipt of it: evidence is no secret.
pub(crate) async fn kept(proxy: &Proxy, keyset: KeysetDigest) -> Result<Cmw, ApiError> {
    let one_of_few = proxy.questions.try_acquire();
    let _one_of_few = one_of_few.map_err(|_| ApiError::busy())?;
    let kept = proxy
        .store
        .on_disk(move |store| store.evidence(&keyset))
        .await;
    let kept = kept.map_err(|error| ApiError::internal(&error))?;
    let KeptEvidence { bundle, nonce } = kept.ok_or_else(|| {
        let words = "no evidence of such a keyset is kept, or it was too long ago";
        ApiError::refuse(StatusCode::NOT_FOUND, "evidence", words)
    })?;
    let result = None;
    Ok(Cmw {
        bundle,
        nonce,
        result,
    })
}

/// The code of [`not_endorsed`].
pub(crate) const NOT_ENDORSED: &str = "not_endorsed";

pub(crate) fn not_endorsed() -> ApiError {
    let words = "this provider does not endorse its guest's keyset";
    ApiError::refuse(StatusCode::BAD_GATEWAY, NOT_ENDORSED, words)
}
