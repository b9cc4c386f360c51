//! A model's directory, opened: small files are held, weights stay on the disk until they are packed, row by row. Trust boundary B6.
//!
//! Nothing is mapped: a page fault on a host-backed mapping would tell the host which rows of an embedding table, hence which tokens,
//! a prompt touched. What was read is hashed while it is read, so a root is compared once the weights are in place and before
//! anything is computed with them.
//!
//! ```text
//! Stored::open      the small files, within their limits; the names of the weights
//! Stored::weights   a stream of the weights' rows, for `Decoder::load` or `Encoder::load`
//! Stored::root      from the digests of the small files and of the weights that were loaded
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use model::weights::{Part, Weights};
use model::{File, FileDigest, ModelError, ModelRoot, limits};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// A model's directory.
pub struct Stored {
    directory: PathBuf,
    small: BTreeMap<&'static str, (Vec<u8>, FileDigest)>,
    weights: Vec<String>,
}

/// Why a directory is no model.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs)]
pub enum StoredError {
    #[error("the model directory has no {0}")]
    Missing(&'static str),
    #[error("the model directory has no weights: neither *.safetensors nor one *.gguf")]
    NoWeights,
    #[error("the model directory has {0} beside other weights")]
    OtherWeights(String),
    #[error("{0} is not a plain file")]
    NotAFile(String),
    #[error("{name} has more than {bytes_max} bytes")]
    TooLarge { name: &'static str, bytes_max: u64 },
    #[error("{name} cannot be read: {kind}")]
    Unreadable { name: String, kind: ErrorKind },
    #[error(
        "a root covers model.safetensors, model.gguf and shards with their index; the weights are in {0}"
    )]
    NotOfARoot(String),
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Stored {
    /// Reads the small files and looks which weights there are.
    pub fn open(directory: &Path) -> Result<Self, StoredError> {
        let mut small = BTreeMap::new();
        for (name, bytes_max) in SMALL {
            if let Some(held) = hold(directory, name, bytes_max)? {
                small.insert(name, held);
            }
        }
        if !small.contains_key(CONFIG) {
            return Err(StoredError::Missing(CONFIG));
        }
        Ok(Stored {
            weights: weights(directory)?,
            directory: directory.to_owned(),
            small,
        })
    }

    /// `config.json`
    pub fn config(&self) -> &[u8] {
        self.file(CONFIG).unwrap_or_default()
    }

    /// A small file by name, if it is there.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        Some(&self.small.get(name)?.0)
    }

    /// A small file that has to be there.
    pub fn needed(&self, name: &'static str) -> Result<&[u8], StoredError> {
        self.file(name).ok_or(StoredError::Missing(name))
    }

    /// Size and SHA-256 of a small file.
    pub fn digest(&self, name: &str) -> Option<FileDigest> {
        Some(self.small.get(name)?.1)
    }

    /// The weights, with their headers read.
    pub fn weights(&self) -> Result<Weights, StoredError> {
        let parts = self.weights.iter().map(|name| {
            let unreadable = unreadable(name);
            let file = fs::File::open(self.directory.join(name)).map_err(&unreadable)?;
            let bytes = file.metadata().map_err(&unreadable)?.len();
            let (name, content) = (name.clone(), Box::new(file));
            Ok(Part {
                name,
                bytes,
                content,
            })
        });
        let parts = parts.collect::<Result<_, StoredError>>()?;
        Ok(Weights::open(parts)?)
    }

    /// The model's root, from what was `read` of the weights, by file.
    ///
    /// # Errors
    /// The weights are files that a root does not cover: such a model has to lie on a volume.
    pub fn root(&self, read: &BTreeMap<String, FileDigest>) -> Result<ModelRoot, StoredError> {
        let indexed = self.file(File::Index.name()).is_some();
        let covered =
            |name: &str| indexed || [File::Weights, File::Gguf].map(File::name).contains(&name);
        if let Some(name) = self.weights.iter().find(|name| !covered(name)) {
            return Err(StoredError::NotOfARoot(name.clone()));
        }
        let small = self.small.iter();
        let small = small.map(|(name, (_, digest))| ((*name).to_owned(), *digest));
        let read = read.iter().map(|(name, digest)| (name.clone(), *digest));
        Ok(ModelRoot::of(&small.chain(read).collect()))
    }
}

/// Reads a file whole, if it is there.
fn hold(
    directory: &Path,
    name: &'static str,
    bytes_max: u64,
) -> Result<Option<(Vec<u8>, FileDigest)>, StoredError> {
    let path = directory.join(name);
    let unreadable = unreadable(name);
    // Asked before opening: opening a pipe would wait for its writer.
    match fs::metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
        Ok(entry) if !entry.is_file() => return Err(StoredError::NotAFile(name.into())),
        Ok(_) => {}
    }
    let mut content = Vec::new();
    let file = fs::File::open(&path).map_err(&unreadable)?;
    let read = file.take(bytes_max + 1).read_to_end(&mut content);
    let bytes = read.map_err(&unreadable)? as u64;
    if bytes > bytes_max {
        return Err(StoredError::TooLarge { name, bytes_max });
    }
    let sha256 = Sha256::digest(&content).into();
    Ok(Some((content, FileDigest { bytes, sha256 })))
}

/// The names of the files of weights, in order: all `*.safetensors`, or the only `*.gguf`.
fn weights(directory: &Path) -> Result<Vec<String>, StoredError> {
    let (mut tensors, mut gguf) = (Vec::new(), Vec::new());
    let unreadable = unreadable("the directory");
    for entry in fs::read_dir(directory).map_err(&unreadable)? {
        let entry = entry.map_err(&unreadable)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let names = match name.rsplit_once('.') {
            Some((_, "safetensors")) => &mut tensors,
            Some((_, "gguf")) => &mut gguf,
            _ => continue,
        };
        match fs::metadata(entry.path()).map_err(&unreadable)?.is_file() {
            true => names.push(name),
            false => return Err(StoredError::NotAFile(name)),
        }
    }
    tensors.sort_unstable();
    match (gguf.pop(), &tensors[..]) {
        (None, []) => Err(StoredError::NoWeights),
        (None, _) => Ok(tensors),
        (Some(one), []) if gguf.is_empty() => Ok(vec![one]),
        (Some(one), _) => Err(StoredError::OtherWeights(one)),
    }
}

fn unreadable(name: &str) -> impl Fn(std::io::Error) -> StoredError {
    move |error| StoredError::Unreadable {
        name: name.into(),
        kind: error.kind(),
    }
}

const CONFIG: &str = File::Config.name();
/// The files that are held, with the most bytes of each.
const SMALL: [(&str, u64); 7] = [
    (CONFIG, limits::CONFIG_BYTES_MAX),
    (File::Generation.name(), limits::CONFIG_BYTES_MAX),
    (File::Index.name(), limits::INDEX_BYTES_MAX),
    (File::Tokenizer.name(), limits::TOKENIZER_BYTES_MAX),
    (
        File::TokenizerConfig.name(),
        limits::TOKENIZER_CONFIG_BYTES_MAX,
    ),
    (File::Modules.name(), limits::CONFIG_BYTES_MAX),
    (File::Pooling.name(), limits::CONFIG_BYTES_MAX),
];
