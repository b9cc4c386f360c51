//! Why there is no image, and whose fault it is.

use std::io;
use std::path::Path;

use predict::image::ImageError;
use predict::{FirmwareError, PredictError};

use super::acpi::AcpiError;
use super::disk::DiskError;
use crate::compile::CompileError;
use crate::compile::kernel_modules::ModuleError;
use crate::compile::out_of_tree::OutOfTreeError;
use crate::formats::erofs::writer::RootError;
use crate::formats::file_error::FileError;
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
    #[error("{context}{cause}")]
    Part {
        fault: &'static str,
        context: &'static str,
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the recipe's profile is `{got}`; this program makes sim, cpu, h100 and dev")]
    Profile { got: String },
    #[error(
        "the firmware (SHA-256 {sha256}) is not known, and its file does not say how it was built: if it is of \
         edk2-stable202502 without Secure Boot, say so in the recipe with `edk2: \"202502\"` beside its name"
    )]
    FirmwareUnknown { sha256: registers::Digest32 },
    #[error(
        "something of the root has {path} already, which the image needs for itself or the recipe puts there"
    )]
    Taken { path: String },
    #[error(transparent)]
    Disk(#[from] FileError),
    #[error("{path} is longer than the {bytes_max} bytes allowed")]
    TooLong { path: String, bytes_max: usize },
    #[error("{path} leads out of its package")]
    Outside { path: String },
    #[error("the recipe names the model `{id}`, which is not in the model lock")]
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
            Self::Part { fault, .. } => fault,
            Self::Profile { .. }
            | Self::FirmwareUnknown { .. }
            | Self::Outside { .. }
            | Self::Model { .. }
            | Self::Taken { .. } => "recipe",
            Self::Disk(_) | Self::TooLong { .. } => "disk",
            Self::Occupied { .. } | Self::Busy { .. } => "output",
        }
    }

    /// Makes a `map_err` argument for file operations.
    pub(crate) fn disk(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        FileError::of(doing, path)
    }
}

/// What a part of the build refuses ends it: the part's error, whose fault that is, and the words before it.
macro_rules! parts {
    ($($error:ty, $context:literal, $fault:expr;)*) => {$(
        impl From<$error> for BuildError {
            fn from(error: $error) -> Self {
                let fault: fn(&$error) -> &'static str = $fault;
                let (fault, context) = (fault(&error), $context);
                let cause = Box::new(error);
                Self::Part { fault, context, cause }
            }
        }
    )*};
}

parts! {
    PackageLockError, "", |_| "lock";
    PackageError, "", |error| error.fault().word();
    CompileError, "", |_| "tool";
    AcpiError, "reading the machine's ACPI tables: ", |_| "tool";
    FetchError, "", |error| error.fault().word();
    ModuleError, "", |_| "recipe";
    UserlandError, "", |error| error.fault().word();
    InputError, "", |error| error.fault().word();
    OutOfTreeError, "", OutOfTreeError::fault;
    RootError, "", |_| "tool";
    UkiError, "", |_| "recipe";
    DiskError, "writing the disk: ", |_| "disk";
    FirmwareError, "", |_| "recipe";
    PredictError, "predicting the registers: ", |_| "recipe";
    ImageError, "writing the manifest: ", |_| "recipe";
    ProvenanceError, "", |_| "disk";
}
