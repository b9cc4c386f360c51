//! An untrusted directory, examined before anything is made of it.
//!
//! What may become part of a volume is a closed list of kinds, known by name: tensors (`*.safetensors`, `*.gguf`), data that is text
//! (`*.json`, `*.txt`, `*.md`, `*.jinja`, licences) and SentencePiece's `tokenizer.model`. A pickle is a program that runs when
//! it is loaded, so no file that can hold one gets in, whatever it is called by. What is in a file, and whether the files are a whole
//! model, is judged by the crate that clients and guests read models with ([`::model::whole`]).
//!
//! Everything that is refused is told at once, before the weights are read. Links are refused, also those that lead to a file beside
//! them: a volume is what lies in the directory. Files are opened by a path that was listed, without following a link at its end;
//! whoever can change the directory meanwhile can change what is packed, and the digests of what was packed are in the description.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ::model::whole::{Judge, is_gguf, is_weights};
use ::model::{Family, File, Flaw};
use nix::fcntl::OFlag;

use super::refused::{RefusedFile, told};
use super::{Step, VolumeFile, loaded};
use crate::error::{Error, error};
use crate::formats::gguf::small_files;
use crate::formats::metered::{Metered, TooLong};
use crate::limits::{
    CHUNK_BYTES, FILE_BYTES_MAX, MODEL_BYTES_MAX, MODEL_DEPTH_MAX, MODEL_ENTRIES_MAX,
    MODEL_TEXT_BYTES_MAX, PATH_BYTES_MAX,
};
use crate::lock::is_plain_name;
use registers::Digest32;

/// A directory whose every file may be packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
    files: Vec<VolumeFile>,
    /// Files that are not in the directory and were made of its GGUF, by name.
    made: BTreeMap<String, Vec<u8>>,
    /// Where the GGUF lies that is called `model.gguf` in the volume, if it is called otherwise here.
    gguf: Option<PathBuf>,
    left_out: Vec<String>,
    family: Option<Family>,
}

