//! The kernel's command line, and a root that stands there alone: it says again what it was made of.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stage0::{CommandLine, DiskLayout, VerityRoot};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(line) = CommandLine::new(bytes) {
        let _ = line.stream_bytes();
        if let Ok(root) = line.root() {
            let layouts = [DiskLayout::Disk, DiskLayout::Partitions];
            let _ = (root.sectors(), layouts.map(|layout| root.parameters(layout)));
        }
    }
    if let Some(root) = std::str::from_utf8(bytes).ok().and_then(VerityRoot::parse) {
        let line = [b"chrysalis.root=", bytes].concat();
        assert_eq!(
            CommandLine::new(&line).and_then(|line| line.root()),
            Ok(root)
        );
    }
});
