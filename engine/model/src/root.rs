//! One digest for a whole model.

use registers::digest_type;
use sha2::{Digest, Sha256};

use crate::files::{File, FileDigest, FilesError, Open, Opened};

digest_type!(
    /// SHA-256 over a listing of a model's files. For each file that is present, sorted by name: the name in UTF-8, one
    /// zero byte, the size as 8 bytes little-endian, the file's SHA-256 as 32 bytes. The names are those of [`File`].
    ///
    /// Of a model on a volume the root is another digest: the root hash of the volume's dm-verity tree, see
    /// [`crate::volume`].
    ModelRoot,
    32
);

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
            let optional = matches!(file, File::TokenizerConfig | File::Gguf | File::Weights);
            if digest.is_none() && !optional {
                return Err(FilesError::Missing { file });
            }
        }
        match (
            digests[File::Gguf as usize],
            digests[File::Weights as usize],
        ) {
            (Some(_), Some(_)) => return Err(FilesError::TwoWeights),
            (None, None) => {
                let file = File::Weights;
                return Err(FilesError::Missing { file });
            }
            _ => {}
        }
        Ok(ModelRoot::of(|file| digests[file as usize]))
    }
}
