//! The output directory: what is in it was written elsewhere, in full, and moved there in one step.
//!
//! ```text
//! PARENT/.NAME.new    being written; locked by who writes, removed by the next build when that one was killed
//! PARENT/NAME         a whole image
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};

use super::{CMDLINE, INITRD};
use crate::error::{Error, error};
use crate::files;

/// A claim to write one output directory.
#[derive(Debug)]
pub struct OutputDir {
    out: PathBuf,
    new: PathBuf,
    /// The directory itself, locked as long as this lives.
    claim: File,
}

impl OutputDir {
    /// Claims `out`, which may be absent, empty, or an image that is to be replaced.
    pub fn claim(out: &Path) -> Result<Self, Error> {
        // Two of the names that every image has, with or without a root.
        Self::claim_of(out, "image", &[INITRD, CMDLINE])
    }

    /// Claims `out`, which may be absent, empty, or hold `what`: have files of all these names; it is then to be replaced.
    pub fn claim_of(out: &Path, what: &str, names: &[&str]) -> Result<Self, Error> {
        let occupied = || {
            let out = out.display();
            error!(
                Output,
                "{out} is there and holds no {what}; name a directory that is new, empty, or holds one"
            )
        };
        let out = std::path::absolute(out).map_err(Error::disk("finding", out))?;
        let (Some(parent), Some(name)) = (out.parent(), out.file_name()) else {
            return Err(occupied());
        };
        if !is_free(&out, names)? {
            return Err(occupied());
        }
        files::create_directory(parent)?;
        let new = parent.join(format!(".{}.new", name.to_string_lossy()));
        let claim = lock(&new)?;
        under_way().insert(new.clone());
        let place = Self { out, new, claim };
        place.clear()?;
        Ok(place)
    }

    /// Where to write; empty, and seen by nobody else.
    pub fn directory(&self) -> &Path {
        &self.new
    }

    /// Moves what was written to the output directory.
    pub fn put(self) -> Result<(), Error> {
        let disk = |doing| Error::disk(doing, &self.out);
        for entry in files::entries(&self.new)? {
            files::sync(&entry.path())?;
        }
        self.claim.sync_all().map_err(disk("syncing"))?;
        let exchange = RenameFlags::RENAME_EXCHANGE;
        match renameat2(AT_FDCWD, &self.new, AT_FDCWD, &self.out, exchange) {
            // What was there before is at `new` now, and goes when `self` does.
            Ok(()) => {}
            // Nothing was there, or a file system that cannot exchange.
            Err(Errno::ENOENT) => files::rename(&self.new, &self.out)?,
            Err(Errno::EINVAL | Errno::ENOSYS) => {
                files::remove(&self.out)?;
                files::rename(&self.new, &self.out)?;
            }
            Err(error) => return Err(disk("moving to")(error.into())),
        }
        files::sync(self.out.parent().unwrap_or(&self.out))
    }

    fn clear(&self) -> Result<(), Error> {
        for entry in files::entries(&self.new)? {
            files::remove(&entry.path())?;
        }
        // Whatever the umask says; the image is no secret.
        files::set_mode(&self.new, 0o755)
    }
}

/// Removes what this program has under way; for a program that is told to end. Nothing of it was at a final place.
pub fn abandon() {
    for directory in under_way().iter() {
        // A tool may be writing there still, until it ends with us.
        for _ in 0..ABANDON_TRIES {
            match fs::remove_dir_all(directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    thread::sleep(ABANDON_PAUSE)
                }
                _ => break,
            }
        }
    }
}

/// The directories of this program's claims.
fn under_way() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    static UNDER_WAY: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

const ABANDON_TRIES: u32 = 20;
const ABANDON_PAUSE: Duration = Duration::from_millis(20);

impl Drop for OutputDir {
    fn drop(&mut self) {
        under_way().remove(&self.new);
        // When it cannot be removed now, the next build tries again.
        let _ = fs::remove_dir_all(&self.new);
    }
}

fn is_free(out: &Path, names: &[&str]) -> Result<bool, Error> {
    match fs::read_dir(out) {
        Ok(mut entries) => {
            Ok(entries.next().is_none() || names.iter().all(|name| out.join(name).is_file()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(Error::disk("reading", out)(error)),
    }
}

/// Makes the directory and locks it. It may be moved or removed by its last owner in between; then what was locked is not what
/// lies there.
fn lock(directory: &Path) -> Result<File, Error> {
    let disk = |doing| Error::disk(doing, directory);
    loop {
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(disk("creating")(error));
            }
            _ => {}
        }
        // A link in its place would have us clear what it leads to.
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let opened = File::options()
            .read(true)
            .custom_flags(flags.bits())
            .open(directory);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(disk("opening")(error)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let directory = directory.display();
                return Err(error!(Output, "another build is writing {directory}"));
            }
            Err(fs::TryLockError::Error(error)) => return Err(disk("locking")(error)),
        }
        let locked = file.metadata().map_err(disk("reading"))?;
        if fs::symlink_metadata(directory)
            .is_ok_and(|found| (found.dev(), found.ino()) == (locked.dev(), locked.ino()))
        {
            return Ok(file);
        }
    }
}
