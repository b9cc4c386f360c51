//! Whether the files of a model are whole: what a pack must pass, what a volume is checked for, and what a reader asks again.
//!
//! ```text
//! *.safetensors              a header whose tensors cover the file exactly ([`Header`])
//! *.gguf                     the same of its header ([`gguf::Header`](crate::gguf::Header)), and there is some tensor
//! *.safetensors.index.json   an index, of which every shard is there, has its tensors, and no other weights lie beside it
//! *.json                     JSON that everybody reads alike ([`json`])
//! tokenizer.model            SentencePiece's protocol buffer, or tiktoken's lines
//! any                        not the pointer that Git LFS leaves where a file was not fetched
//! ```
//! **Lacks** an opinion of what a model computes: whether a guest can load it is for [`loadable`](crate::loadable).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use serde::Deserialize;
use thiserror::Error;

use crate::files::File;
use crate::gguf;
use crate::json;
use crate::limits::{INDEX_BYTES_MAX, PIECES_BYTES_MAX, WEIGHTS_HEADERS_BYTES_MAX};
use crate::tensors::Header;

/// Why a file is not what its name says, or a model not whole. Read after the file's name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs)]
pub enum Flaw {
    #[error("is empty")]
    Empty,
    #[error(
        "is a Git LFS pointer and not the file that it points to; fetch that with `git lfs pull`"
    )]
    LfsPointer,
    #[error("begins with a byte order mark, which JSON does not have")]
    ByteOrderMark,
    #[error("is not JSON that every reader understands alike: {0}")]
    Json(String),
    #[error("is no whole safetensors file: {0}")]
    Tensors(String),
    #[error("is no whole GGUF file: {0}")]
    Gguf(String),
    #[error("had {bytes} bytes when it was read and {expected} when it was opened")]
    Changed { bytes: u64, expected: u64 },
    #[error("is neither a SentencePiece model nor a list of tiktoken's")]
    Pieces,
    #[error("has {bytes} bytes; at most {bytes_max} are allowed")]
    TooLarge { bytes: u64, bytes_max: u64 },
    #[error(
        "and the weights before it have headers of more than {WEIGHTS_HEADERS_BYTES_MAX} bytes together"
    )]
    TooManyTensors,
    #[error("is no index of weights: {0}")]
    Index(String),
    #[error("names the shard `{shard}`, which is not beside it")]
    ShardMissing { shard: String },
    #[error("says that the tensor `{tensor}` is in `{shard}`, which does not have it")]
    TensorMissing { tensor: String, shard: String },
    #[error("is named by no index beside it, so nothing would load it")]
    NotInIndex,
    #[error("is a shard by its name, and there is no index (*.safetensors.index.json) beside it")]
    NoIndex,
    #[error("cannot be read: {0}")]
    Unreadable(io::ErrorKind),
}

impl Flaw {
    pub(crate) fn unreadable(error: io::Error) -> Self {
        Flaw::Unreadable(error.kind())
    }
}

/// Judges the files of one directory of a model, one by one and then together.
#[derive(Debug, Default)]
pub struct Judge {
    /// By path; `None` for weights that were refused.
    weights: BTreeMap<String, Option<BTreeSet<String>>>,
    indexes: BTreeMap<String, BTreeMap<String, String>>,
    header_bytes: u64,
}

impl Judge {
    /// Judges the file of `bytes` bytes at `path`, whose components are separated by `/`. Of weights only the header is read.
    pub fn file(&mut self, path: &str, bytes: u64, content: impl Read) -> Result<(), Flaw> {
        let judged = self.content(path, bytes, content);
        if judged.is_err() {
            self.refused(path);
        }
        judged
    }

    /// Notes a file that is there and was refused for another reason, so that nobody is told that it is missing.
    pub fn refused(&mut self, path: &str) {
        if is_weights(path) {
            self.weights.insert(path.to_owned(), None);
        }
    }

