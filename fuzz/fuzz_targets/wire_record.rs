//! Padded records, one after another, within a bound.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = wire::RecordReader::default();
    for padded in bytes.chunks(256) {
        if let Ok(Some(record)) = reader.take(padded, 1024) {
            assert!(record.payload.len() <= 1024);
        }
    }
});
