//! Why modules were not compiled, or not taken.

use std::io;
use std::path::Path;

use super::symbols::Misfit;
use crate::compile::kernel_modules::ModuleError;
use crate::store::{Fault, FetchError};

/// Why there are no modules.
#[derive(Debug, thiserror::Error)]
pub enum OutOfTreeError {
    /// The tools have no headers of this kernel.
    #[error(
        "the recipe's tools.modules have no headers of kernel {release}: name the package of headers from the suite that the kernel is from, \
         and lock again"
    )]
    Headers {
        /// The kernel.
        release: String,
    },
    /// The sources have something that is no source, or more than they should.
    #[error("{path} in the sources of the modules {problem}")]
    Source {
        /// Which, relative to their directory.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What is to be changed is not there exactly once.
    #[error(
        "the recipe changes `{from}` in {file}, where it is {found} times; it has to be there once"
    )]
    Edit {
        /// The file.
        file: String,
        /// What it should have.
        from: String,
        /// How often it does.
        found: usize,
    },
    /// A program failed; it has said why itself.
    #[error("`{command}` failed ({status})")]
    Failed {
        /// What was run.
        command: String,
        /// How it ended.
        status: String,
    },
    /// It did not make what the recipe names.
    #[error("the sources were compiled, and there is no {name}")]
    NotMade {
        /// The file.
        name: String,
    },
    /// The list of symbols cannot be read.
    #[error("{path} is no list of symbols: {problem}")]
    Symvers {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The kernel would refuse the module.
    #[error("the module {name} does not fit kernel {release}: {misfit}")]
    Misfit {
        /// The module.
        name: String,
        /// The kernel.
        release: String,
        /// Why.
        misfit: Misfit,
    },
    /// The kernel's own modules cannot be read.
    #[error(transparent)]
    Kernel(#[from] ModuleError),
    /// A file is longer than its limit.
    #[error("{path} is longer than the {bytes_max} bytes allowed")]
    TooLong {
        /// Which.
        path: String,
        /// The limit.
        bytes_max: u64,
    },
    /// The disk.
    #[error("{doing} {path}: {error}")]
    Disk {
        /// A verb in the -ing form.
        doing: &'static str,
        /// The file or directory.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// The store.
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
            Self::TooLong { .. } | Self::Disk { .. } => "disk",
            Self::Store(error) => error.fault().word(),
        }
    }

    pub(super) fn disk(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::Disk {
            doing,
            path: path.display().to_string(),
            error,
        }
    }
}
