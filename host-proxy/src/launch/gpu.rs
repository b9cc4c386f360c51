//! The GPU that is passed to a guest: which one, and whether this host can pass it. All of it is unverified on hardware.
//!
//! What is asked of sysfs is what QEMU and the kernel would otherwise refuse with a number (Linux, Documentation/driver-api/vfio.rst,
//! "VFIO device cdev"; QEMU, docs/devel/vfio-iommufd.rst). Whether the GPU is in confidential mode is not visible here; a guest whose GPU is
//! not stops by itself.

use attest::Profile;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Which GPU of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuChoice {
    /// The one that is bound to vfio-pci.
    Auto,
    /// The one at this address, as `lspci -D` prints it.
    At(String),
}

/// A GPU that can be passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gpu {
    /// `0000:17:00.0`.
    pub(super) address: String,
    /// What QEMU opens for it.
    pub(super) devices: [PathBuf; 2],
}

/// Why none is passed. The operator is to do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    #[error("an image of the profile h100 needs a GPU: name it with --gpu, or say --gpu auto")]
    Needed,
    #[error("--gpu is for images of the profile h100; this image is of profile {0:?}")]
    NotFor(Profile),
    #[error("this host has no PCI device {0}; `lspci -Dnn -d 10de:` lists NVIDIA's")]
    Absent(String),
    #[error("no GPU of the Hopper family is bound to vfio-pci: bind one (docs/first-boot-h100.md)")]
    NoneBound,
    #[error(
        "several GPUs are bound to vfio-pci, and a guest has one: name it with --gpu, out of {}", .0.join(", ")
    )]
    Several(Vec<String>),
    #[error(
        "{address} is vendor {vendor}, device {device}, class {class}; a GPU of the Hopper family is 0x10de, 0x23.., 0x0302.."
    )]
    NotHopper {
        address: String,
        vendor: String,
        device: String,
        class: String,
    },
    #[error(
        "{address} is bound to {}: bind it to vfio-pci (docs/first-boot-h100.md)", .driver.as_deref().unwrap_or("no driver")
    )]
    Driver {
        address: String,
        driver: Option<String>,
    },
    #[error(
        "{0} is in no IOMMU group: enable VT-d in the BIOS, and boot the host with intel_iommu=on"
    )]
    NoGroup(String),
    #[error(
        "{address} shares its IOMMU group with {other}, which is bound to {}: bind it to vfio-pci, too, or to nothing", .driver
    )]
    SharedGroup {
        address: String,
        other: String,
        driver: String,
    },
    #[error(
        "{0} has no device file of its own: the host's kernel needs CONFIG_VFIO_DEVICE_CDEV and CONFIG_IOMMUFD"
    )]
    NoDeviceFile(String),
    #[error("{path} cannot be opened ({kind}): give this user access to it")]
    Closed { path: PathBuf, kind: io::ErrorKind },
    #[error("sysfs cannot be read: {path}: {kind}")]
    Sysfs { path: PathBuf, kind: io::ErrorKind },
}

impl std::str::FromStr for GpuChoice {
    type Err = String;

    /// `auto`, or an address with its domain: what QEMU is given is this text, and no option of its own.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split([':', '.']).collect();
        let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        let rejoined = match parts[..] {
            [a, b, c, d] => format!("{a}:{b}:{c}.{d}") == text,
            _ => false,
        };
        match text {
            "auto" => Ok(GpuChoice::Auto),
            _ if lengths == [4, 2, 2, 1] && rejoined && parts.iter().all(|part| hex(part)) => {
                Ok(GpuChoice::At(text.to_owned()))
            }
            _ => Err(format!(
                "`{text}` is not `auto` or an address such as 0000:17:00.0"
            )),
        }
    }
}

/// The GPU for an image of this profile on the host below `root`, or that it has none.
pub(super) fn find(
    choice: Option<&GpuChoice>,
    profile: Profile,
    root: &Path,
) -> Result<Option<Gpu>, GpuError> {
    let host = Pci { root };
    match (choice, profile) {
        (None, Profile::H100) => Err(GpuError::Needed),
        (None, _) => Ok(None),
        (Some(GpuChoice::At(address)), Profile::H100) => host.gpu(address).map(Some),
        (Some(GpuChoice::Auto), Profile::H100) => host.gpu(&host.only_bound()?).map(Some),
        (Some(_), profile) => Err(GpuError::NotFor(profile)),
    }
}

struct Pci<'a> {
    root: &'a Path,
}

