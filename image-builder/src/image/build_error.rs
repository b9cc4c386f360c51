//! Why there is no image, and whose fault it is.

use std::io;
use std::path::Path;

use predict::PredictError;
use predict::image::ImageError;

use super::acpi::AcpiError;
use super::disk::DiskError;
use crate::compile::CompileError;
use crate::compile::kernel_modules::ModuleError;
use crate::compile::out_of_tree::OutOfTreeError;
use crate::formats::erofs::writer::RootError;
use crate::formats::uki::UkiError;
use crate::lock::package_lock::PackageLockError;
use crate::provenance::ProvenanceError;
use crate::rootfs::UserlandError;
use crate::store::FetchError;
use crate::store::inputs::InputError;
use crate::store::packages::PackageError;

/// Why an image was not made. The output directory is as it was.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum BuildError {
    #[error(transparent)]
    Lock(#[from] PackageLockError),
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error("the recipe's profile is `{got}`; this program makes sim, cpu, h100 and dev")]
    Profile { got: String },
    #[error(
        "the firmware (SHA-256 {sha256}) is not known, and its file does not say how it was built: if it is of \
         edk2-stable202502 without Secure Boot, say so in the recipe with `edk2: \"202502\"` beside its name"
    )]
    FirmwareUnknown { sha256: registers::Digest32 },
    #[error("reading the machine's ACPI tables: {0}")]
    Tables(#[from] AcpiError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Module(#[from] ModuleError),
    #[error(transparent)]
    Userland(#[from] UserlandError),
    #[error(
        "something of the root has {path} already, which the image needs for itself or the recipe puts there"
    )]
    Taken { path: String },
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Modules(#[from] OutOfTreeError),
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Uki(#[from] UkiError),
    #[error("writing the disk: {0}")]
    Image(#[from] DiskError),
    #[error("predicting the registers: {0}")]
    Predict(#[from] PredictError),
    #[error("writing the manifest: {0}")]
    Manifest(#[from] ImageError),
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    #[error("{doing} {path}: {error}")]
    Disk {
        doing: &'static str,
        path: String,
        error: io::Error,
    },
    #[error("{path} is longer than the {bytes_max} bytes allowed")]
    TooLong { path: String, bytes_max: usize },
    #[error("{path} leads out of its package")]
    Outside { path: String },
    #[error(
        "the recipe names the model `{id}`, which is neither in the model lock nor in engine/models"
    )]
    Model { id: String },
    #[error("{path} is there and holds no image; name a directory that is new, empty, or an image")]
    Occupied { path: String },
    #[error("another build is writing {path}")]
    Busy { path: String },
}

impl BuildError {
    /// One lower-case word, for `--json`.
    pub fn fault(&self) -> &'static str {
        match self {
            Self::Fetch(error) => error.fault().word(),
            Self::Lock(_) => "lock",
            Self::Package(error) => error.fault().word(),
            Self::Profile { .. } | Self::FirmwareUnknown { .. } => "recipe",
            Self::Compile(_) | Self::Tables(_) => "tool",
            Self::Modules(error) => error.fault(),
            Self::Module(_)
            | Self::Predict(_)
            | Self::Manifest(_)
            | Self::Uki(_)
            | Self::Outside { .. }
            | Self::Model { .. } => "recipe",
            Self::Userland(error) => error.fault().word(),
            Self::Input(error) => error.fault().word(),
            Self::Taken { .. } => "recipe",
            Self::Root(_) => "tool",
            Self::Image(_) | Self::Disk { .. } | Self::TooLong { .. } | Self::Provenance(_) => {
                "disk"
            }
            Self::Occupied { .. } | Self::Busy { .. } => "output",
        }
    }

    /// Makes a `map_err` argument for file operations.
    pub(crate) fn disk(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::Disk {
            doing,
            path: path.display().to_string(),
            error,
        }
    }
}
