//! A time-stamp of an authority, and an authority's answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use timestamp::{Authorities, token};

fuzz_target!(|bytes: &[u8]| {
    let nobody = Authorities::new(Vec::new()).unwrap();
    assert!(nobody.verify(bytes, &[7; 32]).is_err());
    if let Ok(token) = token(bytes) {
        assert!(nobody.verify(token, &[7; 32]).is_err());
    }
});
