//! The model that tests make, with one file changed. In memory: this crate opens no file.

use std::io::Cursor;
use std::sync::LazyLock;

use model::{File, FilesError, ModelFiles, Opened};
use serde_json::Value;

/// The files of that model.
pub const FOUR: [File; 4] = [
    File::Config,
    File::Weights,
    File::Tokenizer,
    File::TokenizerConfig,
];

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
    let files: Vec<_> = { File::ALL.into_iter() }
        .filter_map(|file| Some((file.name(), content(file)?)))
        .collect();
    ModelFiles::read(directory(files))
}

/// A directory of these files.
pub fn directory<N: AsRef<str> + 'static>(
    files: Vec<(N, Vec<u8>)>,
) -> impl Fn(&str) -> Result<Option<Opened>, FilesError> {
    move |name| {
        let found = files.iter().find(|(one, _)| one.as_ref() == name);
        let open =
            |bytes: &Vec<u8>| Opened::new(name, bytes.len() as u64, Cursor::new(bytes.clone()));
        found.map(|(_, bytes)| open(bytes)).transpose()
    }
}

pub fn changed(file: File, change: impl Fn(Vec<u8>) -> Vec<u8>) -> ModelFiles {
    let content = |one| match one {
        one if one == file => Some(change(original(one))),
        one => FOUR.contains(&one).then(|| original(one)),
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
