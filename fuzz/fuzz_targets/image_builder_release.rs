//! The list of a suite's indexes, bare and behind its signed file's first lines, so that the list inside is reached.
#![no_main]

use image_builder::debian::Release;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let signed = [
        b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n",
        bytes,
        b"\n-----BEGIN PGP SIGNATURE-----\n\n\n-----END PGP SIGNATURE-----\n",
    ]
    .concat();
    for file in [bytes, &signed] {
        if let Ok(release) = Release::parse(file) {
            assert!(!release.date.is_empty());
            let _ = release.is_of("trixie");
            let _ = release.index("main/binary-amd64/Packages.xz");
        }
    }
});
