//! From the host's disk to a mounted root, or to the mounted volume of a model.

use crate::device_mapper::{Command, Target, call};
use crate::failure::Failure;
use crate::limits::{DISK_TRIES, PAUSE_MS};
use crate::mounts::{NEW_ROOT, make_directory};
use crate::verity::{DISK, DiskLayout, PARTITIONS, VerityRoot};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::unlink;
use std::fs::File;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

const CONTROL: &str = "/dev/mapper/control";
const NAME: &str = "root";
/// The verified device's node, created from its number, so that nothing is looked up by name in a directory that others fill.
const NODE: &str = "/verified";

/// Waits for the disk and returns where the root is on it: in partitions, or on the whole disk. If the disk lies about it, the
/// root does not match its hash.
pub(crate) fn wait() -> Result<DiskLayout, Failure> {
    wait_for(DISK)?;
    Ok(match PARTITIONS.into_iter().all(is_block_device) {
        true => DiskLayout::Partitions,
        false => DiskLayout::Disk,
    })
}

/// Waits for a disk, but not for ever.
pub fn wait_for(disk: &str) -> Result<(), Failure> {
    let there = |_: &u32| {
        // The kernel blocks an opener until it has looked for partitions (block/bdev.c, `blkdev_get_whole`).
        let found = is_block_device(disk) && File::open(disk).is_ok();
        if !found {
            std::thread::sleep(Duration::from_millis(PAUSE_MS));
        }
        found
    };
    (0..DISK_TRIES).find(there).ok_or(Failure::NoDisk)?;
    Ok(())
}

fn is_block_device(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.file_type().is_block_device())
}

/// Creates the verified device and mounts its file system, read-only.
pub(crate) fn open(root: &VerityRoot, layout: DiskLayout) -> Result<(), Failure> {
    Mounted::open(NAME, NODE, NEW_ROOT, root, &root.parameters(layout)).map(drop)
}

/// A disk's verified device, mounted. It stays when this is dropped.
#[derive(Debug)]
pub struct Mounted<'a> {
    name: &'a str,
    node: &'a str,
    directory: &'a str,
}

impl<'a> Mounted<'a> {
    /// Creates the device `name` under `root` with these `parameters`, and its `node`, and mounts its EROFS on `directory`.
    pub fn open(
        name: &'a str,
        node: &'a str,
        directory: &'a str,
        root: &VerityRoot,
        parameters: &str,
    ) -> Result<Self, Failure> {
        let control = control()?;
        let device = call(&control, Command::Create, name, None)
            .map_err(Failure::system("creating the verified device"))?;
        let target = Target {
            kind: "verity",
            sectors: root.sectors(),
            parameters,
        };
        call(&control, Command::Load, name, Some(target))
            .map_err(Failure::system("loading the verity table"))?;
        call(&control, Command::Resume, name, None)
            .map_err(Failure::system("starting the verified device"))?;
        let number = makedev(device.major, device.minor);
        mknod(node, SFlag::S_IFBLK, Mode::S_IRUSR, number)
            .map_err(Failure::system("creating the verified device's node"))?;
        make_directory(directory)?;
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some(node), directory, Some("erofs"), flags, None::<&str>)
            .map_err(Failure::system("mounting the verified device"))?;
        Ok(Self {
            name,
            node,
            directory,
        })
    }

    /// The mount point.
    pub fn directory(&self) -> &Path {
        Path::new(self.directory)
    }

    /// Removes the mount, the node and the device: afterwards the disk cannot be read through it.
    pub fn close(self) -> Result<(), Failure> {
        umount(self.directory).map_err(Failure::system("unmounting the verified device"))?;
        unlink(self.node).map_err(Failure::system("removing the verified device's node"))?;
        call(&control()?, Command::Remove, self.name, None)
            .map_err(Failure::system("removing the verified device"))?;
        Ok(())
    }
}

fn control() -> Result<File, Failure> {
    let control = File::options().read(true).write(true).open(CONTROL);
    control.map_err(Failure::io("opening the device mapper"))
}
