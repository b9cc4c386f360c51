//! One record. What decodes has one encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = wire::Record::decode(bytes) {
        assert_eq!(&record.encode()[..], bytes);
    }
});
