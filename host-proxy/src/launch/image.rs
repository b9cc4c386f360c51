//! The image that is launched: its manifest, and the files beside it, checked before anything starts.
//!
//! The check spares an operator half a minute and a puzzle. It protects nobody: who runs this program can change the files
//! afterwards, and then the guest measures to something that no client accepts.

use crate::limits::DIGEST_PIECE_BYTES;
use measurements::{Digest32, ImageFile, ImageManifest, Profile};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// An image whose files are what its manifest says.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) directory: PathBuf,
    pub(super) manifest: ImageManifest,
}

/// Why an image is not launched. Whoever copied or built it is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ImageFault {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not a manifest of an image.
    #[error("{path}: {source}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<measurements::ImageError>,
    },
    /// A file of another length.
    #[error(
        "{path} has {got} bytes, its manifest says {expected}: the image is damaged or not of this manifest"
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length.
        got: u64,
        /// The manifest's.
        expected: u64,
    },
    /// A file with other bytes.
    #[error(
        "{path} has SHA-256 {got}, its manifest says {expected}: the image is damaged or not of this manifest"
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// Its digest.
        got: Digest32,
        /// The manifest's.
        expected: Digest32,
    },
}

impl Image {
    /// Reads a manifest and digests every file that it lists.
    pub(super) fn read(manifest: &Path) -> Result<Self, ImageFault> {
        let refuse = |source| ImageFault::Read {
            path: manifest.to_owned(),
            source,
        };
        let path = manifest.canonicalize().map_err(refuse)?;
        let mut json = Vec::new();
        let most = measurements::limits::IMAGE_MANIFEST_BYTES_MAX as u64 + 1;
        let file = File::open(&path).map_err(refuse)?;
        file.take(most).read_to_end(&mut json).map_err(refuse)?;
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        let manifest = ImageManifest::from_json(&json).map_err(|error| ImageFault::Manifest {
            path,
            source: error.into(),
        })?;
        let image = Image {
            directory,
            manifest,
        };
        image.check()?;
        Ok(image)
    }

    /// Where a file of the image lies on the host.
    pub(super) fn path(&self, file: &ImageFile) -> PathBuf {
        self.directory.join(&file.name)
    }

    /// Whether its module is simulated.
    pub(super) fn is_simulated(&self) -> bool {
        self.manifest.profile == Profile::Sim
    }

    fn check(&self) -> Result<(), ImageFault> {
        for (_, file) in self.manifest.files.each() {
            check(&self.path(file), file)?;
        }
        Ok(())
    }
}

fn check(path: &Path, expected: &ImageFile) -> Result<(), ImageFault> {
    let refuse = |source| ImageFault::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(refuse)?;
    let got = file.metadata().map_err(refuse)?.len();
    if got != expected.bytes {
        return Err(ImageFault::Length {
            path: path.to_owned(),
            got,
            expected: expected.bytes,
        });
    }
    let (mut sha256, mut piece) = (Sha256::new(), vec![0; DIGEST_PIECE_BYTES]);
    loop {
        match file.read(&mut piece).map_err(refuse)? {
            0 => break,
            got => sha256.update(&piece[..got]),
        }
    }
    let got = Digest32(sha256.finalize().into());
    match got == expected.sha256 {
        true => Ok(()),
        false => Err(ImageFault::Digest {
            path: path.to_owned(),
            got,
            expected: expected.sha256,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_accepted_only_with_its_length_and_its_bytes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("kernel");
        let bytes = vec![7; 3_000_000];
        let expected = ImageFile {
            name: "kernel".into(),
            bytes: bytes.len() as u64,
            sha256: Digest32::of(&bytes),
        };
        let with = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            check(&path, &expected)
        };
        assert!(with(&bytes).is_ok());
        let mut flipped = bytes.clone();
        flipped[2_999_999] ^= 1;
        assert!(matches!(with(&flipped), Err(ImageFault::Digest { .. })));
        assert!(matches!(
            with(&bytes[1..]),
            Err(ImageFault::Length { got: 2_999_999, .. })
        ));
        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(
            check(&path, &expected),
            Err(ImageFault::Read { .. })
        ));
    }
}
