//! Evidence becomes a GPU.
//!
//! ```text
//! evidence ─► Inspected ─► driver RIM, VBIOS RIM: chain, digest, signature ─► every measurement ─► Verified<Gpu>
//! ```
//! The last step goes through all measurements and names every one that differs. RIMs are judged on a thread beside the evidence:
//! nearly all of the time goes into signatures, and half of them are behind RIMs.

use std::ops::Deref;
use std::panic::resume_unwind;

use super::{
    GpuBundle, GpuBundleRefusal, GpuEvidence, GpuFields, GpuPolicy, GpuRefusal, Inspected,
    Mismatch, Revocation, Rim, RimKind,
    inspect::{each, inspected},
    signatures::Signatures,
};
use registers::Digest32;

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
    verify_with(evidence, rims, policy, &Signatures::default())
}

/// The same for whoever appraises more than once: what is in `signatures` is not checked again, what is found good is put there. Answer
/// and claim are those of [`verify`].
pub fn verify_with(
    evidence: &GpuEvidence,
    rims: &[Rim],
    policy: &GpuPolicy<'_>,
    signatures: &Signatures,
) -> Result<Verified<Gpu>, GpuRefusal> {
    appraise(evidence, rims, policy, signatures).map(Verified)
}

/// Turns the evidence of a machine's GPUs into GPUs. All answer one nonce, and none stands there twice.
pub fn verify_bundle(
    bundle: &GpuBundle,
    rims: &[Rim],
    policy: &GpuPolicy<'_>,
) -> Result<Verified<Vec<Gpu>>, GpuBundleRefusal> {
    let signatures = Signatures::default();
    each(bundle, |evidence| {
        appraise(evidence, rims, policy, &signatures)
    })
    .map(Verified)
}

fn appraise(
    evidence: &GpuEvidence,
    rims: &[Rim],
    policy: &GpuPolicy<'_>,
    signatures: &Signatures,
) -> Result<Gpu, GpuRefusal> {
    let of = |kind| rim(kind, &evidence.report.fields, rims, policy, signatures);
    let both = || Ok::<_, GpuRefusal>((of(RimKind::Driver)?, of(RimKind::Vbios)?));
    // A refusal of the evidence goes before one of its RIMs, whichever is found first.
    let (inspected, judged) = std::thread::scope(|scope| {
        let beside = std::thread::Builder::new().spawn_scoped(scope, both);
        let inspected = inspected(evidence, policy, signatures);
        let judged = match beside {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // No further thread is to be had.
            Err(_) => both(),
        };
        (inspected, judged)
    });
    let (inspected, (driver, vbios)) = (inspected?, judged?);
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
    signatures: &Signatures,
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
    rim.check_with(policy.roots, policy.at_unix_s, signatures)
        .map_err(|error| GpuRefusal::Rim {
            kind,
            label: rim.label().to_owned(),
            error,
        })?;
    if let Revocation::Ocsp(responses) = policy.revocation {
        for (certificate, issuer) in rim.chain().with_issuers() {
            responses
                .check(certificate, issuer, policy.at_unix_s, signatures)
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

/// Measurement 35 is of the firmware of video decoder 0; a decoder that is off measures to nothing that a RIM knows.
const VIDEO_DECODER_INDEX: u8 = 35;
