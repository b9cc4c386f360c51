//! Appraisals that know signatures from earlier ones: each new signature is checked, and everything but signatures is judged again.

use crate::made::{AT_UNIX_S, Device, OcspMaker, RimMaker};
use gpu::{
    ChainError, Gpu, GpuEvidence, GpuNonce, GpuPolicy, GpuRefusal, GpuRoots, OcspError, OcspNonce,
    OcspResponses, Revocation, Rim, RimError, Signatures, Verified, verify, verify_with,
};

/// A GPU as NVIDIA makes them, with RIMs of four certificates whose signers differ, and answers about all certificates.
struct Made {
    device: Device,
    rims: Vec<Rim>,
    roots: GpuRoots,
    ocsp: Vec<Vec<u8>>,
}

impl Made {
    fn new() -> Made {
        let device = Device::new();
        let (driver, vbios) = (
            RimMaker::driver().of_four(25),
            RimMaker::vbios().of_four(26),
        );
        let mut ocsp = OcspMaker::all_good(&device, &driver);
        ocsp.extend(OcspMaker::good_about(vbios.parties.windows(2).take(1)));
        Made {
            roots: device.roots(&driver),
            rims: vec![driver.rim(), vbios.rim()],
            ocsp,
            device,
        }
    }

    /// What the GPU signs for a nonce.
    fn evidence(&self, nonce: u8) -> GpuEvidence {
        let mut device = self.device.clone();
        device.report.nonce = [nonce; 32];
        device.evidence()
    }

    fn appraise(
        &self,
        evidence: &GpuEvidence,
        at_unix_s: u64,
        known: Option<&Signatures>,
    ) -> Result<Verified<Gpu>, GpuRefusal> {
        let ocsp = OcspResponses::parse(&self.ocsp, OcspNonce::Any).unwrap();
        let policy = GpuPolicy {
            roots: &self.roots,
            at_unix_s,
            nonce: GpuNonce::InsecureAny,
            revocation: Revocation::Ocsp(&ocsp),
        };
        match known {
            Some(known) => verify_with(evidence, &self.rims, &policy, known),
            None => verify(evidence, &self.rims, &policy),
        }
    }
}

const NOW: u64 = AT_UNIX_S + 1;

#[test]
fn of_a_later_report_only_its_own_signature_is_new() {
    let (made, known) = (Made::new(), Signatures::default());
    let first = made.appraise(&made.evidence(1), NOW, Some(&known));
    assert_eq!(first, made.appraise(&made.evidence(1), NOW, None));
    // Five of the device, three of each RIM, of which two are the same, two RIMs, and seven answers.
    assert_eq!(known.count(), 18);
    let later = made.appraise(&made.evidence(2), NOW, Some(&known));
    assert_eq!(later, made.appraise(&made.evidence(2), NOW, None));
    assert_ne!(first, later);
    assert_eq!(known.count(), 19);
    assert!(made.appraise(&made.evidence(2), NOW, Some(&known)).is_ok());
    assert_eq!(known.count(), 19);
}

#[test]
fn known_signatures_let_nothing_pass_that_would_be_refused() {
    let (made, known) = (Made::new(), Signatures::default());
    let good = made.evidence(1);
    made.appraise(&good, NOW, Some(&known)).unwrap();
    let refused = |made: &Made, evidence: &GpuEvidence, at| {
        let refused = made.appraise(evidence, at, Some(&known)).unwrap_err();
        assert_eq!(made.appraise(evidence, at, None), Err(refused.clone()));
        refused
    };
    let mut report = made.device.signed_report();
    *report.last_mut().unwrap() ^= 1;
    let forged = GpuEvidence::from_der(&report, &made.device.certificates()).unwrap();
    assert_eq!(refused(&made, &forged, NOW), GpuRefusal::ReportSignature);
    let late = refused(&made, &good, 1_900_000_000);
    assert!(
        matches!(late, GpuRefusal::Chain(ChainError::Expired { .. })),
        "{late}"
    );
    let stale = refused(&made, &good, 1_870_000_000);
    let GpuRefusal::Revocation(OcspError::Stale { .. }) = stale else {
        panic!("{stale}")
    };
    let mut less = Made::new();
    less.ocsp.pop();
    let absent = refused(&less, &good, NOW);
    let GpuRefusal::Revocation(OcspError::Absent { .. }) = absent else {
        panic!("{absent}")
    };
    let mut foreign = Made::new();
    foreign.roots = GpuRoots::NVIDIA;
    let root = refused(&foreign, &good, NOW);
    assert!(
        matches!(root, GpuRefusal::Chain(ChainError::Root { .. })),
        "{root}"
    );
    let mut changed = RimMaker::driver().of_four(25);
    changed.terms[0].not_after = "20210101000000Z";
    let mut expired = Made::new();
    expired.rims[0] = changed.rim();
    let expired = refused(&expired, &good, NOW);
    let GpuRefusal::Rim {
        error: RimError::Chain(ChainError::Expired { .. }),
        ..
    } = expired
    else {
        panic!("{expired}")
    };
}

/// RIMs are judged beside the evidence, and what is wrong with that is said first.
#[test]
fn a_refusal_of_the_evidence_goes_before_one_of_its_rims() {
    let mut made = Made::new();
    let mut report = made.device.signed_report();
    *report.last_mut().unwrap() ^= 1;
    let forged = GpuEvidence::from_der(&report, &made.device.certificates()).unwrap();
    made.rims.clear();
    let refused = made.appraise(&forged, NOW, None);
    assert_eq!(refused, Err(GpuRefusal::ReportSignature));
    let absent = made.appraise(&made.evidence(1), NOW, None);
    assert!(
        matches!(absent, Err(GpuRefusal::RimAbsent { .. })),
        "{absent:?}"
    );
}
