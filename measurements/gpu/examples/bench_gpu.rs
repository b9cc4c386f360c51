//! How long the appraisal of one GPU takes, from the bytes of its files: processor time of one thread.
//!
//! ```text
//! cargo run --release -p gpu --example bench_gpu -- ../shared/vectors/nvidia [runs]
//! ```
//! First the vectors' real report with its two RIMs, for which nobody has OCSP responses; then a made-up GPU with those, which is what a
//! client appraises. The directory is the vectors'.

#[path = "../tests/it/made.rs"]
mod made;

use std::{fs, path::Path};

use gpu::{
    GpuEvidence, GpuNonce, GpuPolicy, GpuRoots, OcspNonce, OcspResponses, Revocation, Rim, verify,
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
    time("a real report, no OCSP", runs, || {
        let evidence = GpuEvidence::from_report(&report, &chain).expect("the vector can be read");
        let rims = rims
            .each_ref()
            .map(|(label, bytes)| Rim::parse(label, bytes).expect("a RIM"));
        verify(&evidence, &rims, &policy).expect("the vector is verified");
    });

    let (device, driver, vbios) = (Device::new(), RimMaker::driver(), RimMaker::vbios());
    let (report, certificates) = (device.signed_report(), device.certificates());
    let rims = [&driver, &vbios].map(|rim| rim.file().into_bytes());
    let ocsp = OcspMaker::all_good(&device, &driver);
    let roots = device.roots(&driver);
    time("a made-up report, with OCSP", runs, || {
        let evidence = GpuEvidence::from_der(&report, &certificates).expect("it can be read");
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
        verify(&evidence, &rims, &policy).expect("it is verified");
    });
}

fn time(what: &str, runs: usize, appraise: impl Fn()) {
    // Once outside the timing, so that pages and branch predictors are warm in every timed run.
    appraise();
    let timed = (0..runs).map(|_| {
        let start = processor_us();
        appraise();
        processor_us() - start
    });
    let mut times_us: Vec<u64> = timed.collect();
    times_us.sort_unstable();
    let (Some(min), Some(max)) = (times_us.first(), times_us.last()) else {
        return;
    };
    let median = times_us[times_us.len() / 2];
    println!("{what}: median {median} us, min {min} us, max {max} us, {runs} runs");
}

/// What this thread has had of a processor, whatever else the machine does.
fn processor_us() -> u64 {
    let text =
        fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with CONFIG_SCHED_INFO");
    let spent_ns = text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
    spent_ns.expect("nanoseconds first") / 1000
}
