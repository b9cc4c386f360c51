//! The paper about an image, out of what was just written.

use std::fs::File;
use std::io;
use std::path::Path;

use measurements::predict::Prediction;
use measurements::{
    BootRegisters, Content, Digest32, Digest48, ImageFile, ImageFiles, ImageManifest, ImageParts,
    VerityRoot,
};

use super::contents::{Entry, Source, What};
use super::error::BuildError;
use super::{Draft, FIRMWARE, INITRD, KERNEL, ROOT, root};
use crate::limits::FILE_BYTES_MAX;
use crate::stream::Metered;

/// The manifest of the image in `folder`.
pub fn of(
    draft: &Draft,
    folder: &Path,
    cmdline: String,
    root: VerityRoot,
    prediction: Prediction,
) -> Result<ImageManifest, BuildError> {
    let parts = &draft.parts;
    let entries = draft.root_entries.iter().flatten();
    let mut contents: Vec<Content> = draft
        .initrd_entries
        .iter()
        .chain(entries)
        .filter_map(content)
        .collect();
    contents.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(ImageManifest::new(ImageParts {
        version: ImageManifest::VERSION,
        profile: parts.profile,
        lock_sha256: Digest32(parts.lock_sha256.0),
        compiler: parts.compiler.clone(),
        files: ImageFiles {
            firmware: file(folder, FIRMWARE)?,
            kernel: file(folder, KERNEL)?,
            initrd: file(folder, INITRD)?,
            root: file(folder, ROOT)?,
        },
        cmdline,
        root,
        agent_sha384: agent(draft),
        contents,
        packages: parts.packages.clone(),
        machine: parts.machine,
        registers: BootRegisters::from(&prediction),
        events: prediction.events,
    })?)
}

fn content(entry: &Entry) -> Option<Content> {
    let What::File {
        bytes,
        sha256,
        from,
        ..
    } = &entry.what
    else {
        return None;
    };
    Some(Content {
        path: entry.path.clone(),
        mode: format!("{:04o}", entry.mode),
        bytes: *bytes,
        sha256: Digest32(sha256.0),
        from: from.clone(),
    })
}

/// What the agent will measure of itself: its own file.
fn agent(draft: &Draft) -> Digest48 {
    let mut entries = draft.root_entries.iter().flatten();
    let agent = entries.find(|entry| entry.path == root::AGENT);
    match agent.map(|agent| &agent.what) {
        Some(What::File {
            source: Source::Memory(bytes),
            ..
        }) => Digest48::of(bytes),
        _ => unreachable!("root::entries puts the agent there, in memory"),
    }
}

/// As it lies there, read once more: what was meant to be written is not what counts.
fn file(folder: &Path, name: &str) -> Result<ImageFile, BuildError> {
    let path = folder.join(name);
    let disk = BuildError::disk("reading", &path);
    let file = File::open(&path).map_err(&disk)?;
    let mut metered = Metered::new(io::BufReader::with_capacity(1 << 20, file), FILE_BYTES_MAX);
    io::copy(&mut metered, &mut io::sink()).map_err(disk)?;
    let (bytes, sha256) = metered.finish();
    Ok(ImageFile {
        name: name.into(),
        bytes,
        sha256: Digest32(sha256.0),
    })
}

impl From<crate::verity::Root> for VerityRoot {
    fn from(root: crate::verity::Root) -> Self {
        Self {
            verity_hash: Digest32(root.hash),
            salt: Digest32(root.salt),
            data_blocks: root.data_blocks,
        }
    }
}
