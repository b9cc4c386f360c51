//! The initrd: `/init`, the modules in the order of their loading, and the folders that `/init` mounts on.

use std::io::{self, Read};

use super::contents::{Entry, What};
use crate::cpio;
use crate::modules::Module;

/// Files of the initrd. A module's number is its place: `/init` loads them sorted by name.
pub fn entries(init: Vec<u8>, modules: Vec<Module>, kernel: &str) -> Vec<Entry> {
    let mut entries = vec![Entry::memory("/init", 0o755, init, "compiled".into())];
    for (number, module) in modules.into_iter().enumerate() {
        let path = format!("/modules/{number:02}-{}.ko", module.name);
        let from = module.from.unwrap_or_else(|| kernel.to_owned());
        entries.push(Entry::memory(path, 0o644, module.bytes, from));
    }
    entries
}

/// Folders of the initrd, most of them to mount on.
pub const FOLDERS: [&str; 5] = ["/dev", "/modules", "/newroot", "/proc", "/sys"];
/// Of each.
pub const FOLDER_MODE: u32 = 0o755;
/// Its one device. drivers/tty: the system console is 5:1 (Documentation/admin-guide/devices.txt).
pub const CONSOLE: (&str, u32, (u32, u32)) = ("/dev/console", 0o600, (5, 1));

/// The archive. The kernel mounts nothing over it before `/init` runs, so the console has to be there for it to speak.
pub fn write(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut archive = cpio::Writer::new(Vec::new());
    for folder in FOLDERS {
        archive.folder(folder, FOLDER_MODE)?;
    }
    let (console, mode, number) = CONSOLE;
    archive.device(console, mode, number)?;
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
