//! Debian's archive: the index of a suite, versions, dependencies and the `.deb` format.
//!
//! Nothing here opens a connection or writes a file: bytes come in as readers and slices.
//! Only what a key signed is believed, and only keys that a recipe pins ([`signature`]).
//! Sources: RFC 9580; Debian Policy 4.7 (chapters 5 and 7), the wiki's DebianRepository/Format, deb(5).

mod armor;
mod certificate;
mod cleartext;
mod date;
pub(crate) mod index;
pub mod relation;
mod signature;
mod solve;
mod suite_release;
mod version;

pub use certificate::{Certificate, KeyError, Unfit};
pub use date::{Date, NoDate};
pub use index::{Available, Index, Odd};
pub use signature::{SignatureError, Signed};
pub use solve::{Preferred, chosen, closure};
pub use suite_release::{Listed, Release, ReleaseError};
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
