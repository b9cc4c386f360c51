//! A proxy's configuration, and the addresses in it: a guest's address says again what it was made of.
#![no_main]

use host_proxy::{CollateralConfig, Config, GuestAddress, NodeUrl};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    // What is longer is refused before it is parsed.
    if text.len() as u64 <= host_proxy::limits::CONFIG_BYTES_MAX {
        let _ = Config::from_yaml(text, Path::new("/directory"));
        let _ = CollateralConfig::from_yaml(text, Path::new("/directory"));
    }
    let _ = NodeUrl::parse(text);
    if let Ok(address) = text.parse::<GuestAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
});
