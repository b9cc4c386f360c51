//! The root: what the agent finds after the switch, and the image of it with its hash tree.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use attest::Profile;

use super::{Mkfs, Model, RootParts};
use crate::error::{Error, error};
use crate::files;
use crate::formats::entry::{Entry, What};
use crate::formats::erofs::writer as erofs;
use crate::formats::verity;
use crate::limits::PROGRAM_BYTES_MAX;

/// The packages' entries, directories that are mounted over, the agent, the programs that it starts, their kernels for a GPU, its models,
/// and the file that tells stage0 what to start: one argument a line. What is ours is at no path of a package.
pub fn entries(parts: &RootParts, profile: Profile) -> Result<Vec<Entry>, Error> {
    let mut entries = parts.userland.clone();
    let mut taken: BTreeSet<String> = entries.iter().map(|entry| entry.path.clone()).collect();
    for directory in DIRECTORIES {
        if taken.insert(directory.into()) {
            entries.push(Entry::directory(directory));
        }
    }
    let mut ours = vec![Entry::directory("/models")];
    let agent = files::read(&parts.agent, PROGRAM_BYTES_MAX as u64)?;
    ours.push(Entry::memory(AGENT, 0o755, agent, "compiled".into()));
    for (name, program) in &parts.programs {
        let bytes = files::read(program, PROGRAM_BYTES_MAX as u64)?;
        ours.push(Entry::memory(
            format!("/{name}"),
            0o755,
            bytes,
            "compiled".into(),
        ));
    }
    let start = start(profile).join("\n") + "\n";
    ours.push(Entry::memory(
        "/start",
        0o644,
        start.into_bytes(),
        "image-builder".into(),
    ));
    for Model { id, files } in &parts.models {
        ours.push(Entry::directory(format!("/models/{id}")));
        for (name, path) in files {
            let disk = Error::disk("reading", path);
            let (inside, from) = (format!("/models/{id}/{name}"), format!("model {id}"));
            ours.push(Entry::disk(inside, 0o644, path.clone(), from).map_err(disk)?);
        }
    }
    for entry in &parts.cubins {
        // A directory that packages have, too, is theirs.
        if !(matches!(entry.what, What::Directory) && taken.contains(&entry.path)) {
            ours.push(entry.clone());
        }
    }
    for entry in ours {
        if !taken.insert(entry.path.clone()) {
            return Err(is_taken(&entry.path));
        }
        entries.push(entry);
    }
    Ok(entries)
}

pub(super) fn is_taken(path: &str) -> Error {
    error!(
        Recipe,
        "something of the root has {path} already, which the image needs for itself or the recipe puts there"
    )
}

/// The root itself, and what the kernel's file systems and memory are mounted on.
const DIRECTORIES: [&str; 6] = ["/", "/dev", "/proc", "/run", "/sys", "/tmp"];

/// The agent's arguments. Only a simulated guest has somebody to ask for its quotes, and only one for a GPU what asks it.
fn start(profile: Profile) -> Vec<&'static str> {
    let mut words = vec!["--listen", "vsock:9000"];
    match profile {
        Profile::Sim => words.extend(["--simulator", "vsock:2:9100"]),
        Profile::H100 => words.extend(["--gpu-worker", "/gpu-worker"]),
        _ => {}
    }
    words.extend(["--config", "vsock:2:9101", "--models", "/models"]);
    words
}

/// Where the agent is.
pub const AGENT: &str = "/agent";

/// Makes the image called `name` in `directory`.
pub fn make(
    entries: &[Entry],
    mkfs: &Mkfs<'_>,
    directory: &Path,
    name: &str,
) -> Result<verity::Root, Error> {
    erofs::make(entries, mkfs(directory, name, entries))?;
    let path = directory.join(name);
    let disk = Error::disk("hashing", &path);
    let image = File::options().read(true).write(true).open(&path);
    verity::append(&image.map_err(&disk)?).map_err(disk)
}
