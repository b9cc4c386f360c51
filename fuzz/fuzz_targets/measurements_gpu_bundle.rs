//! NVIDIA's JSON list of GPUs, inspected under its roots: nothing made up is signed by a device of NVIDIA's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use measurements::gpu::{
    GpuBundle, GpuNonce, GpuPolicy, GpuRoots, Revocation, inspect_bundle, verify_bundle,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(bundle) = GpuBundle::from_json(bytes) else {
        return;
    };
    let policy = GpuPolicy {
        roots: &GpuRoots::NVIDIA,
        at_unix_s: 1_700_000_000,
        nonce: GpuNonce::InsecureAny,
        revocation: Revocation::InsecureUnchecked,
    };
    let _ = inspect_bundle(&bundle, &policy);
    assert!(verify_bundle(&bundle, &[], &policy).is_err());
});