impl Directory {
    /// Lists, judges and hashes the directory. `leave_out` has paths in it, of files or of whole directories, that do not become part of
    /// the volume; each has to be there. [`ALWAYS_LEFT_OUT`] may be there. `path` may also be a file: a GGUF is a whole model.
    ///
    /// Of a model in one GGUF the small files are made that are not there ([`small_files()`]).
    pub fn read(
        path: &Path,
        leave_out: &[String],
        progress: &mut dyn FnMut(Step<'_>),
    ) -> Result<Self, Error> {
        let mut walked = Walk::new(path, leave_out)?.run()?;
        let total = walked.found.values().map(|found| found.bytes).sum();
        if total > MODEL_BYTES_MAX {
            let path = path.display();
            return Err(error!(
                Model,
                "{path}: more than {MODEL_BYTES_MAX} bytes in all"
            ));
        }
        let root = walked.root.to_owned();
        let gguf = name_gguf(&mut walked);
        let made = made(&walked)?;
        let found = judge(walked, &made)?;
        let places = found
            .iter()
            .map(|(path, found)| (path.clone(), found.place.clone()));
        let family = loaded::family(places.collect(), made.clone())?;
        progress(Step::Begin {
            what: "reading the files",
            total,
        });
        let mut files = Vec::new();
        let mut done = 0;
        for (path, found) in found {
            let mut count = |bytes| {
                done += bytes;
                progress(Step::Bytes(done));
            };
            files.push(hash(&path, &found, &mut count)?);
        }
        let mut left_out: Vec<String> = ALWAYS_LEFT_OUT.map(String::from).into();
        left_out.extend(leave_out.iter().cloned());
        left_out.sort();
        left_out.dedup();
        files.extend(made.iter().map(|(path, content)| VolumeFile {
            path: path.clone(),
            bytes: content.len() as u64,
            sha256: Digest32::of(content),
        }));
        files.sort_by(|one, other| one.path.split('/').cmp(other.path.split('/')));
        Ok(Self {
            path: root,
            files,
            made,
            gguf,
            left_out,
            family,
        })
    }

    /// The family of models that it is one of, if guests read it.
    pub fn family(&self) -> Option<Family> {
        self.family
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its files: sorted by the components of their paths, as the statement has them.
    pub fn files(&self) -> &[VolumeFile] {
        &self.files
    }

    /// Where a file of it lies on the disk, if it was not made.
    pub fn place(&self, path: &str) -> PathBuf {
        match &self.gguf {
            Some(gguf) if path == File::Gguf.name() => gguf.clone(),
            _ => self.path.join(path),
        }
    }

    /// The files that were made and lie nowhere, by name.
    pub fn made(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.made
    }

    /// What was left out if it was there, sorted.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }
}

/// The weights of a model in one GGUF have one name in every volume, whatever their makers called them: a guest looks for that.
fn name_gguf(walked: &mut Walk<'_>) -> Option<PathBuf> {
    let mut weights = walked
        .found
        .keys()
        .filter(|parts| parts.last().is_some_and(|name| is_weights(name)));
    let (parts, None) = (weights.next()?.clone(), weights.next()) else {
        return None;
    };
    if parts.len() != 1 || !is_gguf(&parts[0]) || parts[0] == File::Gguf.name() {
        return None;
    }
    let candidate = walked.found.remove(&parts)?;
    let place = candidate.place.clone();
    walked
        .found
        .insert(vec![File::Gguf.name().to_owned()], candidate);
    Some(place)
}

/// The small files of a GGUF at the top of the directory that are not beside it. A GGUF that is refused for itself makes none.
fn made(walked: &Walk<'_>) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut weights = { walked.found.iter() }
        .filter(|(parts, _)| parts.last().is_some_and(|name| is_weights(name)));
    let (Some((parts, gguf)), None) = (weights.next(), weights.next()) else {
        return Ok(BTreeMap::new());
    };
    let [name] = parts.as_slice() else {
        return Ok(BTreeMap::new());
    };
    let there = |name: &str| walked.found.contains_key(&vec![name.to_owned()]);
    let needed = [File::Config, File::Tokenizer, File::TokenizerConfig];
    if !is_gguf(name) || needed.iter().all(|file| there(file.name())) {
        return Ok(BTreeMap::new());
    }
    match small_files(&gguf.place) {
        Err(::model::ModelError::Weights { .. }) => Ok(BTreeMap::new()),
        Err(error) => Err(error!(
            Model,
            "{name}: its small files cannot be made: {error}"
        )),
        Ok(files) => {
            let missing = files.into_iter().filter(|(name, _)| !there(name));
            Ok(missing
                .map(|(name, content)| (name.to_owned(), content))
                .collect())
        }
    }
}

/// What was found, if all of it is right and is a model.
fn judge(
    walked: Walk<'_>,
    made: &BTreeMap<String, Vec<u8>>,
) -> Result<Vec<(String, Candidate)>, Error> {
    let mut judge = Judge::default();
    let mut refused = walked.refused;
    for file in &refused {
        judge.refused(&file.path);
    }
    let found = walked.found.into_iter();
    let found: Vec<_> = found
        .map(|(parts, found)| (parts.join("/"), found))
        .collect();
    for (path, candidate) in &found {
        match judge.file(path, candidate.bytes, open(path, candidate)?) {
            Ok(()) => {}
            Err(Flaw::Unreadable(kind)) => {
                return Err(Error::disk("reading", &candidate.place)(io::Error::from(
                    kind,
                )));
            }
            Err(flaw) => refused.push(refusal(path, &flaw)),
        }
    }
    let together = judge.finish().into_iter();
    refused.extend(together.map(|(path, flaw)| refusal(&path, &flaw)));
    let is_refused = |path: &str| refused.iter().any(|file| file.path == path);
    let weights = found.iter().filter(|(path, _)| is_weights(path));
    let some_left = weights.clone().any(|(path, _)| !is_refused(path));
    let config = File::Config.name();
    let here = found.iter().any(|(path, _)| path == config) || made.contains_key(config);
    let no_config = !here && !is_refused(config);
    refused.sort_by(|one, other| one.path.cmp(&other.path));
    for file in &mut refused {
        file.dispensable &= some_left || !is_weights(&file.path);
    }
    let mut lacks = |path: String, problem: &str| {
        refused.push(RefusedFile {
            path,
            problem: problem.to_owned(),
            dispensable: false,
        });
    };
    if weights.count() == 0 {
        let path = walked.root.display().to_string();
        lacks(path, "has no file of weights (*.safetensors, *.gguf)");
    }
    if no_config {
        let problem = "is not there, and no model is loaded without it";
        lacks(config.into(), problem);
    }
    match refused.is_empty() {
        true => Ok(found),
        false => Err(told(&refused)),
    }
}

fn refusal(path: &str, flaw: &Flaw) -> RefusedFile {
    let needed = [File::Config.name(), File::Tokenizer.name()].contains(&path)
        || matches!(
            flaw,
            Flaw::Index(_) | Flaw::ShardMissing { .. } | Flaw::TensorMissing { .. }
        );
    RefusedFile {
        path: path.to_owned(),
        problem: flaw.to_string(),
        dispensable: !needed,
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
    bytes_max: u64,
}

struct Walk<'a> {
    root: &'a Path,
    leave_out: BTreeMap<&'a str, bool>,
    /// By the components of their paths.
    found: BTreeMap<Vec<String>, Candidate>,
    refused: Vec<RefusedFile>,
    entries: u64,
    alone: bool,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Path, leave_out: &'a [String]) -> Result<Self, Error> {
        let entry = fs::metadata(root).map_err(Error::disk("reading", root))?;
        let leave_out = leave_out.iter().map(|path| (path.as_str(), false));
        Ok(Self {
            root,
            leave_out: leave_out.collect(),
            found: BTreeMap::new(),
            refused: Vec::new(),
            entries: 0,
            alone: entry.is_file(),
        })
    }

    /// The file itself, if `root` is one.
    fn alone(&mut self) -> Result<(), Error> {
        let path = self.root;
        let refused = |problem| error!(Model, "{}: {problem}", path.display());
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.filter(|name| is_plain_name(name) && is_gguf(name));
        let name = name.ok_or_else(|| refused("is no directory and no *.gguf file"))?;
        let about = fs::symlink_metadata(path).map_err(Error::disk("reading", path))?;
        if !about.is_file() {
            return Err(refused("is a symbolic link"));
        }
        let candidate = Candidate {
            place: path.to_owned(),
            bytes: about.len(),
            bytes_max: FILE_BYTES_MAX,
        };
        self.found.insert(vec![name.to_owned()], candidate);
        self.root = path.parent().unwrap_or(path);
        Ok(())
    }

    fn run(mut self) -> Result<Self, Error> {
        match self.alone {
            true => self.alone()?,
            false => self.directory(&mut Vec::new())?,
        }
        match self.leave_out.iter().find(|(_, seen)| !**seen) {
            Some((path, _)) => Err(error!(Arguments, "there is no {path} to leave out")),
            None => Ok(self),
        }
    }

    fn directory(&mut self, parts: &mut Vec<String>) -> Result<(), Error> {
        let place = self.root.join(parts.join("/"));
        let disk = Error::disk("reading", &place);
        let mut entries = Vec::new();
        for entry in fs::read_dir(&place).map_err(&disk)? {
            entries.push(entry.map_err(&disk)?);
            self.entries += 1;
            if self.entries > MODEL_ENTRIES_MAX {
                let root = self.root.display();
                return Err(error!(
                    Model,
                    "{root}: more than {MODEL_ENTRIES_MAX} files and directories"
                ));
            }
        }
        // The same words for the same directory.
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
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
            if let Some(problem) = self.entry(&entry, &path, parts)? {
                self.refused.push(RefusedFile {
                    path: path.chars().take(200).collect(),
                    problem,
                    dispensable: path.chars().count() <= 200,
                });
            }
        }
        Ok(())
    }

