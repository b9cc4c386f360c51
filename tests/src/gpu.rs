//! What a stack whose guest has a GPU is made with besides: there is no GPU, so a test brings a gate that knows one.

use anyhow::Context;
use attest::Manifest;
use registers::{Digest48, RuntimeEvent, replay};
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use wire::{Digest, GpuReport};

/// A GPU that a test plays.
#[derive(Debug, Clone)]
pub struct StackGpu {
    /// The program that the agent asks for evidence.
    pub gate: PathBuf,
    /// Which GPU it is.
    pub identity: Digest,
    /// How long clients may use a keyset, in seconds: a later one has new evidence.
    pub lifetime_s: u32,
    /// A directory of reference manifests, and an OCSP responder: what the proxy asks.
    pub rims: PathBuf,
    /// The responder.
    pub ocsp: SocketAddr,
}

impl StackGpu {
    /// The manifest of a guest that measures this GPU after its configuration.
    pub(crate) fn measured(&self, without: &Manifest) -> anyhow::Result<Manifest> {
        let event = GpuReport::event(&self.identity);
        let mut events = without.rtmr3_events().to_vec();
        events.push(RuntimeEvent {
            name: event.name,
            digest: Digest48(event.digest),
        });
        let mut manifest: serde_json::Value = serde_json::from_slice(without.to_json().as_ref())?;
        manifest["registers"]["rtmr3"] = json!(replay(&events).to_string());
        manifest["rtmr3_events"] = json!(events);
        let bytes = serde_json::to_vec(&manifest)?;
        Manifest::from_json(&bytes).context("the manifest of a guest with a GPU")
    }

    /// Writes what the proxy's `collateral_sources` names.
    pub(crate) fn write_sources(&self, directory: &Path) -> std::io::Result<()> {
        let text = format!(
            "listen: 127.0.0.1:0\ncache: cache\ntdx: [{{kind: file, path: sim/collateral.json}}]\n\
             rim: [{{kind: directory, path: \"{}\"}}]\nocsp: [{{kind: ocsp, url: \"http://{}\"}}]\n",
            self.rims.display(),
            self.ocsp
        );
        std::fs::write(directory.join("sources.yaml"), text)
    }
}
