//! A signed envelope, and the statement in it: what was accepted is written as it was read, and opens with the key that signed and no other.
#![no_main]

use image_builder::provenance::{Envelope, SecretKey, Statement};
use libfuzzer_sys::fuzz_target;
use zeroize::Zeroizing;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(envelope) = Envelope::from_json(bytes) {
        assert_eq!(Envelope::from_json(&envelope.to_json()), Ok(envelope));
    }
    let key = |seed| SecretKey::from_seed(&Zeroizing::new([seed; 32]));
    let envelope = Envelope::sign(bytes.to_vec(), &key(1));
    assert_eq!(envelope.open(&key(1).public()), Ok(bytes));
    assert!(envelope.open(&key(2).public()).is_err());
    if let Ok(statement) = Statement::from_json(bytes) {
        for subject in statement.subjects() {
            assert!(!subject.name.contains('/') && !subject.name.starts_with('.'));
            assert_eq!(statement.subject(&subject.name), Some(subject));
        }
        assert_eq!(Statement::from_json(&statement.to_json()), Ok(statement));
    }
});
