//! A guest with a GPU: the client appraises it, or does not trust the guest, and says why.

use crate::common::*;
use crate::made::{Device, OcspMaker, RimMaker};
use ::gpu::{
    ChainError, EvidenceError, GpuFeature, GpuRefusal, OcspError, OcspNonce, OcspResponses,
    ReportError, RimError,
};
use attest::{Policy, RootClass};
use base64::{Engine, engine::general_purpose::STANDARD};
use registers::{Digest48, RuntimeEvent};
use std::time::{Duration, Instant};
use wire::*;
use without::vector;

/// A guest that measured a made-up GPU, and what a proxy fetched about that.
struct WithGpu {
    guest: Guest,
    device: Device,
    driver: RimMaker,
    vbios: RimMaker,
}

fn with_gpu() -> WithGpu {
    with_device(Device::new())
}

/// A guest that measured the GPU of this report.
fn guest_with(found: &GpuReport) -> Guest {
    let mut guest = guest();
    let identity = found.identity().unwrap();
    let event = GpuReport::event(&identity);
    let event = RuntimeEvent {
        name: event.name,
        digest: Digest48(event.digest),
    };
    guest.module.extend(3, &event.digest).unwrap();
    guest.events.push(event);
    guest.keyset.gpus = vec![identity];
    guest.keyset.registers = registers_digest(&guest.module.registers());
    guest
}

fn with_device(device: Device) -> WithGpu {
    WithGpu {
        guest: guest_with(&GpuReport::new(Vec::new(), device.certificates())),
        device,
        driver: RimMaker::driver(),
        vbios: RimMaker::vbios(),
    }
}

impl WithGpu {
    /// What the GPU signs for a nonce.
    fn report(&self, nonce: [u8; 32]) -> GpuReport {
        let mut device = self.device.clone();
        device.report.nonce = nonce;
        GpuReport::new(device.signed_report(), device.certificates())
    }

    fn own_report(&self) -> GpuReport {
        self.report(GpuReport::nonce(self.guest.keyset.digest()))
    }

    fn collateral(&self) -> GpuCollateral {
        let rims = [&self.driver, &self.vbios].map(|rim| rim.file().into_bytes());
        let ocsp = OcspMaker::all_good(&self.device, &self.driver);
        GpuCollateral::new(rims.to_vec(), ocsp)
    }

    fn shown(&self, report: Option<GpuReport>, collateral: Option<GpuCollateral>) -> Bundle {
        let keyset = &self.guest.keyset;
        let bundle = self.guest.bundle_with(keyset, &NONCE, report.as_ref());
        let Bundle {
            evidence,
            endorsement,
            collateral: intel,
            ..
        } = bundle;
        Bundle::new(evidence, endorsement, intel, collateral)
    }

    fn judge(&self, bundle: &Bundle) -> Result<AttestedWorker, NotTrusted> {
        let expected = Expected {
            gpu_roots: self.device.roots(&self.driver),
            ..self.guest.expected()
        };
        let (policy, root) = (self.guest.policy(), self.guest.root());
        attest(&bundle.encode(), &NONCE, &policy, &root, &expected, NOW)
    }