impl Pci<'_> {
    fn gpu(&self, address: &str) -> Result<Gpu, GpuError> {
        let address = address.to_owned();
        let device = self.device(&address);
        if !device.is_dir() {
            return Err(GpuError::Absent(address));
        }
        if !self.is_hopper(&address) {
            let [vendor, device, class] =
                ["vendor", "device", "class"].map(|name| self.says(&address, name));
            return Err(GpuError::NotHopper {
                address,
                vendor,
                device,
                class,
            });
        }
        match self.driver(&address) {
            Some(driver) if driver == VFIO => {}
            driver => return Err(GpuError::Driver { address, driver }),
        }
        let group = device.join("iommu_group/devices");
        let Ok(others) = names(&group) else {
            return Err(GpuError::NoGroup(address));
        };
        for other in others {
            // A bridge keeps its own driver, and moves no data of its own.
            let bridge = self.says(&other, "class").starts_with("0x0604");
            match self.driver(&other) {
                Some(driver) if driver != VFIO && !bridge => {
                    return Err(GpuError::SharedGroup {
                        address,
                        other,
                        driver,
                    });
                }
                _ => {}
            }
        }
        let file = names(&device.join("vfio-dev")).unwrap_or_default();
        let [file] = &file[..] else {
            return Err(GpuError::NoDeviceFile(address));
        };
        let devices = [
            PathBuf::from(IOMMUFD),
            Path::new("/dev/vfio/devices").join(file),
        ];
        for path in &devices {
            let below = self.root.join(path.strip_prefix("/").unwrap_or(path));
            let opened = fs::File::options().read(true).write(true).open(below);
            if let Err(error) = opened {
                let (path, kind) = (path.clone(), error.kind());
                return Err(GpuError::Closed { path, kind });
            }
        }
        Ok(Gpu { address, devices })
    }

    fn only_bound(&self) -> Result<String, GpuError> {
        let all = names(&self.root.join(DEVICES)).map_err(|error| GpuError::Sysfs {
            path: Path::new("/").join(DEVICES),
            kind: error.kind(),
        })?;
        let bound = |address: &String| {
            self.is_hopper(address) && self.driver(address).as_deref() == Some(VFIO)
        };
        let mut bound: Vec<String> = all.into_iter().filter(bound).collect();
        match (bound.pop(), bound.is_empty()) {
            (None, _) => Err(GpuError::NoneBound),
            (Some(one), true) => Ok(one),
            (Some(last), false) => {
                bound.push(last);
                Err(GpuError::Several(bound))
            }
        }
    }

    /// A 3D controller of NVIDIA's with a number of the GH100 family (PCI ID repository).
    fn is_hopper(&self, address: &str) -> bool {
        self.says(address, "vendor") == "0x10de"
            && self.says(address, "device").starts_with("0x23")
            && self.says(address, "class").starts_with("0x0302")
    }

    fn driver(&self, address: &str) -> Option<String> {
        let link = fs::read_link(self.device(address).join("driver")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }

    /// An attribute of a device; empty if it cannot be read.
    fn says(&self, address: &str, name: &str) -> String {
        let text = fs::read_to_string(self.device(address).join(name));
        text.unwrap_or_default().trim().chars().take(20).collect()
    }

    fn device(&self, address: &str) -> PathBuf {
        self.root.join(DEVICES).join(address)
    }
}

/// What a directory has, in order.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(directory)?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

