//! The provenance of an image in a directory.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use predict::image::ImageManifest;
use serde_json::{Map, Value, json};
use sha1::{Digest as _, Sha1};

use super::bill::{Bill, document};
use super::{
    CMDLINE, Dependency, ENVELOPE, Envelope, Facts, MANIFEST, Materials, SBOM, STATEMENT,
    SecretKey, Sha1s, Statement, StatementError, Subject,
};
use crate::error::{Error, Fault};
use crate::files;
use crate::limits::{CHUNK_BYTES, ENVELOPE_BYTES_MAX};
use crate::lock::package_lock::InputKind;
use registers::Digest32;

/// Writes the provenance of the image in `directory`, whose files `manifest` describes. `sha1s` has the digests of the files within, and
/// of those beside the manifest that were hashed already.
pub fn write(
    directory: &Path,
    manifest: &ImageManifest,
    materials: &Materials,
    mut sha1s: Sha1s,
    key: Option<&SecretKey>,
) -> Result<(), Error> {
    for (_, file) in manifest.files.all() {
        if !sha1s.contains_key(&file.name) {
            sha1s.insert(file.name.clone(), sha1_of(&directory.join(&file.name))?);
        }
    }
    let line = Sha1::digest(manifest.cmdline.as_bytes());
    sha1s.insert(CMDLINE.into(), line.into());
    let bill = Bill::new(document(manifest, materials, &sha1s))
        .map_err(Error::of(Fault::Disk, "writing the bill of materials: "))?
        .to_json();
    let statement = statement(manifest, materials, &bill).map_err(unwritten)?;
    let statement = statement.to_json();
    files::write(&directory.join(SBOM), &bill)?;
    files::write(&directory.join(STATEMENT), &statement)?;
    if let Some(key) = key {
        let envelope = Envelope::sign(statement, key).to_json();
        files::write(&directory.join(ENVELOPE), envelope)?;
    }
    Ok(())
}

/// Signs the statement in `directory`, in one step: a reader sees the envelope of before or the new one.
pub fn sign(directory: &Path, key: &SecretKey) -> Result<(), Error> {
    let statement = read(&directory.join(STATEMENT))?;
    // What cannot be read again is not worth a signature.
    Statement::from_json(&statement).map_err(unwritten)?;
    let envelope = Envelope::sign(statement, key).to_json();
    files::replace(&directory.join(ENVELOPE), &envelope, 0o644)
}

fn unwritten(error: StatementError) -> Error {
    Error::of(Fault::Disk, "writing the provenance: ")(error)
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
pub fn sha1_of(path: &Path) -> Result<[u8; 20], Error> {
    sha1_of_stream(files::open(path)?).map_err(Error::disk("reading", path))
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
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    files::read(path, ENVELOPE_BYTES_MAX as u64)
}
