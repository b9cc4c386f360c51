//! The files of a model as bytes: read once, whole, within their limits, and hashed while they are read.
//!
//! Only the five names of [`File`] exist here; whatever else lies in a model's directory is never opened and never
//! counts. Opening is the business of whoever links this crate ([`Open`]).

use std::fmt;
use std::io::Read;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::limits;
use crate::root::ModelRoot;

/// A file of a model. The order is that of the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// `config.json`: the architecture and its sizes.
    Config,
    /// `model.gguf`, in place of the next.
    Gguf,
    /// `model.safetensors`.
    Weights,
    /// `tokenizer.json`, in the form of Hugging Face's `tokenizers`.
    Tokenizer,
    /// `tokenizer_config.json`: the chat template. A model that does not chat may lack it.
    TokenizerConfig,
}

impl File {
    /// All of them.
    pub const ALL: [File; 5] = [
        File::Config,
        File::Gguf,
        File::Weights,
        File::Tokenizer,
        File::TokenizerConfig,
    ];

    /// Its name in the model's directory.
    pub const fn name(self) -> &'static str {
        match self {
            File::Config => "config.json",
            File::Gguf => "model.gguf",
            File::Weights => "model.safetensors",
            File::Tokenizer => "tokenizer.json",
            File::TokenizerConfig => "tokenizer_config.json",
        }
    }

    fn bytes_max(self) -> u64 {
        match self {
            File::Config => limits::CONFIG_BYTES_MAX,
            File::Gguf | File::Weights => limits::WEIGHTS_BYTES_MAX,
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
    #[error("the model directory has both model.gguf and model.safetensors; one is its weights")]
    TwoWeights,
    #[error("{file} is not a plain file")]
    NotAFile { file: File },
    #[error("{file} has {bytes} bytes; at most {bytes_max} are allowed")]
    TooLarge {
        file: File,
        bytes: u64,
        bytes_max: u64,
    },
    #[error("{file} cannot be read: {kind}")]
    Unreadable {
        file: File,
        kind: std::io::ErrorKind,
    },
    #[error("the model's root is {found}, expected {expected}")]
    WrongRoot {
        found: ModelRoot,
        expected: ModelRoot,
    },
}

impl FilesError {
    /// The operating system's refusal to read `file`.
    pub fn unreadable(file: File) -> impl Fn(std::io::Error) -> FilesError {
        move |error| FilesError::Unreadable {
            file,
            kind: error.kind(),
        }
    }
}

/// Opens a file of one model; `None` if there is no such name.
pub type Open<'a> = dyn FnMut(File) -> Result<Option<Opened>, FilesError> + 'a;

/// A file that was opened and claims a size within its limit.
pub struct Opened {
    file: File,
    bytes: u64,
    content: Box<dyn Read>,
}

/// Size and SHA-256 of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileDigest {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
}

impl Opened {
    /// Takes a file of `bytes` bytes, if it may be that large.
    pub fn new(file: File, bytes: u64, content: impl Read + 'static) -> Result<Self, FilesError> {
        within(file, bytes)?;
        Ok(Opened {
            file,
            bytes,
            content: Box::new(content),
        })
    }

    /// Reads to the end and hashes; the bytes are not kept.
    pub fn digest(self) -> Result<FileDigest, FilesError> {
        self.read(&mut |_| ())
    }

    fn hold(self) -> Result<Held, FilesError> {
        let mut bytes = Vec::with_capacity(self.bytes as usize);
        let digest = self.read(&mut |chunk| bytes.extend_from_slice(chunk))?;
        Ok(Held { bytes, digest })
    }

    fn read(mut self, take: &mut dyn FnMut(&[u8])) -> Result<FileDigest, FilesError> {
        let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 256 * 1024]);
        loop {
            let read = self.content.read(&mut buffer);
            let chunk = &buffer[..read.map_err(FilesError::unreadable(self.file))?];
            if chunk.is_empty() {
                let sha256 = hash.finalize().into();
                return Ok(FileDigest { bytes, sha256 });
            }
            bytes += chunk.len() as u64;
            // The file may grow while it is read.
            within(self.file, bytes)?;
            hash.update(chunk);
            take(chunk);
        }
    }
}

fn within(file: File, bytes: u64) -> Result<(), FilesError> {
    let bytes_max = file.bytes_max();
    match bytes <= bytes_max {
        true => Ok(()),
        false => Err(FilesError::TooLarge {
            file,
            bytes,
            bytes_max,
        }),
    }
}

/// The bytes of a model, with the digests that were computed from these very bytes.
pub struct ModelFiles {
    config: Held,
    weights: Held,
    weights_file: File,
    tokenizer: Held,
    tokenizer_config: Option<Held>,
}

struct Held {
    bytes: Vec<u8>,
    digest: FileDigest,
}

impl ModelFiles {
    /// Reads all files of a model, the small ones first.
    pub fn read(open: &mut Open<'_>) -> Result<Self, FilesError> {
        let mut hold = |file| open(file)?.map(Opened::hold).transpose();
        let required = |file, held: Option<Held>| held.ok_or(FilesError::Missing { file });
        let config = required(File::Config, hold(File::Config)?)?;
        let tokenizer = required(File::Tokenizer, hold(File::Tokenizer)?)?;
        let tokenizer_config = hold(File::TokenizerConfig)?;
        let (weights_file, weights) = match (hold(File::Gguf)?, hold(File::Weights)?) {
            (Some(_), Some(_)) => return Err(FilesError::TwoWeights),
            (Some(gguf), None) => (File::Gguf, gguf),
            (None, weights) => (File::Weights, required(File::Weights, weights)?),
        };
        Ok(ModelFiles {
            config,
            tokenizer,
            tokenizer_config,
            weights,
            weights_file,
        })
    }

    /// The model's root.
    pub fn root(&self) -> ModelRoot {
        ModelRoot::of(|file| self.digest(file))
    }

    /// Size and SHA-256 of one of the files: whoever makes tokens must do so by the same ones.
    pub fn digest(&self, file: File) -> Option<FileDigest> {
        match file {
            File::Config => Some(self.config.digest),
            File::Gguf | File::Weights => {
                (file == self.weights_file).then_some(self.weights.digest)
            }
            File::Tokenizer => Some(self.tokenizer.digest),
            File::TokenizerConfig => Some(self.tokenizer_config.as_ref()?.digest),
        }
    }

    /// These files, if they are the ones that `expected` names.
    pub fn expect_root(self, expected: &ModelRoot) -> Result<Self, FilesError> {
        let (found, expected) = (self.root(), *expected);
        match found == expected {
            true => Ok(self),
            false => Err(FilesError::WrongRoot { found, expected }),
        }
    }

    /// `config.json`
    pub fn config(&self) -> &[u8] {
        &self.config.bytes
    }

    /// Which of the two names the weights have.
    pub fn weights_file(&self) -> File {
        self.weights_file
    }

    /// `model.safetensors` or `model.gguf`
    pub fn weights(&self) -> &[u8] {
        &self.weights.bytes
    }

    /// `tokenizer.json`
    pub fn tokenizer(&self) -> &[u8] {
        &self.tokenizer.bytes
    }

    /// `tokenizer_config.json`, which may be absent.
    pub fn tokenizer_config(&self) -> Option<&[u8]> {
        Some(&self.tokenizer_config.as_ref()?.bytes)
    }
}
