//! What an image's files measure to: `predict::image::check`, with the files read from a directory.

use std::fs::File;
use std::io;

use predict::PageOrder;
use predict::image::{Disk, Files, ImageFile, ImageManifest, Root};
use predict::limits;

use super::directory::Directory;
use super::verify::Check;
use crate::error::Error;
use crate::files;

/// A check of what `manifest` states about each file, the hash over the root, and each register, with the files in `directory`. The
/// manifest may be another than the one that lies there.
pub fn checks(manifest: &ImageManifest, directory: &Directory) -> Result<Vec<Check>, Error> {
    let listed = &manifest.files;
    let bytes = |file: &ImageFile, max: usize| files::read(&directory.file(&file.name), max as u64);
    let there = |file: &&ImageFile| directory.file(&file.name).exists();
    let uki = { listed.uki.as_ref().filter(there) }.map(|file| bytes(file, limits::UKI_BYTES_MAX));
    let disk = listed.disk.as_ref().filter(there);
    let disk = disk.map(|file| streamed(directory, file, Disk::read));
    let report = predict::image::check(
        manifest,
        &Files {
            firmware: &bytes(&listed.firmware, limits::FIRMWARE_BYTES_MAX)?,
            kernel: &bytes(&listed.kernel, limits::KERNEL_BYTES_MAX)?,
            initrd: &bytes(&listed.initrd, limits::INITRD_BYTES_MAX)?,
            root: streamed(directory, &listed.root, |file| {
                Root::read(file, &manifest.root)
            })?,
            uki: uki.transpose()?.as_deref(),
            disk: disk.transpose()?,
            acpi: None,
            page_order: PageOrder::SinglePass,
        },
    );
    let checks = report.checks.into_iter();
    Ok(checks
        .map(|check| Check::new(check.what, check.outcome))
        .collect())
}

/// A file that is read to its end and not kept in memory.
fn streamed<T>(
    directory: &Directory,
    file: &ImageFile,
    take: impl FnOnce(io::BufReader<File>) -> io::Result<T>,
) -> Result<T, Error> {
    let path = directory.file(&file.name);
    take(io::BufReader::with_capacity(1 << 20, files::open(&path)?))
        .map_err(Error::disk("reading", &path))
}