    /// Takes one entry, or says what is wrong with it.
    fn entry(
        &mut self,
        entry: &fs::DirEntry,
        path: &str,
        parts: &mut Vec<String>,
    ) -> Result<Option<String>, Error> {
        let refuse = |problem: &str| Ok(Some(problem.to_owned()));
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_plain_name(name)) else {
            return refuse(
                "has a name with other characters than letters, digits, `.`, `-` and `_`, or with a dot in front",
            );
        };
        if path.len() > PATH_BYTES_MAX {
            return refuse("has too long a path");
        }
        // Of the entry itself: a link is seen as one.
        let place = entry.path();
        let about = entry.metadata().map_err(Error::disk("reading", &place))?;
        if about.is_dir() {
            if parts.len() >= MODEL_DEPTH_MAX {
                return refuse("lies too deep");
            }
            parts.push(name.to_owned());
            self.directory(parts)?;
            parts.pop();
        } else if about.is_file() {
            let bytes_max = match kind(name) {
                Ok(Kind::Tensors) => FILE_BYTES_MAX,
                Ok(Kind::Text) => MODEL_TEXT_BYTES_MAX,
                Err(problem) => return refuse(problem),
            };
            let bytes = about.len();
            if bytes > bytes_max && bytes <= MODEL_BYTES_MAX {
                return refuse(&format!(
                    "has {bytes} bytes; at most {bytes_max} are allowed"
                ));
            }
            let mut parts = parts.clone();
            parts.push(name.to_owned());
            let candidate = Candidate {
                place,
                bytes,
                bytes_max,
            };
            self.found.insert(parts, candidate);
        } else if about.is_symlink() {
            return refuse(
                "is a symbolic link, and a volume holds what lies in the directory: copy the directory with `cp -rL` and pack the copy",
            );
        } else {
            return refuse("is neither a file nor a directory");
        }
        Ok(None)
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
        "safetensors" | "gguf" => Ok(Kind::Tensors),
        "json" | "txt" | "md" | "jinja" => Ok(Kind::Text),
        "bin" | "pt" | "pth" | "pkl" | "pickle" | "ckpt" | "npy" | "npz" | "joblib" | "nemo" => {
            Err(
                "can hold a pickle, which is a program that runs when it is loaded: convert it to safetensors, or leave it out",
            )
        }
        "py" | "pyc" | "so" | "sh" | "js" | "wasm" | "dll" | "exe" | "jar" => {
            Err("is a program, and a model is data: leave it out")
        }
        "h5" | "keras" | "onnx" | "pb" | "ggml" | "msgpack" | "ot" | "tflite" | "engine" => {
            Err("has weights in a form that is not read here: leave it out")
        }
        _ => Err(
            "is no file that a model is made of (safetensors, gguf, json, txt, md, jinja, tokenizer.model): leave it out",
        ),
    }
}

