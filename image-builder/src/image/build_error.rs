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
use crate::provenance::PaperError;
use crate::rootfs::UserlandError;
use crate::store::FetchError;
use crate::store::inputs::InputError;
use crate::store::packages::PackageError;

/// Why an image was not made. The output directory is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The lock is wrong, or not of this recipe.
    #[error(transparent)]
    Lock(#[from] PackageLockError),
    /// A package could not be fetched or unpacked.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A program could not be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The recipe has a profile that no manifest has.
    #[error("the recipe's profile is `{got}`; this program makes sim, cpu, h100 and dev")]
    Profile {
        /// What it says.
        got: String,
    },
    /// Nobody knows how the firmware was built, and RTMR0 depends on it.
    #[error(
        "the firmware (SHA-256 {sha256}) is not known, and its file does not say how it was built: if it is of \
         edk2-stable202502 without Secure Boot, say so in the recipe with `edk2: \"202502\"` beside its name"
    )]
    FirmwareUnknown {
        /// Of the file.
        sha256: registers::Digest32,
    },
    /// The ACPI tables could not be read.
    #[error("reading the machine's ACPI tables: {0}")]
    Tables(#[from] AcpiError),
    /// A model could not be fetched or unpacked.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The kernel does not give the modules.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The root's packages do not make a root.
    #[error(transparent)]
    Userland(#[from] UserlandError),
    /// A package or a file of the root has a path that is ours or another one's.
    #[error(
        "something of the root has {path} already, which the image needs for itself or the recipe puts there"
    )]
    Taken {
        /// The path.
        path: String,
    },
    /// An input could not be fetched or unpacked.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A kernel module could not be compiled.
    #[error(transparent)]
    Modules(#[from] OutOfTreeError),
    /// The root's file system could not be made.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The unified kernel image cannot be laid out.
    #[error(transparent)]
    Uki(#[from] UkiError),
    /// The disk cannot be laid out, or not be written.
    #[error("writing the disk: {0}")]
    Image(#[from] DiskError),
    /// The registers cannot be predicted.
    #[error("predicting the registers: {0}")]
    Predict(#[from] PredictError),
    /// What was made does not fit together, or into a manifest.
    #[error("writing the manifest: {0}")]
    Manifest(#[from] ImageError),
    /// The papers could not be written.
    #[error(transparent)]
    Papers(#[from] PaperError),
    /// A file could not be read or written.
    #[error("{doing} {path}: {error}")]
    Disk {
        /// A verb in the -ing form.
        doing: &'static str,
        /// The file or directory.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// A file is longer than its limit.
    #[error("{path} is longer than the {bytes_max} bytes allowed")]
    TooLong {
        /// Which.
        path: String,
        /// The limit.
        bytes_max: usize,
    },
    /// A path of the recipe leads out of its package.
    #[error("{path} leads out of its package")]
    Outside {
        /// The path.
        path: String,
    },
    /// Nobody has this model.
    #[error(
        "the recipe names the model `{id}`, which is neither in the model lock nor in engine/models"
    )]
    Model {
        /// Its name.
        id: String,
    },
    /// The output directory is something else than an image.
    #[error("{path} is there and holds no image; name a directory that is new, empty, or an image")]
    Occupied {
        /// The directory.
        path: String,
    },
    /// Somebody else is writing the same image.
    #[error("another build is writing {path}")]
    Busy {
        /// The directory.
        path: String,
    },
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
            Self::Image(_) | Self::Disk { .. } | Self::TooLong { .. } | Self::Papers(_) => "disk",
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
