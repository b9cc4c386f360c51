//! What a client needs to appraise a guest's GPU: NVIDIA's reference manifests of its driver and VBIOS, and OCSP's word on every
//! certificate behind the GPU and behind them. Read here to know what to ask for; verified by the client.

use super::cache::CollateralCache;
use super::key::CollateralKey;
use super::nvidia::rim_document;
use super::routes::unavailable;
use crate::api_error::ApiError;
use axum::http::StatusCode;
use gpu::{GpuEvidence, Rim};
use std::fmt::Display;
use wire::{GpuCollateral, GpuReport};

/// Everything that the appraisal of this report will ask for.
pub(super) async fn fetch(
    cache: &CollateralCache,
    report: &GpuReport,
) -> Result<GpuCollateral, ApiError> {
    let certificates: Vec<Vec<u8>> = { report.certificates.iter() }
        .map(|der| der.to_vec())
        .collect();
    let evidence = GpuEvidence::from_der(&report.report, &certificates).map_err(|e| guest(&e))?;
    let fields = evidence.fields();
    let mut asked = evidence.ocsp_requests();
    let mut rims = Vec::new();
    for id in [fields.driver_rim_id(), fields.vbios_rim_id()] {
        let key = CollateralKey::Rim(id.parse().map_err(|e| guest(&e))?);
        let document = cache.get(&key).await.map_err(|e| unavailable(&e))?;
        let xml = rim_document(&document.body).map_err(|e| ApiError::internal(&e))?;
        let rim = Rim::parse(&id, &xml).map_err(|e| ApiError::internal(&e))?;
        asked.extend(rim.ocsp_requests());
        rims.push(xml);
    }
    // Both manifests have the same authorities above them.
    asked.sort_unstable();
    asked.dedup();
    let mut ocsp = Vec::new();
    for request in asked {
        let key = CollateralKey::ocsp(&request).map_err(|e| ApiError::internal(&e))?;
        let document = cache.get(&key).await.map_err(|e| unavailable(&e))?;
        ocsp.push(document.body.to_vec());
    }
    Ok(GpuCollateral::new(rims, ocsp))
}

fn guest(error: &dyn Display) -> ApiError {
    tracing::error!(%error, "the guest's evidence of its GPU");
    let words = "the guest's evidence of its GPU is malformed";
    ApiError::refuse(StatusCode::BAD_GATEWAY, "guest_protocol", words)
}
