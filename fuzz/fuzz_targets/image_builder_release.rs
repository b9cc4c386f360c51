//! The list of a suite's indexes, as the text that somebody signed.
#![no_main]

use image_builder::lock::debian::Release;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(release) = Release::insecure_from_text(text) {
        assert!(!release.date.is_empty());
        let _ = release.refuse_other_suite("trixie");
        let _ = release.refuse_older(release.dated);
        let _ = release.index("main/binary-amd64/Packages.xz");
    }
});
