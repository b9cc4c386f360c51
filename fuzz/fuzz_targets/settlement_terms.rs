//! A channel's terms, as a guest and a proxy get them in an envelope.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(terms) = settlement::ChannelTerms::decode(bytes) {
        assert_eq!(terms.encode(), bytes);
        terms.address();
    }
});
