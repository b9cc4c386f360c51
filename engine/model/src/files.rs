//! The files of a model: the small ones are read once, whole, within their limits; weights are opened when they are wanted and read in
//! one pass. Whatever is read is hashed while it is, and weights that are read twice have to be the same.
//!
//! Only the names of [`File`], and the shards that an index names, exist here; whatever else lies in a model's directory is never
//! opened and never counts. Opening is the business of whoever links this crate ([`Directory`]).

mod opened;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

use crate::root::ModelRoot;
use crate::weights::{Part, Weights};
use crate::whole::index;
use crate::{ModelError, limits};

use opened::Held;
pub use opened::{FileDigest, Opened};

/// A file of a model. The order is that of the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// `1_Pooling/config.json`: how an embedder's vectors are made.
    Pooling,
    /// `additional_chat_templates/tool_use.jinja`: the chat template of conversations with tools.
    ToolTemplate,
    /// `chat_template.jinja`: the chat template, which then is none of `tokenizer_config.json`.
    ChatTemplate,
    /// `config.json`: the architecture and its sizes.
    Config,
    /// `generation_config.json`: further tokens that end a completion.
    Generation,
    /// `model.gguf`, in place of the next.
    Gguf,
    /// `model.safetensors`.
    Weights,
    /// `model.safetensors.index.json`, which names shards in place of both.
    Index,
    /// `modules.json`: the steps of an embedder.
    Modules,
    /// `tokenizer.json`, in the form of Hugging Face's `tokenizers`.
    Tokenizer,
    /// `tokenizer_config.json`: special tokens by name, and the chat template where the files above are not there.
    TokenizerConfig,
}

impl File {
    /// All of them.
    pub const ALL: [File; 11] = [
        File::Pooling,
        File::ToolTemplate,
        File::ChatTemplate,
        File::Config,
        File::Generation,
        File::Gguf,
        File::Weights,
        File::Index,
        File::Modules,
        File::Tokenizer,
        File::TokenizerConfig,
    ];
    /// Those that are held in memory.
    const SMALL: [File; 9] = [
        File::Config,
        File::Tokenizer,
        File::TokenizerConfig,
        File::ChatTemplate,
        File::ToolTemplate,
        File::Generation,
        File::Modules,
        File::Pooling,
        File::Index,
    ];

    /// Its name in the model's directory.
    pub const fn name(self) -> &'static str {
        match self {
            File::Pooling => "1_Pooling/config.json",
            File::ToolTemplate => "additional_chat_templates/tool_use.jinja",
            File::ChatTemplate => "chat_template.jinja",
            File::Config => "config.json",
            File::Generation => "generation_config.json",
            File::Gguf => "model.gguf",
            File::Weights => "model.safetensors",
            File::Index => "model.safetensors.index.json",
            File::Modules => "modules.json",
            File::Tokenizer => "tokenizer.json",
            File::TokenizerConfig => "tokenizer_config.json",
        }
    }

    /// Whether no model is read without it.
    pub const fn is_required(self) -> bool {
        matches!(self, File::Config | File::Tokenizer)
    }

    fn bytes_max(self) -> u64 {
        match self {
            File::Config | File::Generation | File::Modules | File::Pooling => {
                limits::CONFIG_BYTES_MAX
            }
            File::ChatTemplate | File::ToolTemplate => limits::TEMPLATE_BYTES_MAX as u64,
            File::Gguf | File::Weights => limits::WEIGHTS_BYTES_MAX,
            File::Index => limits::INDEX_BYTES_MAX,
            File::Tokenizer => limits::TOKENIZER_BYTES_MAX,
            File::TokenizerConfig => limits::TOKENIZER_CONFIG_BYTES_MAX,
        }
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why the files of a model could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs)]
pub enum FilesError {
    #[error("the model directory has no {file}")]
    Missing { file: File },
    #[error("the model directory has no {shard}, which {} names", File::Index)]
    ShardMissing { shard: String },
    #[error("the model directory has both {one} and {other}; one is its weights")]
    TwoWeights { one: File, other: File },
    #[error("{file} {why}")]
    Index { file: File, why: String },
    #[error("{file} is not a plain file")]
    NotAFile { file: String },
    #[error("{file} has {bytes} bytes; at most {bytes_max} are allowed")]
    TooLarge {
        file: String,
        bytes: u64,
        bytes_max: u64,
    },
    #[error("{file} cannot be read: {kind}")]
    Unreadable {
        file: String,
        kind: std::io::ErrorKind,
    },
    #[error("{file} is another than when it was read before")]
    Changed { file: String },
    #[error("the model's root is {found}, expected {expected}")]
    WrongRoot {
        found: ModelRoot,
        expected: ModelRoot,
    },
}

