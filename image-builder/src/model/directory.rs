//! An untrusted directory, examined before anything is made of it.
//!
//! What may become part of a volume is a closed list of kinds, known by name: tensors (`*.safetensors`), data that is text
//! (`*.json`, `*.txt`, `*.md`, `*.jinja`, licences) and SentencePiece's `tokenizer.model`. A pickle is a program that runs when
//! it is loaded, so no file that can hold one gets in, whatever it is called by: a `*.safetensors` has to begin as one.
//!
//! Links are refused, also those that lead to a file beside them: a volume is what lies in the directory. Files are opened by a path
//! that was listed, without following a link at its end; whoever can change the directory meanwhile can change what is packed,
//! and the digests of what was packed are in the description.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::{ModelError, Step, VolumeFile};
use crate::formats::metered::{Metered, TooLong};
use crate::limits::{
    CHUNK_BYTES, FILE_BYTES_MAX, MODEL_BYTES_MAX, MODEL_DEPTH_MAX, MODEL_ENTRIES_MAX,
    MODEL_TEXT_BYTES_MAX, PATH_BYTES_MAX, SAFETENSORS_HEADER_BYTES_MAX,
};
use crate::lock::is_plain_name;

/// A directory whose every file may be packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
    files: Vec<VolumeFile>,
    left_out: Vec<String>,
}