    fn content(&mut self, path: &str, bytes: u64, mut content: impl Read) -> Result<(), Flaw> {
        let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        if is_gguf(&name) {
            let header = gguf::Header::read(bytes, io::BufReader::new(content))?;
            self.header_bytes = self.header_bytes.saturating_add(header.bytes());
            let names = header.tensors().iter().map(|tensor| tensor.name.clone());
            let names: BTreeSet<String> = names.collect();
            if names.is_empty() {
                return Err(Flaw::Gguf("it holds no tensor".into()));
            }
            self.weights.insert(path.to_owned(), Some(names));
        } else if is_weights(&name) {
            let header = Header::read(bytes, content)?;
            self.header_bytes = self.header_bytes.saturating_add(header.bytes());
            if self.header_bytes > WEIGHTS_HEADERS_BYTES_MAX {
                return Err(Flaw::TooManyTensors);
            }
            let names = header.names().map(str::to_owned).collect();
            self.weights.insert(path.to_owned(), Some(names));
        } else if name.ends_with(INDEX) {
            let index = index(bytes, content)?;
            self.indexes.insert(path.to_owned(), index);
        } else if OBJECTS.contains(&name.as_str()) {
            json::check_object(content)?;
        } else if name.ends_with(".json") {
            json::check(content)?;
        } else if name == PIECES {
            let bytes = hold(bytes, PIECES_BYTES_MAX, content)?;
            begin(bytes.as_slice())?;
            let good = is_sentencepiece(&bytes).is_some() || is_tiktoken(&bytes);
            return good.then_some(()).ok_or(Flaw::Pieces);
        } else if begin(&mut content)?.0.is_empty() && FULL.iter().any(|end| name.ends_with(end)) {
            return Err(Flaw::Empty);
        }
        Ok(())
    }

    /// Holds indexes and weights against each other, once every file was judged: what is wrong, and with which file.
    pub fn finish(self) -> Vec<(String, Flaw)> {
        let mut flaws = Vec::new();
        let mut indexed = BTreeSet::new();
        for (path, index) in &self.indexes {
            let directory = directory(path);
            let mut missing = BTreeSet::new();
            for (tensor, shard) in index {
                let lies = format!("{directory}{shard}");
                let flaw = match self.weights.get(&lies) {
                    None if missing.insert(shard) => {
                        let shard = shard.clone();
                        Flaw::ShardMissing { shard }
                    }
                    Some(Some(names)) if !names.contains(tensor) && missing.insert(shard) => {
                        let (tensor, shard) = (tensor.clone(), shard.clone());
                        Flaw::TensorMissing { tensor, shard }
                    }
                    _ => {
                        indexed.insert(lies);
                        continue;
                    }
                };
                indexed.insert(lies);
                flaws.push((path.clone(), flaw));
            }
        }
        let directories: BTreeSet<&str> = self.indexes.keys().map(|path| directory(path)).collect();
        for path in self
            .weights
            .into_iter()
            .filter_map(|(path, names)| names.and(Some(path)))
        {
            if directories.contains(directory(&path)) {
                if !indexed.contains(&path) {
                    flaws.push((path, Flaw::NotInIndex));
                }
            } else if is_shard(&path) {
                flaws.push((path, Flaw::NoIndex));
            }
        }
        flaws
    }
}

/// Whether a file of this name holds tensors.
pub fn is_weights(name: &str) -> bool {
    is_gguf(name) || is_safetensors(name)
}

/// Whether it is a GGUF file by its name.
pub fn is_gguf(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".gguf")
}

fn is_safetensors(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".safetensors")
}

/// The first bytes of a file, which are not those of a pointer, and all of it again.
pub(crate) fn begin<R: Read>(mut content: R) -> Result<(Vec<u8>, impl Read), Flaw> {
    let mut start = Vec::new();
    let longest = LFS_POINTERS[1].len().max(LFS_POINTERS[0].len());
    let read = (&mut content).take(longest as u64).read_to_end(&mut start);
    read.map_err(Flaw::unreadable)?;
    match LFS_POINTERS
        .iter()
        .any(|one| start.starts_with(one.as_bytes()))
    {
        true => Err(Flaw::LfsPointer),
        false => Ok((start.clone(), io::Cursor::new(start).chain(content))),
    }
}