impl FilesError {
    /// The operating system's refusal to read the file called `name`.
    pub fn unreadable(name: &str) -> impl Fn(std::io::Error) -> FilesError {
        move |error| FilesError::Unreadable {
            file: name.to_owned(),
            kind: error.kind(),
        }
    }
}

/// The directory of one model, as whoever links this crate shows it.
pub trait Directory {
    /// Opens the file called so, which is one of [`File`]'s names or a shard's; `None` if there is none.
    fn open(&self, name: &str) -> Result<Option<Opened>, FilesError>;
}

impl<F: Fn(&str) -> Result<Option<Opened>, FilesError>> Directory for F {
    fn open(&self, name: &str) -> Result<Option<Opened>, FilesError> {
        self(name)
    }
}

/// The bytes of a model's small files, with the digests that were computed from these very bytes, and the way to its weights.
pub struct ModelFiles {
    small: BTreeMap<File, Held>,
    weights: Vec<String>,
    directory: Mutex<Box<dyn Directory + Send>>,
    read: Ledger,
}

/// Digests of the weights that were read, by name.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<BTreeMap<String, FileDigest>>>);

impl ModelFiles {
    /// Reads the small files and finds the weights.
    pub fn read(directory: impl Directory + Send + 'static) -> Result<Self, FilesError> {
        let mut small = BTreeMap::new();
        for file in File::SMALL {
            match directory.open(file.name())? {
                Some(opened) => {
                    small.insert(file, opened.hold()?);
                }
                None if file.is_required() => return Err(FilesError::Missing { file }),
                None => {}
            }
        }
        let weights = weights(&directory, small.get(&File::Index).map(Held::bytes))?;
        Ok(ModelFiles {
            small,
            weights,
            directory: Mutex::new(Box::new(directory)),
            read: Ledger::default(),
        })
    }

    /// The model's root. Weights that were not read yet are read for it.
    pub fn root(&self) -> Result<ModelRoot, FilesError> {
        let mut digests = BTreeMap::new();
        for (file, held) in &self.small {
            digests.insert(file.name().to_owned(), held.digest());
        }
        for name in &self.weights {
            let digest = match self.read.of(name) {
                Some(digest) => digest,
                None => self.read.record(name, self.open(name)?.digest()?)?,
            };
            digests.insert(name.clone(), digest);
        }
        Ok(ModelRoot::of(&digests))
    }

    /// These files, if they are the ones that `expected` names. Asked after the model was loaded, it costs no second pass.
    pub fn expect_root(self, expected: &ModelRoot) -> Result<Self, FilesError> {
        let (found, expected) = (self.root()?, *expected);
        match found == expected {
            true => Ok(self),
            false => Err(FilesError::WrongRoot { found, expected }),
        }
    }

    /// Size and SHA-256 of one of the files, of weights once they were read: whoever makes tokens must do so by the same ones.
    pub fn digest(&self, file: File) -> Option<FileDigest> {
        let small = self.small.get(&file).map(Held::digest);
        small.or_else(|| self.read.of(file.name()))
    }

    /// Opens the weights and reads their headers. Can be done again; what is read then has to be the same.
    pub fn open_weights(&self) -> Result<Weights, ModelError> {
        let mut parts = Vec::new();
        for name in &self.weights {
            let (bytes, content) = self.open(name)?.into_content();
            let name = name.clone();
            parts.push(Part {
                name,
                bytes,
                content,
            });
        }
        Ok(Weights::open(parts)?.recorded(self.read.clone()))
    }

    /// The names of its files of weights, sorted.
    pub fn weights(&self) -> &[String] {
        &self.weights
    }

    fn open(&self, name: &str) -> Result<Opened, FilesError> {
        let directory = self
            .directory
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let missing = || FilesError::ShardMissing {
            shard: name.to_owned(),
        };
        directory.open(name)?.ok_or_else(missing)
    }