impl Directory {
    /// Lists and hashes the directory. `leave_out` has paths in it, of files or of whole directories, that do not become part of the
    /// volume; each has to be there. [`ALWAYS_LEFT_OUT`] may be there.
    pub fn read(
        path: &Path,
        leave_out: &[String],
        progress: &mut dyn FnMut(Step<'_>),
    ) -> Result<Self, ModelError> {
        let found = Walk::new(path, leave_out)?.run()?;
        let total = found.values().map(|found| found.bytes).sum();
        if total > MODEL_BYTES_MAX {
            return Err(ModelError::TooMuch {
                path: path.display().to_string(),
                what: "bytes in all",
                max: MODEL_BYTES_MAX,
            });
        }
        if !found.values().any(|found| found.kind == Kind::Tensors) {
            return Err(ModelError::NoWeights {
                path: path.display().to_string(),
            });
        }
        progress(Step::Begin {
            what: "reading the files",
            total,
        });
        let mut files = Vec::new();
        let mut done = 0;
        for (name, found) in found {
            let mut count = |bytes| {
                done += bytes;
                progress(Step::Bytes(done));
            };
            files.push(hash(&name.join("/"), &found, &mut count)?);
        }
        let mut left_out: Vec<String> = ALWAYS_LEFT_OUT.map(String::from).into();
        left_out.extend(leave_out.iter().cloned());
        left_out.sort();
        left_out.dedup();
        Ok(Self {
            path: path.to_owned(),
            files,
            left_out,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its files: sorted by the components of their paths, as the statement has them.
    pub fn files(&self) -> &[VolumeFile] {
        &self.files
    }

    /// What was left out if it was there, sorted.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }
}

/// What a file is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tensors,
    Text,
}

struct Candidate {
    place: PathBuf,
    bytes: u64,
    kind: Kind,
}

/// Files by the components of their paths.
type Candidates = BTreeMap<Vec<String>, Candidate>;

struct Walk<'a> {
    root: &'a Path,
    leave_out: BTreeMap<&'a str, bool>,
    found: Candidates,
    entries: u64,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Path, leave_out: &'a [String]) -> Result<Self, ModelError> {
        let entry = fs::metadata(root).map_err(ModelError::disk("reading", root))?;
        if !entry.is_dir() {
            return Err(ModelError::Refused {
                path: root.display().to_string(),
                problem: "is no directory",
            });
        }
        let leave_out = leave_out.iter().map(|path| (path.as_str(), false));
        Ok(Self {
            root,
            leave_out: leave_out.collect(),
            found: Candidates::new(),
            entries: 0,
        })
    }

    fn run(mut self) -> Result<Candidates, ModelError> {
        self.directory(&mut Vec::new())?;
        match self.leave_out.iter().find(|(_, seen)| !**seen) {
            Some((path, _)) => Err(ModelError::NothingToLeaveOut {
                path: (*path).to_owned(),
            }),
            None => Ok(self.found),
        }
    }

    fn directory(&mut self, parts: &mut Vec<String>) -> Result<(), ModelError> {
        let place = self.root.join(parts.join("/"));
        let disk = ModelError::disk("reading", &place);
        for entry in fs::read_dir(&place).map_err(&disk)? {
            let entry = entry.map_err(&disk)?;
            self.entries += 1;
            if self.entries > MODEL_ENTRIES_MAX {
                return Err(ModelError::TooMuch {
                    path: self.root.display().to_string(),
                    what: "files and directories",
                    max: MODEL_ENTRIES_MAX,
                });
            }
            let name = entry.file_name();
            let path = parts.join("/") + if parts.is_empty() { "" } else { "/" };
            let path = path + &name.to_string_lossy();
            if let Some(seen) = self.leave_out.get_mut(path.as_str()) {
                *seen = true;
                continue;
            }
            if ALWAYS_LEFT_OUT.contains(&path.as_str()) {
                continue;
            }
            let refuse = |problem| ModelError::Refused {
                path: path.chars().take(200).collect(),
                problem,
            };
            let name = name.to_str().filter(|name| is_plain_name(name));
            let name = name.ok_or_else(|| {
                refuse("has a name with other characters than letters, digits, `.`, `-` and `_`, or with a dot in front")
            })?;
            if path.len() > PATH_BYTES_MAX {
                return Err(refuse("has too long a path"));
            }
            // Of the entry itself: a link is seen as one.
            let about = entry.metadata().map_err(&disk)?;
            parts.push(name.to_owned());
            if about.is_dir() {
                if parts.len() > MODEL_DEPTH_MAX {
                    return Err(refuse("lies too deep"));
                }
                self.directory(parts)?;
            } else if about.is_file() {
                let candidate = Candidate {
                    place: entry.path(),
                    bytes: about.len(),
                    kind: kind(name).map_err(refuse)?,
                };
                self.found.insert(parts.clone(), candidate);
            } else if about.is_symlink() {
                return Err(refuse(
                    "is a symbolic link, and a volume holds what lies in the directory: copy the directory with `cp -rL` and pack the copy",
                ));
            } else {
                return Err(refuse("is neither a file nor a directory"));
            }
            parts.pop();
        }
        Ok(())
    }
}

/// What a file of this name is, or why it may not be in a volume.
fn kind(name: &str) -> Result<Kind, &'static str> {
    if TEXT_NAMES.contains(&name) {
        return Ok(Kind::Text);
    }
    let lower = name.to_ascii_lowercase();
    let (_, extension) = lower.rsplit_once('.').unwrap_or((&lower, ""));
    match extension {
        "safetensors" => Ok(Kind::Tensors),
        "json" | "txt" | "md" | "jinja" => Ok(Kind::Text),
        "bin" | "pt" | "pth" | "pkl" | "pickle" | "ckpt" | "npy" | "npz" | "joblib" | "nemo" => {
            Err(
                "can hold a pickle, which is a program that runs when it is loaded: convert it to safetensors, or leave it out",
            )
        }
        "py" | "pyc" | "so" | "sh" | "js" | "wasm" | "dll" | "exe" | "jar" => {
            Err("is a program, and a model is data: leave it out")
        }
        "h5" | "keras" | "onnx" | "pb" | "gguf" | "ggml" | "msgpack" | "ot" | "tflite"
        | "engine" => Err("has weights in a form that is not read here: leave it out"),
        _ => Err(
            "is no file that a model is made of (safetensors, json, txt, md, jinja, tokenizer.model): leave it out",
        ),
    }
}

