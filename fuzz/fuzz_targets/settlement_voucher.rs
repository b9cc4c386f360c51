//! A signed voucher, and a signed close, as a proxy gets them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(voucher) = settlement::SignedVoucher::decode(bytes) {
        assert_eq!(voucher.encode(), bytes);
    }
    let _ = settlement::SignedClose::decode(bytes);
});
