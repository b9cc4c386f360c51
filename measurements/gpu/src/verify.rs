//! Evidence becomes a GPU.
//!
//! ```text
//! evidence ─► chain up to the root ─► report's signature ─► firmware ─► nonce ─► revocation       = Inspected
//!             driver RIM, VBIOS RIM: chain, digest, signature ─► every measurement            ─► Verified<Gpu>
//! ```
//! Each step is reached only through the one before, so the first refusal is the gravest one that can be known. The last step goes
//! through all measurements and names every one that differs.

use std::ops::Deref;

use super::{
    GpuBundle, GpuBundleRefusal, GpuEvidence, GpuFields, GpuRefusal, GpuRootClass, GpuRoots,
    Mismatch, OcspResponses, Rim, RimKind,
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

/// A GPU whose evidence was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Everything that its evidence says.
    pub evidence: Inspected,
    /// What stands behind its driver's measurements.
    pub driver_rim: RimUsed,
    /// What stands behind its VBIOS's measurements.
    pub vbios_rim: RimUsed,
    /// The measurements that were compared and are as accepted, by their index in the RIMs.
    pub matched: Vec<u8>,
    /// Measurements that the RIMs list and nobody compared: of a video decoder that is off.
    pub skipped: Vec<u8>,
    /// The last second at which all certificates behind it are valid.
    pub expires_unix_s: u64,
}

/// A RIM that a GPU was compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RimUsed {
    /// What the caller calls it.
    pub label: String,
    /// NVIDIA's identifier of it.
    pub tag_id: String,
    /// Its version, which is the driver's or the VBIOS's.
    pub version: String,
    /// SHA-256 of the file.
    pub digest: Digest32,
}

/// What [`verify`] or [`verify_bundle`] vouches for. Nothing outside this crate can make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Turns the evidence of one GPU into a GPU, or says why not. `rims` are those of its driver and its VBIOS; others among them are
/// passed over.
///
/// `Ok` claims: at the given time, under the given roots, a Hopper GPU signed for the expected nonce that it measured exactly what the
/// RIMs of the driver and VBIOS that it names accept. It claims nothing about which machine the GPU is in, or that confidential
/// computing is switched on: the guest's measured driver has to say that.
pub fn verify(
    evidence: &GpuEvidence,
    rims: &[Rim],
    policy: &GpuPolicy<'_>,
) -> Result<Verified<Gpu>, GpuRefusal> {
    appraise(evidence, rims, policy).map(Verified)
}

/// Turns the evidence of a machine's GPUs into GPUs. All answer one nonce, and none stands there twice.
pub fn verify_bundle(
    bundle: &GpuBundle,
    rims: &[Rim],
    policy: &GpuPolicy<'_>,
) -> Result<Verified<Vec<Gpu>>, GpuBundleRefusal> {
    each(bundle, |evidence| appraise(evidence, rims, policy)).map(Verified)
}

