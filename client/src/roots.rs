//! Whether the directory of a model is that of the root which the allow-list names.
//!
//! A root is one of two things, and a guest's keyset does not say which. Of a model in the image it is a digest over the
//! model's files, by the engine's rule: SHA-256 over, for each file present and sorted by name, the name, a zero byte,
//! the size (u64, little endian) and the file's SHA-256. Of a model on a volume it is the root hash of the volume's
//! dm-verity tree, which a directory cannot be held against: the volume's description (`model.json` of `image-builder
//! model pack`) names that hash and the digest of each file.
//!
//! Trusted: the description, which the owner of the allow-list checked with `image-builder model verify`. Promised: a
//! directory whose files are others than those of the root is refused, as far as files are there: a client needs only the
//! tokenizer, and the weights are looked at where they lie beside it.

use crate::config::{ModelConfig, read_file};
use crate::error::ClientError;
use crate::limits::DESCRIPTION_BYTES_MAX;
use registers::{Digest32, VerityRoot};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::io::Read;
use std::path::Path;
use wire::Digest;

/// The tokenizer, in the form of Hugging Face's `tokenizers`.
pub(crate) const TOKENIZER: &str = "tokenizer.json";
/// Its chat template and special tokens.
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
/// What a client or an engine reads of a model, sorted.
const FILES: [&str; 4] = [CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG];

/// Holds the directory of a model against its root.
pub(crate) fn check(config: &ModelConfig) -> Result<(), ClientError> {
    let checked = match &config.volume {
        Some(description) => {
            let text = read_file(description, DESCRIPTION_BYTES_MAX)?;
            Description::parse(&text).and_then(|described| described.check(config))
        }
        None => check_files(config),
    };
    checked.map_err(|reason| ClientError::Config(format!("model `{}`: {reason}", config.id)))
}

fn check_files(config: &ModelConfig) -> Result<(), String> {
    match root_of(&config.dir).map_err(|e| e.to_string())? {
        Some(found) if found != config.root => Err(format!(
            "the files in {} have root {found}, the configuration allows {}; if that is the root hash of a volume, name the \
             volume's description with `volume: model.json`",
            config.dir.display(),
            config.root
        )),
        _ => Ok(()),
    }
}

/// What a client reads of a volume's description.
#[derive(Deserialize)]
struct Description {
    version: u64,
    volume: VerityRoot,
    files: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    path: String,
    bytes: u64,
    sha256: Digest32,
}

impl Description {
    fn parse(text: &[u8]) -> Result<Self, String> {
        let described: Description = serde_json::from_slice(text)
            .map_err(|e| format!("the description of its volume: {e}"))?;
        match described.version {
            1 => Ok(described),
            other => Err(format!(
                "the description of its volume has version {other}, this program reads 1"
            )),
        }
    }

    fn check(&self, config: &ModelConfig) -> Result<(), String> {
        let described = self.volume.verity_hash;
        if described.0 != config.root.0 {
            return Err(format!(
                "the described volume has root {described}, the configuration allows {}",
                config.root
            ));
        }
        for name in FILES {
            self.check_file(&config.dir, name)?;
        }
        Ok(())
    }

    fn check_file(&self, directory: &Path, name: &str) -> Result<(), String> {
        let path = directory.join(name);
        let listed = self.files.iter().find(|file| file.path == name);
        let needed = [TOKENIZER, TOKENIZER_CONFIG].contains(&name);
        match (listed, path.exists()) {
            (Some(_), false) if needed => Err(format!("{} is missing", path.display())),
            (_, false) => Ok(()),
            (None, true) => Err(format!("{} is not in the volume", path.display())),
            (Some(listed), true) => {
                let found = digest_of(&path).map_err(|e| format!("{}: {e}", path.display()))?;
                match found == (listed.bytes, listed.sha256.0) {
                    true => Ok(()),
                    false => Err(format!("{} is another than the volume's", path.display())),
                }
            }
        }
    }
}

/// The root of the files in a directory. `None` where the weights are not there.
fn root_of(directory: &Path) -> std::io::Result<Option<Digest>> {
    if !directory.join(WEIGHTS).exists() {
        return Ok(None);
    }
    let mut listing = Sha256::new();
    for name in FILES {
        let path = directory.join(name);
        if name == TOKENIZER_CONFIG && !path.exists() {
            continue;
        }
        let (size, digest) = digest_of(&path)?;
        listing.update(name.as_bytes());
        listing.update([0]);
        listing.update(size.to_le_bytes());
        listing.update(digest);
    }
    Ok(Some(Digest(listing.finalize().into())))
}

