//! Every `unsafe` of the repository, and why it is there.

use crate::code::{code_of, count_word};
use crate::tree::File;

/// A file, how often the word stands in its code, and the reason.
pub type Listing = (&'static str, usize, &'static str);

/// All of them.
pub const LISTED: &[Listing] = &[
    (
        "engine/src/cuda.rs",
        1,
        "asks the loader for the CUDA driver, with the feature `cuda` alone",
    ),
    (
        "engine/kernels/src/oblivious/mask.rs",
        2,
        "a mask is hidden from the optimiser, and a secret bit made public, by inline assembly",
    ),
    (
        "engine/kernels/src/oblivious/wide/avx2.rs",
        2,
        "intrinsics of AVX2 from functions that do not enable it, and loads hidden by inline assembly",
    ),
    (
        "engine/kernels/src/oblivious/wide/avx512.rs",
        2,
        "intrinsics of AVX-512 from functions that do not enable it, and loads hidden by inline assembly",
    ),
    (
        "engine/kernels/src/oblivious/wide/portable.rs",
        3,
        "lanes hidden by inline assembly, in registers of four",
    ),
    (
        "engine/kernels/src/oblivious/wide/mod.rs",
        2,
        "a pass is compiled for AVX2 and AVX-512 and called where the processor has them",
    ),
    (
        "engine/kernels/src/memory.rs",
        11,
        "weights lie in huge pages, cut from aligned slabs, and are cache lines in memory and bytes in files",
    ),
    (
        "engine/kernels/src/pool.rs",
        3,
        "threads that stay run a job that borrows, and write tiles of one slice",
    ),
    (
        "engine/kernels/src/simd/avx2.rs",
        2,
        "vector instructions run where they were detected: once for all operations, once for the functions around them",
    ),
    (
        "engine/kernels/src/simd/avx512.rs",
        2,
        "vector instructions run where they were detected: once for all operations, once for the functions around them",
    ),
    (
        "guest-agent/gpu-worker/src/confine.rs",
        4,
        "a filter of system calls is installed by prctl, for which nix has no call; a test makes the calls that it refuses",
    ),
    (
        "guest-agent/gpu-worker/src/cuda/device.rs",
        22,
        "functions of the CUDA driver, in a process that holds no key",
    ),
    (
        "guest-agent/gpu-worker/src/nvml.rs",
        20,
        "functions of the driver's library, which the gate loads in a process that holds no key",
    ),
    (
        "engine/kernels/tests/constant/eye.rs",
        1,
        "a test tells valgrind which bytes are secret, by the instructions that valgrind knows",
    ),
    (
        "engine/kernels/tests/constant/steps.rs",
        9,
        "a test steps through copies of its own process by ptrace, for which the standard library has no call",
    ),
    (
        "guest-agent/src/platform/tdx_attest.rs",
        10,
        "functions of Intel's attestation library, with the feature `tdx-attest` alone",
    ),
    (
        "guest-agent/stage0/src/device_mapper.rs",
        1,
        "the device mapper is configured by ioctl, and the standard library and nix have no safe call for it",
    ),
    (
        "guest-agent/tests/all/secret.rs",
        1,
        "a test tells valgrind which bytes are secret, by the instructions that valgrind knows",
    ),
];

/// Files whose count differs from the table, and table lines without a reason or a file.
pub fn breaches(sources: &[&File], listed: &[Listing]) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in sources {
        let code = code_of(&file.text);
        let count = count_word(&code, "unsafe");
        let expected = listed
            .iter()
            .find(|(path, ..)| *path == file.path)
            .map_or(0, |(_, count, _)| *count);
        if count != expected {
            breaches.push(format!(
                "{} has {count} unsafe where the table lists {expected}",
                file.path
            ));
        }
        let excused = ["allow(unsafe_code", "expect(unsafe_code"]
            .iter()
            .any(|lint| code.contains(lint));
        if count == 0 && excused {
            breaches.push(format!(
                "{} excuses itself from the unsafe_code lint and has no unsafe",
                file.path
            ));
        }
    }
    for (path, count, reason) in listed {
        if *count == 0 || reason.split_whitespace().count() < 4 {
            breaches.push(format!(
                "the table's line for {path} lacks a count or a reason"
            ));
        }
        if !sources.iter().any(|file| file.path == *path) {
            breaches.push(format!("the table lists {path}, which does not exist"));
        }
    }
    breaches
}

#[test]
fn an_unlisted_unsafe_is_a_breach_and_so_is_a_stale_listing() {
    let file = |text: &str| File {
        path: "a.rs".into(),
        text: text.into(),
    };
    let check = |text: &str, listed: &[Listing]| breaches(&[&file(text)], listed).len();
    let reason = "a reason in four words";
    assert_eq!(check("fn a() { unsafe { b() } }", &[]), 1);
    assert_eq!(
        check("fn a() { unsafe { b() } }", &[("a.rs", 1, reason)]),
        0
    );
    assert_eq!(
        check(
            "fn a() { unsafe { b() } unsafe {} }",
            &[("a.rs", 1, reason)]
        ),
        1
    );
    assert_eq!(check("unsafe impl Send for A {}", &[("a.rs", 1, "")]), 1);
    assert_eq!(check("// unsafe\nfn a() { \"unsafe\"; }", &[]), 0);
    assert_eq!(check("fn a() {}", &[("b.rs", 1, reason)]), 1);
    assert_eq!(check("#![allow(unsafe_code)]", &[]), 1);
    assert_eq!(check("#![forbid(unsafe_code)]", &[]), 0);
}
