//! The model that the repository carries, with one file changed. In memory: this crate opens no file.

use std::io::Cursor;
use std::path::Path;

use model::{File, FilesError, ModelFiles, Opened};
use serde_json::Value;

/// A file of the unchanged model.
pub fn original(file: File) -> Vec<u8> {
    // The tests of `model` and of `engine` share this module.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut above = here.ancestors().map(|above| above.join("models/tiny-chat"));
    let directory = above.find(|directory| directory.is_dir());
    let directory = directory.expect("the repository carries the model");
    std::fs::read(directory.join(file.name())).expect("reads")
}

/// A model of these contents.
pub fn read(content: impl Fn(File) -> Option<Vec<u8>>) -> Result<ModelFiles, FilesError> {
    ModelFiles::read(&mut |file| {
        let content = content(file);
        let opened = content.map(|c| Opened::new(file, c.len() as u64, Cursor::new(c)));
        opened.transpose()
    })
}

pub fn changed(file: File, change: impl Fn(Vec<u8>) -> Vec<u8>) -> ModelFiles {
    let content = |one| match one == file {
        true => Some(change(original(one))),
        false => Some(original(one)),
    };
    read(content).expect("the files are within their limits")
}

pub fn changed_json(file: File, change: impl Fn(&mut Value)) -> ModelFiles {
    changed(file, |bytes| {
        let mut json: Value = serde_json::from_slice(&bytes).expect("is JSON");
        change(&mut json);
        json.to_string().into_bytes()
    })
}