    fn refused(
        &self,
        report: Option<GpuReport>,
        collateral: Option<GpuCollateral>,
    ) -> GpuNotTrusted {
        match self.judge(&self.shown(report, collateral)) {
            Err(NotTrusted::Gpu(refused)) => refused,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_gpu_that_signed_for_this_keyset_is_trusted_with_its_guest() {
    let with = with_gpu();
    let bundle = with.shown(Some(with.own_report()), Some(with.collateral()));
    let worker = with.judge(&bundle).unwrap();
    let gpu = worker.gpu().unwrap();
    assert_eq!(gpu.evidence.fields.driver_version, "550.90.07");
    assert!(gpu.evidence.revocation_checked);
    assert_eq!(worker.peer().root, RootClass::InsecureTest);
    assert_eq!(bundle.version, 3);
    assert_eq!(Bundle::decode(&bundle.encode()), Ok(bundle));
    // And a guest without one has none.
    let without = guest();
    let worker = without.attest(&without.bundle(&NONCE)).unwrap();
    assert!(worker.gpu().is_none());
}

#[test]
fn what_a_guest_says_of_its_gpu_and_what_it_shows_must_be_one() {
    let with = with_gpu();
    let (report, collateral) = (|| Some(with.own_report()), || Some(with.collateral()));
    let check = |refused: GpuNotTrusted, expected| assert_eq!(refused, expected);
    check(with.refused(None, collateral()), GpuNotTrusted::NoEvidence);
    check(with.refused(report(), None), GpuNotTrusted::NoCollateral);
    let mut other = Device::new();
    other.parties[1].serial = 99;
    let other = GpuReport::new(with.own_report().report, other.certificates());
    check(
        with.refused(Some(other), collateral()),
        GpuNotTrusted::Identity,
    );
    let mut bare = with.own_report();
    bare.certificates.truncate(1);
    check(
        with.refused(Some(bare), collateral()),
        GpuNotTrusted::Identity,
    );

    let keyset_says = |gpus: Vec<Digest>| {
        let mut with = with_gpu();
        with.guest.keyset.gpus = gpus;
        with.refused(Some(with.own_report()), Some(with.collateral()))
    };
    let named = with.guest.keyset.gpus[0];
    check(keyset_says(vec![]), GpuNotTrusted::Unnamed);
    check(keyset_says(vec![named; 2]), GpuNotTrusted::Count(2));
    check(keyset_says(vec![Digest([1; 32])]), GpuNotTrusted::Identity);

    let mut unmeasured = with_gpu();
    let plain = guest();
    unmeasured.guest.module = plain.module;
    unmeasured.guest.events = plain.events;
    unmeasured.guest.keyset.registers = registers_digest(&unmeasured.guest.module.registers());
    let (report, collateral) = (unmeasured.own_report(), unmeasured.collateral());
    check(
        unmeasured.refused(Some(report), Some(collateral)),
        GpuNotTrusted::Event,
    );
}

#[test]
fn a_profile_that_demands_a_gpu_gets_one_or_no_trust() {
    let mut plain = guest();
    plain.keyset.profile = "h100".into();
    let bundle = plain.bundle(&NONCE);
    let expected = Expected {
        profile: "h100".into(),
        ..plain.expected()
    };
    let (policy, root) = (plain.policy(), plain.root());
    let refused = attest(&bundle.encode(), &NONCE, &policy, &root, &expected, NOW);
    assert_eq!(refused.err(), Some(NotTrusted::Gpu(GpuNotTrusted::Absent)));
}

#[test]
fn evidence_for_other_keys_or_another_question_is_refused() {
    let with = with_gpu();
    let collateral = || Some(with.collateral());
    let expected = GpuReport::nonce(with.guest.keyset.digest());
    for got in [[0x5a; 32], NONCE, GpuReport::nonce(KeysetDigest([1; 32]))] {
        let refused = with.refused(Some(with.report(got)), collateral());
        let nonce = GpuRefusal::Nonce { got, expected };
        assert_eq!(refused, GpuNotTrusted::Refused(nonce));
    }
    // The report data binds the evidence: another one of the same GPU for the same keyset is not what was quoted.
    let mut bundle = with.shown(Some(with.own_report()), collateral());
    let mut evidence = Evidence::decode(&bundle.evidence).unwrap();
    let mut other = with.device.clone();
    other.report.nonce = GpuReport::nonce(with.guest.keyset.digest());
    other.report.fields.push((99, vec![1]));
    evidence.gpu = Some(GpuReport::new(other.signed_report(), other.certificates()));
    bundle.evidence = evidence.encode();
    assert!(matches!(with.judge(&bundle), Err(NotTrusted::Quote(_))));
    evidence.gpu = None;
    evidence.version = 1;
    bundle.evidence = evidence.encode();
    assert!(matches!(with.judge(&bundle), Err(NotTrusted::Quote(_))));
}

#[test]
fn a_gpu_under_another_root_or_a_forged_one_is_refused() {
    let with = with_gpu();
    let bundle = with.shown(Some(with.own_report()), Some(with.collateral()));
    // A client that trusts NVIDIA alone.
    let refused = with.guest.attest(&bundle).err();
    let Some(NotTrusted::Gpu(GpuNotTrusted::Refused(GpuRefusal::Chain(refused)))) = refused else {
        panic!("{refused:?}");
    };
    assert!(matches!(refused, ChainError::Root { .. }));
    let mut forged = with.own_report();
    let last = forged.report.len() - 1;
    forged.report[last] ^= 1;
    let refused = with.refused(Some(forged), Some(with.collateral()));
    assert_eq!(refused, GpuNotTrusted::Refused(GpuRefusal::ReportSignature));
    let mut cut = with.own_report();
    cut.report.pop();
    let refused = with.refused(Some(cut), Some(with.collateral()));
    let end = EvidenceError::Report(ReportError::End);
    assert_eq!(refused, GpuNotTrusted::Evidence(end));
}

#[test]
fn firmware_that_no_manifest_accepts_and_certificates_without_a_good_word_are_refused() {
    let with = with_gpu();
    let report = || Some(with.own_report());
    let mut collateral = with.collateral();
    let vbios = collateral.rims.pop().unwrap();
    let refused = with.refused(report(), Some(collateral.clone()));
    let absent = GpuNotTrusted::Refused(GpuRefusal::RimAbsent {
        kind: gpu::RimKind::Vbios,
        id: "NV_GPU_VBIOS_1010_0200_882_96009F0001".into(),
        offered: vec!["RIM 0 (GH100 550.90.07)".into()],
    });
    assert_eq!(refused, absent);
    let mut changed = vbios.to_vec();
    let at = changed.windows(5).position(|w| w == b"Hash0").unwrap() + 7;
    changed[at] ^= 1;
    collateral.rims.push(changed.into());
    let refused = with.refused(report(), Some(collateral));
    let digest = matches!(
        &refused,
        GpuNotTrusted::Refused(GpuRefusal::Rim {
            error: RimError::Digest,
            ..
        })
    );
    assert!(digest, "{refused:?}");

    let mut silent = with.collateral();
    silent.ocsp.clear();
    let refused = with.refused(report(), Some(silent));
    let absent = matches!(
        &refused,
        GpuNotTrusted::Refused(GpuRefusal::Revocation(OcspError::Absent { .. }))
    );
    assert!(absent, "{refused:?}");

    let mut other_firmware = with_gpu();
    other_firmware.driver.active = vec![7, 50];
    other_firmware.vbios.active = vec![50];
    let (report, collateral) = (other_firmware.own_report(), other_firmware.collateral());
    let refused = other_firmware.refused(Some(report), Some(collateral));
    let overlap = GpuRefusal::Overlap { indexes: vec![50] };
    assert_eq!(refused, GpuNotTrusted::Refused(overlap));
}

#[test]
fn a_gpu_that_works_with_others_is_refused() {
    let mut device = Device::new();
    device.report.fields.push((36, vec![2, 0]));
    let with = with_device(device);
    let refused = with.refused(Some(with.own_report()), Some(with.collateral()));
    assert_eq!(
        refused,
        GpuNotTrusted::OneOfSeveral(GpuFeature::ProtectedPcie)
    );
}

/// The certificates of a PEM text, which may itself be in base64.
fn certificates(text: &[u8]) -> Vec<Vec<u8>> {
    let decoded = STANDARD.decode(text.trim_ascii());
    let text = String::from_utf8(decoded.unwrap_or(text.to_vec())).unwrap();
    let bodies = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    let body = |part: &str| {
        let body = part.split("-----END").next().unwrap();
        let plain: String = body.split_whitespace().collect();
        STANDARD.decode(plain).unwrap()
    };
    bodies.map(body).collect()
}

#[test]
fn real_evidence_that_answers_another_question_is_refused_and_bad_evidence_by_name() {
    let refused = |report: &str, chain: &str| {
        let report = vector(&format!("nvidia/{report}"))?;
        let chain = vector(&format!("nvidia/{chain}"))?;
        let report = hex::decode(report.trim_ascii()).unwrap();
        let chain = certificates(&chain);
        let shown = GpuReport::new(report, chain);
        let guest = guest_with(&shown);
        let with = WithGpu {
            guest,
            ..with_gpu()
        };
        let bundle = with.shown(Some(shown), Some(with.collateral()));
        // A client that trusts NVIDIA, as clients do.
        match with.guest.attest(&bundle) {
            Err(NotTrusted::Gpu(refused)) => Some(refused),
            other => panic!("{other:?}"),
        }
    };
    let good = refused(
        "nvtrust/hopperAttestationReport.txt",
        "nvtrust/hopperCertChain.txt",
    );
    let Some(good) = good else { return };
    let nonce = matches!(&good, GpuNotTrusted::Refused(GpuRefusal::Nonce { .. }));
    assert!(nonce, "{good:?}");
    let data = "sdk/testdata/sample_attestation_data/gpu";
    let forged = refused(
        &format!("{data}/hopperAttestationReportInvalidSignature.txt"),
        &format!("{data}/hopperCertChain.txt"),
    );
    let forged = forged.unwrap();
    assert_eq!(forged, GpuNotTrusted::Refused(GpuRefusal::ReportSignature));
    let chain = refused(
        "go-nvtrust/attestationReport.txt",
        "go-nvtrust/invalidCertChain.txt",
    );
    let chain = chain.unwrap();
    let named = matches!(
        &chain,
        GpuNotTrusted::Refused(GpuRefusal::Chain(_)) | GpuNotTrusted::Evidence(_)
    );
    assert!(named, "{chain:?}");
}

/// What one client remembers, and how it judges at a time.
struct Client<'a> {
    with: &'a WithGpu,
    policy: Policy,
    expected: Expected,
}

impl Client<'_> {
    fn of(with: &WithGpu) -> Client<'_> {
        Client {
            with,
            policy: with.guest.policy(),
            expected: Expected {
                gpu_roots: with.device.roots(&with.driver),
                ..with.guest.expected()
            },
        }
    }

