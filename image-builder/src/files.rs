//! Operations on files. Each fails with what was being done, and with which file.

use std::fs::{self, DirEntry, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::{Error, error};
use crate::limits::CHUNK_BYTES;

pub fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(Error::disk("opening", path))
}

/// A file that is not longer than its limit.
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let bytes = read_start(path, bytes_max + 1)?;
    match bytes.len() as u64 <= bytes_max {
        true => Ok(bytes),
        false => Err(error!(
            Disk,
            "{} is longer than the {bytes_max} bytes allowed",
            path.display()
        )),
    }
}

/// The same, if it is text in UTF-8.
pub fn read_text(path: &Path, bytes_max: u64) -> Result<String, Error> {
    String::from_utf8(read(path, bytes_max)?).map_err(Error::disk("reading", path))
}

/// The beginning of a file that may be longer.
pub fn read_start(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(bytes_max).read_to_end(&mut bytes));
    read.map_err(Error::disk("reading", path))?;
    Ok(bytes)
}

/// What is in a directory, in no order.
pub fn entries(directory: &Path) -> Result<Vec<DirEntry>, Error> {
    let entries = fs::read_dir(directory).and_then(Iterator::collect);
    entries.map_err(Error::disk("reading", directory))
}

pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
    fs::write(path, bytes).map_err(Error::disk("writing", path))
}

/// Writes a file in one step, and the directories above it: a reader sees what was there before or all of it.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(path);
    create_directory(directory)?;
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(bytes)?;
        file.as_file()
            .set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        Ok(file.persist(path)?)
    };
    write()
        .map(drop)
        .map_err(|error: io::Error| Error::disk("writing", path)(error))
}

/// With those above it, unless it is there.
pub fn create_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::disk("creating", path))
}

/// Like `io::copy`, but tells the sides apart: what fails when `source` is read, the caller has words for.
pub fn copy(
    source: &mut dyn Read,
    (to, path): (&mut File, &Path),
    unread: impl Fn(io::Error) -> Error,
) -> Result<u64, Error> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut copied = 0;
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(got) => {
                to.write_all(&buffer[..got])
                    .map_err(Error::disk("writing", path))?;
                copied += got as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unread(error)),
        }
    }
}

pub fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    let set = fs::set_permissions(path, Permissions::from_mode(mode));
    set.map_err(Error::disk("setting the mode of", path))
}

pub fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(Error::disk("moving to", to))
}

/// Removes a file or directory, if it is there.
pub fn remove(path: &Path) -> Result<(), Error> {
    let Ok(metadata) = path.symlink_metadata() else {
        return Ok(());
    };
    let removed = match metadata.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    removed.map_err(Error::disk("removing", path))
}

/// Makes a directory in full beside its `place`, and then moves it there. A failure leaves nothing at either path, and what one
/// left that was killed is removed by the next.
pub fn make_directory(
    place: &Path,
    make: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<(), Error> {
    let parent = place.parent().unwrap_or(place);
    create_directory(parent)?;
    let name = place.file_name().unwrap_or_default();
    let new = parent.join(format!(".new-{}", name.to_string_lossy()));
    remove(&new)?;
    if let Err(error) = make(&new) {
        remove(&new)?;
        return Err(error);
    }
    rename(&new, place)?;
    sync(parent)
}

/// Puts a file on the disk; of a directory, makes a rename in it survive a power cut.
pub fn sync(path: &Path) -> Result<(), Error> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(Error::disk("syncing", path))
}

/// Opens or creates a file and locks it, `waiting` for whoever has it. The lock ends with the returned file.
pub fn lock(path: &Path, waiting: impl FnOnce()) -> Result<File, Error> {
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).open(path);
    let file = file.map_err(Error::disk("opening", path))?;
    if file.try_lock().is_err() {
        waiting();
        file.lock().map_err(Error::disk("locking", path))?;
    }
    Ok(file)
}

/// Whether a file lies at `path` itself, not behind a link.
pub fn is_plain(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_file())
}
