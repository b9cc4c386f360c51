//! A proof of one job, as somebody else hands it to a verifier, down to the receipt and the evidence in it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(proof) = wire::Proof::decode(bytes) {
        assert_eq!(proof.encode(), bytes);
        let _ = wire::Receipt::decode(&proof.receipt);
        if let Ok(bundle) = wire::Bundle::decode(&proof.bundle) {
            let _ = wire::Evidence::decode(&bundle.evidence);
        }
        if let Some(voucher) = proof.voucher {
            let _ = settlement::SignedVoucher::decode(&voucher);
        }
    }
});
