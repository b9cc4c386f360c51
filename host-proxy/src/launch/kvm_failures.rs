//! Which programs could not boot a guest under KVM since this host was started, so that the next launch does not try again.

use crate::error::read_bounded;
use crate::limits::KVM_FAILURES_MAX;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::PathBuf;

/// Losing it, or having a wrong one, costs a launch time and nothing else.
#[derive(Debug)]
pub(super) struct KvmFailures {
    file: Option<PathBuf>,
    failures: Failures,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Failures {
    /// The host's `boot_id`: another kernel may do better.
    boot: String,
    kvm_fails: Vec<String>,
}

/// A file longer than this was not written by us.
const FILE_BYTES_MAX: u64 = 256 * 1024;

impl KvmFailures {
    /// Those in the user's cache directory.
    pub(super) fn of_the_user() -> Self {
        let set = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self::read(
            cache.map(|cache| cache.join("chrysalis/kvm.json")),
            boot.trim(),
        )
    }

    fn read(file: Option<PathBuf>, boot: &str) -> Self {
        let read = |path: &PathBuf| read_bounded(path, FILE_BYTES_MAX).ok().flatten();
        let bytes = file.as_ref().and_then(read);
        let failures = bytes.and_then(|bytes| serde_json::from_slice::<Failures>(&bytes).ok());
        let fresh = Failures {
            boot: boot.to_owned(),
            ..Failures::default()
        };
        KvmFailures {
            file,
            failures: failures
                .filter(|failures| failures.boot == boot)
                .unwrap_or(fresh),
        }
    }

    /// Whether `program` has failed under KVM.
    pub(super) fn kvm_fails(&self, program: &str) -> bool {
        self.failures
            .kvm_fails
            .iter()
            .any(|failed| failed == program)
    }

    /// Remembers that `program` fails under KVM on this host.
    pub(super) fn remember(&mut self, program: &str) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let failures = &mut self.failures.kvm_fails;
        failures.retain(|failed| failed != program);
        failures.push(program.to_owned());
        failures.drain(..failures.len().saturating_sub(KVM_FAILURES_MAX));
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        let unfinished = file.with_extension(format!("{}.new", std::process::id()));
        fs::write(&unfinished, serde_json::to_vec(&self.failures)?)?;
        fs::rename(unfinished, file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_remembered_until_the_host_starts_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = Some(directory.path().join("deep/kvm.json"));
        let mut failures = KvmFailures::read(file.clone(), "boot-1");
        assert!(!failures.kvm_fails("qemu"));
        failures.remember("qemu").expect("written");
        assert!(KvmFailures::read(file.clone(), "boot-1").kvm_fails("qemu"));
        assert!(!KvmFailures::read(file.clone(), "boot-1").kvm_fails("another"));
        assert!(!KvmFailures::read(file.clone(), "boot-2").kvm_fails("qemu"));
        for number in 0..100 {
            failures
                .remember(&format!("qemu-{number}"))
                .expect("written");
        }
        assert_eq!(
            KvmFailures::read(file.clone(), "boot-1")
                .failures
                .kvm_fails
                .len(),
            KVM_FAILURES_MAX
        );
        fs::write(file.as_ref().expect("a path"), "{").expect("written");
        assert!(!KvmFailures::read(file, "boot-1").kvm_fails("qemu-99"));
    }
}
