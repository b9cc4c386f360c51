//! The description of a volume: what a directory is held against when a model's root is the root hash of a volume.
//!
//! A keyset does not say which of the two a root is. `image-builder model pack` writes the description (`model.json`),
//! `image-builder model verify` holds it against the volume; here it is believed.

use std::collections::BTreeSet;

use registers::{Digest32, VerityRoot};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::files::{Directory, File, FileDigest, FilesError};
use crate::limits::DESCRIPTION_BYTES_MAX;
use crate::root::ModelRoot;
use crate::whole::is_weights;

/// A volume, described. A client needs version, volume and files; whoever verifies the volume itself needs the rest too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Always 1.
    pub version: u64,
    /// The model's name, as clients ask for it.
    #[serde(default)]
    pub id: String,
    /// Length of the volume, with its hash tree.
    #[serde(default)]
    pub bytes: u64,
    /// What a guest's configuration has to say, in the same words.
    pub volume: VerityRoot,
    /// Sorted by the components of their paths.
    pub files: Vec<VolumeFile>,
    /// Paths that were left out of the directory if they were there, sorted.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// The program that made the file system: another version may make other bytes.
    #[serde(default)]
    pub tool: Option<Tool>,
}

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFile {
    /// Below the model's directory, with `/` between its components.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest32,
}

/// A package of Debian's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Of the package's file.
    pub sha256: Digest32,
}

/// Why a directory is not that of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs)]
pub enum VolumeError {
    #[error("the description of the volume {0}")]
    Description(String),
    #[error("the described volume has root {found}, the configuration allows {expected}")]
    Root {
        found: ModelRoot,
        expected: ModelRoot,
    },
    #[error("{0} is not in the volume")]
    NotInTheVolume(String),
    #[error("{0} is another than the volume's")]
    Another(String),
    #[error(transparent)]
    Files(#[from] FilesError),
}

impl Description {
    /// Reads `model.json`.
    pub fn parse(json: &[u8]) -> Result<Self, VolumeError> {
        let refuse = |why| Err(VolumeError::Description(why));
        if json.len() > DESCRIPTION_BYTES_MAX {
            return refuse(format!("has more than {DESCRIPTION_BYTES_MAX} bytes"));
        }
        match serde_json::from_slice::<Description>(json) {
            Ok(described) if described.version == 1 => Ok(described),
            Ok(other) => refuse(format!(
                "has version {}; this program reads version 1",
                other.version
            )),
            Err(error) => refuse(format!("is not one: {error}")),
        }
    }

    /// Its text; the same description is the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("text and numbers have a JSON form");
        text.push(b'\n');
        text
    }

    /// Whether this is the volume of `root` and a directory's files are those of the volume. A client needs only the
    /// tokenizer; weights and configuration are compared where they lie beside it.
    pub fn check(&self, root: &ModelRoot, directory: &dyn Directory) -> Result<(), VolumeError> {
        let (found, expected) = (ModelRoot(self.volume.verity_hash.0), *root);
        if found != expected {
            return Err(VolumeError::Root { found, expected });
        }
        let shards = self.files.iter().map(|file| file.path.as_str());
        let shards = shards.filter(|path| is_weights(path) && !path.contains('/'));
        let names: BTreeSet<&str> = File::ALL
            .map(File::name)
            .into_iter()
            .chain(shards)
            .collect();
        for name in names {
            let listed = self.files.iter().find(|one| one.path == name);
            let needed = [File::Tokenizer, File::TokenizerConfig];
            let needed = needed.into_iter().find(|file| file.name() == name);
            match (listed, directory.open(name)?) {
                (Some(_), None) => {
                    let missing = needed.map(|file| FilesError::Missing { file });
                    missing.map_or(Ok(()), Err)?;
                }
                (None, None) => {}
                (None, Some(_)) => return Err(VolumeError::NotInTheVolume(name.to_owned())),
                (Some(listed), Some(opened)) => {
                    let (bytes, sha256) = (listed.bytes, listed.sha256.0);
                    if opened.digest()? != (FileDigest { bytes, sha256 }) {
                        return Err(VolumeError::Another(name.to_owned()));
                    }
                }
            }
        }
        Ok(())
    }
}
