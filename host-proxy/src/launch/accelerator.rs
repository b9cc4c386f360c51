//! What runs the guest's instructions, and what is remembered about it.
//!
//! An image that needs TDX gets TDX or nothing (SECURITY.md 5). A simulated one gets KVM where KVM is seen to boot it, else
//! TCG: a `/dev/kvm` that opens may still be of no use, for instance inside another virtual machine.

use crate::limits::KVM_FAILURES_MAX;
use measurements::{Accelerator, Profile};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What an operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// TDX for an image that needs it; for a simulated one KVM if it works, else TCG.
    Auto,
    /// A trust domain.
    Tdx,
    /// The host's KVM, without TDX. For simulated images only.
    Kvm,
    /// QEMU's own translator. For simulated images only.
    Tcg,
}

/// A choice that an image does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAccelerator {
    /// It would run without protection.
    #[error(
        "an image of profile {0:?} runs as a TDX trust domain or not at all; `host-proxy check` says what this host lacks"
    )]
    NeedsTdx(Profile),
    /// It would say that it is simulated, and it would not be.
    #[error("an image of profile Sim has a simulated TDX module; it cannot run as a trust domain")]
    Simulated,
}

/// What to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) first: Accelerator,
    /// What to start over with if the first does not bring the guest to its first program.
    pub(super) fallback: Option<Accelerator>,
}

/// What a choice means for an image on this host.
pub(super) fn plan(
    choice: Choice,
    profile: Profile,
    tdx: impl FnOnce() -> bool,
    kvm: impl FnOnce() -> bool,
) -> Result<Plan, NoAccelerator> {
    let only = |first| Plan {
        first,
        fallback: None,
    };
    match (choice, profile) {
        (Choice::Tdx, Profile::Sim) => Err(NoAccelerator::Simulated),
        (Choice::Auto, Profile::Sim) if kvm() => Ok(Plan {
            first: Accelerator::Kvm,
            fallback: Some(Accelerator::Tcg),
        }),
        (Choice::Auto | Choice::Tcg, Profile::Sim) => Ok(only(Accelerator::Tcg)),
        (Choice::Kvm, Profile::Sim) => Ok(only(Accelerator::Kvm)),
        (Choice::Tdx, _) => Ok(only(Accelerator::Tdx)),
        (Choice::Auto, _) if tdx() => Ok(only(Accelerator::Tdx)),
        (_, profile) => Err(NoAccelerator::NeedsTdx(profile)),
    }
}

/// One word for people and machines.
pub fn word(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Tcg => "tcg",
        Accelerator::Kvm => "kvm",
        Accelerator::Tdx => "tdx",
    }
}

/// Whether this program may use KVM, as far as opening it says.
pub(crate) fn opens(device: &Path) -> bool {
    fs::File::options()
        .read(true)
        .write(true)
        .open(device)
        .is_ok()
}

/// Which programs could not boot under KVM, since this host was started. Only a saving of time: without it, or with a
/// wrong one, a launch takes the longer way or the slower machine.
#[derive(Debug)]
pub(super) struct Memory {
    file: Option<PathBuf>,
    known: Known,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// The host's `boot_id`: another kernel may do better.
    boot: String,
    kvm_fails: Vec<String>,
}

/// A file longer than this was not written by us.
const MEMORY_BYTES_MAX: u64 = 256 * 1024;

impl Memory {
    /// What the user's cache directory holds.
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
        let small = |path: &PathBuf| {
            path.metadata()
                .is_ok_and(|found| found.len() <= MEMORY_BYTES_MAX)
        };
        let bytes = file
            .as_ref()
            .filter(|path| small(path))
            .and_then(|path| fs::read(path).ok());
        let known = bytes.and_then(|bytes| serde_json::from_slice::<Known>(&bytes).ok());
        let fresh = Known {
            boot: boot.to_owned(),
            ..Known::default()
        };
        Memory {
            file,
            known: known.filter(|known| known.boot == boot).unwrap_or(fresh),
        }
    }

    /// Whether `program` is known to fail under KVM.
    pub(super) fn kvm_fails(&self, program: &str) -> bool {
        self.known.kvm_fails.iter().any(|failed| failed == program)
    }

    /// Remembers that `program` fails under KVM on this host.
    pub(super) fn remember(&mut self, program: &str) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let failures = &mut self.known.kvm_fails;
        failures.retain(|failed| failed != program);
        failures.push(program.to_owned());
        failures.drain(..failures.len().saturating_sub(KVM_FAILURES_MAX));
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        let unfinished = file.with_extension(format!("{}.new", std::process::id()));
        fs::write(&unfinished, serde_json::to_vec(&self.known)?)?;
        fs::rename(unfinished, file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_falls_back_to_less_than_its_profile() {
        let check = |choice, profile, tdx: bool, kvm: bool, expected| {
            let planned = plan(choice, profile, || tdx, || kvm);
            assert_eq!(
                planned, expected,
                "{choice:?} {profile:?} tdx {tdx} kvm {kvm}"
            );
        };
        use Accelerator::{Kvm, Tcg, Tdx};
        let then = |first, fallback| Ok(Plan { first, fallback });
        for tdx in [false, true] {
            check(Choice::Auto, Profile::Sim, tdx, true, then(Kvm, Some(Tcg)));
            check(Choice::Auto, Profile::Sim, tdx, false, then(Tcg, None));
            check(
                Choice::Tdx,
                Profile::Sim,
                tdx,
                true,
                Err(NoAccelerator::Simulated),
            );
        }
        check(Choice::Tcg, Profile::Sim, false, true, then(Tcg, None));
        check(Choice::Kvm, Profile::Sim, false, false, then(Kvm, None));
        for profile in [Profile::Cpu, Profile::H100, Profile::Dev] {
            let refused = Err(NoAccelerator::NeedsTdx(profile));
            check(Choice::Auto, profile, false, true, refused);
            check(Choice::Kvm, profile, true, true, refused);
            check(Choice::Tcg, profile, true, true, refused);
            check(Choice::Auto, profile, true, true, then(Tdx, None));
            check(Choice::Tdx, profile, false, false, then(Tdx, None));
        }
    }

    #[test]
    fn what_failed_is_remembered_until_the_host_starts_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = Some(directory.path().join("deep/kvm.json"));
        let mut memory = Memory::read(file.clone(), "boot-1");
        assert!(!memory.kvm_fails("qemu"));
        memory.remember("qemu").expect("written");
        assert!(Memory::read(file.clone(), "boot-1").kvm_fails("qemu"));
        assert!(!Memory::read(file.clone(), "boot-1").kvm_fails("another"));
        assert!(!Memory::read(file.clone(), "boot-2").kvm_fails("qemu"));
        for number in 0..100 {
            memory.remember(&format!("qemu-{number}")).expect("written");
        }
        assert_eq!(
            Memory::read(file.clone(), "boot-1").known.kvm_fails.len(),
            KVM_FAILURES_MAX
        );
        fs::write(file.as_ref().expect("a path"), "{").expect("written");
        assert!(!Memory::read(file, "boot-1").kvm_fails("qemu-99"));
    }
}