    fn attest(&self, bundle: &[u8], now: u64) -> Result<AttestedWorker, NotTrusted> {
        let root = self.with.guest.root();
        attest(bundle, &NONCE, &self.policy, &root, &self.expected, now)
    }
}

#[test]
fn what_was_appraised_once_stands_for_itself_and_as_long_as_its_signatures_do() {
    let with = with_gpu();
    let client = Client::of(&with);
    let good = with.shown(Some(with.own_report()), Some(with.collateral()));
    let first = client.attest(&good.encode(), NOW).unwrap();
    let later = client.attest(&good.encode(), NOW + 1).unwrap();
    assert_eq!(first.gpu(), later.gpu());
    // A refusal is what it would be without a memory: other evidence, other collateral, other roots, a second before the first.
    let mut forged = with.own_report();
    *forged.report.last_mut().unwrap() ^= 1;
    let mut revoked = with.collateral();
    revoked.ocsp.pop();
    let mut moved = with.collateral();
    let last = moved.rims.pop().unwrap();
    moved.ocsp.insert(0, last);
    for (report, collateral) in [
        (forged, with.collateral()),
        (with.own_report(), revoked),
        (with.own_report(), moved),
    ] {
        let shown = with.shown(Some(report), Some(collateral));
        assert!(client.attest(&shown.encode(), NOW).is_err());
    }
    assert!(
        client.attest(&good.encode(), NOW - 1).is_ok(),
        "judged anew"
    );
    let elsewhere = Client {
        expected: Expected {
            gpu_roots: GpuRoots::NVIDIA,
            ..client.expected.clone()
        },
        ..Client::of(&with)
    };
    let refused = elsewhere.attest(&good.encode(), NOW);
    assert!(matches!(refused, Err(NotTrusted::Gpu(_))), "{refused:?}");
    // When an answer about revocation is out of date, so is what was remembered: here one of the device, 2,800 s later.
    let (device, above) = (&with.device.parties[1], &with.device.parties[2]);
    let maker = OcspMaker {
        produced: "20260921000000Z",
        this_update: "20260921000000Z",
        next_update: Some("20260921150000Z"),
        ..OcspMaker::good(&above.key)
    };
    let mut ocsp = OcspMaker::all_good(&with.device, &with.driver);
    ocsp[0] = maker.answer(device, above);
    let until = OcspResponses::parse(&ocsp, OcspNonce::Any).unwrap();
    let until = until.until_unix_s();
    assert_eq!(until, NOW + 2800);
    let rims = [&with.driver, &with.vbios].map(|rim| rim.file().into_bytes());
    let collateral = GpuCollateral::new(rims.to_vec(), ocsp);
    let good = with.shown(Some(with.own_report()), Some(collateral));
    assert!(client.attest(&good.encode(), NOW).is_ok());
    assert!(client.attest(&good.encode(), until).is_ok());
    let stale = client.attest(&good.encode(), until + 1);
    assert!(
        matches!(
            stale,
            Err(NotTrusted::Gpu(GpuNotTrusted::Refused(
                GpuRefusal::Revocation(OcspError::Stale { .. })
            )))
        ),
        "{stale:?}"
    );
}

