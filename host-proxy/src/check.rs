//! What a host lacks for a TDX guest: one item after another, each with what was seen, how to mend it, and who says so.
//!
//! Looks and changes nothing. No check here proves that a trust domain will start: the last word has the TDX module, and
//! the path that launches one has not been run on TDX hardware by us.

mod qemu;

use crate::launch::{Tool, opens};
use crate::limits::{GUEST_CONNECT, HOST_FILE_BYTES_MAX, HOST_MEMORY_MIB};
use serde::Serialize;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A host, seen through its files.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

/// One thing that a TDX guest needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its name.
    pub item: &'static str,
    /// Whether the host has it.
    pub ok: bool,
    /// What was seen.
    pub seen: String,
    /// What to do when it is lacking.
    pub fix: &'static str,
    /// Who says so.
    pub source: &'static str,
}

/// What [`Host::examine`] cannot know.
pub const CAVEAT: &str = "No check proves that a trust domain will start; only starting one does. \
                          The TDX launch path was not run on TDX hardware by us.";

/// The port of Intel's quoting service that QEMU is told (`measurements::qemu_arguments`).
const QUOTING_PORT: u32 = 4050;

impl Host {
    /// The host that this runs on.
    pub fn this() -> Self {
        Self::at("/")
    }

    /// A host whose `/proc`, `/sys`, `/dev` and `/etc` lie below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Host { root: root.into() }
    }

    /// Everything that a TDX guest with this much memory needs, in the order in which to mend it.
    pub async fn examine(&self, qemu: &Tool, memory_mib: u64) -> Vec<Item> {
        let mut items = vec![
            self.processor(),
            self.kernel(),
            self.kvm_intel(),
            self.device(
                "kvm",
                "/dev/kvm",
                KVM_FIX,
                "Linux, Documentation/virt/kvm/api.rst",
            ),
            self.device(
                "vhost-vsock",
                "/dev/vhost-vsock",
                VSOCK_FIX,
                "Linux, drivers/vhost/Kconfig (VHOST_VSOCK)",
            ),
            self.sgx(),
            self.quoting_service().await,
        ];
        items.extend(qemu::examine(qemu).await);
        items.push(self.memory(memory_mib));
        items
    }

    /// Whether it is worth trying to start a trust domain.
    pub(crate) fn seems_able(&self) -> bool {
        self.processor().ok && self.kvm_intel().ok && opens(&self.path("/dev/kvm"))
    }

    fn processor(&self) -> Item {
        let cpuinfo = self.read("/proc/cpuinfo");
        let flags = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("flags"))
            .unwrap_or_default();
        let ok = flags.split_whitespace().any(|flag| flag == TDX_FLAG);
        Item {
            item: "processor",
            ok,
            seen: match ok {
                true => format!("/proc/cpuinfo has the flag {TDX_FLAG}"),
                false => format!("/proc/cpuinfo lacks the flag {TDX_FLAG}"),
            },
            fix: "take a Xeon with TDX (5th generation or later) and switch on TME-MT, SGX and TDX in its BIOS; \
                  `dmesg | grep -i tdx` says what the kernel found",
            source: "Linux, Documentation/arch/x86/tdx.rst, \"TDX boot-time detection\"",
        }
    }

    fn kernel(&self) -> Item {
        let release = self.read("/proc/sys/kernel/osrelease");
        let release = release.trim();
        let version = version(release);
        // A distribution may have brought TDX to an older kernel; its parameter tells.
        let brought = self.path(TDX_PARAMETER).exists();
        Item {
            item: "kernel",
            ok: version >= Some((6, 16)) || brought,
            seen: match (version, brought) {
                (None, _) => "the kernel does not say its version".into(),
                (Some(_), true) => format!("{} has {TDX_PARAMETER}", printable(release)),
                (Some(_), false) => printable(release),
            },
            fix: "run Linux 6.16 or later with CONFIG_INTEL_TDX_HOST and CONFIG_KVM_INTEL_TDX",
            source: "Linux 6.16, Documentation/virt/kvm/x86/intel-tdx.rst",
        }
    }

    fn kvm_intel(&self) -> Item {
        let value = self.read(TDX_PARAMETER);
        let value = value.trim();
        Item {
            item: "kvm_intel",
            ok: matches!(value, "Y" | "1"),
            seen: match value {
                "" => format!("no {TDX_PARAMETER}"),
                value => format!("{TDX_PARAMETER} is {}", printable(value)),
            },
            fix: "write `options kvm_intel tdx=1` into a file in /etc/modprobe.d and load kvm_intel again",
            source: "Linux, arch/x86/kvm/vmx/tdx.c (module parameter tdx)",
        }
    }

    fn device(
        &self,
        item: &'static str,
        device: &str,
        fix: &'static str,
        source: &'static str,
    ) -> Item {
        let path = self.path(device);
        let ok = opens(&path);
        Item {
            item,
            ok,
            seen: match (ok, path.exists()) {
                (true, _) => format!("{device} opens"),
                (false, true) => format!("{device} is there and may not be opened by this user"),
                (false, false) => format!("no {device}"),
            },
            fix,
            source,
        }
    }

    fn sgx(&self) -> Item {
        let devices = ["/dev/sgx_enclave", "/dev/sgx_provision"];
        let missing: Vec<_> = devices
            .into_iter()
            .filter(|device| !self.path(device).exists())
            .collect();
        Item {
            item: "sgx",
            ok: missing.is_empty(),
            seen: match missing.is_empty() {
                true => format!("{} are there", devices.join(" and ")),
                false => format!("no {}", missing.join(", no ")),
            },
            fix: "switch on SGX in the BIOS: the enclave that signs quotes needs it",
            source: "Linux, Documentation/arch/x86/sgx.rst",
        }
    }

    /// Intel's service that turns reports into quotes. QEMU reaches it by vsock, so its Unix socket alone does not help.
    async fn quoting_service(&self) -> Item {
        let answers = self.root == Path::new("/") && quoting_service_answers().await;
        let configured = self.read(QGS_CONFIGURATION).lines().any(|line| {
            let (key, value) = line.split_once('=').unwrap_or_default();
            key.trim() == "port" && value.trim() == QUOTING_PORT.to_string()
        });
        let runs = self.runs("qgs");
        let socket = self.path(QGS_SOCKET).exists();
        Item {
            item: "quoting service",
            ok: answers || (configured && runs),
            seen: if answers {
                format!("vsock port {QUOTING_PORT} answers")
            } else if configured && runs {
                format!("qgs runs, and {QGS_CONFIGURATION} has port {QUOTING_PORT}")
            } else if socket {
                format!(
                    "{QGS_SOCKET} is there, and nothing says that vsock port {QUOTING_PORT} is served"
                )
            } else {
                format!(
                    "no {QGS_SOCKET}, and nothing says that vsock port {QUOTING_PORT} is served"
                )
            },
            fix: "install Intel's tdx-qgs, write `port = 4050` into /etc/qgs.conf and restart qgsd; it also needs a PCCS",
            source: "Intel DCAP, QuoteGeneration/quote_wrapper/qgs; QEMU, docs/system/i386/tdx.rst",
        }
    }

    fn memory(&self, guest_mib: u64) -> Item {
        let meminfo = self.read("/proc/meminfo");
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        let available_mib = kib.unwrap_or(0) / 1024;
        let needed_mib = guest_mib.saturating_add(HOST_MEMORY_MIB);
        Item {
            item: "memory",
            ok: available_mib >= needed_mib,
            seen: format!(
                "{available_mib} MiB are available; a guest of {guest_mib} MiB needs {needed_mib}"
            ),
            fix: "free memory, or launch an image for a smaller machine",
            source: "Linux, Documentation/arch/x86/tdx.rst, \"TDX module initialization\" (PAMT)",
        }
    }

    /// Whether a process of this name runs.
    fn runs(&self, name: &str) -> bool {
        let Ok(entries) = fs::read_dir(self.path("/proc")) else {
            return false;
        };
        let processes = entries.flatten().map(|entry| entry.path()).filter(|path| {
            let number = path.file_name().and_then(|name| name.to_str());
            number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        });
        processes
            .into_iter()
            .any(|process| text(&process.join("comm")).trim() == name)
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    fn read(&self, absolute: &str) -> String {
        text(&self.path(absolute))
    }
}

