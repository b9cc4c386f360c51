//! A bundle of evidence: what is read is written again as the same bytes, and its own word verifies nobody.
#![no_main]

use libfuzzer_sys::fuzz_target;
use attest::Root;
use diagnose::bundle::{At, Bundle, Expected, GpuRevocation};
use gpu::{GpuNonce, GpuRoots};

fuzz_target!(|bytes: &[u8]| {
    let Ok(bundle) = Bundle::from_cbor(bytes) else {
        return;
    };
    assert_eq!(bundle.to_cbor().as_deref(), Ok(bytes));
    let root = Root::intel();
    let expected = Expected {
        policy: None,
        report_data: None,
        gpu_nonce: GpuNonce::InsecureAny,
        gpu_revocation: GpuRevocation::InsecureUnchecked,
        root: &root,
        gpu_roots: &GpuRoots::NVIDIA,
        at: At::Made,
    };
    if let Ok(appraised) = bundle.appraise(&expected) {
        assert!(!appraised.is_verified());
    }
});
