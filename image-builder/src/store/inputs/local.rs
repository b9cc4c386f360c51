//! A file or directory beside a recipe: its digest, and a copy of it.
//!
//! The digest of a directory is over a list of its files, sorted by path: for each whether it may be executed, its size, its
//! SHA-256 and its path. Dates, owners and the rest of a mode are what a checkout made of them and do not count; a directory is
//! there because of the files in it. Links are refused: where one leads depends on where it lies.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, error};
use crate::files;
use crate::formats::metered::{Metered, TooLong};
use crate::limits::{FILE_BYTES_MAX, INPUT_FILES_MAX, SOURCE_DIRECTORY_DEPTH_MAX};
use registers::Digest32;

/// What lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Of all files together.
    pub bytes: u64,
    /// Of the file, or of the list of files.
    pub sha256: Digest32,
}

/// Reads what lies at `path`, the `input` of a recipe, and copies it into the new directory `to` if there is one: a directory as it
/// is, a file under its name.
pub fn copy(input: &str, path: &Path, to: Option<&Path>) -> Result<Found, Error> {
    let mut walk = Walk {
        input,
        files: Vec::new(),
        bytes: 0,
    };
    let metadata = match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(walk.wrong(&format!("is not there: {}", path.display())));
        }
        metadata => metadata.map_err(Error::disk("reading", path))?,
    };
    if let Some(to) = to {
        files::create_directory(to)?;
    }
    if metadata.is_file() {
        let name = path.file_name().unwrap_or_default();
        walk.file(path, "", to.map(|to| to.join(name)).as_deref())?;
        let file = walk.files.first().expect("one file was added");
        return Ok(Found {
            bytes: walk.bytes,
            sha256: file.sha256,
        });
    }
    walk.directory(path, "", to, 0)?;
    walk.files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut hasher = Sha256::new_with_prefix("chrysalis directory 1\n");
    for file in &walk.files {
        let mode = if file.executable { 'x' } else { '-' };
        hasher.update(format!(
            "{mode} {} {} {}\n",
            file.bytes, file.sha256, file.path
        ));
    }
    Ok(Found {
        bytes: walk.bytes,
        sha256: Digest32(hasher.finalize().into()),
    })
}

struct Walk<'a> {
    input: &'a str,
    files: Vec<Seen>,
    bytes: u64,
}

struct Seen {
    path: String,
    executable: bool,
    bytes: u64,
    sha256: Digest32,
}

impl Walk<'_> {
    fn wrong(&self, problem: &str) -> Error {
        error!(Recipe, "the input {} {problem}", self.input)
    }

    fn directory(
        &mut self,
        from: &Path,
        below: &str,
        to: Option<&Path>,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > SOURCE_DIRECTORY_DEPTH_MAX {
            let problem =
                format!("has more than {SOURCE_DIRECTORY_DEPTH_MAX} directories in each other");
            return Err(self.wrong(&problem));
        }
        let disk = Error::disk("reading", from);
        for entry in fs::read_dir(from).map_err(&disk)? {
            let entry = entry.map_err(&disk)?;
            let (place, kind) = (entry.path(), entry.file_type().map_err(&disk)?);
            let wrong = |problem| self.wrong(&format!("has {}, {problem}", place.display()));
            let name = entry.file_name();
            let plain = |name: &&str| !name.contains(|c: char| c.is_control() || c == '\\');
            let name = name.to_str().filter(plain);
            let name = name.ok_or_else(|| wrong("whose name is not plain"))?;
            let path = match below {
                "" => name.to_owned(),
                below => format!("{below}/{name}"),
            };
            let to = to.map(|to| to.join(name));
            if kind.is_dir() {
                if let Some(to) = &to {
                    files::create_directory(to)?;
                }
                self.directory(&place, &path, to.as_deref(), depth + 1)?;
            } else if kind.is_file() {
                self.file(&place, &path, to.as_deref())?;
            } else {
                return Err(wrong("which is neither a file nor a directory"));
            }
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, path: &str, to: Option<&Path>) -> Result<(), Error> {
        if self.files.len() >= INPUT_FILES_MAX {
            return Err(self.wrong(&format!("has more than {INPUT_FILES_MAX} files")));
        }
        let file = files::open(from)?;
        let metadata = file.metadata().map_err(Error::disk("reading", from))?;
        let executable = metadata.permissions().mode() & 0o100 != 0;
        let mut metered = Metered::new(file, FILE_BYTES_MAX - self.bytes);
        let unread = |error| match TooLong::is(&error) {
            true => self.wrong(&format!("has more than {FILE_BYTES_MAX} bytes")),
            false => Error::disk("reading", from)(error),
        };
        if let Some(to) = to {
            let mut made = File::create_new(to).map_err(Error::disk("creating", to))?;
            files::set_mode(to, if executable { 0o755 } else { 0o644 })?;
            files::copy(&mut metered, (&mut made, to), unread)?;
        } else {
            io::copy(&mut metered, &mut io::sink()).map_err(unread)?;
        }
        let (bytes, sha256) = metered.finish();
        self.bytes += bytes;
        self.files.push(Seen {
            path: path.to_owned(),
            executable,
            bytes,
            sha256,
        });
        Ok(())
    }
}
