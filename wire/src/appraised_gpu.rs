//! The GPU of a worker, appraised by the client itself before it seals anything (SECURITY.md 8; feature `client`).
//!
//! A quote vouches for the trust domain alone. What it says of a GPU is the word of the measured agent: which one it attested, under
//! which keyset, with which evidence. That the evidence is a GPU's, of a firmware that NVIDIA names, is found out here.

use crate::{Digest, GpuCollateral, GpuReport, Keyset, KeysetDigest, sha256};
use ::gpu::{
    EvidenceError, Gpu, GpuEvidence, GpuFeature, GpuNonce, GpuPolicy, GpuRefusal, GpuRootClass,
    GpuRoots, OcspError, OcspNonce, OcspResponses, Revocation, Rim, RimError, Signatures, Verified,
};
use attest::RootClass;
use minicbor::bytes::ByteVec;
use registers::{Digest48, RuntimeEvent};
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Mutex;

/// The profile whose guests compute on a GPU: without one, none of them is trusted.
const GPU_PROFILE: &str = "h100";

/// Answers that are remembered: of the workers that one client uses at a time.
const APPRAISED_GPUS: usize = 32;

/// Why a worker's GPU is not trusted, and so the worker is not.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs)]
pub enum GpuNotTrusted {
    #[error("the profile `{GPU_PROFILE}` demands a GPU, and the keyset names none")]
    Absent,
    #[error("there is evidence of a GPU, and the keyset names none")]
    Unnamed,
    #[error("the keyset names {0} GPUs; one is served")]
    Count(usize),
    #[error("the keyset names a GPU, and there is no evidence of it")]
    NoEvidence,
    #[error("the evidence is of another GPU than the keyset names")]
    Identity,
    #[error("RTMR3 holds no event of the GPU that the keyset names")]
    Event,
    #[error("the proxy sent no reference manifests and no word on revocation for the GPU")]
    NoCollateral,
    #[error("its evidence cannot be read: {0}")]
    Evidence(#[from] EvidenceError),
    #[error("reference manifest {number} cannot be read: {error}")]
    Rim { number: usize, error: RimError },
    #[error("a response about revocation cannot be read: {0}")]
    Ocsp(#[from] OcspError),
    #[error(transparent)]
    Refused(#[from] GpuRefusal),
    #[error("the GPU works together with others ({0}); one by itself is served")]
    OneOfSeveral(GpuFeature),
    #[error("a real trust domain with a GPU under a test root")]
    TestRoot,
}

/// GPUs that were trusted before, so that the same evidence is not appraised twice: an appraisal takes milliseconds, and a client
/// attests more often than a guest makes evidence.
///
/// An answer is remembered for exactly what was judged (the report, its certificates, what the proxy added, the question, the roots),
/// from the second of its appraisal to the last one at which every signature behind it is in date. A refusal is not remembered. Of
/// other evidence, signatures that were good before are not checked again: of a GPU's next report only its own is new.
#[derive(Debug, Default)]
pub struct AppraisedGpus {
    answers: Mutex<VecDeque<Appraised>>,
    signatures: Signatures,
}

#[derive(Debug)]
struct Appraised {
    judged: Digest,
    roots: GpuRoots,
    seconds: RangeInclusive<u64>,
    gpu: Verified<Gpu>,
}

impl AppraisedGpus {
    fn find(&self, judged: Digest, roots: &GpuRoots, now_unix_s: u64) -> Option<Verified<Gpu>> {
        let same = |one: &&Appraised| {
            one.judged == judged && one.roots == *roots && one.seconds.contains(&now_unix_s)
        };
        let kept = self.answers.lock().ok()?;
        kept.iter().find(same).map(|one| one.gpu.clone())
    }

    fn keep(&self, one: Appraised) {
        let Ok(mut kept) = self.answers.lock() else {
            return;
        };
        kept.push_front(one);
        kept.truncate(APPRAISED_GPUS);
    }
}

/// What a worker shows of its GPU, once a quote vouches for keyset and events.
pub(crate) struct ShownGpu<'a> {
    pub(crate) keyset: &'a Keyset,
    pub(crate) digest: KeysetDigest,
    pub(crate) events: &'a [RuntimeEvent],
    pub(crate) report: Option<&'a GpuReport>,
    pub(crate) collateral: Option<&'a GpuCollateral>,
    /// Whose root is behind the quote.
    pub(crate) quoted: RootClass,
}

impl ShownGpu<'_> {
    /// The GPU that the keyset names, verified at this time; `None` if it names none and needs none.
    pub(crate) fn appraise(
        &self,
        roots: &GpuRoots,
        appraised: &AppraisedGpus,
        now_unix_s: u64,
    ) -> Result<Option<Verified<Gpu>>, GpuNotTrusted> {
        let named = match (&self.keyset.gpus[..], self.report) {
            ([], None) if self.keyset.profile == GPU_PROFILE => return Err(GpuNotTrusted::Absent),
            ([], None) => return Ok(None),
            ([], Some(_)) => return Err(GpuNotTrusted::Unnamed),
            ([named], _) => named,
            (several, _) => return Err(GpuNotTrusted::Count(several.len())),
        };
        let report = self.report.ok_or(GpuNotTrusted::NoEvidence)?;
        if report.identity() != Some(*named) {
            return Err(GpuNotTrusted::Identity);
        }
        let event = Digest48(GpuReport::event(named).digest);
        if !self.events.iter().any(|other| other.digest == event) {
            return Err(GpuNotTrusted::Event);
        }
        let collateral = self.collateral.ok_or(GpuNotTrusted::NoCollateral)?;
        if self.quoted == RootClass::Intel && roots.class() != GpuRootClass::Nvidia {
            return Err(GpuNotTrusted::TestRoot);
        }
        let judged = self.judged(report, collateral);
        if let Some(gpu) = appraised.find(judged, roots, now_unix_s) {
            return Ok(Some(gpu));
        }
        let evidence = GpuEvidence::from_der(&report.report, &bytes(&report.certificates))?;
        let rims = collateral.rims.iter().enumerate().map(|(number, xml)| {
            Rim::parse(&format!("RIM {number}"), xml)
                .map_err(|error| GpuNotTrusted::Rim { number, error })
        });
        let rims: Vec<Rim> = rims.collect::<Result<_, _>>()?;
        // A proxy's answers come out of a cache: their signed dates bound how old they are.
        let responses = OcspResponses::parse(&bytes(&collateral.ocsp), OcspNonce::Any)?;
        let policy = GpuPolicy {
            roots,
            at_unix_s: now_unix_s,
            nonce: GpuNonce::Expected(GpuReport::nonce(self.digest)),
            revocation: Revocation::Ocsp(&responses),
        };
        let gpu = ::gpu::verify_with(&evidence, &rims, &policy, &appraised.signatures)?;
        match gpu.evidence.fields.feature {
            None | Some(GpuFeature::SinglePassthrough) => {}
            Some(other) => return Err(GpuNotTrusted::OneOfSeveral(other)),
        }
        appraised.keep(Appraised {
            judged,
            roots: *roots,
            seconds: now_unix_s..=gpu.expires_unix_s.min(responses.until_unix_s()),
            gpu: gpu.clone(),
        });
        Ok(Some(gpu))
    }

    /// Stands for all that is judged but the roots and the time.
    fn judged(&self, report: &GpuReport, collateral: &GpuCollateral) -> Digest {
        let evidence = report.digest();
        // How many manifests there are, so that the last of them is not taken for the first response.
        let rims = (collateral.rims.len() as u64).to_be_bytes();
        let mut parts = vec![&self.digest.0[..], &evidence.0, &rims];
        parts.extend({ collateral.rims.iter() }.map(|xml| &xml[..]));
        parts.extend({ collateral.ocsp.iter() }.map(|der| &der[..]));
        sha256("chrysalis/gpu-appraised/v1", &parts)
    }
}

fn bytes(list: &[ByteVec]) -> Vec<Vec<u8>> {
    list.iter().map(|one| one.to_vec()).collect()
}
