//! From a directory to a volume, its description and the statement about its files.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use registers::VerityRoot;

use super::description::is_id;
use super::{
    DESCRIPTION, Description, Directory, ModelSigner, SIGNATURE, Statement, Step, Tool, VOLUME,
};
use crate::error::{Error, cut, error};
use crate::files;
use crate::formats::entry::{Entry, Source, What};
use crate::formats::erofs::writer as erofs;
use crate::formats::verity;
use crate::image::{Mkfs, OutputDir};

/// Claims a volume's directory: absent, empty, or a volume that is to be replaced.
pub fn claim(out: &Path) -> Result<OutputDir, Error> {
    OutputDir::claim_of(out, "model volume", &[VOLUME, DESCRIPTION])
}

/// Writes the volume of a model into the claimed directory and puts it in its place. The statement is signed if there is a key. Small
/// files that were made also lie beside the volume, for clients.
pub fn pack(
    directory: &Directory,
    id: &str,
    tool: Tool,
    mkfs: &Mkfs<'_>,
    signer: Option<&ModelSigner>,
    place: OutputDir,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<Description, Error> {
    if !is_id(id) {
        return Err(error!(
            Arguments,
            "`{}` cannot be a model's name: letters, digits, `.`, `-` and `_`, at most 64 of them, the first no dot",
            cut(id)
        ));
    }
    let out = place.directory();
    let entries = entries(directory);
    progress(Step::Begin {
        what: "writing the volume",
        total: directory.files().iter().map(|file| file.bytes).sum(),
    });
    let mut written = |bytes| progress(Step::Bytes(bytes));
    erofs::make_counted(&entries, mkfs(out, VOLUME, &entries), &mut written)?;

    let path = out.join(VOLUME);
    let disk = Error::disk("hashing", &path);
    let image = File::options().read(true).write(true).open(&path);
    let image = image.map_err(&disk)?;
    let bytes = image.metadata().map_err(&disk)?.len();
    progress(Step::Begin {
        what: "its hash tree",
        total: bytes,
    });
    let mut hashed = |bytes| progress(Step::Bytes(bytes));
    let root = verity::append_counted(&image, &mut hashed).map_err(&disk)?;
    let description = Description {
        version: 1,
        id: id.to_owned(),
        bytes: image.metadata().map_err(&disk)?.len(),
        volume: VerityRoot::from(root),
        files: directory.files().to_vec(),
        left_out: directory.left_out().to_vec(),
        tool: Some(tool),
    };
    files::write(&out.join(DESCRIPTION), description.to_json())?;
    let mut statement = Statement::of(&description).to_json();
    if let Some(signer) = signer {
        statement = signer.sign(&statement);
    }
    files::write(&out.join(SIGNATURE), &statement)?;
    for (name, content) in directory.made() {
        files::write(&out.join(name), content)?;
    }
    let made = directory.made().keys().map(String::as_str);
    for name in [VOLUME, DESCRIPTION, SIGNATURE].into_iter().chain(made) {
        // Whatever the umask says: everybody may read a volume, nobody should change one.
        files::set_mode(&out.join(name), 0o644)?;
    }
    place.put()?;
    Ok(description)
}

/// The files, and the directories that they lie in. Empty directories are in no volume: no list of files can tell of them.
fn entries(directory: &Directory) -> Vec<Entry> {
    let mut directories = BTreeSet::from(["/"]);
    let mut entries = Vec::new();
    for file in directory.files() {
        let ends = file.path.match_indices('/').map(|(at, _)| at);
        directories.extend(ends.filter_map(|end| file.path.get(..end)));
        let what = What::File {
            bytes: file.bytes,
            sha256: file.sha256,
            from: "model".into(),
            source: match directory.made().get(&file.path) {
                Some(made) => Source::Memory(made.clone()),
                None => Source::Disk(directory.place(&file.path)),
            },
        };
        entries.push(Entry::plain(format!("/{}", file.path), 0o644, what));
    }
    let directories = directories.into_iter().map(|path| match path {
        "/" => Entry::directory("/"),
        path => Entry::directory(format!("/{path}")),
    });
    directories.chain(entries).collect()
}
