//! What a GPU says, from its own signature up to NVIDIA's root: the part of an appraisal that takes no reference values.
//!
//! ```text
//! evidence ─► chain up to the root ─► report's signature ─► firmware ─► nonce ─► revocation       = Inspected
//! ```
//! Each step is reached only through the one before, so the first refusal is the gravest one that can be known.

use super::{
    GpuBundle, GpuBundleRefusal, GpuEvidence, GpuFields, GpuRefusal, GpuRootClass, GpuRoots,
    OcspResponses, signatures::Signatures,
};
use registers::{Digest32, Digest48};

/// What is expected of a GPU, and by what it is judged.
#[derive(Clone, Copy, Debug)]
pub struct GpuPolicy<'a> {
    /// The roots to trust.
    pub roots: &'a GpuRoots,
    /// When to judge, in Unix seconds: the time at which the evidence was received. RIMs are signed with certificates of two years.
    pub at_unix_s: u64,
    /// The question that the evidence must answer.
    pub nonce: GpuNonce,
    /// How certificates are checked for revocation.
    pub revocation: Revocation<'a>,
}

/// Which nonce evidence must carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuNonce {
    /// This one, which the verifier chose.
    Expected([u8; 32]),
    /// Any. Whoever has one report of a GPU can show it for ever.
    InsecureAny,
}

/// How certificates are checked for revocation.
#[derive(Clone, Copy, Debug)]
pub enum Revocation<'a> {
    /// Each certificate below the roots, but the device's own leaf, must be good by one of these.
    Ocsp(&'a OcspResponses),
    /// Not at all.
    InsecureUnchecked,
}

/// What a GPU's evidence says, signed by a device of the root. Not compared with what NVIDIA says a GPU should run, so no proof
/// of anything about its firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// What the GPU says of itself.
    pub fields: GpuFields,
    /// The device's serial number, from the certificate of its own key.
    pub device: String,
    /// SHA-256 of the device's own public key (SubjectPublicKeyInfo).
    pub device_key: Digest32,
    /// SHA-256 of the public key that signed the report (SubjectPublicKeyInfo).
    pub report_key: Digest32,
    /// The nonce in the request.
    pub nonce: [u8; 32],
    /// SHA-256 of the report.
    pub report: Digest32,
    /// How many measurements the report has.
    pub measurements: usize,
    /// Whose root stands behind it.
    pub root: GpuRootClass,
    /// Whether revocation was checked.
    pub revocation_checked: bool,
}

/// Chain, signature, firmware, nonce and revocation of each GPU, and that they are different ones with one nonce. No RIM is looked at, so
/// nothing becomes `Verified`.
pub fn inspect_bundle(
    bundle: &GpuBundle,
    policy: &GpuPolicy<'_>,
) -> Result<Vec<Inspected>, GpuBundleRefusal> {
    let signatures = Signatures::default();
    each(bundle, |evidence| inspected(evidence, policy, &signatures))
}

/// Chain, signature, firmware and nonce of one GPU, for who has neither RIMs nor a clock that can be believed: judged at the first second
/// at which all its certificates are valid. Whether they still are, and what NVIDIA says of the firmware, is not asked.
pub fn inspect_without_clock(
    evidence: &GpuEvidence,
    roots: &GpuRoots,
    nonce: &[u8; 32],
) -> Result<Inspected, GpuRefusal> {
    let begins = { evidence.chain.certificates() }.map(|one| one.not_before_unix_s);
    let policy = GpuPolicy {
        roots,
        at_unix_s: begins.max().unwrap_or(0),
        nonce: GpuNonce::Expected(*nonce),
        revocation: Revocation::InsecureUnchecked,
    };
    inspect(evidence, &policy)
}

/// Chain, signature, firmware, nonce and revocation of one GPU. No RIM is looked at, so nothing becomes `Verified`.
pub fn inspect(evidence: &GpuEvidence, policy: &GpuPolicy<'_>) -> Result<Inspected, GpuRefusal> {
    inspected(evidence, policy, &Signatures::default())
}

