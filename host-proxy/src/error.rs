//! What ends a command: whose fault it is, what was being done, and the cause.

use std::fmt::{self, Display};
use std::io::{self, Read};
use std::path::Path;

/// Prints as `context: cause`. A cause is part of that sentence and is not a `source()` again.
#[derive(Debug)]
pub struct Error {
    pub(crate) fault: Fault,
    context: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Whose fault a failure is: where the operator has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Configuration,
    Host,
    Image,
    Guest,
    Node,
    CollateralSource,
    Payer,
}

impl Error {
    pub(crate) fn new(fault: Fault, context: impl Into<String>) -> Self {
        Error {
            fault,
            context: context.into(),
            cause: None,
        }
    }
}

/// Turns any error into an [`Error`].
pub(crate) trait Context<T> {
    fn context<C: Display>(self, fault: Fault, context: impl FnOnce() -> C) -> Result<T, Error>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Context<T> for Result<T, E> {
    fn context<C: Display>(self, fault: Fault, context: impl FnOnce() -> C) -> Result<T, Error> {
        self.map_err(|cause| Error {
            fault,
            context: context().to_string(),
            cause: Some(cause.into()),
        })
    }
}

/// Reads a file of the operator's that may have at most `bytes_max` bytes.
pub(crate) fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let reading = || format!("cannot read {}", path.display());
    let bytes = read_bounded(path, bytes_max).context(Fault::Configuration, reading)?;
    bytes.ok_or_else(|| {
        let words = format!("{} has more than {bytes_max} bytes", path.display());
        Error::new(Fault::Configuration, words)
    })
}

/// `None`: the file has more than `bytes_max` bytes.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref()?.source()
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Configuration => "configuration",
            Fault::Host => "this host",
            Fault::Image => "image",
            Fault::Guest => "guest",
            Fault::Node => "TON node",
            Fault::CollateralSource => "collateral source",
            Fault::Payer => "payer",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_printed_once() {
        let inner: Result<(), _> = Err(io::Error::other("disk on fire"));
        let inner = inner.context(Fault::Host, || "cannot write state.sqlite");
        let error = inner
            .context(Fault::Node, || "settling")
            .expect_err("failed");
        assert_eq!(
            error.to_string(),
            "settling: cannot write state.sqlite: disk on fire"
        );
        assert!(std::error::Error::source(&error).is_none());
    }
}
