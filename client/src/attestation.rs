//! A challenge to the worker behind a proxy, and what its evidence proves. It needs no wallet, no channel and no money.

use crate::config::{ConfigError, read_file};
use crate::error::{ClientError, Executed};
use crate::limits::{REPLY_BYTES_MAX, SMALL_FILE_BYTES_MAX};
use crate::session::{proxy_error, proxy_refused, random, unix_s};
use crate::transport::{Ask, Transport};
use crate::trust::{Minimum, Platform, TrustStore};
use attest::{Manifest, Peer, Policy, Root, RootClass};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wire::{
    AppraisedGpus, AttestedWorker, Bundle, Cmw, Eat, Evidence, Expected, GpuRoots, Keyset,
    KeysetDigest, NotTrusted, Proof, ProvenJob,
};

/// What a worker is held against.
pub struct Verifier {
    /// What the guest should measure to.
    pub manifest: Manifest,
    /// The root that its quote must lead to.
    pub root: Root,
    /// The roots that evidence of its GPU must lead to, if it has one: NVIDIA's, whichever root the quote leads to.
    pub gpu_roots: GpuRoots,
    /// GPUs that it trusted before.
    pub appraised_gpus: Arc<AppraisedGpus>,
    /// The oldest platform that its owner accepts.
    pub minimum: Minimum,
    /// What was learned before.
    pub trust: TrustStore,
}

/// Evidence that was verified: what it says, and what it was judged by.
pub struct Attestation {
    worker: AttestedWorker,
    platform: Platform,
    bundle: Vec<u8>,
    nonce: [u8; 32],
    manifest: [u8; 32],
    since: Instant,
    took: Duration,
    verified_at_unix_s: u64,
}

/// The answer to a fresh challenge. Nothing of it is verified yet.
pub struct Challenged {
    proxy: String,
    nonce: [u8; 32],
    since: Instant,
    evidence: Vec<u8>,
}

impl Challenged {
    /// Asks for evidence that is bound to a nonce of this moment.
    pub async fn of(proxy: &Transport) -> Result<Challenged, ClientError> {
        let nonce: [u8; 32] = random()?;
        let since = Instant::now();
        let path = format!("/v1/attestation?nonce={}", hex::encode(nonce));
        let evidence = fetch(proxy, &path, "attestation").await?;
        Ok(Challenged {
            proxy: proxy.to_string(),
            nonce,
            since,
            evidence,
        })
    }

    /// What the keyset says of its provider, for who has no channel with one. It proves nothing: [`Verifier::verify`] does.
    pub fn claimed(&self, verifier: &Verifier) -> Result<Expected, NotTrusted> {
        claimed(&self.evidence, verifier)
    }
}

/// What the keyset in a bundle says of its provider.
fn claimed(bundle: &[u8], verifier: &Verifier) -> Result<Expected, NotTrusted> {
    let bundle = Bundle::decode(bundle)?;
    let keyset = Keyset::decode(&Evidence::decode(&bundle.evidence)?.keyset)?;
    Ok(Expected {
        profile: verifier.manifest.profile().into(),
        chain: keyset.chain,
        payee: keyset.payee,
        payee_key: keyset.payee_key,
        gpu_roots: verifier.gpu_roots,
        appraised_gpus: verifier.appraised_gpus.clone(),
    })
}

impl Verifier {
    /// Reads the manifest, the test root that replaces Intel's, if one is named, and the trust store.
    pub fn open(
        manifest: &Path,
        test_root: Option<&Path>,
        trust: &Path,
        minimum: Minimum,
    ) -> Result<Verifier, ConfigError> {
        let refuse = |path: &Path, e: &dyn std::fmt::Display| {
            ConfigError(format!("{}: {e}", path.display()))
        };
        let root = match test_root {
            None => Root::intel(),
            Some(path) => Root::insecure_test(read_file(path, SMALL_FILE_BYTES_MAX)?)
                .map_err(|e| refuse(path, &e))?,
        };
        Ok(Verifier {
            manifest: Manifest::from_json(&read_file(manifest, SMALL_FILE_BYTES_MAX)?)
                .map_err(|e| refuse(manifest, &e))?,
            root,
            gpu_roots: GpuRoots::NVIDIA,
            appraised_gpus: Arc::default(),
            minimum,
            trust: TrustStore::open(trust)?,
        })
    }

    /// Decides whether the worker may see plaintext, and remembers it.
    pub fn verify(
        &self,
        challenged: Challenged,
        expected: &Expected,
    ) -> Result<Attestation, ClientError> {
        let now = unix_s()?;
        let policy = self.policy(self.trust.tcb_evaluation_number(self.root.class())?);
        let Challenged {
            proxy,
            nonce,
            since,
            evidence,
        } = challenged;
        let worker = wire::attest(&evidence, &nonce, &policy, &self.root, expected, now)?;
        let peer = worker.peer();
        self.check_level(peer)?;
        let platform = self.trust.remember(&proxy, peer)?;
        if platform == Platform::Another {
            let ppid = hex::encode(&peer.ppid);
            tracing::warn!(
                "{proxy} runs the worker on a platform that was not seen there before: PPID {ppid}"
            );
        }
        Ok(Attestation {
            worker,
            platform,
            bundle: evidence,
            nonce,
            manifest: self.manifest.digest(),
            since,
            took: since.elapsed(),
            verified_at_unix_s: now,
        })
    }