pub(super) fn inspected(
    evidence: &GpuEvidence,
    policy: &GpuPolicy<'_>,
    signatures: &Signatures,
) -> Result<Inspected, GpuRefusal> {
    let chain = &evidence.chain;
    chain
        .verify(policy.roots.device(), policy.at_unix_s, signatures)
        .map_err(GpuRefusal::Chain)?;
    let report = &evidence.report;
    let leaf = chain.leaf();
    // Leaf, device, two authorities of Hopper, root. A switch of NVIDIA's has a chain to the same root.
    let mut above = chain.certificates().skip(1);
    let device = above.next().unwrap_or(leaf);
    if let Some(other) = above
        .take(2)
        .find(|ca| !ca.common_name.starts_with(HOPPER_AUTHORITY))
    {
        return Err(GpuRefusal::Architecture {
            got: other.common_name.clone(),
        });
    }
    if !report.is_signed_by(leaf, signatures) {
        return Err(GpuRefusal::ReportSignature);
    }
    let tcb_info = leaf.extensions.tcb_info.as_ref();
    if tcb_info.is_some_and(|info| info.device_key_info != device.key_info) {
        return Err(GpuRefusal::FirmwareOfAnotherDevice);
    }
    let certified = tcb_info.map(|info| Digest48(info.firmware));
    let got = report.fields.firmware;
    if got.is_some() && got != certified {
        return Err(GpuRefusal::Firmware { got, certified });
    }
    match policy.nonce {
        GpuNonce::Expected(expected) if expected != report.nonce => {
            let got = report.nonce;
            return Err(GpuRefusal::Nonce { got, expected });
        }
        GpuNonce::Expected(_) | GpuNonce::InsecureAny => {}
    }
    if let Revocation::Ocsp(responses) = policy.revocation {
        // The leaf is made by the device itself, so no service knows it.
        for (certificate, issuer) in chain.with_issuers().skip(1) {
            responses
                .check(certificate, issuer, policy.at_unix_s, signatures)
                .map_err(GpuRefusal::Revocation)?;
        }
    }
    Ok(Inspected {
        fields: report.fields.clone(),
        device: device.subject_serial.clone().unwrap_or_default(),
        device_key: Digest32(device.key_info_digest),
        report_key: Digest32(leaf.key_info_digest),
        nonce: report.nonce,
        report: evidence.digest(),
        measurements: report.measurements.len(),
        root: policy.roots.class(),
        revocation_checked: matches!(policy.revocation, Revocation::Ocsp(_)),
    })
}

/// Judges each GPU, and then that they are different GPUs with one nonce.
pub(super) fn each<T>(
    bundle: &GpuBundle,
    mut judge: impl FnMut(&GpuEvidence) -> Result<T, GpuRefusal>,
) -> Result<Vec<T>, GpuBundleRefusal> {
    let (mut good, mut refused) = (Vec::new(), Vec::new());
    for (position, evidence) in bundle.gpus.iter().enumerate() {
        match judge(evidence) {
            Ok(gpu) => good.push(gpu),
            Err(refusal) => refused.push((position, refusal)),
        }
    }
    if !refused.is_empty() {
        return Err(GpuBundleRefusal::Gpus(refused));
    }
    // The key of the device, which outlives its firmware: two reports of one GPU are not two GPUs.
    let mut seen: Vec<Option<Digest32>> = Vec::new();
    for (second, evidence) in bundle.gpus.iter().enumerate() {
        let device = evidence.chain.certificates().nth(1);
        let key = device.map(|device| Digest32(device.key_info_digest));
        if let Some(first) = seen.iter().position(|other| *other == key) {
            return Err(GpuBundleRefusal::Twice { first, second });
        }
        seen.push(key);
    }
    let first = bundle.gpus.first().map(GpuEvidence::nonce);
    let other = bundle
        .gpus
        .iter()
        .position(|gpu| Some(gpu.nonce()) != first);
    match other {
        None => Ok(good),
        Some(position) => Err(GpuBundleRefusal::Nonces { position }),
    }
}

/// How the two authorities between NVIDIA's root and a Hopper GPU begin.
const HOPPER_AUTHORITY: &str = "NVIDIA GH100 ";
