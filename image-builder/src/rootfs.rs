//! The user space of a root: what a set of Debian packages makes of an empty file system, without running anything of theirs.
//!
//! ```text
//! .deb files ─► unpack ─► Unpacked (entries with owners, modes, attributes; scripts as text)
//!                            │
//!                            ▼   what the scripts would have made is made here, or refused by name
//!            scripts ─► accounts ─► loader ─► entries of the root
//! ```
//! **Trusts** the packages of the lock to be what their reviewers took them for. **Promises** that the same packages make the
//! same entries, that each entry knows its package, and that a maintainer script which nobody judged is not passed over in
//! silence: [`scripts`] has the rule.
//!
//! **Lacks** dpkg's database (the manifest and the SBOM list the packages), diversions, and alternatives other than those of the
//! scripts that were reviewed.

pub mod accounts;
pub mod linkage;
pub mod loader;
mod reviewed;
pub mod scripts;
mod unpack;
mod view;

use std::fmt::Display;
use std::io::Read;

use crate::error::{Error, error};
use crate::formats::entry::{Entry, What};
pub use unpack::{Unpacked, ensure, is_there, unpack_fetched};

/// The entries of a root: those of the packages, and what their scripts would have made.
///
/// `ignored` are packages whose scripts the recipe has judged, `asked` libraries that programs open by name.
pub fn complete(
    unpacked: Unpacked,
    ignored: &[String],
    asked: &[String],
) -> Result<Userland, Error> {
    let Unpacked {
        mut entries,
        scripts: texts,
    } = unpacked;
    let judged = scripts::judge(&texts, ignored)?;
    scripts::apply(&judged.effects, &mut entries);
    accounts::add(&mut entries)?;
    loader::add(&mut entries)?;
    linkage::check(&entries, asked)?;
    refuse_modules(&entries)?;
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(Userland {
        entries,
        not_run: judged.not_run,
    })
}

/// See [`complete`].
#[derive(Debug)]
pub struct Userland {
    /// By path.
    pub entries: Vec<Entry>,
    /// Scripts that were not run and why that is right: a line each, for people.
    pub not_run: Vec<String>,
}

/// Kernel modules in a root would need `modules.dep` and its kin. The guest's modules are in its initrd, in the order of their
/// loading, and nothing loads another one.
fn refuse_modules(entries: &[Entry]) -> Result<(), Error> {
    let module =
        |entry: &&Entry| entry.path.starts_with("/usr/lib/modules/") && entry.path.contains(".ko");
    match entries.iter().find(module) {
        None => Ok(()),
        Some(entry) => Err(unmakeable(
            entry,
            "is a kernel module: those belong into the initrd",
        )),
    }
}

fn unmakeable(entry: &Entry, problem: impl Display) -> Error {
    let package = entry.from().unwrap_or("no package");
    error!(Recipe, "{} of {package} {problem}", entry.path)
}

fn clash(path: &str, one: &str, other: &str) -> Error {
    error!(
        Recipe,
        "{path} is in {one} and in {other}, which say different things about it"
    )
}

/// A small file of a package, as text.
fn text(entry: &Entry, bytes_max: u64) -> Result<String, Error> {
    let What::File { source, .. } = &entry.what else {
        return Err(unmakeable(entry, "is no file"));
    };
    let mut text = String::new();
    let read = source
        .open()
        .and_then(|open| open.take(bytes_max + 1).read_to_string(&mut text));
    match read {
        Ok(read) if read as u64 <= bytes_max => Ok(text),
        Ok(_) => Err(unmakeable(entry, "is too long")),
        Err(error) => Err(unmakeable(entry, format!("cannot be read: {error}"))),
    }
}

/// Who made what no package has.
const MAKER: &str = "image-builder";