    /// Verifies the proof of a job, offline: for the payee that its own keyset names, and now or at a moment that the
    /// asker vouches for. Evidence that is judged at such a moment is not held against collateral that came later.
    pub fn verify_proof(
        &self,
        proof: &Proof,
        at_unix_s: Option<u64>,
    ) -> Result<ProvenJob, ClientError> {
        let (at, policy) = self.policy_at(at_unix_s)?;
        let expected = claimed(&proof.bundle, self)?;
        let job = proof.verify(&policy, &self.root, &expected, at)?;
        self.check_level(job.worker().peer())?;
        Ok(job)
    }

    /// Verifies evidence that somebody kept, in the same way. It answers a challenge of theirs, so it says nothing of today.
    pub fn verify_kept(
        &self,
        kept: &Cmw,
        at_unix_s: Option<u64>,
    ) -> Result<AttestedWorker, ClientError> {
        let (at, policy) = self.policy_at(at_unix_s)?;
        let expected = claimed(&kept.bundle, self)?;
        let (bundle, nonce) = (&kept.bundle, &kept.nonce);
        let worker = wire::attest(bundle, nonce, &policy, &self.root, &expected, at)?;
        self.check_level(worker.peer())?;
        Ok(worker)
    }

    fn policy_at(&self, at_unix_s: Option<u64>) -> Result<(u64, Policy), ClientError> {
        Ok(match at_unix_s {
            Some(at) => (at, self.policy(0)),
            None => {
                let seen = self.trust.tcb_evaluation_number(self.root.class())?;
                (unix_s()?, self.policy(seen))
            }
        })
    }

    /// What the manifest says, under collateral that is at least as new as what is configured and was seen.
    fn policy(&self, seen: u32) -> Policy {
        let minimum = self.minimum.under(self.root.class());
        let mut policy = Policy::from_manifest(&self.manifest);
        policy.tcb_evaluation_number_min = minimum.tcb_evaluation_number.max(seen);
        policy
    }

    fn check_level(&self, peer: &Peer) -> Result<(), ClientError> {
        let min_unix_s = self.minimum.under(self.root.class()).tcb_unix_s;
        match peer.tcb_level_unix_s {
            level_unix_s if level_unix_s < min_unix_s => Err(ClientError::PlatformTooOld {
                level_unix_s,
                min_unix_s,
            }),
            _ => Ok(()),
        }
    }
}

impl Attestation {
    /// The worker.
    pub fn worker(&self) -> &AttestedWorker {
        &self.worker
    }

    /// Whether its platform was seen before behind the same proxy.
    pub fn platform(&self) -> Platform {
        self.platform
    }

    /// The evidence as it came, for whoever wants to verify it again: `measurements bundle verify` reads it.
    pub fn bundle(&self) -> &[u8] {
        &self.bundle
    }

    /// What was verified, as a token for readers of other makes.
    pub fn eat(&self) -> Eat {
        let (nonce, manifest) = (&self.nonce, &self.manifest);
        Eat::of(&self.worker, nonce, manifest, self.verified_at_unix_s)
    }

    /// The challenge that the evidence answers.
    pub fn nonce(&self) -> &[u8; 32] {
        &self.nonce
    }

    /// How long ago the challenge was made.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// How long the challenge and its verification took.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// When it was verified, by this machine's wall clock.
    pub fn verified_at_unix_s(&self) -> u64 {
        self.verified_at_unix_s
    }

    /// Whose root the quote leads to. Say so to people.
    pub fn root(&self) -> RootClass {
        self.worker.peer().root
    }
}

/// One question, one answer: whether the worker behind a proxy is what a manifest says.
pub async fn verify(proxy: &Transport, verifier: &Verifier) -> Result<Attestation, ClientError> {
    let challenged = Challenged::of(proxy).await?;
    let expected = challenged.claimed(verifier)?;
    verifier.verify(challenged, &expected)
}

/// The evidence that a provider's proxy kept of a keyset.
pub async fn kept_evidence(proxy: &Transport, keyset: KeysetDigest) -> Result<Cmw, ClientError> {
    let bytes = fetch(proxy, &format!("/v1/evidence/{keyset}"), "evidence").await?;
    Ok(Cmw::decode(&bytes).map_err(NotTrusted::from)?)
}

async fn fetch(proxy: &Transport, path: &str, what: &'static str) -> Result<Vec<u8>, ClientError> {
    let ask = Ask {
        method: "GET",
        path,
        content_type: "",
        authorization: "",
        body: Vec::new(),
    };
    let reply = proxy.call(ask, REPLY_BYTES_MAX).await;
    let reply = reply.map_err(|e| proxy_error(what, e, Executed::No))?;
    match reply.status {
        200 => Ok(reply.body),
        status => Err(proxy_refused(what, status, &reply.body, Executed::No)),
    }
}
