//! What an agent and its GPU gate say to each other: what is read is written again as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = wire::GateRequest::decode(bytes) {
        assert_eq!(&request.encode()[4..], bytes);
    }
    if let Ok(answer) = wire::GateAnswer::decode(bytes) {
        assert_eq!(&answer.encode()[4..], bytes);
        if let wire::GateAnswer::Report(report) = answer {
            let _ = (report.identity(), report.digest(), report.answers(&[0; 32]));
        }
    }
});
