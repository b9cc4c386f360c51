//! A file or directory beside a recipe: its digest, and a copy of it.
//!
//! The digest of a directory is over a list of its files, sorted by path: for each whether it may be executed, its size, its
//! SHA-256 and its path. Dates, owners and the rest of a mode are what a checkout made of them and do not count; a directory is
//! there because of the files in it. Links are refused: where one leads depends on where it lies.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::limits::{CHUNK_BYTES, FILE_BYTES_MAX, INPUT_FILES_MAX, SOURCE_DIRECTORY_DEPTH_MAX};
use crate::store::FetchError;
use registers::Digest32;

/// What lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Of all files together.
    pub bytes: u64,
    /// Of the file, or of the list of files.
    pub sha256: Digest32,
}

/// Why something cannot be an input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum DirectoryError {
    #[error(transparent)]
    Disk(#[from] FetchError),
    #[error("is not there: {path}")]
    Absent { path: String },
    #[error("has {path}, which is neither a file nor a directory")]
    Odd { path: String },
    #[error("has {path}, whose name is not plain")]
    Name { path: String },
    #[error("has more than {max} {what}")]
    TooMuch { what: &'static str, max: u64 },
}

/// Reads what lies at `path`, and copies it into the new directory `to` if there is one: a directory as it is, a file under its name.
pub fn copy(path: &Path, to: Option<&Path>) -> Result<Found, DirectoryError> {
    let disk = FetchError::disk("reading", path);
    let metadata = match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(DirectoryError::Absent { path: show(path) });
        }
        metadata => metadata.map_err(disk)?,
    };
    if let Some(to) = to {
        fs::create_dir(to).map_err(FetchError::disk("creating", to))?;
    }
    let mut walk = Walk::default();
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

#[derive(Default)]
struct Walk {
    files: Vec<Seen>,
    bytes: u64,
}

struct Seen {
    path: String,
    executable: bool,
    bytes: u64,
    sha256: Digest32,
}

impl Walk {
    fn directory(
        &mut self,
        from: &Path,
        below: &str,
        to: Option<&Path>,
        depth: usize,
    ) -> Result<(), DirectoryError> {
        if depth > SOURCE_DIRECTORY_DEPTH_MAX {
            return Err(too_much(
                "directories in each other",
                SOURCE_DIRECTORY_DEPTH_MAX as u64,
            ));
        }
        let disk = FetchError::disk("reading", from);
        for entry in fs::read_dir(from).map_err(&disk)? {
            let entry = entry.map_err(&disk)?;
            let (place, kind) = (entry.path(), entry.file_type().map_err(&disk)?);
            let name = entry.file_name();
            let plain = |name: &&str| !name.contains(|c: char| c.is_control() || c == '\\');
            let name = name.to_str().filter(plain);
            let name = name.ok_or_else(|| DirectoryError::Name { path: show(&place) })?;
            let path = match below {
                "" => name.to_owned(),
                below => format!("{below}/{name}"),
            };
            let to = to.map(|to| to.join(name));
            if kind.is_dir() {
                if let Some(to) = &to {
                    fs::create_dir(to).map_err(FetchError::disk("creating", to))?;
                }
                self.directory(&place, &path, to.as_deref(), depth + 1)?;
            } else if kind.is_file() {
                self.file(&place, &path, to.as_deref())?;
            } else {
                return Err(DirectoryError::Odd { path: show(&place) });
            }
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, path: &str, to: Option<&Path>) -> Result<(), DirectoryError> {
        if self.files.len() >= INPUT_FILES_MAX {
            return Err(too_much("files", INPUT_FILES_MAX as u64));
        }
        let disk = FetchError::disk("reading", from);
        let mut file = File::open(from).map_err(&disk)?;
        let metadata = file.metadata().map_err(&disk)?;
        let executable = metadata.permissions().mode() & 0o100 != 0;
        let mut output = match to {
            Some(to) => {
                let made = File::create_new(to).map_err(FetchError::disk("creating", to))?;
                let mode = if executable { 0o755 } else { 0o644 };
                made.set_permissions(Permissions::from_mode(mode))
                    .map_err(FetchError::disk("setting the mode of", to))?;
                Some((made, to))
            }
            None => None,
        };
        let (mut hasher, mut bytes) = (Sha256::new(), 0);
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let got = file.read(&mut buffer).map_err(&disk)?;
            if got == 0 {
                break;
            }
            bytes += got as u64;
            if self.bytes + bytes > FILE_BYTES_MAX {
                return Err(too_much("bytes", FILE_BYTES_MAX));
            }
            hasher.update(&buffer[..got]);
            if let Some((output, to)) = &mut output {
                output
                    .write_all(&buffer[..got])
                    .map_err(FetchError::disk("writing", to))?;
            }
        }
        self.bytes += bytes;
        self.files.push(Seen {
            path: path.to_owned(),
            executable,
            bytes,
            sha256: Digest32(hasher.finalize().into()),
        });
        Ok(())
    }
}

fn too_much(what: &'static str, max: u64) -> DirectoryError {
    DirectoryError::TooMuch { what, max }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}
