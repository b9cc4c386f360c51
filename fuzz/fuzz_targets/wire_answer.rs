//! The records of a sealed answer, one after another. What is taken has one encoding, in the right order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{AnswerEvent, AnswerReader, Endpoint, EnvelopeDigest, Record, RecordBytes};

fuzz_target!(|bytes: &[u8]| {
    let (records, _) = bytes.as_chunks::<{ wire::limits::RECORD_BYTES }>();
    for endpoint in [Endpoint::Embeddings, Endpoint::Chat] {
        let mut reader = AnswerReader::new(endpoint, EnvelopeDigest::default());
        for record in records {
            // The order is the hard part to guess, so the sequence is given.
            let mut record: RecordBytes = *record;
            record[12..16].copy_from_slice(&reader.taken().to_le_bytes());
            match reader.take(&record) {
                Ok(AnswerEvent::Receipt(receipt)) => {
                    assert!(receipt.len() <= wire::limits::RECEIPT_BYTES_MAX);
                }
                Ok(_) => assert_eq!(Record::decode(&record).map(|record| record.encode()), Ok(record)),
                Err(_) => break,
            }
        }
    }
});
