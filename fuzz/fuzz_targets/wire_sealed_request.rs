//! A sealed request, bare and behind the right header, so that the chunks inside are reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use std::sync::LazyLock;

static KEY: LazyLock<wire::SealingKey> =
    LazyLock::new(|| wire::SealingKey::generate(1, &mut ChaCha20Rng::from_seed([7; 32])));

fuzz_target!(|bytes: &[u8]| {
    let public = KEY.public();
    let mut header = vec![public.id];
    for identifier in [public.kem, public.kdf, public.aead] {
        header.extend_from_slice(&identifier.to_be_bytes());
    }
    header.extend_from_slice(bytes);
    for sealed in [bytes, &header] {
        let mut rng = ChaCha20Rng::from_seed([8; 32]);
        let _ = wire::OpenedJob::encapsulated_key(sealed);
        assert!(wire::open_job(&KEY, sealed, wire::EnvelopeDigest::of(b""), &mut rng).is_err());
    }
});
