//! The listed members of a zip archive, and only those, into a new directory.
//!
//! Trusts nothing in the archive: a file's name on disk comes from the lock, a member's name is only looked up, and its size
//! and digest are checked while it is written. The directory is the caller's to throw away when this fails.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::{FetchError, sync_directory};
use crate::formats::metered::{Metered, TooLong};
use crate::lock::{LockedFile, Model};

/// Takes the files of `model` out of `archive` into `directory`, which must not exist.
pub(crate) fn unpack(archive: &Path, model: &Model, directory: &Path) -> Result<(), FetchError> {
    let opened = File::open(archive).map_err(FetchError::disk("opening", archive))?;
    let mut zip = ZipArchive::new(BufReader::new(opened)).map_err(|error| {
        contents(
            model,
            "(its table of contents)",
            format!("cannot be read: {error}"),
        )
    })?;
    fs::create_dir(directory).map_err(FetchError::disk("creating", directory))?;
    for file in &model.files {
        unpack_one(&mut zip, model, file, &directory.join(&file.name))?;
    }
    sync_directory(directory)
}

fn unpack_one(
    zip: &mut ZipArchive<BufReader<File>>,
    model: &Model,
    file: &LockedFile,
    path: &Path,
) -> Result<(), FetchError> {
    let wrong = |problem: String| contents(model, &file.member, problem);
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
    let mut output = File::create_new(path).map_err(FetchError::disk("creating", path))?;
    let mut metered = Metered::new(member, file.bytes);
    copy(&mut metered, &mut output).map_err(|failure| match failure {
        Failure::Read(error) if TooLong::is(&error) => {
            wrong(format!("goes on past {} bytes", file.bytes))
        }
        Failure::Read(error) => wrong(format!("cannot be unpacked: {error}")),
        Failure::Write(error) => FetchError::disk("writing", path)(error),
    })?;
    let (bytes, digest) = metered.finish();
    if (bytes, digest) != (file.bytes, file.sha256) {
        return Err(wrong(format!(
            "has {bytes} bytes with SHA-256 {digest} where the lock has {} and {}",
            file.bytes, file.sha256
        )));
    }
    output.sync_all().map_err(FetchError::disk("syncing", path))
}

fn contents(model: &Model, member: &str, problem: String) -> FetchError {
    FetchError::Contents {
        archive: model.archive.file.clone(),
        member: member.to_owned(),
        problem,
    }
}

/// Which side of a copy failed: the peer's or ours.
enum Failure {
    /// The source.
    Read(io::Error),
    /// The destination.
    Write(io::Error),
}

/// Like `io::copy`, but says which side failed, because that decides whose fault it is.
fn copy(source: &mut impl io::Read, destination: &mut impl io::Write) -> Result<(), Failure> {
    let mut buffer = vec![0; crate::limits::CHUNK_BYTES];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(got) => destination
                .write_all(&buffer[..got])
                .map_err(Failure::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::Read(error)),
        }
    }
}