/// Chain, signature, firmware, nonce and revocation of each GPU, and that they are different ones with one nonce. No RIM is looked at, so
/// nothing becomes `Verified`.
pub fn inspect_bundle(
    bundle: &GpuBundle,
    policy: &GpuPolicy<'_>,
) -> Result<Vec<Inspected>, GpuBundleRefusal> {
    each(bundle, |evidence| inspect(evidence, policy))
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
    let chain = &evidence.chain;
    chain
        .verify(policy.roots.device(), policy.at_unix_s)
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
    if !report.is_signed_by(&leaf.key) {
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
                .check(certificate, issuer, policy.at_unix_s)
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

fn appraise(
    evidence: &GpuEvidence,
    rims: &[Rim],
    policy: &GpuPolicy<'_>,
) -> Result<Gpu, GpuRefusal> {
    let inspected = inspect(evidence, policy)?;
    let driver = rim(RimKind::Driver, &inspected.fields, rims, policy)?;
    let vbios = rim(RimKind::Vbios, &inspected.fields, rims, policy)?;
    let both = driver
        .active
        .keys()
        .filter(|index| vbios.active.contains_key(index));
    let indexes: Vec<u8> = both.copied().collect();
    if !indexes.is_empty() {
        return Err(GpuRefusal::Overlap { indexes });
    }
    let decoder_off = inspected.fields.video_decoder == Some(false);
    let (mut matched, mut skipped, mut mismatches) = (Vec::new(), Vec::new(), Vec::new());
    let of_driver = driver.active.iter().map(|entry| (RimKind::Driver, entry));
    let of_vbios = vbios.active.iter().map(|entry| (RimKind::Vbios, entry));
    for (kind, (&index, golden)) in of_driver.chain(of_vbios) {
        let got = evidence
            .report
            .measurements
            .get(usize::from(index))
            .copied();
        if decoder_off && index == VIDEO_DECODER_INDEX {
            skipped.push(index);
        } else if got.is_some_and(|got| golden.accepted.contains(&got)) {
            matched.push(index);
        } else {
            mismatches.push(Mismatch {
                index,
                rim: kind,
                name: golden.name.clone(),
                got,
                accepted: golden.accepted.clone(),
            });
        }
    }
    matched.sort_unstable();
    mismatches.sort_by_key(|mismatch| mismatch.index);
    if !mismatches.is_empty() {
        return Err(GpuRefusal::Measurements(mismatches));
    }
    let ends = [&evidence.chain, driver.chain(), vbios.chain()].map(|chain| chain.expires_unix_s());
    Ok(Gpu {
        evidence: inspected,
        driver_rim: used(driver),
        vbios_rim: used(vbios),
        matched,
        skipped,
        expires_unix_s: ends.into_iter().min().unwrap_or(0),
    })
}

/// The one RIM of this kind that fits the GPU, verified.
fn rim<'a>(
    kind: RimKind,
    fields: &GpuFields,
    rims: &'a [Rim],
    policy: &GpuPolicy<'_>,
) -> Result<&'a Rim, GpuRefusal> {
    let (id, version, board) = match kind {
        RimKind::Driver => (fields.driver_rim_id(), &fields.driver_version, None),
        RimKind::Vbios => (
            fields.vbios_rim_id(),
            &fields.vbios_version,
            Some(&fields.board),
        ),
    };
    let fitting: Vec<&Rim> = rims.iter().filter(|rim| rim.fits(version, board)).collect();
    let rim = match fitting[..] {
        [rim] => rim,
        [] => {
            let name = |rim: &Rim| format!("{} ({} {})", rim.label(), rim.product(), rim.version());
            return Err(GpuRefusal::RimAbsent {
                kind,
                id,
                offered: rims.iter().map(name).collect(),
            });
        }
        _ => {
            return Err(GpuRefusal::RimAmbiguous {
                kind,
                id,
                labels: fitting.iter().map(|rim| rim.label().to_owned()).collect(),
            });
        }
    };
    rim.check(policy.roots, policy.at_unix_s)
        .map_err(|error| GpuRefusal::Rim {
            kind,
            label: rim.label().to_owned(),
            error,
        })?;
    if let Revocation::Ocsp(responses) = policy.revocation {
        for (certificate, issuer) in rim.chain().with_issuers() {
            responses
                .check(certificate, issuer, policy.at_unix_s)
                .map_err(GpuRefusal::Revocation)?;
        }
    }
    Ok(rim)
}

fn used(rim: &Rim) -> RimUsed {
    RimUsed {
        label: rim.label().to_owned(),
        tag_id: rim.tag_id().to_owned(),
        version: rim.version().to_owned(),
        digest: rim.digest(),
    }
}

/// Judges each GPU, and then that they are different GPUs with one nonce.
fn each<T>(
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

/// Measurement 35 is of the firmware of video decoder 0; a decoder that is off measures to nothing that a RIM knows.
const VIDEO_DECODER_INDEX: u8 = 35;
/// How the two authorities between NVIDIA's root and a Hopper GPU begin.
const HOPPER_AUTHORITY: &str = "NVIDIA GH100 ";
