//! What a stack whose guest has a GPU is made with besides: there is no GPU, so a test brings a gate that knows one.

use attest::Manifest;
use registers::{Digest48, RuntimeEvent};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use wire::{Digest, GpuReport};

/// A GPU that a test plays.
#[derive(Debug, Clone)]
pub struct StackGpu {
    /// The program that the agent asks for evidence, and that computes.
    pub worker: PathBuf,
    /// The test root (DER) that its certificates lead to.
    pub root: PathBuf,
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
    pub(crate) fn measured(&self, without: &Manifest) -> Manifest {
        let event = GpuReport::event(&self.identity);
        without.clone().then(RuntimeEvent {
            name: event.name,
            digest: Digest48(event.digest),
        })
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
