//! Debian's archive: the index of a suite, versions, dependencies and the `.deb` format.
//!
//! Nothing here opens a connection or writes a file: bytes come in as readers and slices.
//! Sources: Debian Policy 4.7 (chapters 5 and 7), the wiki's DebianRepository/Format, deb(5).

pub mod date;
pub mod deb;
pub mod index;
pub mod pax;
pub mod relation;
pub mod release;
pub mod scripts;
pub mod solve;
pub mod version;

pub use date::Date;
pub use deb::{Deb, DebError};
pub use index::{Available, Index, IndexError};
pub use release::{Listed, Release};
pub use solve::{Unsolved, chosen, closure};
pub use version::Version;

/// Whether `name` can be a package's: lower-case letters, digits, `+`, `-` and `.`, at least two, the first a letter or digit
/// (Debian Policy 5.6.1).
pub fn is_package_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let inner = |b: u8| plain(b) || matches!(b, b'+' | b'-' | b'.');
    (2..=128).contains(&name.len())
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(inner)
}
