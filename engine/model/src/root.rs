//! One digest for a whole model.

use std::collections::BTreeMap;

use registers::digest_type;
use sha2::{Digest, Sha256};

use crate::files::{Directory, File, FileDigest, FilesError, digests};

digest_type!(
    /// SHA-256 over a listing of a model's files. For each file that is present, sorted by name: the name in UTF-8, one
    /// zero byte, the size as 8 bytes little-endian, the file's SHA-256 as 32 bytes. The names are those of
    /// [`File`](crate::File) and of the shards that an index names.
    ///
    /// Of a model on a volume the root is another digest: the root hash of the volume's dm-verity tree, see
    /// [`crate::volume`].
    ModelRoot,
    32
);

/// What names a model's chat template, from the digests of its files: the SHA-256 of `tokenizer_config.json`, and where the
/// template is in files of its own the listing of [`ModelRoot`] over these and that; `None` if it has none of them.
pub fn template_digest(of: impl Fn(File) -> Option<FileDigest>) -> Option<[u8; 32]> {
    let files = [
        File::ToolTemplate,
        File::ChatTemplate,
        File::TokenizerConfig,
    ];
    let named = |file: File| Some((file.name().to_owned(), of(file)?));
    let digests: BTreeMap<String, FileDigest> = files.into_iter().filter_map(named).collect();
    match of(File::ChatTemplate).or(of(File::ToolTemplate)) {
        Some(_) => Some(ModelRoot::of(&digests).0),
        None => of(File::TokenizerConfig).map(|config| config.sha256),
    }
}

impl ModelRoot {
    /// The root of files with these digests, by name.
    pub fn of(digests: &BTreeMap<String, FileDigest>) -> Self {
        let mut listing = Sha256::new();
        for (name, digest) in digests {
            listing.update(name);
            listing.update([0]);
            listing.update(digest.bytes.to_le_bytes());
            listing.update(digest.sha256);
        }
        ModelRoot(listing.finalize().into())
    }

    /// The root of files that are read for it and not kept.
    pub fn read(directory: &dyn Directory) -> Result<Self, FilesError> {
        Ok(ModelRoot::of(&digests(directory)?))
    }
}
