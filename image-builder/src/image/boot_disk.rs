//! The other two boot methods of the same guest: one program of kernel, initrd and command line, and a disk with that program and the root.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use predict::image::{MethodRegisters, UkiRegisters};
use predict::{Boot, BootMethod, PredictedEvent};

use super::build_error::BuildError;
use super::manifest::Measured;
use super::{DISK, Draft, ROOT, UKI, disk, write};
use crate::formats::{uki, verity};

/// Writes the program into `directory`, the disk too if there is to be one, and predicts what they measure to.
pub fn make(
    draft: &Draft,
    stub: &[u8],
    directory: &Path,
    cmdline: &str,
    root: &verity::Root,
) -> Result<(UkiRegisters, Vec<Measured>), BuildError> {
    let image = program(draft, stub, cmdline)?;
    write(directory, UKI, &image)?;
    let kernel_events = events(draft, &image, BootMethod::Kernel { append: None })?;
    let mut registers = UkiRegisters {
        kernel: MethodRegisters::of(&kernel_events),
        kernel_events,
        disk: None,
        disk_events: Vec::new(),
    };
    let mut files = vec![Measured::read(directory, UKI)?];
    if draft.parts.disk {
        let table = disk(directory, &image, root)?;
        let loader = None;
        let method = BootMethod::Disk {
            table: &table,
            loader,
        };
        registers.disk_events = events(draft, &image, method)?;
        registers.disk = Some(MethodRegisters::of(&registers.disk_events));
        files.push(Measured::read(directory, DISK)?);
    }
    Ok((registers, files))
}

fn program(draft: &Draft, stub: &[u8], cmdline: &str) -> Result<Vec<u8>, BuildError> {
    let os_release = format!(
        "ID=chrysalis\nNAME=Chrysalis\nVARIANT_ID={}\n",
        draft.parts.profile.as_str()
    );
    let image = uki::lay_out(&uki::Parts {
        stub,
        os_release: Some(&os_release),
        cmdline,
        uname: Some(draft.parts.kernel.release()),
        initrd: Some(&draft.initrd),
        kernel: &draft.kernel,
    })?;
    let mut bytes = Vec::with_capacity(image.bytes() as usize);
    let disk = BuildError::disk("laying out", Path::new(UKI));
    image.write(&mut bytes).map_err(disk)?;
    Ok(bytes)
}

fn events(
    draft: &Draft,
    uki: &[u8],
    method: BootMethod<'_>,
) -> Result<Vec<PredictedEvent>, BuildError> {
    let release = draft.parts.firmware_build.release();
    Ok(Boot::Uki { uki, method }.events(release)?)
}

/// Returns the disk's first blocks, which have its partition table.
fn disk(directory: &Path, program: &[u8], root: &verity::Root) -> Result<Vec<u8>, BuildError> {
    let (image, path) = (directory.join(ROOT), directory.join(DISK));
    let image = File::open(&image).map_err(BuildError::disk("reading", &image))?;
    let out = File::create_new(&path).map_err(BuildError::disk("writing", &path))?;
    let parts = disk::Parts {
        files: &[(disk::BOOT_PATH, program)],
        root: Some((&image, root)),
    };
    disk::write(&parts, &out)?;
    let disk = BuildError::disk("reading", &path);
    let mut head = Vec::new();
    File::open(&path)
        .and_then(|file| {
            let most = predict::limits::DISK_HEAD_BYTES_MAX as u64;
            file.take(most).read_to_end(&mut head)
        })
        .map_err(disk)?;
    Ok(head)
}
