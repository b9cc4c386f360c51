//! Which bytes a model is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::changed::{FOUR, changed, directory, original};
use model::weights::Rows;
use model::{File, FilesError, ModelError, ModelFiles, ModelRoot, Opened, limits};
use sha2::{Digest, Sha256};

fn whole() -> ModelFiles {
    changed(File::Config, |bytes| bytes)
}

/// The files of the model but for `absent`, with `more`.
fn with(absent: &[File], more: &[(&'static str, &[u8])]) -> Vec<(&'static str, Vec<u8>)> {
    let four = FOUR.into_iter().filter(|file| !absent.contains(file));
    let more = more.iter().map(|(name, bytes)| (*name, bytes.to_vec()));
    four.map(|file| (file.name(), original(file)))
        .chain(more)
        .collect()
}

fn root(files: &[(&'static str, Vec<u8>)]) -> Result<ModelRoot, FilesError> {
    let kept = ModelFiles::read(directory(files.to_vec())).and_then(|files| files.root());
    // Whoever keeps no byte of the files comes to the same.
    assert_eq!(ModelRoot::read(&directory(files.to_vec())), kept);
    kept
}

#[test]
fn a_wrong_root_is_refused_and_every_byte_of_every_file_counts() {
    let root = whole().root().expect("reads");
    assert_eq!(root.to_string().parse(), Ok(root));
    assert!(whole().expect_root(&root).is_ok());
    for file in FOUR {
        let files = changed(file, |mut bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        });
        let found = files.root().expect("reads");
        assert_ne!(found, root);
        let refused = files.expect_root(&root).err();
        let expected = root;
        assert_eq!(refused, Some(FilesError::WrongRoot { found, expected }));
    }
    let without = with(&[File::TokenizerConfig], &[]);
    let without = ModelFiles::read(directory(without)).expect("may be absent");
    assert_ne!(without.root(), Ok(root));
}

/// The documented listing.
fn listed(files: &[(&'static str, Vec<u8>)]) -> ModelRoot {
    let mut files = files.to_vec();
    files.sort();
    let mut listing = Sha256::new();
    for (name, bytes) in files {
        listing.update(name);
        listing.update([0]);
        listing.update((bytes.len() as u64).to_le_bytes());
        listing.update(Sha256::digest(&bytes));
    }
    ModelRoot(listing.finalize().into())
}

#[test]
fn the_root_is_the_documented_listing_whatever_files_a_model_has() {
    let index = br#"{"weight_map": {"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors"}}"#;
    let shards: [(&str, &[u8]); 3] = [
        (File::Index.name(), index),
        ("model-00001-of-00002.safetensors", b"one"),
        ("model-00002-of-00002.safetensors", b"two"),
    ];
    for files in [
        with(&[], &[]),
        with(
            &[],
            &[
                ("generation_config.json", b"{}"),
                ("modules.json", b"[]"),
                ("1_Pooling/config.json", b"{}"),
                ("additional_chat_templates/tool_use.jinja", b"x"),
                ("chat_template.jinja", b"x"),
            ],
        ),
        with(&[File::Weights], &[("model.gguf", b"weights")]),
        with(&[File::Weights], &shards),
    ] {
        assert_eq!(root(&files), Ok(listed(&files)));
        let mut more = files.clone();
        more.push(("README.md", b"not part of the model".to_vec()));
        assert_eq!(root(&more), root(&files));
    }
    let mut names: Vec<&str> = File::ALL.map(File::name).to_vec();
    names.sort();
    assert_eq!(names, File::ALL.map(File::name));
}

#[test]
fn a_directory_has_one_set_of_weights() {
    let refused = |absent: &[File], more: &[(&'static str, &[u8])]| {
        root(&with(absent, more)).expect_err("refused")
    };
    let two = FilesError::TwoWeights {
        one: File::Gguf,
        other: File::Weights,
    };
    assert_eq!(refused(&[], &[("model.gguf", b"")]), two);
    let index = |shard: &str| format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#);
    let good = index("a.safetensors");
    let two = FilesError::TwoWeights {
        one: File::Weights,
        other: File::Index,
    };
    assert_eq!(refused(&[], &[(File::Index.name(), good.as_bytes())]), two);
    let missing = FilesError::ShardMissing {
        shard: "a.safetensors".into(),
    };
    assert_eq!(
        refused(&[File::Weights], &[(File::Index.name(), good.as_bytes())]),
        missing
    );
    for bad in ["../a.safetensors", "a.bin", "model.safetensors"] {
        let refused = refused(
            &[File::Weights],
            &[(File::Index.name(), index(bad).as_bytes())],
        );
        assert!(
            matches!(refused, FilesError::Index { .. }),
            "{bad}: {refused}"
        );
    }
}

#[test]
fn weights_are_hashed_while_they_are_read_and_have_to_be_the_same_again() {
    let odd = Arc::new(AtomicBool::new(false));
    let changes = odd.clone();
    let whole = directory(with(&[], &[]));
    let files = ModelFiles::read(move |name: &str| {
        let opened = whole(name)?;
        if name != File::Weights.name() || !changes.load(Ordering::Relaxed) {
            return Ok(opened);
        }
        let mut bytes = original(File::Weights);
        let last = bytes.len() - 4;
        bytes[last] ^= 1;
        Opened::new(name, bytes.len() as u64, std::io::Cursor::new(bytes)).map(Some)
    });
    let files = files.expect("reads");
    assert_eq!(files.digest(File::Weights), None);
    let plan = model::decoder::Config::of(&files)
        .expect("is a configuration")
        .plan();
    let load = || {
        let pass = |_: &_, rows: &mut Rows<'_>| rows.next().map(|_| ());
        files
            .open_weights()?
            .read::<ModelError>(&plan, pass)
            .map(|_| ())
    };
    assert_eq!(load(), Ok(()));
    let sha256: [u8; 32] = Sha256::digest(original(File::Weights)).into();
    assert_eq!(
        files.digest(File::Weights).map(|digest| digest.sha256),
        Some(sha256)
    );
    assert_eq!(load(), Ok(()));
    odd.store(true, Ordering::Relaxed);
    let file = File::Weights.name().to_owned();
    assert_eq!(load(), Err(ModelError::Files(FilesError::Changed { file })));
}

#[test]
fn files_that_are_absent_or_too_large_are_refused() {
    for file in [File::Config, File::Weights, File::Tokenizer] {
        assert_eq!(root(&with(&[file], &[])), Err(FilesError::Missing { file }));
    }
    let (name, bytes_max) = (File::Config.name(), limits::CONFIG_BYTES_MAX);
    let large = vec![b' '; bytes_max as usize + 1];
    let too_large = FilesError::TooLarge {
        file: name.into(),
        bytes: bytes_max + 1,
        bytes_max,
    };
    assert_eq!(
        root(&with(&[File::Config], &[(name, &large)])),
        Err(too_large)
    );
    // One that claims to be small and grows.
    let grown = Opened::new(name, 1, std::io::repeat(b' ')).expect("claims to be small");
    assert!(matches!(grown.digest(), Err(FilesError::TooLarge { .. })));
}

#[test]
fn roots_that_are_not_64_small_hexadecimal_digits_are_refused() {
    let good = "0f".repeat(32);
    assert_eq!(good.parse(), Ok(ModelRoot([0x0f; 32])));
    for bad in [
        &good[1..],
        &good[2..],
        &format!("{good}0"),
        &good.to_uppercase(),
        &"0g".repeat(32),
        "",
    ] {
        assert!(bad.parse::<ModelRoot>().is_err(), "{bad}");
    }
}
