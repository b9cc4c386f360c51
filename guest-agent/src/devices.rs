//! The device files of a GPU, which its driver does not make (on other systems `nvidia-modprobe` does), and a hold on them: when the
//! last file is closed, the driver shuts the GPU down, and with it the session that its evidence is for.
//!
//! Unverified on hardware: tests have a directory of their own in the place of each of the kernel's.

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Where the kernel shows devices, and how one gets its file.
pub(crate) struct Kernel {
    pci: PathBuf,
    numbers: PathBuf,
    files: PathBuf,
    make: fn(&Path, (u64, u64)) -> io::Result<()>,
}

/// Files that stay open for as long as the guest lives.
#[derive(Debug)]
pub(crate) struct Held {
    _open: [File; 2],
}

/// Why a guest of the profile `h100` has no GPU to ask. The machine is at fault.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum DeviceError {
    #[error("{doing} {path}: {error}")]
    Io {
        doing: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    #[error("the PCI bus has {0} GPUs of NVIDIA's; one is served")]
    Count(usize),
    #[error("the driver nvidia-uvm has no number in /proc/devices: it is not loaded")]
    NotLoaded,
}

impl Default for Kernel {
    fn default() -> Self {
        Kernel {
            pci: "/sys/bus/pci/devices".into(),
            numbers: "/proc/devices".into(),
            files: "/dev".into(),
            make: |path, (major, minor)| {
                // Whoever is in this guest is the agent or what it started: the worker has a user of its own.
                let mode = Mode::from_bits_truncate(0o666);
                mknod(path, SFlag::S_IFCHR, mode, makedev(major, minor))?;
                // What the process's mask took away.
                fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
            },
        }
    }
}

impl Kernel {
    /// Sees to it that there is one GPU, makes its device files, and opens the two that keep it awake.
    pub(crate) fn hold(&self) -> Result<Held, DeviceError> {
        match self.gpus()? {
            1 => {}
            other => return Err(DeviceError::Count(other)),
        }
        let numbers = read(&self.numbers)?;
        let uvm = number(&numbers, "nvidia-uvm").ok_or(DeviceError::NotLoaded)?;
        let files = [
            ("nvidiactl", (DRIVER, CONTROL)),
            ("nvidia0", (DRIVER, 0)),
            ("nvidia-uvm", (uvm, 0)),
        ];
        for (name, number) in files {
            let path = self.files.join(name);
            (self.make)(&path, number).map_err(failed("making", &path))?;
        }
        let open = |name: &str| {
            let path = self.files.join(name);
            let file = File::options().read(true).write(true).open(&path);
            file.map_err(failed("opening", &path))
        };
        Ok(Held {
            _open: [open("nvidiactl")?, open("nvidia0")?],
        })
    }

    /// How many the bus has, whether or not a driver took them.
    fn gpus(&self) -> Result<usize, DeviceError> {
        let listing = failed("listing", &self.pci);
        let devices = fs::read_dir(&self.pci).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut found = 0;
        for device in devices.map_err(listing)? {
            let is = |file: &str, begins: &str| {
                read(&device.path().join(file)).map(|text| text.starts_with(begins))
            };
            // Class 03 is a display controller, as which every GPU counts, with or without a screen; NVSwitches are bridges.
            found += usize::from(is("vendor", "0x10de")? && is("class", "0x03")?);
        }
        Ok(found)
    }
}

fn read(path: &Path) -> Result<String, DeviceError> {
    fs::read_to_string(path).map_err(failed("reading", path))
}

