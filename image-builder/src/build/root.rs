//! The root: what the agent finds after the switch, and the image of it with its hash tree.

use std::fs::File;
use std::path::Path;

use super::contents::Entry;
use super::error::BuildError;
use super::{Mkfs, Model, RootParts, read};
use crate::limits::PROGRAM_BYTES_MAX;
use crate::{erofs, verity};

/// Folders that are mounted over, and the file that tells stage0 what to start: one argument a line.
pub fn entries(parts: &RootParts, simulated: bool) -> Result<Vec<Entry>, BuildError> {
    let folders = ["/", "/dev", "/models", "/proc", "/run", "/sys", "/tmp"];
    let mut entries: Vec<Entry> = folders.into_iter().map(Entry::folder).collect();
    let agent = read(&parts.agent, PROGRAM_BYTES_MAX)?;
    entries.push(Entry::memory(AGENT, 0o755, agent, "compiled".into()));
    let start = start(simulated).join("\n") + "\n";
    entries.push(Entry::memory(
        "/start",
        0o644,
        start.into_bytes(),
        "image-builder".into(),
    ));
    for Model { id, files } in &parts.models {
        entries.push(Entry::folder(format!("/models/{id}")));
        for (name, path) in files {
            let disk = BuildError::disk("reading", path);
            let (inside, from) = (format!("/models/{id}/{name}"), format!("model {id}"));
            entries.push(Entry::disk(inside, 0o644, path.clone(), from).map_err(disk)?);
        }
    }
    Ok(entries)
}

/// The agent's arguments. Only a simulated guest has somebody to ask for its quotes.
fn start(simulated: bool) -> Vec<&'static str> {
    let mut words = vec!["--listen", "vsock:9000"];
    if simulated {
        words.extend(["--simulator", "vsock:2:9100"]);
    }
    words.extend(["--config", "vsock:2:9101", "--models", "/models"]);
    words
}

/// Where the agent is.
pub const AGENT: &str = "/agent";

/// Makes the image called `name` in `folder`.
pub fn make(
    entries: &[Entry],
    mkfs: &Mkfs<'_>,
    folder: &Path,
    name: &str,
) -> Result<verity::Root, BuildError> {
    erofs::make(entries, mkfs(folder, name, entries))?;
    let path = folder.join(name);
    let disk = BuildError::disk("hashing", &path);
    let image = File::options().read(true).write(true).open(&path);
    verity::append(&image.map_err(&disk)?).map_err(disk)
}