/// Opens a file that was listed, if it is still one.
fn open(path: &str, candidate: &Candidate) -> Result<fs::File, Error> {
    let disk = Error::disk("reading", &candidate.place);
    // Without waiting, should a pipe have taken the file's place.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = fs::File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(&candidate.place)
        .map_err(&disk)?;
    match opened.metadata().map_err(&disk)?.is_file() {
        true => Ok(opened),
        false => Err(error!(Model, "{path}: is no file any more")),
    }
}

fn hash(
    path: &str,
    candidate: &Candidate,
    count: &mut dyn FnMut(u64),
) -> Result<VolumeFile, Error> {
    let disk = Error::disk("reading", &candidate.place);
    let mut metered = Metered::new(open(path, candidate)?, candidate.bytes_max);
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match metered.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => count(got as u64),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if TooLong::is(&error) => {
                let max = candidate.bytes_max;
                return Err(error!(Model, "{path}: more than {max} bytes"));
            }
            Err(error) => return Err(disk(error)),
        }
    }
    let (bytes, sha256) = metered.finish();
    if bytes != candidate.bytes {
        return Err(error!(Model, "{path}: changed while it was read"));
    }
    Ok(VolumeFile {
        path: path.to_owned(),
        bytes,
        sha256,
    })
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
        for good in [
            "model-00001-of-00002.safetensors",
            "MODEL.SAFETENSORS",
            "a.Q4_1.gguf",
        ] {
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
            ("model.ggml", "not read here"),
            ("other.model", "no file that a model"),
            ("safetensors", "no file that a model"),
            ("noextension", "no file that a model"),
            ("x.safetensors.exe", "program"),
        ] {
            assert!(kind(bad).is_err_and(|said| said.contains(reason)), "{bad}");
        }
    }
}