/// With the slash at its end.
fn directory(path: &str) -> &str {
    path.rfind('/').map_or("", |slash| &path[..=slash])
}

/// `…-00001-of-00002.safetensors`
fn is_shard(path: &str) -> bool {
    let mut words = path.rsplit('.').nth(1).unwrap_or_default().rsplit('-');
    let digits = |word: Option<&str>| {
        word.is_some_and(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_digit()))
    };
    digits(words.next()) && words.next() == Some("of") && digits(words.next())
}

/// An index as Hugging Face writes it: from each tensor to the file that has it.
pub(crate) fn index(bytes: u64, content: impl Read) -> Result<BTreeMap<String, String>, Flaw> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let bytes = hold(bytes, INDEX_BYTES_MAX, content)?;
    json::check_object(bytes.as_slice())?;
    let index = serde_json::from_slice::<Index>(&bytes);
    let map = index
        .map_err(|error| Flaw::Index(error.to_string()))?
        .weight_map;
    if map.is_empty() {
        return Err(Flaw::Index("its `weight_map` names no tensor".into()));
    }
    let outside = |shard: &&String| shard.contains(['/', '\\']) || !is_safetensors(shard);
    match map.values().find(outside) {
        Some(shard) => Err(Flaw::Index(format!(
            "it names `{}`, and a shard is a *.safetensors file in the same directory",
            shard.chars().take(80).collect::<String>().escape_debug()
        ))),
        None => Ok(map),
    }
}

fn hold(bytes: u64, bytes_max: u64, content: impl Read) -> Result<Vec<u8>, Flaw> {
    let mut held = Vec::new();
    content
        .take(bytes_max + 1)
        .read_to_end(&mut held)
        .map_err(Flaw::unreadable)?;
    if held.len() as u64 > bytes_max {
        return Err(Flaw::TooLarge {
            bytes: bytes.max(held.len() as u64),
            bytes_max,
        });
    }
    match held.is_empty() {
        true => Err(Flaw::Empty),
        false => Ok(held),
    }
}

/// A protocol buffer that ends with a whole field, some of them pieces (`ModelProto` of SentencePiece: `repeated … pieces = 1`).
fn is_sentencepiece(mut bytes: &[u8]) -> Option<()> {
    let mut pieces = 0;
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let length = match key & 7 {
            0 => varint(&mut bytes).map(|_| 0)?,
            1 => 8,
            2 => varint(&mut bytes)?,
            5 => 4,
            _ => return None,
        };
        (_, bytes) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
        pieces += u64::from(key == 1 << 3 | 2);
    }
    (pieces > 0).then_some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Lines of base64 and a number, as Llama 3 has its pieces.
fn is_tiktoken(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let piece = |line: &str| {
        line.split_once(' ').is_some_and(|(piece, rank)| {
            let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
            let whole = !piece.is_empty() && piece.len() % 4 == 0 && piece.bytes().all(base64);
            whole && rank.parse::<u32>().is_ok()
        })
    };
    text.ends_with('\n') && text.lines().all(piece)
}

/// What a pointer begins with (git-lfs, docs/spec.md; its first name was hawser).
const LFS_POINTERS: [&str; 2] = [
    "version https://git-lfs.github.com/spec/",
    "version https://hawser.github.com/spec/",
];
const INDEX: &str = ".safetensors.index.json";
const PIECES: &str = "tokenizer.model";
/// Ends of names of texts that say something, or are not whole.
const FULL: [&str; 2] = [".txt", ".jinja"];
/// Files of which every reader expects an object.
const OBJECTS: [&str; 4] = [
    File::Config.name(),
    File::Tokenizer.name(),
    File::TokenizerConfig.name(),
    "generation_config.json",
];
