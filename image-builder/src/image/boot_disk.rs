//! The other two boot methods of the same guest: one program of kernel, initrd and command line, and a disk with that program and the root.

use std::fs::File;
use std::path::Path;

use predict::image::{MethodRegisters, UkiRegisters};
use predict::{Boot, BootMethod, PredictedEvent};

use super::manifest::Measured;
use super::{DISK, Draft, ROOT, UKI, disk, write};
use crate::error::{Error, Fault};
use crate::files;
use crate::formats::{uki, verity};

/// Writes the program into `directory`, the disk too if there is to be one, and predicts what they measure to.
pub fn make(
    draft: &Draft,
    stub: &[u8],
    directory: &Path,
    cmdline: &str,
    root: &verity::Root,
) -> Result<(UkiRegisters, Vec<Measured>), Error> {
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

fn program(draft: &Draft, stub: &[u8], cmdline: &str) -> Result<Vec<u8>, Error> {
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
    })
    .map_err(Error::of(Fault::Recipe, ""))?;
    let mut bytes = Vec::with_capacity(image.bytes() as usize);
    image.write(&mut bytes).expect("a vector takes all");
    Ok(bytes)
}

fn events(draft: &Draft, uki: &[u8], method: BootMethod<'_>) -> Result<Vec<PredictedEvent>, Error> {
    let release = draft.parts.firmware_build.release();
    let predicting = Error::of(Fault::Recipe, "predicting the registers: ");
    Boot::Uki { uki, method }
        .events(release)
        .map_err(predicting)
}

/// Returns the disk's first blocks, which have its partition table.
fn disk(directory: &Path, program: &[u8], root: &verity::Root) -> Result<Vec<u8>, Error> {
    let (image, path) = (directory.join(ROOT), directory.join(DISK));
    let image = files::open(&image)?;
    let out = File::create_new(&path).map_err(Error::disk("writing", &path))?;
    let parts = disk::Parts {
        files: &[(disk::BOOT_PATH, program)],
        root: Some((&image, root)),
    };
    disk::write(&parts, &out).map_err(Error::of(Fault::Disk, "writing the disk: "))?;
    files::read_start(&path, predict::limits::DISK_HEAD_BYTES_MAX as u64)
}