fn digest_of(path: &Path) -> std::io::Result<(u64, [u8; 32])> {
    let mut file = std::fs::File::open(path)?;
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0u64, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, hash.finalize().into()));
        }
        hash.update(&buffer[..read]);
        size += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A directory with these files, and a model in it whose volume has the root `[root; 32]` and is described so.
    fn world(
        files: &[(&str, &str)],
        described: serde_json::Value,
        root: u8,
    ) -> (tempfile::TempDir, ModelConfig) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let description = directory.path().join("model.json");
        std::fs::write(&description, described.to_string()).unwrap();
        let config = ModelConfig {
            id: "m".into(),
            root: Digest([root; 32]),
            dir: directory.path().to_owned(),
            volume: Some(description),
        };
        (directory, config)
    }

    fn described(files: &[(&str, &str)]) -> serde_json::Value {
        let files = files.iter().map(|(name, text)| {
            serde_json::json!({"path": name, "bytes": text.len(), "sha256": Digest32::of(text.as_bytes())})
        });
        serde_json::json!({
            "version": 1,
            "id": "m",
            "volume": {"verity_hash": Digest32([7; 32]), "salt": Digest32([0; 32]), "data_blocks": 3},
            "files": files.collect::<Vec<_>>(),
        })
    }

    fn said(checked: Result<(), ClientError>) -> String {
        checked.unwrap_err().to_string()
    }

    const ALL: [(&str, &str); 3] = [
        (WEIGHTS, "weights"),
        (TOKENIZER, "words"),
        (TOKENIZER_CONFIG, "a template"),
    ];

    #[test]
    fn a_directory_of_a_volume_is_held_against_the_description() {
        let good = described(&ALL);
        // The weights need not be beside the tokenizer.
        for files in [&ALL[..], &ALL[1..]] {
            let (_directory, config) = world(files, good.clone(), 7);
            assert_eq!(check(&config), Ok(()));
        }
        let (_directory, other) = world(&ALL, good.clone(), 8);
        assert!(said(check(&other)).contains("the described volume has root 0707"));
        let (_directory, without) = world(&ALL[..2], good.clone(), 7);
        assert!(said(check(&without)).contains("tokenizer_config.json is missing"));
        for (name, text) in ALL {
            let changed = ALL.map(|(one, before)| match one == name {
                true => (one, "other"),
                false => (one, before),
            });
            let (_directory, config) = world(&changed, good.clone(), 7);
            let expected = format!("{name} is another than the volume's");
            assert!(said(check(&config)).contains(&expected), "{text}");
        }
        let (_directory, more) = world(&ALL, described(&ALL[..2]), 7);
        assert!(said(check(&more)).contains("tokenizer_config.json is not in the volume"));
    }

    #[test]
    fn a_description_that_is_none_is_refused_whatever_byte_is_changed() {
        let (_directory, config) = world(&ALL, serde_json::json!({"version": 1}), 7);
        assert!(said(check(&config)).contains("the description of its volume"));
        let mut later = described(&ALL);
        later["version"] = 2.into();
        let (_directory, config) = world(&ALL, later, 7);
        assert!(said(check(&config)).contains("has version 2"));
        let gone = ModelConfig {
            volume: Some(PathBuf::from("/nowhere/model.json")),
            ..config
        };
        assert!(said(check(&gone)).contains("/nowhere/model.json"));
        let good = described(&ALL).to_string();
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] ^= 1;
            let _ = Description::parse(&bytes);
        }
    }

    #[test]
    fn a_root_that_is_not_of_the_files_is_refused_with_what_a_volume_would_need() {
        let all = [(CONFIG, "{}"), ALL[0], ALL[1], ALL[2]];
        let (_directory, mut config) = world(&all, described(&ALL), 7);
        config.volume = None;
        let reason = said(check(&config));
        assert!(reason.contains("`volume: model.json`"), "{reason}");
        config.root = root_of(&config.dir).unwrap().expect("weights are there");
        assert_eq!(check(&config), Ok(()));
    }
}
