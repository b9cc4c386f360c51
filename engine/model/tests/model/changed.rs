//! The model that tests make, with one file changed. In memory: this crate opens no file.

use std::io::Cursor;
use std::sync::LazyLock;

use model::{File, FilesError, ModelFiles, Opened};
use serde_json::Value;

/// A file of the unchanged model.
pub fn original(file: File) -> Vec<u8> {
    static FILES: LazyLock<[(&str, Vec<u8>); 4]> = LazyLock::new(random_model::files);
    let (_, content) = { FILES.iter() }
        .find(|(name, _)| *name == file.name())
        .expect("the model has that file");
    content.clone()
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
    let content = |one| match one {
        File::Gguf => None,
        one if one == file => Some(change(original(one))),
        one => Some(original(one)),
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
