//! The initrd: `/init`, the modules in the order of their loading, the list of drivers that get devices, and the directories that
//! `/init` mounts on.

use std::io::{self, Read};

use crate::compile::kernel_modules::{Bus, Module};
use crate::formats::cpio;
use crate::formats::entry::{Entry, What};

/// Files of the initrd. A module's number is its place: `/init` loads them sorted by name.
pub fn entries(init: Vec<u8>, modules: Vec<Module>, kernel: &str) -> Vec<Entry> {
    let mut entries = vec![Entry::memory("/init", 0o755, init, "compiled".into())];
    let drives = |module: &Module| Some((module.drives?, module.name.clone()));
    let drivers: Vec<(Bus, String)> = modules.iter().filter_map(drives).collect();
    let lines = drivers.iter().map(|(bus, name)| {
        let devices_max = devices_max(*bus, name);
        format!("{} {name} {devices_max}\n", bus.name())
    });
    let list: String = lines.collect();
    entries.push(Entry::memory(
        "/devices",
        0o644,
        list.into(),
        "image-builder".into(),
    ));
    for (number, module) in modules.into_iter().enumerate() {
        let path = format!("/modules/{number:02}-{}.ko", module.name);
        let from = module.from.unwrap_or_else(|| kernel.to_owned());
        entries.push(Entry::memory(path, 0o644, module.bytes, from));
    }
    entries
}

/// Directories of the initrd, most of them to mount on.
pub const DIRECTORIES: [&str; 5] = ["/dev", "/modules", "/newroot", "/proc", "/sys"];
/// Of each.
pub const DIRECTORY_MODE: u32 = 0o755;
/// A device: path, mode, number.
pub type Device = (&'static str, u32, (u32, u32));
/// Its devices (Documentation/admin-guide/devices.txt). The system console is 5:1. 1:3 is where a program's standard streams
/// lead that was started without a console: Rust's runtime opens it.
pub const DEVICES: [Device; 2] = [
    ("/dev/console", 0o600, (5, 1)),
    ("/dev/null", 0o666, (1, 3)),
];

/// How many devices a driver gets. The machine has two disks (the root, and a model's volume) and one of each other virtio kind;
/// on PCI, as many GPUs as there are slots.
fn devices_max(bus: Bus, driver: &str) -> usize {
    match (bus, driver) {
        (Bus::Virtio, "virtio_blk") => 2,
        (Bus::Virtio, _) => 1,
        (Bus::Pci, _) => 16,
    }
}

/// The archive. The kernel mounts nothing over it before `/init` runs, so the console has to be there for it to speak.
pub fn write(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut archive = cpio::Writer::new(Vec::new());
    for directory in DIRECTORIES {
        archive.directory(directory, DIRECTORY_MODE)?;
    }
    for (path, mode, number) in DEVICES {
        archive.device(path, mode, number)?;
    }
    for entry in entries {
        let What::File { source, .. } = &entry.what else {
            continue;
        };
        let mut bytes = Vec::new();
        source.open()?.read_to_end(&mut bytes)?;
        archive.file(&entry.path, entry.mode, &bytes)?;
    }
    archive.finish()
}