async fn quoting_service_answers() -> bool {
    // 1 is this host itself, through the kernel's loopback (vsock(7), VMADDR_CID_LOCAL).
    let address = tokio_vsock::VsockAddr::new(1, QUOTING_PORT);
    let connecting = tokio_vsock::VsockStream::connect(address);
    matches!(
        tokio::time::timeout(GUEST_CONNECT, connecting).await,
        Ok(Ok(_))
    )
}

/// A file's text, or nothing: what cannot be read is lacking.
fn text(path: &Path) -> String {
    let mut text = String::new();
    let file = fs::File::open(path);
    match file.and_then(|file| file.take(HOST_FILE_BYTES_MAX).read_to_string(&mut text)) {
        Ok(_) => text,
        Err(_) => String::new(),
    }
}

/// The first two numbers of a version.
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| matches!(c, ' '..='~'))
        .take(100)
        .collect()
}

const TDX_FLAG: &str = "tdx_host_platform";
const TDX_PARAMETER: &str = "/sys/module/kvm_intel/parameters/tdx";
const QGS_CONFIGURATION: &str = "/etc/qgs.conf";
const QGS_SOCKET: &str = "/var/run/tdx-qgs/qgs.socket";
const KVM_FIX: &str = "switch on VT-x in the BIOS, load kvm_intel, and give this user /dev/kvm (often: the group kvm)";
const VSOCK_FIX: &str = "load vhost_vsock and give this user /dev/vhost-vsock";

#[cfg(test)]
mod tests;