const DEVICES: &str = "sys/bus/pci/devices";
const IOMMUFD: &str = "/dev/iommu";
const VFIO: &str = "vfio-pci";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    const GPU: &str = "0000:17:00.0";

    /// A host with one H100 that can be passed.
    struct Fake(TempDir);

    impl Fake {
        fn new() -> Self {
            let fake = Fake(tempfile::tempdir().expect("a directory"));
            fake.add(GPU, ["0x10de", "0x2330", "0x030200"], Some(VFIO), "9");
            for file in ["dev/iommu", "dev/vfio/devices/vfio0"] {
                fake.write(file, "");
            }
            fake
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().expect("below the root")).expect("made");
            fs::write(path, text).expect("written");
        }

        fn add(&self, address: &str, is: [&str; 3], driver: Option<&str>, group: &str) {
            let device = format!("{DEVICES}/{address}");
            for (name, text) in ["vendor", "device", "class"].into_iter().zip(is) {
                self.write(&format!("{device}/{name}"), &format!("{text}\n"));
            }
            let (device, groups) = (self.0.path().join(&device), self.0.path().join("groups"));
            let group = groups.join(group);
            fs::create_dir_all(group.join("devices").join(address)).expect("made");
            symlink(group, device.join("iommu_group")).expect("a link");
            if let Some(driver) = driver {
                symlink(format!("../drivers/{driver}"), device.join("driver")).expect("a link");
            }
            fs::create_dir_all(device.join("vfio-dev/vfio0")).expect("made");
        }

        fn find(&self, choice: &str) -> Result<Option<Gpu>, GpuError> {
            let choice: GpuChoice = choice.parse().expect("a choice");
            find(Some(&choice), Profile::H100, self.0.path())
        }

        fn remove(&self, name: &str) {
            let path = self.0.path().join(DEVICES).join(GPU).join(name);
            match path.is_dir() && !path.is_symlink() {
                true => fs::remove_dir_all(path).expect("removed"),
                false => fs::remove_file(path).expect("removed"),
            }
        }
    }

    #[test]
    fn the_one_gpu_that_is_bound_is_found_and_so_is_the_one_that_is_named() {
        let fake = Fake::new();
        let expected = Gpu {
            address: GPU.into(),
            devices: ["/dev/iommu", "/dev/vfio/devices/vfio0"].map(PathBuf::from),
        };
        assert_eq!(fake.find("auto"), Ok(Some(expected.clone())));
        assert_eq!(fake.find(GPU), Ok(Some(expected)));
        // The host's own display, a switch of the board, and a GPU that the host uses itself.
        fake.add(
            "0000:03:00.0",
            ["0x1a03", "0x2000", "0x030000"],
            Some("ast"),
            "1",
        );
        fake.add(
            "0000:05:00.0",
            ["0x10de", "0x22a3", "0x068000"],
            Some(VFIO),
            "2",
        );
        let other = "0000:18:00.0";
        fake.add(other, ["0x10de", "0x2331", "0x030200"], Some("nvidia"), "3");
        assert!(fake.find("auto").is_ok());
        let driver = Some("nvidia".to_owned());
        let bound = GpuError::Driver {
            address: other.into(),
            driver,
        };
        assert_eq!(fake.find(other), Err(bound));
        let second = "0000:19:00.0";
        fake.add(second, ["0x10de", "0x2331", "0x030200"], Some(VFIO), "4");
        let several = GpuError::Several(vec![GPU.into(), second.into()]);
        assert_eq!(fake.find("auto"), Err(several));
    }

    #[test]
    fn what_the_host_lacks_is_named() {
        let check = |change: fn(&Fake), expected: GpuError| {
            let fake = Fake::new();
            change(&fake);
            assert_eq!(fake.find(GPU), Err(expected));
        };
        let address = || GPU.to_owned();
        let absent = Fake::new().find("0000:99:00.0");
        assert_eq!(absent, Err(GpuError::Absent("0000:99:00.0".into())));
        check(
            |fake| fake.write(&format!("{DEVICES}/{GPU}/device"), "0x20b0\n"),
            GpuError::NotHopper {
                address: address(),
                vendor: "0x10de".into(),
                device: "0x20b0".into(),
                class: "0x030200".into(),
            },
        );
        check(
            |fake| fake.remove("driver"),
            GpuError::Driver {
                address: address(),
                driver: None,
            },
        );
        check(
            |fake| fake.remove("iommu_group"),
            GpuError::NoGroup(address()),
        );
        let disk = "0000:16:00.0";
        check(
            |fake| {
                fake.add(
                    "0000:16:00.0",
                    ["0x144d", "0xa80a", "0x010802"],
                    Some("nvme"),
                    "9",
                )
            },
            GpuError::SharedGroup {
                address: address(),
                other: disk.into(),
                driver: "nvme".into(),
            },
        );
        check(
            |fake| fake.remove("vfio-dev"),
            GpuError::NoDeviceFile(address()),
        );
        let closed = |path: &str| GpuError::Closed {
            path: path.into(),
            kind: io::ErrorKind::NotFound,
        };
        check(
            |fake| fs::remove_file(fake.0.path().join("dev/iommu")).expect("removed"),
            closed("/dev/iommu"),
        );
        let fake = Fake::new();
        fake.remove("driver");
        assert_eq!(fake.find("auto"), Err(GpuError::NoneBound));
        // A port above it keeps its driver.
        let fake = Fake::new();
        fake.add(
            "0000:16:01.0",
            ["0x8086", "0x1bbf", "0x060400"],
            Some("pcieport"),
            "9",
        );
        assert!(fake.find(GPU).is_ok());
    }

    #[test]
    fn a_gpu_belongs_to_an_image_for_one_and_to_no_other() {
        let root = Path::new("/nowhere");
        assert_eq!(find(None, Profile::H100, root), Err(GpuError::Needed));
        for profile in [Profile::Sim, Profile::Cpu, Profile::Dev] {
            assert_eq!(find(None, profile, root), Ok(None));
            let refused = find(Some(&GpuChoice::Auto), profile, root);
            assert_eq!(refused, Err(GpuError::NotFor(profile)));
        }
    }

    #[test]
    fn an_address_is_written_one_way() {
        for text in [
            "",
            "17:00.0",
            "0000:17:00.0,rombar=1",
            "0000.17:00.0",
            "0000:1G:00.0",
            "AUTO",
            "0000:17:00:0",
        ] {
            assert!(text.parse::<GpuChoice>().is_err(), "{text}");
        }
        assert_eq!(
            "0000:a7:00.0".parse(),
            Ok(GpuChoice::At("0000:a7:00.0".into()))
        );
    }
}
