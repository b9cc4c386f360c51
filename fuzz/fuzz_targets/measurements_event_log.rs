//! A firmware's event log, of both kinds: reading, replaying, and the words about each event.
#![no_main]

use libfuzzer_sys::fuzz_target;
use diagnose::{EventLog, Kind};

fuzz_target!(|bytes: &[u8]| {
    for kind in [Kind::Ccel, Kind::Tpm] {
        let Ok(log) = EventLog::parse_tcg(bytes, kind) else {
            continue;
        };
        log.replay();
        log.replay_by_index();
        for event in log.events() {
            let words = event.describe();
            assert!(words.len() <= diagnose::limits::EVENT_DESCRIPTION_CHARACTERS_MAX);
            assert!(words.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }
});
