//! NVIDIA's JSON list of GPUs, inspected under its roots: nothing made up is signed by a device of NVIDIA's. Lists of several
//! are only read: six signatures a GPU take seconds where the code is watched.
#![no_main]

use libfuzzer_sys::fuzz_target;
use gpu::{GpuBundle, GpuNonce, GpuPolicy, GpuRoots, Revocation, inspect_bundle, verify_bundle};

fuzz_target!(|bytes: &[u8]| {
    let Ok(bundle) = GpuBundle::from_json(bytes) else {
        return;
    };
    if bundle.gpus().len() > 1 {
        return;
    }
    let policy = GpuPolicy {
        roots: &GpuRoots::NVIDIA,
        at_unix_s: 1_700_000_000,
        nonce: GpuNonce::InsecureAny,
        revocation: Revocation::InsecureUnchecked,
    };
    if inspect_bundle(&bundle, &policy).is_ok() {
        assert!(verify_bundle(&bundle, &[], &policy).is_err());
    }
});
