//! An event log as JSON: dstack's and our own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use diagnose::EventLog;

fuzz_target!(|bytes: &[u8]| {
    let logs = [
        EventLog::parse_dstack(bytes),
        EventLog::parse_runtime(bytes),
    ];
    for log in logs.iter().flatten() {
        log.replay();
        for event in log.events() {
            let words = event.describe();
            assert!(words.len() <= diagnose::limits::EVENT_DESCRIPTION_CHARACTERS_MAX);
            assert!(words.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }
});
