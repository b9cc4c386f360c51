//! A directory is held against the description of a volume.

use crate::changed::original;
use model::volume::{Description, VolumeError};
use model::{File, FilesError, ModelRoot, Opened};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Cursor;

fn hex(bytes: [u8; 32]) -> String {
    ModelRoot(bytes).to_string()
}

fn described(files: &[(File, &str)]) -> Value {
    let files = files.iter().map(|(file, text)| {
        let sha256: [u8; 32] = Sha256::digest(text).into();
        json!({"path": file.name(), "bytes": text.len(), "sha256": hex(sha256)})
    });
    json!({
        "version": 1,
        "id": "m",
        "volume": {"verity_hash": hex([7; 32]), "salt": hex([0; 32]), "data_blocks": 3},
        "files": files.collect::<Vec<_>>(),
    })
}

/// Whether a directory of `files` is that of the described volume, whose root should be `[root; 32]`.
fn check(files: &[(File, &'static str)], described: &Value, root: u8) -> Result<(), VolumeError> {
    let described = Description::parse(described.to_string().as_bytes())?;
    described.check(&ModelRoot([root; 32]), &|name: &str| {
        let found = files.iter().find(|(one, _)| one.name() == name);
        let opened =
            found.map(|(_, text)| Opened::new(name, text.len() as u64, Cursor::new(*text)));
        opened.transpose()
    })
}

const ALL: [(File, &str); 3] = [
    (File::Weights, "weights"),
    (File::Tokenizer, "words"),
    (File::TokenizerConfig, "a template"),
];

#[test]
fn a_directory_of_a_volume_is_held_against_the_description() {
    let good = described(&ALL);
    // The weights need not be beside the tokenizer.
    assert_eq!(check(&ALL, &good, 7), Ok(()));
    assert_eq!(check(&ALL[1..], &good, 7), Ok(()));
    let other = check(&ALL, &good, 8).unwrap_err().to_string();
    assert!(
        other.contains("the described volume has root 0707"),
        "{other}"
    );
    let file = File::TokenizerConfig;
    let missing = VolumeError::Files(FilesError::Missing { file });
    assert_eq!(check(&ALL[..2], &good, 7), Err(missing));
    for (file, _) in ALL {
        let changed = ALL.map(|(one, before)| match one == file {
            true => (one, "other"),
            false => (one, before),
        });
        assert_eq!(
            check(&changed, &good, 7),
            Err(VolumeError::Another(file.name().into()))
        );
    }
    let more = check(&ALL, &described(&ALL[..2]), 7);
    assert_eq!(more, Err(VolumeError::NotInTheVolume(file.name().into())));
}

#[test]
fn a_description_that_is_none_is_refused_whatever_byte_is_changed() {
    let refused = |text: &[u8]| Description::parse(text).unwrap_err().to_string();
    let none = refused(b"{\"version\": 1}");
    assert!(none.contains("the description of the volume"), "{none}");
    let mut later = described(&ALL);
    later["version"] = 2.into();
    let later = refused(later.to_string().as_bytes());
    assert!(later.contains("has version 2"), "{later}");
    let good = described(&ALL).to_string();
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] ^= 1;
        let _ = Description::parse(&bytes);
    }
    // The model itself is no description either.
    refused(&original(File::Config));
}
