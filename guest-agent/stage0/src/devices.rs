//! Which devices get a driver: those that the measured initrd lists, and no other, however many the host plugs in.
//!
//! A bus of the kernel offers each new device to all its drivers. That is switched off before a module is loaded; then each
//! listed driver is bound to the devices that it knows, in the order of their names, up to its number. Devices that the host
//! adds later are ignored. Drivers built into the kernel have seen the devices that were present at its start; the command line
//! disables those that no image needs.
//!
//! Source: `Documentation/ABI/testing/sysfs-bus-*`, `drivers/base/bus.c` (`bind_store`, `drivers_autoprobe_store`).

use crate::failure::{Failure, errno_of};
use crate::limits::{DEVICES_BYTES_MAX, DEVICES_MAX, DRIVERS_MAX};
use nix::errno::Errno;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// The list in the initrd: one `BUS DRIVER NUMBER` a line.
pub(crate) const LIST: &str = "/devices";
/// Buses that a host can put something on.
const BUSES: [&str; 2] = ["pci", "virtio"];
const SYSTEM: &str = "/sys/bus";

/// A driver that may have devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// `pci` or `virtio`.
    pub bus: String,
    /// Its name in the bus's `drivers` directory.
    pub name: String,
    /// How many devices it may have.
    pub devices_max: usize,
}

/// Reads the list. `None` if a line is malformed, or there are too many.
pub fn list(bytes: &[u8]) -> Option<Vec<Driver>> {
    if bytes.len() > DEVICES_BYTES_MAX {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let mut drivers = Vec::new();
    for line in text.split_terminator('\n') {
        let mut words = line.split(' ');
        let (bus, name, number) = (words.next()?, words.next()?, words.next()?);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let digits = !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
        let devices_max: usize = number.parse().ok().filter(|_| digits)?;
        let good = BUSES.contains(&bus)
            && (1..=64).contains(&name.len())
            && name.bytes().all(plain)
            && (1..=DEVICES_MAX).contains(&devices_max)
            && words.next().is_none();
        drivers.push(Driver {
            bus: bus.into(),
            name: name.into(),
            devices_max,
        });
        if !good || drivers.len() > DRIVERS_MAX {
            return None;
        }
    }
    (text.is_empty() || text.ends_with('\n')).then_some(drivers)
}

/// Stops the buses from offering devices to drivers. Call it before a module is loaded.
pub(crate) fn hold() -> Result<(), Failure> {
    for bus in BUSES {
        let file = format!("{SYSTEM}/{bus}/drivers_autoprobe");
        write(Path::new(&file), "0")
            .map_err(Failure::io("disabling automatic binding of drivers"))?;
    }
    Ok(())
}

/// Binds each listed driver to its devices.
pub(crate) fn bind(drivers: &[Driver]) -> Result<(), Failure> {
    bind_in(Path::new(SYSTEM), drivers)
}

fn bind_in(system: &Path, drivers: &[Driver]) -> Result<(), Failure> {
    for driver in drivers {
        let bus = system.join(&driver.bus);
        let file = bus.join("drivers").join(&driver.name).join("bind");
        let doing = "listing the devices of a bus";
        let entries = fs::read_dir(bus.join("devices")).map_err(Failure::io(doing))?;
        let mut devices = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Failure::io(doing))?;
            if !entry.path().join("driver").exists() {
                devices.push(entry.file_name());
            }
        }
        devices.sort();
        let mut bound = 0;
        for device in devices {
            if bound == driver.devices_max {
                break;
            }
            match write(&file, &device.to_string_lossy()) {
                Ok(()) => bound += 1,
                // The driver does not know this device.
                Err(error) if errno_of(&error) == Errno::ENODEV => {}
                Err(error) => {
                    return Err(Failure::Driver {
                        name: driver.name.clone(),
                        errno: errno_of(&error),
                    });
                }
            }
        }
    }
    Ok(())
}

/// In one call: the kernel takes each write to such a file as a whole.
fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_drivers_with_their_numbers() {
        let one = |bus: &str, name: &str, devices_max| Driver {
            bus: bus.into(),
            name: name.into(),
            devices_max,
        };
        assert_eq!(list(b"").unwrap(), []);
        assert_eq!(
            list(b"virtio virtio_blk 1\npci nvidia 16\n").unwrap(),
            [one("virtio", "virtio_blk", 1), one("pci", "nvidia", 16)]
        );
        for bad in [
            &b"virtio virtio_blk 1"[..],
            b"\n",
            b"virtio virtio_blk\n",
            b"virtio virtio_blk 0\n",
            b"virtio virtio_blk 01\n",
            b"virtio virtio_blk 17\n",
            b"virtio virtio_blk 1 \n",
            b"virtio  virtio_blk 1\n",
            b"usb storage 1\n",
            b"virtio ../x 1\n",
            b"virtio virtio_blk +1\n",
            b"virtio \xff 1\n",
        ] {
            assert_eq!(list(bad), None, "{bad:?}");
        }
        assert!(list(&b"pci a 1\n".repeat(DRIVERS_MAX)).is_some());
        assert!(list(&b"pci a 1\n".repeat(DRIVERS_MAX + 1)).is_none());
    }

    #[test]
    fn a_driver_gets_devices_in_order_up_to_its_number_and_none_that_has_one() {
        let system = std::env::temp_dir().join(format!("stage0-devices-{}", std::process::id()));
        let bus = system.join("virtio");
        for device in ["virtio2", "virtio0", "virtio1/driver", "virtio3"] {
            fs::create_dir_all(bus.join("devices").join(device)).unwrap();
        }
        fs::create_dir_all(bus.join("drivers/blk")).unwrap();
        let bind = bus.join("drivers/blk/bind");
        fs::write(&bind, "").unwrap();
        let driver = |devices_max| Driver {
            bus: "virtio".into(),
            name: "blk".into(),
            devices_max,
        };
        // A plain file keeps the last of what is written over its beginning.
        bind_in(&system, &[driver(1)]).unwrap();
        assert_eq!(fs::read_to_string(&bind).unwrap(), "virtio0");
        bind_in(&system, &[driver(2)]).unwrap();
        assert_eq!(fs::read_to_string(&bind).unwrap(), "virtio2");
        bind_in(&system, &[driver(3)]).unwrap();
        assert_eq!(fs::read_to_string(&bind).unwrap(), "virtio3");
        fs::remove_file(&bind).unwrap();
        let refused = bind_in(&system, &[driver(1)]);
        assert!(
            matches!(refused, Err(Failure::Driver { .. })),
            "{refused:?}"
        );
        fs::remove_dir_all(&system).unwrap();
    }
}
