//! What QEMU was given, as its launcher wrote it (`launched.json`).

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    time::Instant,
};

use serde::Deserialize;

use crate::limits::{LAUNCHED_BYTES_MAX, LAUNCHED_WAIT, MEMORY_MIB_MAX};

/// A machine that was started. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launched {
    /// The version of the format: 1.
    pub version: u32,
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Virtual processors.
    pub vcpus: u32,
    /// The firmware file.
    pub firmware: PathBuf,
    /// The kernel file.
    pub kernel: PathBuf,
    /// The initrd file.
    pub initrd: PathBuf,
    /// The command line, as QEMU got it.
    pub cmdline: String,
    /// The root image. The command line binds it, so nothing here reads it.
    pub root: PathBuf,
    /// swtpm's log of the machine's TPM.
    pub tpm_log: PathBuf,
}

/// What runs a simulated guest's instructions. TDX is absent: a real trust domain has real registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// QEMU's emulation.
    Tcg,
    /// The host's KVM.
    Kvm,
}

/// Why there is no description of a machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum LaunchedError {
    #[error("cannot read {}: {kind}", path.display())]
    Read { path: PathBuf, kind: ErrorKind },
    #[error("launched.json has more than {LAUNCHED_BYTES_MAX} bytes")]
    TooLong,
    #[error("launched.json: {0}")]
    Json(String),
    #[error("launched.json: {field} is out of range")]
    Value { field: &'static str },
}

impl Launched {
    /// Reads a description.
    pub fn from_json(json: &[u8]) -> Result<Launched, LaunchedError> {
        if json.len() > LAUNCHED_BYTES_MAX {
            return Err(LaunchedError::TooLong);
        }
        let launched: Launched =
            serde_json::from_slice(json).map_err(|error| LaunchedError::Json(error.to_string()))?;
        let paths = [
            ("firmware", &launched.firmware),
            ("kernel", &launched.kernel),
            ("initrd", &launched.initrd),
            ("root", &launched.root),
            ("tpm_log", &launched.tpm_log),
        ];
        let relative = paths.iter().find(|(_, path)| !path.is_absolute());
        let field = if launched.version != 1 {
            "version"
        } else if !(1..=MEMORY_MIB_MAX).contains(&launched.memory_mib) {
            "memory_mib"
        } else if launched.vcpus == 0 {
            "vcpus"
        } else if launched.cmdline.contains('\0') {
            "cmdline"
        } else if let Some((field, _)) = relative {
            field
        } else {
            return Ok(launched);
        };
        Err(LaunchedError::Value { field })
    }

    /// Reads a description from a file.
    pub fn read(path: &Path) -> Result<Launched, LaunchedError> {
        let mut json = Vec::new();
        File::open(path)
            .and_then(|file| {
                file.take(LAUNCHED_BYTES_MAX as u64 + 1)
                    .read_to_end(&mut json)
            })
            .map_err(|error| LaunchedError::Read {
                path: path.into(),
                kind: error.kind(),
            })?;
        Launched::from_json(&json)
    }

    /// The same for a file that may not be written yet; waits at most [`LAUNCHED_WAIT`].
    pub(crate) fn wait(path: &Path) -> Result<Launched, LaunchedError> {
        let start = Instant::now();
        loop {
            match Launched::read(path) {
                Err(LaunchedError::Read {
                    kind: ErrorKind::NotFound,
                    ..
                }) if start.elapsed() < LAUNCHED_WAIT => {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
                result => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn good() -> Value {
        json!({
            "version": 1, "accelerator": "tcg", "memory_mib": 2048, "vcpus": 2,
            "firmware": "/i/firmware.fd", "kernel": "/i/kernel", "initrd": "/i/initrd", "cmdline": "panic=-1",
            "root": "/i/root.img", "tpm_log": "/run/tpm.log",
        })
    }

    fn read(value: &Value) -> Result<Launched, LaunchedError> {
        Launched::from_json(value.to_string().as_bytes())
    }

    #[test]
    fn a_description_is_read() {
        let launched = read(&good()).unwrap();
        assert_eq!(launched.memory_mib, 2048);
        assert_eq!(launched.tpm_log, Path::new("/run/tpm.log"));
    }

    #[test]
    fn values_that_no_machine_has_are_refused() {
        for (field, bad) in [
            ("version", json!(2)),
            ("memory_mib", json!(0)),
            ("memory_mib", json!(MEMORY_MIB_MAX + 1)),
            ("vcpus", json!(0)),
            ("firmware", json!("firmware.fd")),
            ("tpm_log", json!("")),
            ("cmdline", json!("a\0b")),
        ] {
            let mut value = good();
            value[field] = bad;
            assert_eq!(read(&value), Err(LaunchedError::Value { field }));
        }
    }

    #[test]
    fn fields_are_these_and_no_others() {
        let names: Vec<String> = good().as_object().unwrap().keys().cloned().collect();
        for name in names {
            let mut value = good();
            value.as_object_mut().unwrap().remove(&name);
            assert!(
                matches!(read(&value), Err(LaunchedError::Json(_))),
                "{name}"
            );
        }
        for (field, bad) in [
            ("mrtd", json!("00")),
            ("accelerator", json!("tdx")),
            ("memory_mib", json!(-1)),
        ] {
            let mut value = good();
            value[field] = bad;
            assert!(
                matches!(read(&value), Err(LaunchedError::Json(_))),
                "{field}"
            );
        }
    }

    #[test]
    fn a_long_description_is_refused_unread() {
        let mut value = good();
        value["cmdline"] = "x".repeat(LAUNCHED_BYTES_MAX).into();
        assert_eq!(read(&value), Err(LaunchedError::TooLong));
    }
}
