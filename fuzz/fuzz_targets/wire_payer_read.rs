//! The header by which a payer reads at a proxy: nothing but the payer's own text is accepted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use settlement::{Address, ChainId};

fuzz_target!(|text: &str| {
    let read = wire::PayerRead {
        chain: ChainId::EMBEDDED,
        channel: Address {
            workchain: 0,
            hash: [7; 32],
        },
        receipt: Some(wire::EnvelopeDigest([9; 32])),
    };
    // No key signs for this one: the point of small order is refused.
    assert!(read.check(text, &[1; 32], 1_800_000_000).is_err());
});