/// How long this thread has computed: what others do on the machine does not count (Documentation/scheduler/sched-stats.rst), nor does
/// the thread beside it that judges RIMs.
fn on_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let words = text.split(' ').next().unwrap();
    Duration::from_nanos(words.parse().unwrap())
}

/// `cargo test --release -p wire --features client --test all appraisal_is_timed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, of an optimised program"]
fn an_appraisal_is_timed_and_one_that_is_remembered_takes_less_than_a_millisecond() {
    let with = with_gpu();
    let plain = guest();
    let (without, good) = (
        plain.bundle(&NONCE),
        with.shown(Some(with.own_report()), Some(with.collateral()))
            .encode(),
    );
    let median = |mut run: Box<dyn FnMut() + '_>| {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..101 {
            let (clock, begun) = (Instant::now(), on_processor());
            run();
            times[0].push(clock.elapsed());
            times[1].push(on_processor() - begun);
        }
        times.map(|mut times| {
            times.sort();
            times[50]
        })
    };
    let quote = median(Box::new(|| {
        plain.attest(&without).unwrap();
    }));
    // Making one signs certificates, which is not what is measured.
    let mut clients: Vec<Client> = (0..101).map(|_| Client::of(&with)).collect();
    let first = median(Box::new(|| {
        clients.pop().unwrap().attest(&good, NOW).unwrap();
    }));
    let client = Client::of(&with);
    client.attest(&good, NOW).unwrap();
    let again = median(Box::new(|| {
        client.attest(&good, NOW).unwrap();
    }));
    println!(
        "by the clock and on this thread: quote alone {quote:?}; with a GPU {first:?}; with one that is remembered {again:?}"
    );
    assert!(again[1].saturating_sub(quote[1]) < Duration::from_millis(1));
}

#[test]
fn every_flipped_byte_of_a_guest_with_a_gpu_is_refused() {
    let with = with_gpu();
    let bytes = with
        .shown(Some(with.own_report()), Some(with.collateral()))
        .encode();
    let expected = Expected {
        gpu_roots: with.device.roots(&with.driver),
        ..with.guest.expected()
    };
    let (policy, root) = (with.guest.policy(), with.guest.root());
    let (mut refused, mut taken) = (0, 0);
    for index in (0..bytes.len()).step_by(997) {
        let mut flipped = bytes.clone();
        flipped[index] ^= 1;
        match attest(&flipped, &NONCE, &policy, &root, &expected, NOW) {
            Err(_) => refused += 1,
            // Where nothing is believed: names of events, copies of certificates in the collateral.
            Ok(worker) => {
                taken += 1;
                assert_eq!(worker.keyset(), &with.guest.keyset);
                assert!(worker.gpu().is_some());
            }
        }
    }
    assert!(refused > 10 * taken, "{refused} refused, {taken} taken");
    for length in (0..bytes.len()).step_by(9973) {
        assert!(attest(&bytes[..length], &NONCE, &policy, &root, &expected, NOW).is_err());
    }
}
