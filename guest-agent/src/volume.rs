//! A model's volume: the disk beside the root's, opened under the hash in the measured configuration (boundary B6).
//!
//! The disk is the host's, and no byte of it is believed: dm-verity judges each block as it is read, under root hash, salt and size
//! that are in RTMR3 by now. A model's files are read once, into memory, and then the device is taken down: a page fault on a
//! mapped table would tell the host which tokens a prompt has (SECURITY.md 1), and what was read does not change when the host
//! exchanges the disk.

use stage0::{Failure, Mounted, VerityRoot, wait_for};
use wire::MeasuredModel;
use wire::limits::{VOLUME_BLOCKS_MAX, VOLUMES_MAX};

// What a configuration may say, a guest opens.
const _: () = assert!(VOLUME_BLOCKS_MAX <= stage0::limits::DATA_BLOCKS_MAX);

/// How the model's volume is opened, if it has one.
pub(crate) fn root(model: &MeasuredModel) -> Option<VerityRoot> {
    let volume = model.volume.as_ref()?;
    VerityRoot::new(model.root(), volume.salt(), volume.data_blocks)
}

/// Opens the disk of the model with this number among those that have one.
pub(crate) fn open(number: usize, root: &VerityRoot) -> Result<Mounted<'static>, Failure> {
    let Volume {
        name,
        disk,
        node,
        directory,
    } = VOLUMES[number];
    wait_for(disk)?;
    Mounted::open(name, node, directory, root, &root.parameters_to_read(disk))
}

struct Volume {
    name: &'static str,
    disk: &'static str,
    node: &'static str,
    directory: &'static str,
}

/// The first virtio disk has the root. `/run` is memory.
const VOLUMES: [Volume; VOLUMES_MAX] = [Volume {
    name: "model",
    disk: "/dev/vdb",
    node: "/dev/model",
    directory: "/run/model",
}];