fn hash(
    path: &str,
    candidate: &Candidate,
    count: &mut dyn FnMut(u64),
) -> Result<VolumeFile, ModelError> {
    let Candidate { place, kind, .. } = candidate;
    let disk = ModelError::disk("reading", place);
    let refuse = |problem| ModelError::Refused {
        path: path.to_owned(),
        problem,
    };
    // Without waiting, should a pipe have taken the file's place.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = fs::File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(place)
        .map_err(&disk)?;
    let about = opened.metadata().map_err(&disk)?;
    if !about.is_file() {
        return Err(refuse("is no file any more"));
    }
    let bytes_max = match kind {
        Kind::Tensors => FILE_BYTES_MAX,
        Kind::Text => MODEL_TEXT_BYTES_MAX,
    };
    let mut metered = Metered::new(opened, bytes_max);
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut first = true;
    loop {
        let got = match metered.read(&mut buffer) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if TooLong::is(&error) => {
                return Err(ModelError::TooMuch {
                    path: path.to_owned(),
                    what: "bytes",
                    max: bytes_max,
                });
            }
            Err(error) => return Err(disk(error)),
        };
        if first && *kind == Kind::Tensors && !begins_as_tensors(&buffer[..got], about.len()) {
            return Err(refuse("does not begin as a file of tensors"));
        }
        if got == 0 {
            break;
        }
        first = false;
        count(got as u64);
    }
    let (bytes, sha256) = metered.finish();
    Ok(VolumeFile {
        path: path.to_owned(),
        bytes,
        sha256,
    })
}

/// The length of a JSON object in eight bytes, and the object's first character: `safetensors`' own description of its format.
fn begins_as_tensors(start: &[u8], bytes: u64) -> bool {
    let Some((length, rest)) = start.split_first_chunk::<8>() else {
        return false;
    };
    let length = u64::from_le_bytes(*length);
    let fits =
        (2..=SAFETENSORS_HEADER_BYTES_MAX).contains(&length) && length <= bytes.saturating_sub(8);
    fits && rest.first() == Some(&b'{')
}

/// What is at the top of directories that `git` or Hugging Face's tools made, and belongs to those.
pub const ALWAYS_LEFT_OUT: [&str; 5] =
    [".cache", ".git", ".gitattributes", ".github", ".gitignore"];

/// Names without an extension, or with one that says little.
const TEXT_NAMES: [&str; 6] = [
    "LICENCE",
    "LICENSE",
    "NOTICE",
    "README",
    "USE_POLICY",
    // Protocol buffers of SentencePiece: numbers and pieces of words.
    "tokenizer.model",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_is_made_of_is_a_closed_list() {
        for good in ["model-00001-of-00002.safetensors", "MODEL.SAFETENSORS"] {
            assert_eq!(kind(good), Ok(Kind::Tensors), "{good}");
        }
        for good in [
            "config.json",
            "merges.txt",
            "tokenizer.model",
            "chat_template.jinja",
            "README.md",
            "LICENSE",
        ] {
            assert_eq!(kind(good), Ok(Kind::Text), "{good}");
        }
        for (bad, reason) in [
            ("pytorch_model.bin", "pickle"),
            ("model.PT", "pickle"),
            ("x.pkl", "pickle"),
            ("x.pth", "pickle"),
            ("x.json.ckpt", "pickle"),
            ("modeling.py", "program"),
            ("kernel.so", "program"),
            ("model.gguf", "not read here"),
            ("other.model", "no file that a model"),
            ("safetensors", "no file that a model"),
            ("noextension", "no file that a model"),
            ("x.safetensors.exe", "program"),
        ] {
            assert!(kind(bad).is_err_and(|said| said.contains(reason)), "{bad}");
        }
    }

    #[test]
    fn a_pickle_that_calls_itself_tensors_is_none() {
        let file = |length: u64, rest: &[u8]| [&length.to_le_bytes()[..], rest].concat();
        let check = |bytes: &[u8]| begins_as_tensors(bytes, bytes.len() as u64);
        assert!(check(&file(2, b"{}")));
        assert!(check(&file(3, b"{} data")));
        for bad in [
            file(3, b"{}"),
            file(1, b"{}"),
            file(2, b"[]"),
            file(u64::MAX, b"{}"),
            file(SAFETENSORS_HEADER_BYTES_MAX + 1, b"{}"),
            b"\x80\x04\x95\x10\0\0\0\0\0\0\0}".to_vec(),
            b"PK\x03\x04\0\0\0\0\0\0".to_vec(),
            vec![0; 8],
            vec![1; 7],
            Vec::new(),
        ] {
            assert!(!check(&bad), "{bad:?}");
        }
    }
}
