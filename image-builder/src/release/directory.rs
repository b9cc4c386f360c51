//! An image's directory, or a manifest alone.

use std::io;
use std::path::{Path, PathBuf};

use predict::image::ImageManifest;

use crate::error::{Error, error};
use crate::files;
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

impl Directory {
    /// The image in a directory, or the one that a manifest's file describes.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let manifest_path = match path.is_dir() {
            true => path.join(MANIFEST),
            false => path.to_owned(),
        };
        let bytes_max = predict::limits::IMAGE_MANIFEST_BYTES_MAX;
        let manifest_bytes = files::read(&manifest_path, bytes_max as u64)?;
        let manifest = ImageManifest::from_json(&manifest_bytes)
            .map_err(|error| error!(Image, "{}: {error}", manifest_path.display()))?;
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
    pub fn bill(&self) -> Result<Option<Vec<u8>>, Error> {
        self.optional(SBOM, crate::limits::SBOM_BYTES_MAX)
    }

    /// The statement, if one is there.
    pub fn statement(&self) -> Result<Option<Vec<u8>>, Error> {
        self.optional(STATEMENT, ENVELOPE_BYTES_MAX)
    }

    /// The envelope, if one is there.
    pub fn envelope(&self) -> Result<Option<Vec<u8>>, Error> {
        self.optional(ENVELOPE, ENVELOPE_BYTES_MAX)
    }

    fn optional(&self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path.join(name);
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => files::read(&path, bytes_max as u64).map(Some),
        }
    }
}
