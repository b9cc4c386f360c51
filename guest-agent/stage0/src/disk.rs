//! From the host's disk to a mounted root.

use crate::device_mapper::{Command, Target, call};
use crate::failure::Failure;
use crate::limits::{DISK_TRIES, PAUSE_MS};
use crate::mounts::make_folder;
use crate::verity::{DISK, PARTITIONS, Place, VerityRoot};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::fs::File;
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

/// Where the root is mounted until it becomes the root.
pub(crate) const NEW_ROOT: &str = "/newroot";
const CONTROL: &str = "/dev/mapper/control";
const NAME: &str = "root";
/// The verified device's node, made by its number: nothing is looked up by name in a folder that others fill.
const NODE: &str = "/verified";

/// Waits for the disk and says where the root is on it. A disk has partitions or is the root as a whole; one that lies
/// about it has no root that fits.
pub(crate) fn wait() -> Result<Place, Failure> {
    let there = |_: &u32| {
        // The kernel holds an opener up until it has looked for partitions (block/bdev.c, `blkdev_get_whole`).
        let found = is_block_device(DISK) && File::open(DISK).is_ok();
        if !found {
            std::thread::sleep(Duration::from_millis(PAUSE_MS));
        }
        found
    };
    (0..DISK_TRIES).find(there).ok_or(Failure::NoDisk)?;
    Ok(match PARTITIONS.into_iter().all(is_block_device) {
        true => Place::Partitions,
        false => Place::Disk,
    })
}

fn is_block_device(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.file_type().is_block_device())
}

/// Makes the verified device and mounts what is on it, read-only.
pub(crate) fn open(root: &VerityRoot, place: Place) -> Result<(), Failure> {
    let doing = "opening the device mapper";
    let control = File::options().read(true).write(true).open(CONTROL);
    let control = control.map_err(Failure::io(doing))?;
    let device = call(&control, Command::Create, NAME, None)
        .map_err(Failure::system("creating the verified device"))?;
    let parameters = root.parameters(place);
    let target = Target {
        kind: "verity",
        sectors: root.sectors(),
        parameters: &parameters,
    };
    call(&control, Command::Load, NAME, Some(target))
        .map_err(Failure::system("loading the verity table"))?;
    call(&control, Command::Resume, NAME, None)
        .map_err(Failure::system("starting the verified device"))?;
    let number = makedev(device.major, device.minor);
    mknod(NODE, SFlag::S_IFBLK, Mode::S_IRUSR, number)
        .map_err(Failure::system("making the verified device's node"))?;
    make_folder(NEW_ROOT)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some(NODE), NEW_ROOT, Some("erofs"), flags, None::<&str>)
        .map_err(Failure::system("mounting the verified root"))
}
