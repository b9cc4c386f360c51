//! The image that is launched: its manifest and the files beside it, checked before anything starts.
//!
//! The check saves an operator half a minute and a puzzle. It is no protection: whoever runs this program can change the files
//! afterwards, and then no client accepts the guest's registers.

use crate::error::{Context, Error, Fault, read_file};
use crate::limits::DIGEST_CHUNK_BYTES;
use attest::Profile;
use predict::image::{ImageFile, ImageManifest};
use registers::Digest32;
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

impl Image {
    /// Reads a manifest and digests every file that it lists.
    pub(super) fn read(manifest: &Path) -> Result<Self, Error> {
        let shown = || manifest.display();
        let path = manifest
            .canonicalize()
            .context(Fault::Configuration, shown)?;
        let bytes_max = predict::limits::IMAGE_MANIFEST_BYTES_MAX as u64;
        let json = read_file(&path, bytes_max)?;
        let image = Image {
            directory: path.parent().unwrap_or(Path::new("/")).to_owned(),
            manifest: ImageManifest::from_json(&json).context(Fault::Image, shown)?,
        };
        for (_, file) in image.manifest.files.each() {
            check(&image.path(file), file)?;
        }
        Ok(image)
    }

    /// Where a file of the image lies on the host.
    pub(super) fn path(&self, file: &ImageFile) -> PathBuf {
        self.directory.join(&file.name)
    }

    /// Whether its TDX module is simulated.
    pub(super) fn is_simulated(&self) -> bool {
        self.manifest.profile == Profile::Sim
    }
}

fn check(path: &Path, expected: &ImageFile) -> Result<(), Error> {
    let reading = || format!("cannot read {}", path.display());
    let (bytes, digest) = measure(path, expected.bytes).context(Fault::Image, reading)?;
    let (got, expected) = if bytes != expected.bytes {
        (format!("{bytes} bytes"), expected.bytes.to_string())
    } else if digest != expected.sha256 {
        (format!("SHA-256 {digest}"), expected.sha256.to_string())
    } else {
        return Ok(());
    };
    let path = path.display();
    let words = format!(
        "{path} has {got}, its manifest says {expected}: the file is damaged or of another image"
    );
    Err(Error::new(Fault::Image, words))
}

/// A file's length, and its digest, zero unless it has the expected length.
fn measure(path: &Path, expected_bytes: u64) -> io::Result<(u64, Digest32)> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let (mut sha256, mut chunk) = (Sha256::new(), vec![0; DIGEST_CHUNK_BYTES]);
    if bytes != expected_bytes {
        return Ok((bytes, Digest32([0; 32])));
    }
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            got => sha256.update(&chunk[..got]),
        }
    }
    Ok((bytes, Digest32(sha256.finalize().into())))
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
        let refused = |bytes: &[u8]| with(bytes).expect_err("refused").to_string();
        assert!(with(&bytes).is_ok());
        let mut flipped = bytes.clone();
        flipped[2_999_999] ^= 1;
        assert!(refused(&flipped).contains("has SHA-256"));
        assert!(refused(&bytes[1..]).contains("has 2999999 bytes"));
        std::fs::remove_file(&path).expect("removed");
        let absent = check(&path, &expected).expect_err("refused").to_string();
        assert!(absent.contains("cannot read"), "{absent}");
    }
}
