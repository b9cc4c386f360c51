//! What a caller can do wrong.

use std::fmt;

use crate::path::Path;

/// Why nothing was computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelError {
    /// This processor lacks the instructions.
    PathMissing(Path),
    /// A number of threads outside 1 to [`THREADS_MAX`](crate::THREADS_MAX).
    Threads(usize),
    /// The system refused a thread.
    ThreadRefused,
    /// A slice has another length than its shape says.
    Length {
        /// Which slice.
        what: &'static str,
        /// Its length.
        got: usize,
        /// What the shape says.
        expected: usize,
    },
    /// A number that is zero, too large or does not go with the others.
    Shape {
        /// What it is of.
        what: &'static str,
        /// The number.
        got: usize,
    },
    /// Memory for so many bytes is not to be had.
    Memory {
        /// How many.
        bytes: usize,
    },
    /// Weights of one kind where another is needed.
    Kind {
        /// The kind of the weights.
        got: &'static str,
        /// The kind that was needed.
        expected: &'static str,
    },
    /// A scale that the packed form cannot hold.
    Scale {
        /// The block of the row.
        block: usize,
    },
}

impl KernelError {
    /// Refuses a slice whose length is not `expected`.
    pub(crate) fn length(what: &'static str, got: usize, expected: usize) -> Result<(), Self> {
        let error = || KernelError::Length {
            what,
            got,
            expected,
        };
        (got == expected).then_some(()).ok_or_else(error)
    }

    /// A number that does not fit.
    pub(crate) fn shape(what: &'static str, got: usize) -> Self {
        KernelError::Shape { what, got }
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PathMissing(path) => write!(
                f,
                "this processor lacks the instructions of {}",
                path.name()
            ),
            Self::Threads(got) => {
                write!(f, "{got} threads; 1 to {} are allowed", crate::THREADS_MAX)
            }
            Self::ThreadRefused => write!(f, "the system refused to start a thread"),
            Self::Length {
                what,
                got,
                expected,
            } => write!(f, "{what} has {got} elements; the shape says {expected}"),
            Self::Shape { what, got } => write!(f, "{what} is {got}, which does not fit"),
            Self::Memory { bytes } => write!(f, "no memory for {bytes} bytes"),
            Self::Kind { got, expected } => {
                write!(f, "the weights are {got}; {expected} is needed")
            }
            Self::Scale { block } => {
                write!(f, "the scale of block {block} is too large to be packed")
            }
        }
    }
}

impl std::error::Error for KernelError {}
