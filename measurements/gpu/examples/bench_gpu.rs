//! How long the appraisal of one GPU takes: evidence, two RIMs, every signature, from the bytes of the files.
//!
//! ```text
//! cargo run --release -p gpu --example bench_gpu -- ../shared/vectors/nvidia [runs]
//! ```
//! The directory is the vectors', with a report whose RIMs are there too.

use std::{fs, path::Path, time::Instant};

use gpu::{GpuEvidence, GpuNonce, GpuPolicy, GpuRoots, Revocation, Rim, verify};

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
    let parse = || {
        let evidence = GpuEvidence::from_report(&report, &chain).expect("the vector can be read");
        let rims = rims
            .each_ref()
            .map(|(label, bytes)| Rim::parse(label, bytes).expect("a RIM"));
        (evidence, rims)
    };
    // Once outside the timing, so that pages and branch predictors are warm in every timed run.
    let (evidence, parsed) = parse();
    verify(&evidence, &parsed, &policy).expect("the vector is verified");
    let mut whole_us = Vec::new();
    let mut parse_us = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        let (evidence, rims) = parse();
        parse_us.push(start.elapsed().as_micros());
        let gpu = verify(&evidence, &rims, &policy).expect("the vector is verified");
        whole_us.push(start.elapsed().as_micros());
        assert_eq!(gpu.matched.len(), 32);
    }
    print("reading alone", &mut parse_us);
    print("one appraisal", &mut whole_us);
}

fn print(what: &str, times_us: &mut [u128]) {
    times_us.sort_unstable();
    let (Some(min), Some(max)) = (times_us.first(), times_us.last()) else {
        return;
    };
    let median = times_us[times_us.len() / 2];
    println!(
        "{what}: median {median} us, min {min} us, max {max} us, {} runs",
        times_us.len()
    );
}
