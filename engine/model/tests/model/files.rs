//! Which bytes a model is.

use crate::changed::{changed, original, read};
use model::{File, FilesError, ModelRoot, limits};

fn whole() -> model::ModelFiles {
    changed(File::Config, |bytes| bytes)
}

/// A file of the model, unless it is `absent`.
fn there(file: File, absent: File) -> Option<Vec<u8>> {
    (file != absent && file != File::Gguf).then(|| original(file))
}

#[test]
fn weights_have_one_of_two_names_and_count_under_it() {
    let gguf = |file| match file {
        File::Gguf => Some(original(File::Weights)),
        file => there(file, File::Weights),
    };
    let files = read(gguf).expect("the weights are there");
    assert_eq!(files.weights_file(), File::Gguf);
    assert_ne!(files.root(), whole().root());
    let both = read(|file| match file {
        File::Gguf => Some(Vec::new()),
        file => there(file, File::Gguf),
    });
    assert_eq!(both.err(), Some(FilesError::TwoWeights));
}

#[test]
fn a_wrong_root_is_refused_and_every_byte_of_every_file_counts() {
    let root = whole().root();
    assert_eq!(root.to_string().parse(), Ok(root));
    assert!(whole().expect_root(&root).is_ok());
    for file in File::ALL.into_iter().filter(|file| *file != File::Gguf) {
        let files = changed(file, |mut bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        });
        let found = files.root();
        assert_ne!(found, root);
        let refused = files.expect_root(&root).err();
        let expected = root;
        assert_eq!(refused, Some(FilesError::WrongRoot { found, expected }));
    }
    let without = read(|file| there(file, File::TokenizerConfig));
    assert_ne!(without.expect("may be absent").root(), root);
}

#[test]
fn the_root_is_the_documented_listing() {
    use sha2::{Digest, Sha256};
    let mut listing = Sha256::new();
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        let file = File::ALL.into_iter().find(|file| file.name() == name);
        let bytes = original(file.expect("is one of the names"));
        listing.update(name);
        listing.update([0]);
        listing.update((bytes.len() as u64).to_le_bytes());
        listing.update(Sha256::digest(&bytes));
    }
    let root = whole().root();
    assert_eq!(root, ModelRoot(listing.finalize().into()));
    // Whoever keeps no byte of the files comes to the same.
    let opened = |file| {
        if file == File::Gguf {
            return Ok(None);
        }
        let bytes = original(file);
        model::Opened::new(file, bytes.len() as u64, std::io::Cursor::new(bytes)).map(Some)
    };
    assert_eq!(ModelRoot::read(&mut { opened }), Ok(root));
}

#[test]
fn files_that_are_absent_or_too_large_are_refused() {
    for file in [File::Config, File::Weights, File::Tokenizer] {
        let refused = read(|one| there(one, file)).err();
        assert_eq!(refused, Some(FilesError::Missing { file }));
    }
    let (file, bytes_max) = (File::Config, limits::CONFIG_BYTES_MAX);
    let large = |one| match one == file {
        true => Some(vec![b' '; bytes_max as usize + 1]),
        false => there(one, File::Gguf),
    };
    let bytes = bytes_max + 1;
    let too_large = Some(FilesError::TooLarge {
        file,
        bytes,
        bytes_max,
    });
    assert_eq!(read(large).err(), too_large);
    // One that claims to be small and grows.
    let grown = model::Opened::new(file, 1, std::io::repeat(b' ')).expect("claims to be small");
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
