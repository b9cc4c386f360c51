//! One digest for a whole model.

use std::collections::BTreeMap;

use registers::digest_type;
use sha2::{Digest, Sha256};

use crate::files::{Directory, FileDigest, FilesError, digests};

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
