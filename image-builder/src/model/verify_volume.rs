//! Whether a volume is what its description says.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::{
    DESCRIPTION, Description, ModelError, ModelVerifier, SIGNATURE, Statement, Step, VOLUME, bundle,
};
use crate::formats::erofs::volume::{Found, ReadAt, list as list_erofs};
use crate::formats::verity;
use crate::formats::verity::Root;
use crate::limits::{CHUNK_BYTES, MODEL_DESCRIPTION_BYTES_MAX};
use registers::Digest32;

/// Reads all of the volume in `directory`: its hash tree has to be that of its data and end in the described root hash, its files have
/// to be the described ones and no others, and the statement the one about them; with a `key`, signed by it. Without one, and without
/// a root hash from elsewhere to compare, a volume with its description is as easily made as another one.
pub fn verify(
    directory: &Path,
    key: Option<&ModelVerifier>,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<Description, ModelError> {
    let description = Description::parse(&read(&directory.join(DESCRIPTION))?)?;
    check_statement(&read(&directory.join(SIGNATURE))?, &description, key)?;
    let path = directory.join(VOLUME);
    let disk = ModelError::disk("reading", &path);
    let volume = File::open(&path).map_err(&disk)?;
    let bytes = volume.metadata().map_err(&disk)?.len();
    if bytes != description.bytes {
        return Err(ModelError::Volume(format!(
            "it has {bytes} bytes and not {}",
            description.bytes
        )));
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
        return Err(ModelError::Volume(difference.to_string()));
    }
    check_files(&volume, &description, progress)?;
    Ok(description)
}

/// The statement in a bundle, or bare.
fn check_statement(
    text: &[u8],
    description: &Description,
    key: Option<&ModelVerifier>,
) -> Result<(), ModelError> {
    let refuse = |problem: &str| Err(ModelError::Statement(problem.to_owned()));
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
    volume: &dyn ReadAt,
    description: &Description,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<(), ModelError> {
    let data_bytes = description.volume.data_blocks * verity::BLOCK_BYTES;
    let mut found = list_erofs(volume, data_bytes)?;
    // The order of the description: by the components of the path.
    found.sort_by(|one, other| one.path.split('/').cmp(other.path.split('/')));
    let listed = description
        .files
        .iter()
        .map(|file| (&file.path, file.bytes));
    if !found
        .iter()
        .map(|found| (&found.path, found.bytes))
        .eq(listed)
    {
        return Err(ModelError::Volume(
            "its files are not those of the description".into(),
        ));
    }
    progress(Step::Begin {
        what: "checking the files",
        total: description.files.iter().map(|file| file.bytes).sum(),
    });
    let mut done = 0;
    let mut count = |bytes| {
        done += bytes;
        progress(Step::Bytes(done));
    };
    for (found, file) in found.iter().zip(&description.files) {
        let sha256 = digest(volume, found, &mut count)?;
        if sha256 != file.sha256 {
            return Err(ModelError::Volume(format!(
                "{} has the digest {sha256} and not {}",
                file.path, file.sha256
            )));
        }
    }
    Ok(())
}

fn digest(
    volume: &dyn ReadAt,
    found: &Found,
    count: &mut dyn FnMut(u64),
) -> Result<Digest32, ModelError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < found.bytes {
        let wanted = buffer
            .len()
            .min(usize::try_from(found.bytes - at).unwrap_or(usize::MAX));
        let piece = &mut buffer[..wanted];
        volume
            .read_at(found.start + at, piece)
            .map_err(|error| ModelError::Volume(format!("{}: {error}", found.path)))?;
        hasher.update(&*piece);
        at += wanted as u64;
        count(wanted as u64);
    }
    Ok(Digest32(hasher.finalize().into()))
}

fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    let disk = ModelError::disk("reading", path);
    let mut bytes = Vec::new();
    let limit = MODEL_DESCRIPTION_BYTES_MAX + 1;
    let file = File::open(path).map_err(&disk)?;
    file.take(limit).read_to_end(&mut bytes).map_err(disk)?;
    if bytes.len() as u64 >= limit {
        return Err(ModelError::Description("is too long".into()));
    }
    Ok(bytes)
}
