//! Whether a volume is what its description says.

use std::fs::File;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::{
    DESCRIPTION, Description, ModelVerifier, SIGNATURE, Statement, Step, VOLUME, bundle,
    parse_description,
};
use crate::error::{Error, error};
use crate::files;
use crate::formats::erofs::reader::volume_files;
use crate::formats::verity;
use crate::formats::verity::Root;
use crate::formats::{Item, Part};
use ::model::Judge;
use ::model::limits::DESCRIPTION_BYTES_MAX;
use registers::Digest32;

/// Reads all of the volume in `directory`: its hash tree has to be that of its data and end in the described root hash, its files have
/// to be the described ones and no others, each of them whole ([`::model::whole`]), and the statement the one about them; with a `key`,
/// signed by it. Without one, and without a root hash from elsewhere to compare, a volume with its description is as easily made as
/// another one.
pub fn verify(
    directory: &Path,
    key: Option<&ModelVerifier>,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<Description, Error> {
    let read = |name| files::read(&directory.join(name), DESCRIPTION_BYTES_MAX as u64);
    let description = parse_description(&read(DESCRIPTION)?)?;
    check_statement(&read(SIGNATURE)?, &description, key)?;
    let path = directory.join(VOLUME);
    let disk = Error::disk("reading", &path);
    let volume = File::open(&path).map_err(&disk)?;
    let bytes = volume.metadata().map_err(&disk)?.len();
    if bytes != description.bytes {
        let described = description.bytes;
        return Err(wrong(format!("it has {bytes} bytes and not {described}")));
    }
    let root = Root {
        hash: description.volume.verity_hash.0,
        salt: description.volume.salt.0,
        data_blocks: description.volume.data_blocks,
    };
    progress(Step::Begin {
        what: "checking the hash tree",
        total: root.data_blocks.saturating_mul(verity::BLOCK_BYTES),
    });
    let mut hashed = |bytes| progress(Step::Bytes(bytes));
    let difference = verity::check(&volume, &root, &mut hashed).map_err(&disk)?;
    if let Some(difference) = difference {
        return Err(wrong(difference));
    }
    check_files(&volume, &description, progress)?;
    Ok(description)
}

/// The statement in a bundle, or bare.
fn check_statement(
    text: &[u8],
    description: &Description,
    key: Option<&ModelVerifier>,
) -> Result<(), Error> {
    let refuse = |problem| Err(error!(Volume, "the statement about the files {problem}"));
    let signed = bundle::open(text, key)?;
    if signed.is_none() && key.is_some() {
        return refuse("is not signed");
    }
    match signed.as_deref().unwrap_or(text) == Statement::of(description).to_json() {
        true => Ok(()),
        false => refuse("is not the one that the description's files lead to"),
    }
}

/// The files in the data, against the list. The tree is right by now, so what differs was packed so.
fn check_files(
    volume: &File,
    description: &Description,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<(), Error> {
    let bytes = description.volume.data_blocks * verity::BLOCK_BYTES;
    let data = Part::whole(volume).and_then(|all| all.part(0, bytes, "the file system"));
    let data = data.map_err(wrong)?;
    let mut found = volume_files(&data).map_err(wrong)?;
    // The order of the description: by the components of the path.
    found.sort_by(|one, other| one.path.split('/').cmp(other.path.split('/')));
    let of_item = |item: &Item| (item.path.trim_start_matches('/').to_owned(), item.bytes);
    let listed = description.files.iter();
    let listed = listed.map(|file| (file.path.clone(), file.bytes));
    if !found.iter().map(of_item).eq(listed) {
        return Err(wrong("its files are not those of the description"));
    }
    progress(Step::Begin {
        what: "checking the files",
        total: description.files.iter().map(|file| file.bytes).sum(),
    });
    let mut done = 0;
    let (mut judge, mut flaws) = (Judge::default(), Vec::new());
    for (found, file) in found.iter().zip(&description.files) {
        let mut hasher = Sha256::new();
        let read = found.read(&data, &mut |piece| {
            hasher.update(piece);
            done += piece.len() as u64;
            progress(Step::Bytes(done));
        });
        read.map_err(|error| wrong(format!("{}: {error}", file.path)))?;
        let sha256 = Digest32(hasher.finalize().into());
        if sha256 != file.sha256 {
            let (path, described) = (&file.path, file.sha256);
            let problem = format!("{path} has the digest {sha256} and not {described}");
            return Err(wrong(problem));
        }
        if let Err(flaw) = judge.file(&file.path, file.bytes, found.reader(&data)) {
            flaws.push((file.path.clone(), flaw));
        }
    }
    flaws.extend(judge.finish());
    let flaws = flaws.iter().map(|(path, flaw)| format!("\n{path}: {flaw}"));
    match flaws.collect::<String>() {
        none if none.is_empty() => Ok(()),
        flaws => Err(wrong(format!("the model is not whole{flaws}"))),
    }
}

fn wrong(problem: impl std::fmt::Display) -> Error {
    error!(Volume, "the volume is not what it should be: {problem}")
}
