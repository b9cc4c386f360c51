//! A disk becomes weights: trust boundary B6.
//!
//! The files of a model are read into anonymous memory, never mapped: a page fault on a host-backed mapping would tell
//! the host which rows of an embedding table, hence which tokens, a prompt touched. `model` bounds and hashes them.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use model::weights::{Part, Weights};
use model::{File, FilesError, ModelError, ModelFiles, Opened};

/// Reads a model's directory.
pub fn read(directory: &Path) -> Result<ModelFiles, FilesError> {
    ModelFiles::read(&mut |file| open(directory, file))
}

/// The tensors of files that are held in memory.
pub(crate) fn of_files(files: &ModelFiles) -> Result<Weights, ModelError> {
    let content = files.weights().to_vec();
    Weights::open(vec![Part {
        name: files.weights_file().name().into(),
        bytes: content.len() as u64,
        content: Box::new(std::io::Cursor::new(content)),
    }])
}

fn open(directory: &Path, file: File) -> Result<Option<Opened>, FilesError> {
    let path = directory.join(file.name());
    // Asked before opening: opening a pipe would wait for its writer.
    match fs::metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FilesError::unreadable(file)(error)),
        Ok(entry) if !entry.is_file() => return Err(FilesError::NotAFile { file }),
        Ok(_) => {}
    }
    let opened = fs::File::open(&path).map_err(FilesError::unreadable(file))?;
    let entry = opened.metadata().map_err(FilesError::unreadable(file))?;
    Opened::new(file, entry.len(), opened).map(Some)
}
