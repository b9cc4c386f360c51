//! Why a guest did not come up.

use crate::{CommandLineError, StartError};
use nix::errno::Errno;
use std::process::ExitCode;
use std::time::Duration;

/// A step that failed. Each prints as one line of fixed text, with the name of a measured file or an error number where that
/// helps; never with bytes of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum Failure {
    System {
        doing: &'static str,
        errno: Errno,
    },
    /// A module in `/modules`, which is measured with the initrd.
    Module {
        name: String,
        errno: Errno,
    },
    /// A driver in `/devices`, which is measured with the initrd: it did not take a device that it knows, or is absent.
    Driver {
        name: String,
        errno: Errno,
    },
    Devices,
    Modules,
    Unreadable {
        what: &'static str,
        errno: Errno,
    },
    TooLong(&'static str),
    CommandLine(CommandLineError),
    /// The kernel did not take the TSC as its clock, as it was told to.
    Clock,
    NoDisk,
    Start(StartError),
}

impl Failure {
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(Errno) -> Failure {
        move |errno| Failure::System { doing, errno }
    }

    pub(crate) fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Failure {
        move |error| Failure::System {
            doing,
            errno: errno_of(&error),
        }
    }
}

/// The number in an error of the standard library; zero where it made the error itself.
pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::System { doing, errno } => write!(f, "{doing} failed ({errno:?})"),
            Failure::Module { name, errno } => {
                write!(f, "loading the module {name} failed ({errno:?})")
            }
            Failure::Driver { name, errno } => {
                write!(
                    f,
                    "binding the driver {name} to its device failed ({errno:?})"
                )
            }
            Failure::Devices => {
                write!(f, "/devices is malformed: a line must be BUS DRIVER NUMBER")
            }
            Failure::Modules => {
                write!(f, "/modules has too many files, or one that is not NAME.ko")
            }
            Failure::Unreadable { what, errno } => write!(f, "reading {what} failed ({errno:?})"),
            Failure::TooLong(what) => write!(f, "{what} is too long"),
            Failure::CommandLine(error) => write!(f, "{error}"),
            Failure::Clock => write!(f, "the kernel's clock source is not the TSC"),
            Failure::NoDisk => write!(f, "the disk did not appear"),
            Failure::Start(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<CommandLineError> for Failure {
    fn from(error: CommandLineError) -> Self {
        Failure::CommandLine(error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Failure::Start(error)
    }
}

/// Prints why `program` stops, and waits until the serial line has sent it: the end of PID 1 is a kernel panic, which drops
/// what a terminal still buffers.
pub fn stop(program: &str, failure: &Failure) -> ExitCode {
    eprintln!("{program}: {failure}");
    std::thread::sleep(Duration::from_millis(500));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let module = Failure::Module {
            name: "01-dm-mod.ko".into(),
            errno: Errno::ENOEXEC,
        };
        assert_eq!(
            module.to_string(),
            "loading the module 01-dm-mod.ko failed (ENOEXEC)"
        );
        let missing = std::io::Error::from_raw_os_error(2);
        assert_eq!(
            Failure::io("mounting the root")(missing).to_string(),
            "mounting the root failed (ENOENT)"
        );
        for failure in [
            Failure::Modules,
            Failure::Devices,
            Failure::Driver {
                name: "virtio_blk".into(),
                errno: Errno::EIO,
            },
            Failure::Unreadable {
                what: "the command line",
                errno: Errno::EIO,
            },
            Failure::TooLong("/start"),
            Failure::CommandLine(CommandLineError::Repeated),
            Failure::Clock,
            Failure::NoDisk,
            Failure::Start(StartError::Line),
        ] {
            assert!(!failure.to_string().contains('\n'), "{failure}");
        }
    }
}
