//! Why modules were not compiled, or not taken.

use std::io;
use std::path::Path;

use super::symbols::Misfit;
use crate::compile::kernel_modules::ModuleError;
use crate::formats::file_error::FileError;
use crate::store::{Fault, FetchError};

/// Why there are no modules.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum OutOfTreeError {
    #[error(
        "the recipe's tools.modules have no headers of kernel {release}: name the package of headers from the suite that the kernel is from, \
         and lock again"
    )]
    Headers { release: String },
    #[error("{path} in the sources of the modules {problem}")]
    Source { path: String, problem: String },
    #[error(
        "the recipe changes `{from}` in {file}, where it is {found} times; it has to be there once"
    )]
    Edit {
        file: String,
        from: String,
        found: usize,
    },
    #[error("`{command}` failed ({status})")]
    Failed { command: String, status: String },
    #[error("the sources were compiled, and there is no {name}")]
    NotMade { name: String },
    #[error("{path} is no list of symbols: {problem}")]
    Symvers { path: String, problem: String },
    #[error("the module {name} does not fit kernel {release}: {misfit}")]
    Misfit {
        name: String,
        release: String,
        misfit: Misfit,
    },
    #[error(transparent)]
    Kernel(#[from] ModuleError),
    #[error("{path} is longer than the {bytes_max} bytes allowed")]
    TooLong { path: String, bytes_max: u64 },
    #[error(transparent)]
    Disk(#[from] FileError),
    #[error(transparent)]
    Store(#[from] FetchError),
}

impl OutOfTreeError {
    /// Whose fault it is, in one lower-case word.
    pub fn fault(&self) -> &'static str {
        match self {
            Self::Headers { .. }
            | Self::Source { .. }
            | Self::Edit { .. }
            | Self::NotMade { .. }
            | Self::Kernel(_) => Fault::Recipe.word(),
            Self::Failed { .. } | Self::Symvers { .. } | Self::Misfit { .. } => "tool",
            Self::TooLong { .. } | Self::Disk(_) => "disk",
            Self::Store(error) => error.fault().word(),
        }
    }

    pub(super) fn disk(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        FileError::of(doing, path)
    }
}
