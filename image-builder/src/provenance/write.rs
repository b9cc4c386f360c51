//! The provenance of an image in a directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use predict::image::ImageManifest;
use serde_json::{Map, Value, json};
use sha1::{Digest as _, Sha1};

use super::bill::{Bill, SbomError, document};
use super::{
    CMDLINE, Dependency, ENVELOPE, Envelope, EnvelopeError, Facts, MANIFEST, Materials, SBOM,
    STATEMENT, SecretKey, Sha1s, Statement, StatementError, Subject,
};
use crate::formats::file_error::FileError;
use crate::limits::{CHUNK_BYTES, ENVELOPE_BYTES_MAX};
use crate::lock::package_lock::InputKind;
use registers::Digest32;

/// Why no provenance was written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum ProvenanceError {
    #[error("writing the bill of materials: {0}")]
    Sbom(#[from] SbomError),
    #[error("writing the provenance: {0}")]
    Statement(#[from] StatementError),
    #[error("reading the envelope: {0}")]
    Envelope(#[from] EnvelopeError),
    #[error(transparent)]
    Disk(#[from] FileError),
}

/// Writes the provenance of the image in `directory`, whose files `manifest` describes. `sha1s` has the digests of the files within, and
/// of those beside the manifest that were hashed already.
pub fn write(
    directory: &Path,
    manifest: &ImageManifest,
    materials: &Materials,
    mut sha1s: Sha1s,
    key: Option<&SecretKey>,
) -> Result<(), ProvenanceError> {
    for (_, file) in manifest.files.all() {
        if !sha1s.contains_key(&file.name) {
            sha1s.insert(file.name.clone(), sha1_of(&directory.join(&file.name))?);
        }
    }
    let line = Sha1::digest(manifest.cmdline.as_bytes());
    sha1s.insert(CMDLINE.into(), line.into());
    let bill = Bill::new(document(manifest, materials, &sha1s))?.to_json();
    let statement = statement(manifest, materials, &bill)?.to_json();
    for (name, bytes) in [(SBOM, &bill), (STATEMENT, &statement)] {
        let path = directory.join(name);
        fs::write(&path, bytes).map_err(disk("writing", &path))?;
    }
    if let Some(key) = key {
        let path = directory.join(ENVELOPE);
        let envelope = Envelope::sign(statement, key).to_json();
        fs::write(&path, envelope).map_err(disk("writing", &path))?;
    }
    Ok(())
}

/// Signs the statement in `directory`, in one step: a reader sees the envelope of before or the new one.
pub fn sign(directory: &Path, key: &SecretKey) -> Result<(), ProvenanceError> {
    let statement = read(&directory.join(STATEMENT))?;
    // What cannot be read again is not worth a signature.
    Statement::from_json(&statement)?;
    let path = directory.join(ENVELOPE);
    let envelope = Envelope::sign(statement, key).to_json();
    let written = tempfile::Builder::new()
        .prefix(".envelope")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory)
        .and_then(|mut file| {
            io::Write::write_all(&mut file, &envelope)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)
        });
    written.map(drop).map_err(disk("writing", &path))
}

fn statement(
    manifest: &ImageManifest,
    materials: &Materials,
    bill: &[u8],
) -> Result<Statement, StatementError> {
    let of = |name: &str, bytes: &[u8]| Subject {
        name: name.into(),
        bytes: bytes.len() as u64,
        sha256: Digest32::of(bytes),
    };
    let mut subjects = vec![
        of(MANIFEST, &manifest.to_json()),
        of(SBOM, bill),
        of(CMDLINE, manifest.cmdline.as_bytes()),
    ];
    for (_, file) in manifest.files.all() {
        subjects.push(Subject {
            name: file.name.clone(),
            bytes: file.bytes,
            sha256: file.sha256,
        });
    }
    let mut parameters = Map::new();
    let machine = manifest.machine;
    parameters.insert("profile".into(), Value::from(manifest.profile.as_str()));
    parameters.insert("recipe".into(), Value::from(&*materials.recipe.name));
    parameters.insert(
        "machine".into(),
        json!({ "vcpus": machine.vcpus, "memory_mib": machine.memory_mib }),
    );
    let builder = [
        ("image-builder", env!("CARGO_PKG_VERSION")),
        ("rustc", materials.compiler.trim_start_matches("rustc ")),
    ];
    Statement::new(Facts {
        subjects,
        parameters,
        dependencies: dependencies(materials),
        builder: BTreeMap::from(builder.map(|(name, version)| (name.into(), version.into()))),
    })
}

fn dependencies(materials: &Materials) -> Vec<Dependency> {
    let mut found = Vec::new();
    let mut add = |name: String, uri: Option<String>, sha256: Digest32| {
        found.push(Dependency { name, uri, sha256 });
    };
    for input in [&materials.recipe, &materials.lock, &materials.crates] {
        add(input.name.clone(), None, input.sha256);
    }
    add("sources".into(), None, materials.sources);
    for package in &materials.packages {
        let name = format!("{} {}", package.name, package.version);
        add(name, Some(package.purl()), package.sha256);
    }
    for input in &materials.inputs {
        let name = format!("input {}", input.name);
        // A path of somebody's checkout is no URI.
        let uri = (input.kind != InputKind::Path).then(|| input.seen.clone());
        add(name, uri, input.sha256);
    }
    for model in &materials.models {
        if let Some((url, sha256)) = &model.archive {
            add(format!("model {}", model.id), Some(url.clone()), *sha256);
        }
    }
    found
}

/// SHA-1 of a file, read in pieces.
pub fn sha1_of(path: &Path) -> Result<[u8; 20], ProvenanceError> {
    let file = File::open(path).map_err(disk("opening", path))?;
    sha1_of_stream(file).map_err(disk("reading", path))
}

/// SHA-1 of what a reader gives.
pub fn sha1_of_stream(mut stream: impl Read) -> io::Result<[u8; 20]> {
    let (mut hasher, mut buffer) = (Sha1::new(), vec![0; CHUNK_BYTES]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize().into()),
            Ok(got) => hasher.update(&buffer[..got]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A file of the provenance, no more of it than its limit.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ProvenanceError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| {
            file.take(ENVELOPE_BYTES_MAX as u64 + 1)
                .read_to_end(&mut bytes)
        })
        .map_err(disk("reading", path))?;
    Ok(bytes)
}

fn disk(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> ProvenanceError {
    FileError::of(doing, path)
}
