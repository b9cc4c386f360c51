//! What lies in an image: one list for the archive that is written and for the manifest that tells of it.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::limits::FILE_BYTES_MAX;
use crate::lock::Digest;
use crate::stream::Metered;

/// One file or folder of an image.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Absolute, in the image.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub what: What,
}

/// What an entry is.
#[derive(Debug, Clone)]
pub enum What {
    /// An empty folder, or one whose files follow.
    Folder,
    /// A file and where it came from.
    File {
        /// Its length.
        bytes: u64,
        /// Its digest.
        sha256: Digest,
        /// For people: a package with its version, `compiled`, a model.
        from: String,
        /// Where to read it.
        source: Source,
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
    /// A folder, open to all to read.
    pub fn folder(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            mode: 0o755,
            what: What::Folder,
        }
    }

    /// A small file whose bytes are at hand.
    pub fn memory(path: impl Into<String>, mode: u32, bytes: Vec<u8>, from: String) -> Self {
        Self {
            path: path.into(),
            mode,
            what: What::File {
                bytes: bytes.len() as u64,
                sha256: Digest(Sha256::digest(&bytes).into()),
                from,
                source: Source::Memory(bytes),
            },
        }
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
        Ok(Self {
            path: path.into(),
            mode,
            what: What::File {
                bytes,
                sha256,
                from,
                source: Source::Disk(source),
            },
        })
    }
}

impl Entry {
    /// Stands for all that the image shows of it.
    pub fn line(&self) -> String {
        let what = match &self.what {
            What::Folder => "folder".to_owned(),
            What::File { bytes, sha256, .. } => format!("{bytes} {sha256}"),
        };
        format!("{}\0{:o}\0{what}\n", self.path, self.mode)
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
