//! A receipt of a provider's log, as its proxy hands it to a client.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{LogLeaf, log_path, log_root};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(receipt) = wire::LogReceipt::decode(bytes) {
        assert_eq!(receipt.encode(), bytes);
    }
    // A tree of what came: every path of it has the length that its place asks for.
    let leaves: Vec<LogLeaf> = bytes.chunks_exact(32).map(|leaf| LogLeaf(leaf.try_into().unwrap())).collect();
    let at = bytes.first().map_or(0, |at| usize::from(*at));
    assert_eq!(log_path(&leaves, at).is_some(), at < leaves.len());
    let _ = log_root(&leaves);
});
