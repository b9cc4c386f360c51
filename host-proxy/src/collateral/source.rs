//! Where a proxy takes the collateral of its attestation bundles from.

use super::cache::CollateralCache;
use super::gpu;
use super::key::CollateralKey;
use super::routes::unavailable;
use crate::api_error::ApiError;
use crate::blocking::Blocking;
use crate::config::{BundleCollateral, CollateralConfig};
use crate::error::{Context, Error, Fault, read_bounded};
use attest::{Platform, Quote};
use axum::http::StatusCode;
use std::io;
use std::path::PathBuf;
use wire::limits::COLLATERAL_BYTES_MAX;
use wire::{Evidence, GpuCollateral};

pub(crate) enum CollateralSource {
    /// A file that the operator keeps current, read again for each bundle.
    File(PathBuf),
    Cache(CollateralCache),
}

impl CollateralSource {
    pub(crate) fn open(configured: &BundleCollateral) -> Result<Self, Error> {
        Ok(match configured {
            BundleCollateral::File(path) => CollateralSource::File(path.clone()),
            BundleCollateral::Sources(path) => {
                let config = CollateralConfig::read(path)
                    .context(Fault::Configuration, || "collateral_sources")?;
                let clock = CollateralCache::system_clock();
                CollateralSource::Cache(CollateralCache::open(&config, clock)?)
            }
        })
    }

    pub(crate) fn cache(&self) -> Option<&CollateralCache> {
        match self {
            CollateralSource::File(_) => None,
            CollateralSource::Cache(cache) => Some(cache),
        }
    }

    /// NVIDIA's statements about the GPU in a guest's evidence, if it has one. A file of the operator's has none: a client refuses
    /// the guest by name.
    pub(crate) async fn for_gpu(&self, evidence: &[u8]) -> Result<Option<GpuCollateral>, ApiError> {
        let evidence = Evidence::decode(evidence).map_err(|error| malformed(&error))?;
        match (self, &evidence.gpu) {
            (CollateralSource::Cache(cache), Some(report)) => {
                gpu::fetch(cache, report).await.map(Some)
            }
            (CollateralSource::File(_), _) | (_, None) => Ok(None),
        }
    }

    /// Intel's collateral for the platform in a guest's evidence.
    pub(crate) async fn for_evidence(
        &self,
        evidence: &[u8],
        blocking: Blocking,
    ) -> Result<Vec<u8>, ApiError> {
        match self {
            CollateralSource::File(path) => {
                let file = path.clone();
                let bytes_max = COLLATERAL_BYTES_MAX as u64;
                let read = blocking.run(move || read_bounded(&file, bytes_max)).await;
                let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
                let too_long = || io::Error::other(format!("it has more than {bytes_max} bytes"));
                read.and_then(|bytes| bytes.ok_or_else(too_long))
                    .map_err(|error| {
                        tracing::error!(path = %path.display(), %error, "no collateral");
                        let words = "this provider has no collateral now";
                        ApiError::refuse(StatusCode::SERVICE_UNAVAILABLE, "collateral", words)
                    })
            }
            CollateralSource::Cache(cache) => {
                let platform = platform(evidence).map_err(|error| malformed(&error))?;
                let document = cache.get(&CollateralKey::Tdx(platform)).await;
                Ok(document.map_err(|error| unavailable(&error))?.body.to_vec())
            }
        }
    }
}

fn malformed(error: &dyn std::fmt::Display) -> ApiError {
    tracing::error!(%error, "the guest's evidence");
    let words = "the guest's evidence is malformed";
    ApiError::refuse(StatusCode::BAD_GATEWAY, "guest_protocol", words)
}

fn platform(evidence: &[u8]) -> Result<Platform, Error> {
    let guest = Fault::Guest;
    let evidence = Evidence::decode(evidence).context(guest, || "evidence")?;
    let quote = Quote::parse(&evidence.quote).context(guest, || "quote")?;
    Platform::of(&quote).context(guest, || "quote")
}
