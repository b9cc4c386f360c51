//! A report of a GPU and its certificates.
#![no_main]

use libfuzzer_sys::fuzz_target;
use gpu::GpuEvidence;

fuzz_target!(|bytes: &[u8]| {
    // The first two bytes say where the certificates begin.
    let Some(([high, low], rest)) = bytes.split_first_chunk() else {
        return;
    };
    let at = usize::from(u16::from_be_bytes([*high, *low]));
    if let Some((report, chain)) = rest.split_at_checked(at) {
        let _ = GpuEvidence::from_report(report, chain);
    }
});
