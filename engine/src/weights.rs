//! A disk becomes weights: trust boundary B6.
//!
//! The files of a model are read once, whole, into anonymous memory (never mapped: a page fault on a host-backed
//! mapping would tell the host which rows of an embedding table, hence which tokens, a prompt touched), and their
//! digests are computed from the very bytes that are kept. Sizes are limited before memory is asked for.
//!
//! Only the four names below exist for this crate; whatever else lies in the directory is never opened and never counts.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::limits;

/// One number for a whole model: SHA-256 over a listing of its files. For each file that is present, sorted by name:
/// the name in UTF-8, one zero byte, the size as 8 bytes little-endian, the file's SHA-256 as 32 bytes.
///
/// The names are `config.json`, `model.safetensors`, `tokenizer.json` and, if present, `tokenizer_config.json`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelRoot(pub [u8; 32]);

impl fmt::Display for ModelRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ModelRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelRoot({self})")
    }
}

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a model root is 64 lower-case hexadecimal digits")]
pub struct NotARoot;

impl FromStr for ModelRoot {
    type Err = NotARoot;

    fn from_str(text: &str) -> Result<Self, NotARoot> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let digits: &[[u8; 2]; 32] = pairs.try_into().map_err(|_| NotARoot)?;
        if !rest.is_empty() {
            return Err(NotARoot);
        }
        let mut root = [0; 32];
        for (byte, [high, low]) in root.iter_mut().zip(digits) {
            *byte = digit(*high).ok_or(NotARoot)? << 4 | digit(*low).ok_or(NotARoot)?;
        }
        Ok(ModelRoot(root))
    }
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

/// The bytes of a model, with their digests.
pub struct ModelFiles {
    config: Held,
    weights: Held,
    tokenizer: Held,
    tokenizer_config: Option<Held>,
}

struct Held {
    bytes: Vec<u8>,
    digest: [u8; 32],
}

/// Why files did not become weights.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WeightsError {
    /// A file that every model has is absent.
    #[error("the model directory has no {file}")]
    Missing {
        /// Its name.
        file: &'static str,
    },
    /// A name stands for something else than a plain file.
    #[error("{file} is not a plain file")]
    NotAFile {
        /// Its name.
        file: &'static str,
    },
    /// A file is over its limit.
    #[error("{file} has {bytes} bytes, over the limit of {bytes_max}")]
    TooLarge {
        /// Its name.
        file: &'static str,
        /// How large it is (or has grown to, at least).
        bytes: u64,
        /// How large it may be.
        bytes_max: u64,
    },
    /// A file could not be read.
    #[error("{file} could not be read: {kind}")]
    Unreadable {
        /// Its name.
        file: &'static str,
        /// What the operating system said.
        kind: std::io::ErrorKind,
    },
    /// The files are not the ones that were asked for.
    #[error("the model's root is {found}, expected {expected}")]
    WrongRoot {
        /// The root of the files that were read.
        found: ModelRoot,
        /// The root that was asked for.
        expected: ModelRoot,
    },
}

impl ModelFiles {
    /// Reads a model's directory.
    pub fn read(directory: &Path) -> Result<Self, WeightsError> {
        let required = |file, bytes_max| {
            read(directory, file, bytes_max)?.ok_or(WeightsError::Missing { file })
        };
        Ok(ModelFiles {
            config: required(CONFIG, limits::CONFIG_BYTES_MAX)?,
            tokenizer: required(TOKENIZER, limits::TOKENIZER_BYTES_MAX)?,
            tokenizer_config: read(
                directory,
                TOKENIZER_CONFIG,
                limits::TOKENIZER_CONFIG_BYTES_MAX,
            )?,
            weights: required(WEIGHTS, limits::WEIGHTS_BYTES_MAX)?,
        })
    }

    /// The model's root, see [`ModelRoot`].
    pub fn root(&self) -> ModelRoot {
        // Sorted by name.
        let listing = [
            (CONFIG, Some(&self.config)),
            (WEIGHTS, Some(&self.weights)),
            (TOKENIZER, Some(&self.tokenizer)),
            (TOKENIZER_CONFIG, self.tokenizer_config.as_ref()),
        ];
        let mut hash = Sha256::new();
        for (name, file) in listing {
            let Some(file) = file else { continue };
            hash.update(name.as_bytes());
            hash.update([0]);
            hash.update((file.bytes.len() as u64).to_le_bytes());
            hash.update(file.digest);
        }
        ModelRoot(hash.finalize().into())
    }

    /// SHA-256 of `tokenizer.json`: who counts tokens must count with the same one.
    pub fn tokenizer_digest(&self) -> [u8; 32] {
        self.tokenizer.digest
    }

    /// These files, if they are the ones that `want` names.
    pub fn expect_root(self, want: &ModelRoot) -> Result<Self, WeightsError> {
        let found = self.root();
        match found == *want {
            true => Ok(self),
            false => Err(WeightsError::WrongRoot {
                found,
                expected: *want,
            }),
        }
    }

    pub(crate) fn config(&self) -> &[u8] {
        &self.config.bytes
    }

    pub(crate) fn weights(&self) -> &[u8] {
        &self.weights.bytes
    }

    pub(crate) fn tokenizer(&self) -> &[u8] {
        &self.tokenizer.bytes
    }

    pub(crate) fn tokenizer_config(&self) -> Option<&[u8]> {
        self.tokenizer_config
            .as_ref()
            .map(|file| file.bytes.as_slice())
    }
}

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// The file's bytes and digest, or `None` if there is no such name.
fn read(
    directory: &Path,
    file: &'static str,
    bytes_max: u64,
) -> Result<Option<Held>, WeightsError> {
    let unreadable = |error: std::io::Error| WeightsError::Unreadable {
        file,
        kind: error.kind(),
    };
    // Asked before opening: opening a pipe would wait for its writer.
    let entry = match std::fs::metadata(directory.join(file)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        entry => entry.map_err(unreadable)?,
    };
    if !entry.is_file() {
        return Err(WeightsError::NotAFile { file });
    }
    let mut opened = File::open(directory.join(file)).map_err(unreadable)?;
    let size = opened.metadata().map_err(unreadable)?.len();
    let too_large = |bytes| WeightsError::TooLarge {
        file,
        bytes,
        bytes_max,
    };
    if size > bytes_max {
        return Err(too_large(size));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 256 * 1024];
    loop {
        let got = opened.read(&mut chunk).map_err(unreadable)?;
        if got == 0 {
            break;
        }
        // The file may grow while it is read.
        if (bytes.len() + got) as u64 > bytes_max {
            return Err(too_large((bytes.len() + got) as u64));
        }
        hash.update(&chunk[..got]);
        bytes.extend_from_slice(&chunk[..got]);
    }
    Ok(Some(Held {
        bytes,
        digest: hash.finalize().into(),
    }))
}
