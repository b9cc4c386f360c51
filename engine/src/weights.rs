//! A disk becomes weights: trust boundary B6.
//!
//! The files of a model are read, never mapped: a page fault on a host-backed mapping would tell
//! the host which rows of an embedding table, hence which tokens, a prompt touched. `model` bounds and hashes them.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use model::weights::Weights;
use model::{FilesError, ModelError, ModelFiles, Opened};

/// Reads the small files of a model's directory. Its weights are opened when they are wanted: the directory has to stay until then.
pub fn read(directory: &Path) -> Result<ModelFiles, FilesError> {
    let directory = directory.to_owned();
    ModelFiles::read(move |name: &str| open(&directory, name))
}

/// The tensors of a model's files, row by row.
pub(crate) fn of_files(files: &ModelFiles) -> Result<Weights, ModelError> {
    files.open_weights()
}

fn open(directory: &Path, name: &str) -> Result<Option<Opened>, FilesError> {
    let path = directory.join(name);
    // Asked before opening: opening a pipe would wait for its writer.
    match fs::metadata(&path) {
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(FilesError::unreadable(name)(error)),
        Ok(entry) if !entry.is_file() => {
            return Err(FilesError::NotAFile { file: name.into() });
        }
        Ok(_) => {}
    }
    let opened = fs::File::open(&path).map_err(FilesError::unreadable(name))?;
    let entry = opened.metadata().map_err(FilesError::unreadable(name))?;
    Opened::new(name, entry.len(), opened).map(Some)
}

/// Also where a directory of its path is a file.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
