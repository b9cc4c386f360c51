//! What a host lacks for a TDX guest: item by item, with what was found, how to fix it, and the document that says so.
//!
//! Changes nothing. No check here proves that a trust domain will start: the TDX module decides, and launching one has not
//! been tested on TDX hardware.

mod qemu;

use crate::limits::{GUEST_CONNECT, HOST_FILE_BYTES_MAX, HOST_MEMORY_MIB};
use crate::tools::Tool;
use serde::Serialize;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A host, seen through its files.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

/// One requirement of a TDX guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    pub item: &'static str,
    pub ok: bool,
    /// What was found.
    pub seen: String,
    pub fix: &'static str,
    /// The document that says so.
    pub source: &'static str,
}

/// What [`Host::check`] cannot know.
pub const CAVEAT: &str = "No check proves that a trust domain will start; only starting one does. \
                          Launching one has not been tested on TDX hardware.";

/// The port of Intel's quoting service in QEMU's arguments (`predict::qemu::qemu_arguments`).
const QUOTING_PORT: u32 = 4050;

/// Whether this user may open a device for reading and writing.
pub(crate) fn can_open(device: &Path) -> bool {
    let opened = fs::File::options().read(true).write(true).open(device);
    opened.is_ok()
}

impl Host {
    /// The host that this runs on.
    pub fn this() -> Self {
        Self::at("/")
    }

    /// A host whose `/proc`, `/sys`, `/dev` and `/etc` lie below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Host { root: root.into() }
    }

    /// Everything that a TDX guest with this much memory needs, in the order in which to fix it.
    pub async fn check(&self, qemu: &Tool, memory_mib: u64) -> Vec<Item> {
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
        items.extend(qemu::check(qemu).await);
        items.push(self.memory(memory_mib));
        items
    }

    /// Whether starting a trust domain is worth trying.
    pub(crate) fn seems_able(&self) -> bool {
        self.processor().ok && self.kvm_intel().ok && can_open(&self.path("/dev/kvm"))
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
            fix: "use a Xeon with TDX (5th generation or later) and enable TME-MT, SGX and TDX in its BIOS; \
                  `dmesg | grep -i tdx` shows what the kernel found",
            source: "Linux, Documentation/arch/x86/tdx.rst, \"TDX boot-time detection\"",
        }
    }

    fn kernel(&self) -> Item {
        let release = self.read("/proc/sys/kernel/osrelease");
        let release = release.trim();
        let version = version(release);
        // A distribution may have backported TDX to an older kernel; its parameter tells.
        let backported = self.path(TDX_PARAMETER).exists();
        Item {
            item: "kernel",
            ok: version >= Some((6, 16)) || backported,
            seen: match (version, backported) {
                (None, _) => "the kernel's version is unknown".into(),
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
        let ok = can_open(&path);
        Item {
            item,
            ok,
            seen: match (ok, path.exists()) {
                (true, _) => format!("{device} opens"),
                (false, true) => format!("{device} exists, but this user may not open it"),
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
                true => format!("{} exist", devices.join(" and ")),
                false => format!("no {}", missing.join(", no ")),
            },
            fix: "enable SGX in the BIOS: the enclave that signs quotes needs it",
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
                    "{QGS_SOCKET} exists, but vsock port {QUOTING_PORT} is not served as far as can be seen"
                )
            } else {
                format!(
                    "no {QGS_SOCKET}, and vsock port {QUOTING_PORT} is not served as far as can be seen"
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

/// A file's text; empty if it cannot be read.
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
const KVM_FIX: &str = "enable VT-x in the BIOS, load kvm_intel, and give this user access to /dev/kvm (often: the group kvm)";
const VSOCK_FIX: &str = "load vhost_vsock and give this user access to /dev/vhost-vsock";

#[cfg(test)]
mod tests;
