//! From evidence to a worker that may see plaintext (trust boundaries B2 and B3; feature `client`).
//!
//! [`attest`] is the only way to an [`AttestedWorker`], and sealing takes nothing else. It calls
//! `attest::verify` and adds what only this crate knows: the keyset that the report data names, its endorsement,
//! and the event list behind RTMR3.

use crate::appraised_gpu::{AppraisedGpus, GpuNotTrusted, ShownGpu};
use crate::cbor::Malformed;
use crate::{Bundle, Evidence, GpuReport, Keyset, KeysetDigest, registers_digest};
use ::gpu::{Gpu, GpuRoots};
use attest::{Collateral, CollateralError, Peer, Policy, Refusal, Root, Verified};
use registers::{Digest48, ReportData, RuntimeEvent};
use settlement::{Address, ChainId};
use std::sync::Arc;

/// A worker whose quote, keyset and endorsement were checked against a policy.
#[derive(Debug, Clone)]
pub struct AttestedWorker {
    peer: Verified<Peer>,
    keyset: Keyset,
    digest: KeysetDigest,
    endorsing_key: [u8; 32],
    events: Vec<RuntimeEvent>,
    gpu: Option<::gpu::Verified<Gpu>>,
}

/// What a client demands of a worker besides the quote policy.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The profile the image was measured with.
    pub profile: String,
    /// The chain that settles.
    pub chain: ChainId,
    /// Who is to be paid: the payee of the client's channel.
    pub payee: Address,
    /// The payee's key, from the client's channel: it, or a key that it vouches for, must have endorsed the keyset.
    pub payee_key: [u8; 32],
    /// The roots that evidence of its GPU must lead to, if it has one.
    pub gpu_roots: GpuRoots,
    /// GPUs that it trusted before.
    pub appraised_gpus: Arc<AppraisedGpus>,
}

/// Why a worker is not trusted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs)]
pub enum NotTrusted {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the collateral cannot be read: {0}")]
    Collateral(#[from] CollateralError),
    #[error("attest::verify refused the quote: {0}")]
    Quote(#[from] Refusal),
    #[error("the listed runtime events replay to {replayed}, the quote's RTMR3 is {quoted}")]
    Events {
        replayed: Digest48,
        quoted: Digest48,
    },
    #[error("the keyset was made under other registers than the quote shows")]
    Registers,
    #[error("the worker's profile is `{got}`, `{want}` is demanded")]
    Profile { got: String, want: String },
    #[error("the keyset is for chain {got}, the channel is on chain {want}")]
    Chain { got: i32, want: i32 },
    #[error("simulated evidence cannot serve a live TON chain")]
    SimulatedOnLiveChain,
    #[error("the keyset's payee is not the payee of the channel")]
    Payee,
    #[error("the GPU is not trusted: {0}")]
    Gpu(#[from] GpuNotTrusted),
    #[error("neither the payee nor a key that it vouches for now has endorsed this keyset")]
    Endorsement,
}

/// Decides whether a worker may see plaintext. A pure function: run it twice, get the same answer. What [`AppraisedGpus`] remembers is
/// its own answers, and saves time alone.
///
/// `nonce` is the client's own, fresh for this call; `now_unix_s` is the client's clock.
pub fn attest(
    bundle: &[u8],
    nonce: &[u8; 32],
    policy: &Policy,
    root: &Root,
    expected: &Expected,
    now_unix_s: u64,
) -> Result<AttestedWorker, NotTrusted> {
    // 1. Sizes and shapes.
    let bundle = Bundle::decode(bundle)?;
    let evidence = Evidence::decode(&bundle.evidence)?;
    let collateral = Collateral::from_json(&bundle.collateral)?;
    // 2. The quote, bound to this keyset and this nonce.
    let digest = KeysetDigest::of(&evidence.keyset);
    let binding = GpuReport::binding(evidence.gpu.as_ref());
    let report_data = ReportData::bind(&digest.0, nonce, binding);
    let peer = attest::verify(
        &evidence.quote,
        &collateral,
        &report_data,
        policy,
        root,
        now_unix_s,
    )?;
    // 3. The list behind RTMR3.
    let events = evidence.events.into_iter();
    let events: Vec<RuntimeEvent> = events
        .map(|e| RuntimeEvent {
            name: e.name,
            digest: Digest48(e.digest),
        })
        .collect();
    let replayed = registers::replay(&events);
    let quoted = peer.registers.rtmr[3];
    if replayed != quoted {
        return Err(NotTrusted::Events { replayed, quoted });
    }
    // 4. The keyset, now that the quote vouches for its bytes.
    let keyset = Keyset::decode(&evidence.keyset)?;
    check_keyset(&keyset, &peer, expected)?;
    let (key, chain) = (&expected.payee_key, expected.chain);
    if !bundle.endorsement.holds(digest, key, chain, now_unix_s) {
        return Err(NotTrusted::Endorsement);
    }
    // 5. The GPU, for which the quote does not vouch.
    let shown = ShownGpu {
        keyset: &keyset,
        digest,
        events: &events,
        report: evidence.gpu.as_ref(),
        collateral: bundle.gpu.as_ref(),
        quoted: peer.root,
    };
    let gpu = shown.appraise(&expected.gpu_roots, &expected.appraised_gpus, now_unix_s)?;
    Ok(AttestedWorker {
        peer,
        endorsing_key: bundle.endorsement.key(key),
        keyset,
        digest,
        events,
        gpu,
    })
}

fn check_keyset(keyset: &Keyset, peer: &Peer, expected: &Expected) -> Result<(), NotTrusted> {
    if keyset.registers != registers_digest(&peer.registers) {
        return Err(NotTrusted::Registers);
    }
    if keyset.profile != expected.profile {
        return Err(NotTrusted::Profile {
            got: keyset.profile.clone(),
            want: expected.profile.clone(),
        });
    }
    if keyset.chain != expected.chain {
        return Err(NotTrusted::Chain {
            got: keyset.chain.0,
            want: expected.chain.0,
        });
    }
    if peer.root == attest::RootClass::InsecureTest && keyset.chain.is_live() {
        return Err(NotTrusted::SimulatedOnLiveChain);
    }
    if keyset.payee != expected.payee || keyset.payee_key != expected.payee_key {
        return Err(NotTrusted::Payee);
    }
    Ok(())
}

impl AttestedWorker {
    /// The verified quote's content.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The keyset the quote vouches for.
    pub fn keyset(&self) -> &Keyset {
        &self.keyset
    }

    /// The keyset's digest.
    pub fn keyset_digest(&self) -> KeysetDigest {
        self.digest
    }

    /// The key that endorsed the keyset: the payee's, or one that it vouches for.
    pub fn endorsing_key(&self) -> &[u8; 32] {
        &self.endorsing_key
    }

    /// The events behind RTMR3.
    pub fn events(&self) -> &[RuntimeEvent] {
        &self.events
    }

    /// Its GPU, verified for this keyset; `None` where it has none.
    pub fn gpu(&self) -> Option<&Gpu> {
        self.gpu.as_deref()
    }
}