    /// A small file, if there is one.
    pub fn small(&self, file: File) -> Option<&[u8]> {
        self.small.get(&file).map(Held::bytes)
    }

    /// `config.json`
    pub fn config(&self) -> &[u8] {
        self.small(File::Config).expect("required above")
    }

    /// `generation_config.json`, which may be absent.
    pub fn generation_config(&self) -> Option<&[u8]> {
        self.small(File::Generation)
    }

    /// `tokenizer.json`
    pub fn tokenizer(&self) -> &[u8] {
        self.small(File::Tokenizer).expect("required above")
    }

    /// `tokenizer_config.json`, which may be absent.
    pub fn tokenizer_config(&self) -> Option<&[u8]> {
        self.small(File::TokenizerConfig)
    }
}

impl Ledger {
    fn of(&self, name: &str) -> Option<FileDigest> {
        let read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        read.get(name).copied()
    }

    /// Notes what was read, which has to be what was read before.
    pub(crate) fn record(&self, name: &str, digest: FileDigest) -> Result<FileDigest, FilesError> {
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match read.insert(name.to_owned(), digest) {
            Some(before) if before != digest => Err(FilesError::Changed { file: name.into() }),
            _ => Ok(digest),
        }
    }
}

/// The names of the files of weights of a directory, sorted: one file, or the shards that its index names.
pub(crate) fn weights(
    directory: &dyn Directory,
    listed: Option<&[u8]>,
) -> Result<Vec<String>, FilesError> {
    let mut found = Vec::new();
    for file in [File::Gguf, File::Weights] {
        if directory.open(file.name())?.is_some() {
            found.push(file);
        }
    }
    found.extend(listed.map(|_| File::Index));
    match (found.as_slice(), listed) {
        ([], _) => Err(FilesError::Missing {
            file: File::Weights,
        }),
        ([File::Index], Some(listed)) => shards(listed),
        ([one], _) => Ok(vec![one.name().to_owned()]),
        ([one, other, ..], _) => Err(FilesError::TwoWeights {
            one: *one,
            other: *other,
        }),
    }
}

fn shards(listed: &[u8]) -> Result<Vec<String>, FilesError> {
    let read = index(listed.len() as u64, listed).map_err(|flaw| FilesError::Index {
        file: File::Index,
        why: flaw.to_string(),
    })?;
    let shards: BTreeSet<String> = read.into_values().collect();
    // Not under the name of another file, which would be hashed twice.
    match shards
        .iter()
        .find(|shard| File::ALL.iter().any(|file| file.name() == *shard))
    {
        Some(shard) => Err(FilesError::Index {
            file: File::Index,
            why: format!("names {shard} as a shard"),
        }),
        None => Ok(shards.into_iter().collect()),
    }
}

/// Whether any file of weights is in a directory: a client may have the small files alone.
pub fn has_weights(directory: &dyn Directory) -> Result<bool, FilesError> {
    for file in [File::Gguf, File::Weights] {
        if directory.open(file.name())?.is_some() {
            return Ok(true);
        }
    }
    let Some(listed) = directory.open(File::Index.name())? else {
        return Ok(false);
    };
    for shard in shards(listed.hold()?.bytes())? {
        if directory.open(&shard)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Size and SHA-256 of each file of a model, by name, none of which is kept.
pub(crate) fn digests(
    directory: &dyn Directory,
) -> Result<BTreeMap<String, FileDigest>, FilesError> {
    let mut digests = BTreeMap::new();
    let mut listed = None;
    for file in File::SMALL {
        let name = file.name().to_owned();
        match directory.open(&name)? {
            Some(opened) if file == File::Index => {
                let held = opened.hold()?;
                digests.insert(name, held.digest());
                listed = Some(held);
            }
            Some(opened) => {
                digests.insert(name, opened.digest()?);
            }
            None if file.is_required() => return Err(FilesError::Missing { file }),
            None => {}
        }
    }
    for name in weights(directory, listed.as_ref().map(Held::bytes))? {
        let missing = || FilesError::ShardMissing {
            shard: name.clone(),
        };
        let digest = directory.open(&name)?.ok_or_else(missing)?.digest()?;
        digests.insert(name, digest);
    }
    Ok(digests)
}
