//! The listed members of a zip archive, and only those, into a new directory.
//!
//! Trusts nothing in the archive: a file's name on disk comes from the lock, a member's name is only looked up, and its size
//! and digest are checked while it is written. The directory is the caller's to throw away when this fails.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::fetch::contents;
use crate::error::Error;
use crate::files;
use crate::formats::metered::{Metered, TooLong};
use crate::lock::{LockedFile, Model};

/// Takes the files of `model` out of `archive` into `directory`, which must not exist.
pub(crate) fn unpack(archive: &Path, model: &Model, directory: &Path) -> Result<(), Error> {
    let opened = files::open(archive)?;
    let mut zip = ZipArchive::new(BufReader::new(opened)).map_err(|error| {
        let problem = format!("cannot be read: {error}");
        contents(model, "(its table of contents)", &problem)
    })?;
    fs::create_dir(directory).map_err(Error::disk("creating", directory))?;
    for file in &model.files {
        unpack_one(&mut zip, model, file, &directory.join(&file.name))?;
    }
    files::sync(directory)
}

fn unpack_one(
    zip: &mut ZipArchive<BufReader<File>>,
    model: &Model,
    file: &LockedFile,
    path: &Path,
) -> Result<(), Error> {
    let wrong = |problem: String| contents(model, &file.member, &problem);
    let member = zip.by_name(&file.member).map_err(|error| match error {
        ZipError::FileNotFound => wrong("is missing".into()),
        other => wrong(format!("cannot be opened: {other}")),
    })?;
    // The directory's size may lie as well, so the stream is limited too; this only gives the better message early.
    if member.size() != file.bytes {
        return Err(wrong(format!(
            "has {} bytes where the lock has {}",
            member.size(),
            file.bytes
        )));
    }
    let mut output = File::create_new(path).map_err(Error::disk("creating", path))?;
    let mut metered = Metered::new(member, file.bytes);
    files::copy(
        &mut metered,
        (&mut output, path),
        |error| match TooLong::is(&error) {
            true => wrong(format!("goes on past {} bytes", file.bytes)),
            false => wrong(format!("cannot be unpacked: {error}")),
        },
    )?;
    let (bytes, digest) = metered.finish();
    if (bytes, digest) != (file.bytes, file.sha256) {
        return Err(wrong(format!(
            "has {bytes} bytes with SHA-256 {digest} where the lock has {} and {}",
            file.bytes, file.sha256
        )));
    }
    output.sync_all().map_err(Error::disk("syncing", path))
}
