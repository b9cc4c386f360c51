//! A signed file and a certificate, each as it is and with the input in its frame: nothing here is ever accepted, because nobody
//! can make a signature of a key that is pinned.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image_builder::lock::Fingerprint;
use image_builder::lock::debian::{Certificate, Date, Signed};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static KEY: LazyLock<[Certificate; 1]> = LazyLock::new(|| {
    let text = include_str!("../../image-builder/recipes/keys/debian-stable-13.asc");
    [Certificate::parse(text, pinned()).expect("the committed key")]
});

fn pinned() -> Fingerprint {
    let text = "41587F7DB8C774BCCF131416762F67A0B2C39DE4".to_owned();
    Fingerprint::try_from(text).expect("40 digits")
}

fuzz_target!(|bytes: &[u8]| {
    let now = Date {
        unix_s: 1_800_000_000,
    };
    let packets = STANDARD.encode(bytes);
    let framed = format!(
        "-----BEGIN PGP SIGNED MESSAGE-----\n\nx\n-----BEGIN PGP SIGNATURE-----\n\n{packets}\n-----END PGP SIGNATURE-----\n"
    );
    for file in [bytes, framed.as_bytes()] {
        assert!(Signed::verify(file, &*KEY, now).is_err());
    }
    let block = "PGP PUBLIC KEY BLOCK-----";
    let framed = format!("-----BEGIN {block}\n\n{packets}\n-----END {block}\n");
    let _ = Certificate::parse(&String::from_utf8_lossy(bytes), pinned());
    if let Ok(certificate) = Certificate::parse(&framed, pinned()) {
        assert_eq!(certificate.fingerprint(), pinned());
    }
});
