//! One digest for a whole model.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::files::{File, FileDigest, FilesError, Open, Opened};

/// SHA-256 over a listing of a model's files. For each file that is present, sorted by name: the name in UTF-8, one
/// zero byte, the size as 8 bytes little-endian, the file's SHA-256 as 32 bytes.
///
/// The names are those of [`File`]. Of a model on a volume the root is another digest: the root hash of the volume's
/// dm-verity tree, see [`crate::volume`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ModelRoot(pub [u8; 32]);

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a model root is 64 lower-case hexadecimal digits")]
pub struct NotARoot;

impl ModelRoot {
    /// The root of files with these digests.
    pub fn of(digest: impl Fn(File) -> Option<FileDigest>) -> Self {
        let mut listing = Sha256::new();
        for file in File::ALL {
            let Some(digest) = digest(file) else { continue };
            listing.update(file.name());
            listing.update([0]);
            listing.update(digest.bytes.to_le_bytes());
            listing.update(digest.sha256);
        }
        ModelRoot(listing.finalize().into())
    }

    /// The root of files that are read for it and not kept.
    pub fn read(open: &mut Open<'_>) -> Result<Self, FilesError> {
        let mut digests = [None; File::ALL.len()];
        for (digest, file) in digests.iter_mut().zip(File::ALL) {
            *digest = open(file)?.map(Opened::digest).transpose()?;
            if digest.is_none() && file != File::TokenizerConfig {
                return Err(FilesError::Missing { file });
            }
        }
        Ok(ModelRoot::of(|file| digests[file as usize]))
    }
}

impl fmt::Display for ModelRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ModelRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelRoot({self})")
    }
}

impl FromStr for ModelRoot {
    type Err = NotARoot;

    fn from_str(text: &str) -> Result<Self, NotARoot> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let digits: &[[u8; 2]; 32] = pairs.try_into().map_err(|_| NotARoot)?;
        if !rest.is_empty() {
            return Err(NotARoot);
        }
        let mut root = [0; 32];
        for (byte, [high, low]) in root.iter_mut().zip(digits) {
            *byte = digit(*high).ok_or(NotARoot)? << 4 | digit(*low).ok_or(NotARoot)?;
        }
        Ok(ModelRoot(root))
    }
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

impl From<ModelRoot> for String {
    fn from(root: ModelRoot) -> String {
        root.to_string()
    }
}

impl TryFrom<String> for ModelRoot {
    type Error = NotARoot;

    fn try_from(text: String) -> Result<Self, NotARoot> {
        text.parse()
    }
}
