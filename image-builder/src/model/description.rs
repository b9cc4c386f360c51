//! `model.json`: what a volume holds, and what a guest has to be told to believe it.
//!
//! A claim, as a manifest is one: [`super::verify_volume`] holds it against the volume, and whoever decides which model to trust
//! compares its root hash with one from elsewhere.

use std::collections::BTreeSet;

use registers::{Digest32, VerityRoot};
use serde::{Deserialize, Serialize};

use super::ModelError;
use crate::formats::verity;
use crate::limits::{
    MODEL_BYTES_MAX, MODEL_DEPTH_MAX, MODEL_DESCRIPTION_BYTES_MAX, MODEL_ENTRIES_MAX,
    MODEL_ID_BYTES_MAX, PATH_BYTES_MAX,
};
use crate::lock::is_plain_name;

/// A volume, described.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Always 1.
    pub version: u64,
    /// The model's name, as clients ask for it.
    pub id: String,
    /// Length of the volume, with its hash tree.
    pub bytes: u64,
    /// What a guest's configuration has to say, in the same words.
    pub volume: VerityRoot,
    /// Sorted by the components of their paths.
    pub files: Vec<File>,
    /// Paths that were left out of the directory if they were there, sorted.
    pub left_out: Vec<String>,
    /// The program that made the file system: another version may make other bytes.
    pub tool: Tool,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Below the model's directory, with `/` between its components.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest32,
}

/// A package of Debian's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Of the package's file.
    pub sha256: Digest32,
}

impl Description {
    /// Its text; the same description is the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("text and numbers have a JSON form");
        text.push(b'\n');
        text
    }

    /// Reads and checks a description.
    pub fn parse(text: &[u8]) -> Result<Self, ModelError> {
        let wrong = |problem: &str| ModelError::Description(problem.to_owned());
        if text.len() as u64 > MODEL_DESCRIPTION_BYTES_MAX {
            return Err(wrong("is too long"));
        }
        let description: Self = serde_json::from_slice(text)
            .map_err(|error| ModelError::Description(format!("does not parse: {error}")))?;
        description.check().map_err(wrong)?;
        if description.to_json() != text {
            return Err(wrong("is not written as this program writes it"));
        }
        Ok(description)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.version != 1 {
            return Err("is of another version than 1");
        }
        if !is_id(&self.id) {
            return Err("has a name that cannot be a model's");
        }
        let blocks = verity::blocks(self.volume.data_blocks);
        if blocks.and_then(|blocks| blocks.checked_mul(verity::BLOCK_BYTES)) != Some(self.bytes) {
            return Err("has a length that is not that of its blocks and their tree");
        }
        if self.files.is_empty() || self.files.len() as u64 > MODEL_ENTRIES_MAX {
            return Err("has no files, or too many");
        }
        let mut paths = BTreeSet::new();
        let mut bytes: u64 = 0;
        for file in &self.files {
            let parts: Vec<&str> = file.path.split('/').collect();
            let plain = parts.iter().all(|part| is_plain_name(part));
            if !plain || file.path.len() > PATH_BYTES_MAX || parts.len() > MODEL_DEPTH_MAX + 1 {
                return Err("has a path that no file of a volume has");
            }
            // Sorted and nothing twice; a directory cannot be a file as well, or the listing of the volume would differ.
            if paths.last().is_some_and(|last| *last >= parts) {
                return Err("has files out of their order");
            }
            paths.insert(parts);
            bytes = bytes.saturating_add(file.bytes);
        }
        let sandbox = self.volume.data_blocks.saturating_mul(verity::BLOCK_BYTES);
        if bytes > MODEL_BYTES_MAX || bytes > sandbox {
            return Err("has more bytes of files than its volume has room for");
        }
        Ok(())
    }
}

/// Whether a model may be called so.
pub(super) fn is_id(id: &str) -> bool {
    id.len() <= MODEL_ID_BYTES_MAX && is_plain_name(id)
}
