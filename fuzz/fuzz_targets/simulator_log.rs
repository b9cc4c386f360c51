//! swtpm's log of its commands, by the simulator's own file: the crate shows its reader to nobody.
#![no_main]

use libfuzzer_sys::fuzz_target;
use simulator::limits;

#[rustfmt::skip]
#[path = "../../measurements/simulator/src/swtpm_log.rs"]
mod swtpm_log;

fn extends(log: &[u8]) -> Result<Vec<swtpm_log::Extend>, swtpm_log::LogError> {
    // No PCR has this number, so the whole log is read.
    let never = swtpm_log::Extend {
        pcr: u32::MAX,
        digest: registers::Digest48::ZERO,
    };
    swtpm_log::extends_until(log, never)
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(whole) = extends(bytes) {
        assert!(whole.len() <= limits::TPM_EXTENDS_MAX);
        // A log that grows keeps what it has said, or is found to be wrong.
        let (begun, _) = bytes.split_at(bytes.len() / 2);
        if let Ok(begun) = extends(begun) {
            assert!(whole.starts_with(&begun));
        }
    }
});
