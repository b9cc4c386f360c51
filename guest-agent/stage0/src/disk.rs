//! From the host's disk to a mounted root, or to the mounted volume of a model.

use crate::device_mapper::{Command, Target, call};
use crate::failure::Failure;
use crate::limits::{DISK_TRIES, PAUSE_MS};
use crate::mounts::make_directory;
use crate::verity::{DISK, PARTITIONS, Place, VerityRoot};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::unlink;
use std::fs::File;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

/// Where the root is mounted until it becomes the root.
pub(crate) const NEW_ROOT: &str = "/newroot";
const CONTROL: &str = "/dev/mapper/control";
const NAME: &str = "root";
/// The verified device's node, made by its number: nothing is looked up by name in a directory that others fill.
const NODE: &str = "/verified";

/// Waits for the disk and says where the root is on it. A disk has partitions or is the root as a whole; one that lies
/// about it has no root that fits.
pub(crate) fn wait() -> Result<Place, Failure> {
    wait_for(DISK)?;
    Ok(match PARTITIONS.into_iter().all(is_block_device) {
        true => Place::Partitions,
        false => Place::Disk,
    })
}

/// Waits for a disk, but not for ever.
pub fn wait_for(disk: &str) -> Result<(), Failure> {
    let there = |_: &u32| {
        // The kernel holds an opener up until it has looked for partitions (block/bdev.c, `blkdev_get_whole`).
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

/// Makes the verified device and mounts what is on it, read-only.
pub(crate) fn open(root: &VerityRoot, place: Place) -> Result<(), Failure> {
    Mounted::open(NAME, NODE, NEW_ROOT, root, &root.parameters(place)).map(drop)
}

/// A disk's verified device, mounted. It stays when this is dropped.
#[derive(Debug)]
pub struct Mounted<'a> {
    name: &'a str,
    node: &'a str,
    directory: &'a str,
}

impl<'a> Mounted<'a> {
    /// Makes the device called `name` under `root` with these `parameters`, its `node`, and mounts its EROFS on `directory`.
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
            .map_err(Failure::system("making the verified device's node"))?;
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

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        Path::new(self.directory)
    }

    /// Takes it all down again: after this nobody can read the disk by it.
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
