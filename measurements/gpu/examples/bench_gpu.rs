//! How long the appraisal of one GPU takes, from the bytes of its files: time on the clock, two threads as a client has them.
//!
//! ```text
//! cargo run --release -p gpu --example bench_gpu -- ../shared/vectors/nvidia [runs]
//! ```
//! First the vectors' real report with its two RIMs, for which nobody has OCSP responses; then a made-up GPU that has those and RIMs of
//! four certificates, which is what a client appraises: for the first time, and a later report with the signatures known from before. The
//! directory is the vectors'.

#[path = "../tests/it/made.rs"]
mod made;

use std::{fs, path::Path, time::Instant};

use gpu::{
    GpuEvidence, GpuNonce, GpuPolicy, GpuRoots, OcspNonce, OcspResponses, Revocation, Rim,
    Signatures, verify_with,
};
use made::{Device, OcspMaker, RimMaker};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments
        .next()
        .expect("the first argument is the directory of vectors");
    let runs: usize = arguments
        .next()
        .map_or(200, |runs| runs.parse().expect("a number of runs"));
    let read = |name: &str| {
        fs::read(Path::new(&directory).join(name)).expect("the directory has the vectors")
    };
    let report = read("go-nvtrust/attestationReport.txt");
    let chain = read("go-nvtrust/gpuAkCertChain.txt");
    let rims = [
        "Driver_RIM_test_no_gpu",
        "1010_0200_882_96005E0001_test_no_gpu",
    ]
    .map(|name| (name, read(&format!("nvtrust/{name}.swidtag"))));
    let policy = GpuPolicy {
        roots: &GpuRoots::NVIDIA,
        at_unix_s: 1_700_000_000,
        nonce: GpuNonce::InsecureAny,
        revocation: Revocation::InsecureUnchecked,
    };
    time("a real report, no OCSP", runs, |_| {
        let (evidence, signatures) = (
            GpuEvidence::from_report(&report, &chain).expect("the vector can be read"),
            Signatures::default(),
        );
        let rims = rims
            .each_ref()
            .map(|(label, bytes)| Rim::parse(label, bytes).expect("a RIM"));
        verify_with(&evidence, &rims, &policy, &signatures).expect("the vector is verified");
        signatures.count()
    });

    let mut device = Device::new();
    let certificates = device.certificates();
    let reports: Vec<Vec<u8>> = (0..=runs)
        .map(|run| {
            device.report.nonce[..8].copy_from_slice(&run.to_le_bytes());
            device.signed_report()
        })
        .collect();
    let (driver, vbios) = (
        RimMaker::driver().of_four(25),
        RimMaker::vbios().of_four(26),
    );
    let rims = [&driver, &vbios].map(|rim| rim.file().into_bytes());
    let mut ocsp = OcspMaker::all_good(&device, &driver);
    ocsp.extend(OcspMaker::good_about(vbios.parties.windows(2).take(1)));
    let roots = device.roots(&driver);
    let appraise = |run: usize, signatures: &Signatures| {
        let before = signatures.count();
        let evidence = GpuEvidence::from_der(&reports[run], &certificates).expect("it can be read");
        let rims = rims
            .each_ref()
            .map(|bytes| Rim::parse("RIM", bytes).expect("a RIM"));
        let ocsp = OcspResponses::parse(&ocsp, OcspNonce::Any).expect("responses");
        let policy = GpuPolicy {
            roots: &roots,
            at_unix_s: made::AT_UNIX_S + 1,
            nonce: GpuNonce::InsecureAny,
            revocation: Revocation::Ocsp(&ocsp),
        };
        verify_with(&evidence, &rims, &policy, signatures).expect("it is verified");
        signatures.count() - before
    };
    time("a made-up report with OCSP, the first", runs, |run| {
        appraise(run, &Signatures::default())
    });
    let known = Signatures::default();
    time("a made-up report with OCSP, a later one", runs, |run| {
        appraise(run, &known)
    });
}

/// `appraise` gets the number of the run, and says how many signatures it checked.
fn time(what: &str, runs: usize, appraise: impl Fn(usize) -> usize) {
    // Once outside the timing, so that pages and branch predictors are warm in every timed run.
    appraise(0);
    let mut checked = 0;
    let timed = (1..=runs).map(|run| {
        let start = Instant::now();
        checked = appraise(run);
        start.elapsed().as_micros()
    });
    let mut times_us: Vec<u128> = timed.collect();
    times_us.sort_unstable();
    let (Some(min), Some(max)) = (times_us.first(), times_us.last()) else {
        return;
    };
    let median = times_us[times_us.len() / 2];
    println!(
        "{what}: median {median} us, min {min} us, max {max} us, {runs} runs, {checked} signatures checked"
    );
}
