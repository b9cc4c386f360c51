//! Locked memory: weights and keys stay where the host cannot page them in and out (SECURITY.md 1).
//!
//! Called when the weights are loaded and before the first key is made. All of the program is locked, its own text too: after this
//! no page of it is read from a disk again, so the order in which pages are touched shows nowhere.

use crate::log;
use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};

/// Why memory is not locked. The image is at fault: it has to allow it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum MemoryError {
    #[error("locking memory: {0:?}; the image must allow it")]
    Refused(Errno),
    #[error("of {resident_kib} KiB of memory (RssAnon) only {locked_kib} KiB are locked (VmLck)")]
    Partly { locked_kib: u64, resident_kib: u64 },
    #[error("/proc/self/status does not say how much memory is locked")]
    Unknown,
}

/// Locks what is there and, but for a simulation, what will be. A simulation that may not goes on, and says so.
pub(crate) fn lock(simulated: bool) -> Result<(), MemoryError> {
    // A demonstration runs without privileges: there, locking the future would turn a low limit into a failed allocation.
    let flags = match simulated {
        true => MlockAllFlags::MCL_CURRENT,
        false => MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE,
    };
    let locked = mlockall(flags).map_err(MemoryError::Refused);
    match locked.and_then(|()| check(&std::fs::read_to_string(STATUS).unwrap_or_default())) {
        Err(error) if simulated => {
            log::line(format_args!(
                "{error}; acceptable only because everything here is simulated"
            ));
            Ok(())
        }
        result => result,
    }
}

/// Whether the kernel counts every anonymous page among the locked ones: weights are anonymous, never mapped.
fn check(status: &str) -> Result<(), MemoryError> {
    let field = |name: &str| {
        let mut lines = status.lines();
        let value = lines.find_map(|line| line.strip_prefix(name))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    let (Some(locked_kib), Some(resident_kib)) = (field("VmLck:"), field("RssAnon:")) else {
        return Err(MemoryError::Unknown);
    };
    match locked_kib >= resident_kib {
        true => Ok(()),
        false => Err(MemoryError::Partly {
            locked_kib,
            resident_kib,
        }),
    }
}

const STATUS: &str = "/proc/self/status";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_anonymous_memory_is_locked_or_it_is_an_error() {
        let status = |locked: &str, resident: &str| {
            format!("Name:\tagent\nVmLck:\t{locked}\nVmRSS:\t  9999 kB\nRssAnon:\t{resident}\n")
        };
        assert_eq!(check(&status("    2048 kB", "    2048 kB")), Ok(()));
        assert_eq!(check(&status("    4096 kB", "    2048 kB")), Ok(()));
        assert_eq!(
            check(&status("       0 kB", "    2048 kB")),
            Err(MemoryError::Partly {
                locked_kib: 0,
                resident_kib: 2048
            })
        );
        for odd in ["", "2048", "x kB", "-1 kB"] {
            assert_eq!(
                check(&status(odd, "1 kB")),
                Err(MemoryError::Unknown),
                "{odd}"
            );
        }
        assert_eq!(check(""), Err(MemoryError::Unknown));
    }
}