fn failed(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> DeviceError + use<> {
    let path = path.to_owned();
    move |error| DeviceError::Io {
        doing,
        path: path.clone(),
        error,
    }
}

/// The number of a driver of character devices, from a text as `/proc/devices` has.
fn number(devices: &str, driver: &str) -> Option<u64> {
    let characters = { devices.lines() }.take_while(|line| !line.starts_with("Block"));
    let mut pairs = characters.filter_map(|line| line.trim_start().split_once(' '));
    pairs.find(|(_, name)| *name == driver)?.0.parse().ok()
}

// kernel-open/common/inc/nv.h: NV_MAJOR_DEVICE_NUMBER, NV_CONTROL_DEVICE_MINOR.
const DRIVER: u64 = 195;
const CONTROL: u64 = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A machine with these devices on its PCI bus: vendor and class.
    fn machine(devices: &[(&str, &str)], numbers: &str) -> (TempDir, Kernel) {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (at, (vendor, class)) in devices.iter().enumerate() {
            let device = path("pci").join(format!("0000:00:{at:02x}.0"));
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("vendor"), format!("{vendor}\n")).unwrap();
            fs::write(device.join("class"), format!("{class}\n")).unwrap();
        }
        fs::create_dir(path("dev")).unwrap();
        fs::write(path("numbers"), numbers).unwrap();
        let kernel = Kernel {
            pci: path("pci"),
            numbers: path("numbers"),
            files: path("dev"),
            make: |path, number| fs::write(path, format!("{number:?}")),
        };
        (directory, kernel)
    }

    const NUMBERS: &str = "Character devices:\n  1 mem\n195 nvidia\n195 nvidiactl\n510 nvidia-uvm\n\nBlock devices:\n  8 nvidia-uvm\n";
    const GPU: (&str, &str) = ("0x10de", "0x030200");
    const DISK: (&str, &str) = ("0x1af4", "0x010000");

    #[test]
    fn one_gpu_gets_its_files_and_is_held_open() {
        let (directory, kernel) = machine(&[DISK, GPU, ("0x10de", "0x068000")], NUMBERS);
        let held = kernel.hold().unwrap();
        let made = |name: &str| fs::read_to_string(directory.path().join("dev").join(name));
        assert_eq!(made("nvidiactl").unwrap(), "(195, 255)");
        assert_eq!(made("nvidia0").unwrap(), "(195, 0)");
        assert_eq!(made("nvidia-uvm").unwrap(), "(510, 0)");
        let open = || {
            let files = fs::read_dir("/proc/self/fd").unwrap().flatten();
            let targets = files.filter_map(|file| fs::read_link(file.path()).ok());
            let ours = targets.filter(|target| target.starts_with(directory.path()));
            let mut names: Vec<_> = ours
                .filter_map(|path| Some(path.file_name()?.to_owned()))
                .collect();
            names.sort();
            names
        };
        assert_eq!(open(), ["nvidia0", "nvidiactl"]);
        drop(held);
        assert!(open().is_empty());
    }

    #[test]
    fn a_machine_without_exactly_one_or_without_its_driver_is_refused_by_name() {
        let refused = |devices: &[(&str, &str)], numbers| {
            let (_directory, kernel) = machine(devices, numbers);
            kernel.hold().map(drop).unwrap_err().to_string()
        };
        assert!(refused(&[DISK], NUMBERS).contains("has 0 GPUs"));
        assert!(refused(&[GPU, DISK, GPU], NUMBERS).contains("has 2 GPUs"));
        let unloaded = "Character devices:\n195 nvidia\n\nBlock devices:\n  8 nvidia-uvm\n";
        assert!(refused(&[GPU], unloaded).contains("nvidia-uvm has no number"));
        assert!(refused(&[GPU], "x nvidia-uvm\n").contains("nvidia-uvm has no number"));
        for name in ["nvidiactl", "nvidia0", "nvidia-uvm"] {
            let (directory, kernel) = machine(&[GPU], NUMBERS);
            let file = directory.path().join("dev").join(name);
            fs::create_dir(file).unwrap();
            let taken = kernel.hold().map(drop).unwrap_err().to_string();
            assert!(taken.contains("making") && taken.contains(name), "{taken}");
        }
        let (_directory, kernel) = machine(&[GPU], NUMBERS);
        let make = |path: &Path, _| match path.ends_with("nvidia0") {
            true => Ok(()),
            false => fs::write(path, ""),
        };
        let asleep = Kernel { make, ..kernel }.hold().map(drop).unwrap_err();
        let asleep = asleep.to_string();
        assert!(
            asleep.contains("opening") && asleep.contains("nvidia0"),
            "{asleep}"
        );
    }
}
