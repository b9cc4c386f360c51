//! The manifest of an image, from what was just written.

use std::collections::BTreeMap;
use std::path::Path;

use predict::Prediction;
use predict::image::{
    BootRegisters, Content, ContentKind, ImageFile, ImageFiles, ImageManifest, ImagePart,
    ImageParts, UkiRegisters,
};
use registers::{Digest32, Digest48, VerityRoot};

use super::{DISK, Draft, FIRMWARE, INITRD, KERNEL, ROOT, UKI, initrd, root};
use crate::error::{Error, Fault};
use crate::files;
use crate::formats::entry::{Entry, Source, What};
use crate::formats::metered::Metered;
use crate::limits::FILE_BYTES_MAX;
use crate::provenance;

/// The manifest of an image with these files.
pub fn of(
    draft: &Draft,
    files: &[Measured],
    cmdline: String,
    root: VerityRoot,
    (prediction, uki): (Prediction, Option<UkiRegisters>),
) -> Result<ImageManifest, Error> {
    let parts = &draft.parts;
    let measured = |name: &str| {
        let found = files.iter().find(|measured| measured.file.name == name);
        found.map(|measured| measured.file.clone())
    };
    let file = |name| measured(name).expect("every image has it");
    ImageManifest::new(ImageParts {
        version: ImageManifest::VERSION,
        profile: parts.profile,
        lock_sha256: parts.lock_sha256,
        compiler: parts.compiler.clone(),
        files: ImageFiles {
            firmware: file(FIRMWARE),
            kernel: file(KERNEL),
            initrd: file(INITRD),
            root: file(ROOT),
            uki: measured(UKI),
            disk: measured(DISK),
        },
        cmdline,
        root,
        agent_sha384: agent(draft),
        contents: contents(draft),
        packages: parts.packages.clone(),
        machine: parts.machine,
        registers: BootRegisters::from(&prediction),
        events: prediction.events,
        uki,
    })
    .map_err(Error::of(Fault::Recipe, "writing the manifest: "))
}

/// Everything in the initrd and in the root, by path.
fn contents(draft: &Draft) -> Vec<Content> {
    use ImagePart::{Initrd, Root};
    let plain = |path: &str, mode, kind| content(Initrd, path, mode, kind, None);
    let devices = initrd::DEVICES.into_iter();
    let devices = devices.map(|(path, mode, (major, minor))| {
        plain(path, mode, ContentKind::Device { major, minor })
    });
    let directory = |path| plain(path, initrd::DIRECTORY_MODE, ContentKind::Directory);
    let fixed = initrd::DIRECTORIES.into_iter().map(directory);
    let inside = draft
        .initrd_entries
        .iter()
        .map(|entry| of_entry(Initrd, entry));
    let root = draft.root_entries.iter().flatten();
    let root = root.map(|entry| of_entry(Root, entry));
    let mut contents: Vec<Content> = fixed.chain(devices).chain(inside).chain(root).collect();
    contents.sort_by(|one, other| (one.part, &one.path).cmp(&(other.part, &other.path)));
    contents
}

fn of_entry(part: ImagePart, entry: &Entry) -> Content {
    let (kind, from) = match &entry.what {
        What::Directory => (ContentKind::Directory, None),
        What::File {
            bytes,
            sha256,
            from,
            ..
        } => {
            let (bytes, sha256) = (*bytes, *sha256);
            (ContentKind::File { bytes, sha256 }, Some(from))
        }
        What::Link { target, from } => {
            let target = target.clone();
            (ContentKind::Link { target }, Some(from))
        }
        What::SameAs { path, from } => {
            let target = path.clone();
            (ContentKind::Same { target }, Some(from))
        }
    };
    let hex = |(name, value): (&String, &Vec<u8>)| (name.clone(), hex::encode(value));
    Content {
        user: entry.owner.user,
        group: entry.owner.group,
        attributes: entry.attributes.iter().map(hex).collect(),
        ..content(part, &entry.path, entry.mode, kind, from)
    }
}

/// Owned by root, without attributes.
fn content(
    part: ImagePart,
    path: &str,
    mode: u32,
    kind: ContentKind,
    from: Option<&String>,
) -> Content {
    Content {
        part,
        path: path.to_owned(),
        mode: format!("{mode:04o}"),
        user: 0,
        group: 0,
        attributes: BTreeMap::new(),
        kind,
        from: from.cloned(),
    }
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

/// A file with the digests that the manifest and the bill of materials have of it.
pub struct Measured {
    pub file: ImageFile,
    pub sha1: [u8; 20],
}

impl Measured {
    /// As it lies there, read once more: what was meant to be written is not what counts.
    pub fn read(directory: &Path, name: &str) -> Result<Self, Error> {
        let path = directory.join(name);
        let mut metered = Metered::new(files::open(&path)?, FILE_BYTES_MAX);
        let sha1 = provenance::sha1_of_stream(&mut metered);
        let sha1 = sha1.map_err(Error::disk("reading", &path))?;
        let (name, (bytes, sha256)) = (name.into(), metered.finish());
        let file = ImageFile {
            name,
            bytes,
            sha256,
        };
        Ok(Self { file, sha1 })
    }
}

impl From<crate::formats::verity::Root> for VerityRoot {
    fn from(root: crate::formats::verity::Root) -> Self {
        Self {
            verity_hash: Digest32(root.hash),
            salt: Digest32(root.salt),
            data_blocks: root.data_blocks,
        }
    }
}
