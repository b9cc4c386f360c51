//! A cancel as a guest gets it, and a refusal and a sealed receipt as a client gets them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{Cancel, ReceiptKey, SignedRefusal};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(cancel) = Cancel::decode(bytes) {
        assert_eq!(cancel.encode()[..], *bytes);
    }
    if let Ok(refusal) = SignedRefusal::decode(bytes) {
        assert_eq!(refusal.encode(), bytes);
    }
    assert!(ReceiptKey::from_bytes([7; 32]).open(bytes).is_err());
});
