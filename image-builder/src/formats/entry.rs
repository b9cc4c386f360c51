//! What lies in an image: one list for the archive that is written and for the manifest that tells of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::formats::metered::Metered;
use crate::limits::FILE_BYTES_MAX;
use registers::Digest32;

/// One file, directory or link of an image.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Absolute, in the image.
    pub path: String,
    /// Permission bits, set-user-ID and the like included.
    pub mode: u32,
    /// Whose it is; root's unless a package says otherwise.
    pub owner: Owner,
    /// Extended attributes by their full names, such as `security.capability`.
    pub attributes: BTreeMap<String, Vec<u8>>,
    /// What it is.
    pub what: What,
}

/// The numbers of a user and a group of the image.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Owner {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
}

/// What an entry is.
#[derive(Debug, Clone)]
pub enum What {
    /// An empty directory, or one whose files follow.
    Directory,
    /// A file and where it came from.
    File {
        /// Its length.
        bytes: u64,
        /// Its digest.
        sha256: Digest32,
        /// For people: a package with its version, `compiled`, a model.
        from: String,
        /// Where to read it.
        source: Source,
    },
    /// A symbolic link.
    Link {
        /// What it says.
        target: String,
        /// As of a file.
        from: String,
    },
    /// Another name of a file that comes earlier in the order of paths; owner, mode and attributes are that file's.
    SameAs {
        /// That file's path.
        path: String,
        /// As of a file.
        from: String,
    },
}

/// Where a file's bytes are.
#[derive(Debug, Clone)]
pub enum Source {
    /// Here; for small files.
    Memory(Vec<u8>),
    /// In a file of the host.
    Disk(PathBuf),
}

impl Entry {
    /// A directory, open to all to read.
    pub fn directory(path: impl Into<String>) -> Self {
        Self::plain(path.into(), 0o755, What::Directory)
    }

    /// A symbolic link.
    pub fn link(path: impl Into<String>, target: impl Into<String>, from: String) -> Self {
        let target = target.into();
        Self::plain(path.into(), 0o777, What::Link { target, from })
    }

    /// Owned by root, without attributes.
    pub(crate) fn plain(path: String, mode: u32, what: What) -> Self {
        Self {
            path,
            mode,
            owner: Owner::default(),
            attributes: BTreeMap::new(),
            what,
        }
    }

    /// A small file whose bytes are at hand.
    pub fn memory(path: impl Into<String>, mode: u32, bytes: Vec<u8>, from: String) -> Self {
        let what = What::File {
            bytes: bytes.len() as u64,
            sha256: Digest32(Sha256::digest(&bytes).into()),
            from,
            source: Source::Memory(bytes),
        };
        Self::plain(path.into(), mode, what)
    }

    /// A file of the host, read once for its digest. What is written later is checked against that digest.
    pub fn disk(
        path: impl Into<String>,
        mode: u32,
        source: PathBuf,
        from: String,
    ) -> io::Result<Self> {
        let mut metered = Metered::new(File::open(&source)?, FILE_BYTES_MAX);
        io::copy(&mut metered, &mut io::sink())?;
        let (bytes, sha256) = metered.finish();
        let what = What::File {
            bytes,
            sha256,
            from,
            source: Source::Disk(source),
        };
        Ok(Self::plain(path.into(), mode, what))
    }
}

impl Entry {
    /// Where a file or link came from. Directories are nobody's: several packages may have one.
    pub fn from(&self) -> Option<&str> {
        match &self.what {
            What::Directory => None,
            What::File { from, .. } | What::Link { from, .. } | What::SameAs { from, .. } => {
                Some(from)
            }
        }
    }

    /// Stands for all that the image shows of it.
    pub fn line(&self) -> String {
        let what = match &self.what {
            What::Directory => "directory".to_owned(),
            What::File { bytes, sha256, .. } => format!("{bytes} {sha256}"),
            What::Link { target, .. } => format!("link {target}"),
            What::SameAs { path, .. } => format!("same {path}"),
        };
        let mut line = format!("{}\0{:o}\0{what}", self.path, self.mode);
        let Owner { user, group } = self.owner;
        if self.owner != Owner::default() {
            line.push_str(&format!("\0{user}:{group}"));
        }
        for (name, value) in &self.attributes {
            line.push_str(&format!("\0{name}={}", hex::encode(value)));
        }
        line.push('\n');
        line
    }
}

impl Source {
    /// Its bytes, from the first.
    pub fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Self::Memory(bytes) => Box::new(Cursor::new(bytes)),
            Self::Disk(path) => Box::new(File::open(path)?),
        })
    }
}
