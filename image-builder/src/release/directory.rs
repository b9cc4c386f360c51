//! An image's directory, or a manifest alone.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use predict::image::{ImageError, ImageManifest};

use crate::image::{CMDLINE, MANIFEST};
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::provenance::{ENVELOPE, SBOM, STATEMENT};

/// Where an image lies, with its manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Directory {
    /// The manifest.
    pub manifest: ImageManifest,
    /// As it lies there, whose digest a statement has.
    pub manifest_bytes: Vec<u8>,
    path: PathBuf,
}

/// Why there is no image to look at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum DirectoryError {
    #[error("reading {path}: {reason}")]
    Disk { path: String, reason: String },
    #[error("{path} is longer than the {bytes_max} bytes allowed")]
    TooLong { path: String, bytes_max: usize },
    #[error("{path}: {error}")]
    Manifest {
        path: String,
        error: Box<ImageError>,
    },
}

impl Directory {
    /// The image in a directory, or the one that a manifest's file describes.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let manifest_path = match path.is_dir() {
            true => path.join(MANIFEST),
            false => path.to_owned(),
        };
        let bytes_max = predict::limits::IMAGE_MANIFEST_BYTES_MAX;
        let manifest_bytes = read(&manifest_path, bytes_max)?;
        let manifest = ImageManifest::from_json(&manifest_bytes).map_err(|error| {
            let path = manifest_path.display().to_string();
            let error = Box::new(error);
            DirectoryError::Manifest { path, error }
        })?;
        let path = manifest_path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self {
            manifest,
            manifest_bytes,
            path,
        })
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The file of the command line.
    pub fn cmdline(&self) -> PathBuf {
        self.path.join(CMDLINE)
    }

    /// The bill of materials, if one is there.
    pub fn bill(&self) -> Result<Option<Vec<u8>>, DirectoryError> {
        self.optional(SBOM, crate::limits::SBOM_BYTES_MAX)
    }

    /// The statement, if one is there.
    pub fn statement(&self) -> Result<Option<Vec<u8>>, DirectoryError> {
        self.optional(STATEMENT, ENVELOPE_BYTES_MAX)
    }

    /// The envelope, if one is there.
    pub fn envelope(&self) -> Result<Option<Vec<u8>>, DirectoryError> {
        self.optional(ENVELOPE, ENVELOPE_BYTES_MAX)
    }

    fn optional(&self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, DirectoryError> {
        let path = self.path.join(name);
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => read(&path, bytes_max).map(Some),
        }
    }
}

/// A file that is not longer than its limit.
pub fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, DirectoryError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| disk(path, &error))?;
    match bytes.len() > bytes_max {
        true => Err(DirectoryError::TooLong {
            path: path.display().to_string(),
            bytes_max,
        }),
        false => Ok(bytes),
    }
}

pub fn disk(path: &Path, error: &io::Error) -> DirectoryError {
    DirectoryError::Disk {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}
