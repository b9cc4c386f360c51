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
pub enum UserlandError {
    /// The packages are not here, or cannot be unpacked.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] crate::store::FetchError),
    /// Two packages say different things about one path.
    #[error("{path} is in {one} and in {other}, which say different things about it")]
    Clash {
        /// The path in the root.
        path: String,
        /// A package.
        one: String,
        /// Another one.
        other: String,
    },
    /// A script that would have run was judged by nobody.
    #[error(
        "{package} has a {script} (SHA-256 {sha256}) that was not reviewed, and no script is ever run; if the image can do without what \
         it does, name {package} in the recipe's root.ignore_scripts"
    )]
    Script {
        /// The package with its version.
        package: String,
        /// `preinst` or `postinst`.
        script: &'static str,
        /// The script's digest.
        sha256: crate::lock::Digest,
    },
    /// The recipe ignores the scripts of a package that is not there or has none that need it.
    #[error("the recipe's root.ignore_scripts names {package}, which has no script that needs it")]
    NeedlessIgnore {
        /// What it names.
        package: String,
    },
    /// A program or library asks for a library that the root does not have.
    #[error("{path} of {package} asks for {library}, which is not in the root")]
    Unresolved {
        /// The path in the root.
        path: String,
        /// The package with its version.
        package: String,
        /// What it asks for.
        library: String,
    },
    /// The recipe lists a library that the root does not have.
    #[error("the recipe's root.libraries names {library}, which is not in the root")]
    NoLibrary {
        /// Which.
        library: String,
    },
    /// A file that decides what we make says what this version does not know how to make.
    #[error("{path} of {package} {problem}")]
    Unmakeable {
        /// The path in the root.
        path: String,
        /// The package with its version.
        package: String,
        /// What is wrong with it.
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
