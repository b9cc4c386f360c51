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

use std::io::Read;

use crate::formats::entry::{Entry, What};
use crate::store::Fault;
use crate::store::packages::PackageError;

pub use unpack::{Unpacked, ensure, is_there, unpack_fetched};

/// Why a set of packages makes no root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum UserlandError {
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error(transparent)]
    Disk(#[from] crate::store::FetchError),
    #[error("{path} is in {one} and in {other}, which say different things about it")]
    Clash {
        path: String,
        one: String,
        other: String,
    },
    #[error(
        "{package} has a {script} (SHA-256 {sha256}) that was not reviewed, and no script is ever run; if the image can do without what \
         it does, name {package} in the recipe's root.ignore_scripts"
    )]
    Script {
        package: String,
        script: &'static str,
        sha256: registers::Digest32,
    },
    #[error("the recipe's root.ignore_scripts names {package}, which has no script that needs it")]
    NeedlessIgnore { package: String },
    #[error("{path} of {package} asks for {library}, which is not in the root")]
    Unresolved {
        path: String,
        package: String,
        library: String,
    },
    #[error("the recipe's root.libraries names {library}, which is not in the root")]
    NoLibrary { library: String },
    #[error("{path} of {package} {problem}")]
    Unmakeable {
        path: String,
        package: String,
        problem: String,
    },
}

impl UserlandError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Package(error) => error.fault(),
            Self::Disk(error) => error.fault(),
            Self::Clash { .. }
            | Self::Script { .. }
            | Self::NeedlessIgnore { .. }
            | Self::Unresolved { .. }
            | Self::NoLibrary { .. }
            | Self::Unmakeable { .. } => Fault::Recipe,
        }
    }
}

/// The entries of a root: those of the packages, and what their scripts would have made.
///
/// `ignored` are packages whose scripts the recipe has judged, `asked` libraries that programs open by name.
pub fn complete(
    unpacked: Unpacked,
    ignored: &[String],
    asked: &[String],
) -> Result<Userland, UserlandError> {
    let Unpacked {
        mut entries,
        scripts: texts,
    } = unpacked;
    let judged = scripts::judge(&texts, ignored)?;
    scripts::apply(&judged.effects, &mut entries)?;
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
fn refuse_modules(entries: &[Entry]) -> Result<(), UserlandError> {
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

fn unmakeable(entry: &Entry, problem: impl Into<String>) -> UserlandError {
    UserlandError::Unmakeable {
        path: entry.path.clone(),
        package: entry.from().unwrap_or("no package").to_owned(),
        problem: problem.into(),
    }
}

/// A small file of a package, as text.
fn text(entry: &Entry, bytes_max: u64) -> Result<String, UserlandError> {
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
