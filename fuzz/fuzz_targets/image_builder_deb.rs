//! A Debian package, and bytes that stand for its data: no entry that is shown leaves the root.
#![no_main]

use image_builder::formats::deb::{Deb, DebError, Entry, Kind, MERGED};
use image_builder::formats::deb_scripts::install_scripts;
use libfuzzer_sys::fuzz_target;
use std::io;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    read(&with_data("data.tar", bytes));
    read(&with_data("data.tar.xz", bytes));
    read(&with_data("data.tar.gz", bytes));
    read(&with_data("data.tar.zst", bytes));
    let _ = install_scripts(bytes);
    for name in ["control.tar", "control.tar.xz", "control.tar.zst"] {
        let _ = install_scripts(&with_data(name, bytes)[..]);
    }
});

fn read(deb: &[u8]) {
    if let Ok(deb) = Deb::open(deb) {
        let _ = deb.entries(check);
    }
}

fn check(entry: Entry<'_>) -> Result<(), DebError> {
    check_path(&entry.path);
    match entry.kind {
        Kind::Directory => {}
        Kind::File {
            mode,
            bytes,
            content,
        } => {
            assert!(mode <= 0o777 && !entry.path.is_empty());
            // It may be cut short, which whoever writes it to a disk refuses.
            if let Ok(read) = io::copy(content, &mut io::sink()) {
                assert!(read <= bytes);
            }
        }
        Kind::Symlink { target } => {
            let mut depth = entry.path.split('/').count() - 1;
            for part in target.split('/').filter(|part| *part != ".") {
                assert!(!part.is_empty());
                depth = match part {
                    ".." => depth.checked_sub(1).expect("it stays below the root"),
                    _ => depth + 1,
                };
            }
        }
        Kind::HardLink { target } => check_path(&target),
    }
    Ok(())
}

fn check_path(path: &str) {
    let good = |part: &str| !matches!(part, "" | "." | "..");
    assert!(path.is_empty() || path.split('/').all(good), "{path}");
    let (first, _) = path.split_once('/').unwrap_or((path, ""));
    assert!(!MERGED.contains(&first), "{path}");
}

/// A package of nothing but its format's version and this data.
fn with_data(name: &str, data: &[u8]) -> Vec<u8> {
    let header = |name: &str, bytes: usize| {
        let (zero, mode) = (0, "100644");
        format!("{name:<16}{zero:<12}{zero:<6}{zero:<6}{mode:<8}{bytes:<10}`\n")
    };
    let mut deb = b"!<arch>\n".to_vec();
    deb.extend(header("debian-binary", 4).into_bytes());
    deb.extend(b"2.0\n");
    deb.extend(header(name, data.len()).into_bytes());
    deb.extend(data);
    deb
}
