//! Files of inputs that go into the root: each where the recipe says, and what it is from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Step;
use super::ingredients::Order;
use super::root::is_taken;
use crate::error::{Error, error};
use crate::files;
use crate::formats::entry::Entry;
use crate::limits::{KERNEL_DIRECTORY_DEPTH_MAX, TREE_ENTRIES_MAX};
use crate::store::inputs::Opened;

/// The entries that the recipe's `root.files` make, sorted by path, with the directories that they lie in.
pub(super) fn entries(
    order: Order<'_>,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<Vec<Entry>, Error> {
    let files = order.recipe.root.iter().flat_map(|root| &root.files);
    let (mut opened, mut entries) = (BTreeMap::new(), BTreeMap::new());
    for file in files {
        if !opened.contains_key(&file.input) {
            opened.insert(&file.input, order.input(&file.input, progress)?);
        }
        let Opened { directory, from } = &opened[&file.input];
        let source = super::ingredients::inside(directory, &file.from)?;
        let mut found = Found {
            from,
            entries: &mut entries,
        };
        found.add(&source, &format!("/{}", file.to), 0)?;
    }
    Ok(with_directories(entries))
}

struct Found<'a> {
    from: &'a str,
    entries: &'a mut BTreeMap<String, Entry>,
}

impl Found<'_> {
    /// A file, or a directory with all that is in it. A link is refused: what it leads to can be named itself.
    fn add(&mut self, source: &Path, to: &str, depth: usize) -> Result<(), Error> {
        let reading = Error::disk("reading", source);
        let refuse = || error!(Recipe, "{} leads out of its package", source.display());
        let kind = fs::symlink_metadata(source).map_err(&reading)?;
        if kind.is_dir() && depth <= KERNEL_DIRECTORY_DEPTH_MAX {
            for entry in files::entries(source)? {
                let name = entry.file_name();
                let name = name.to_str().ok_or_else(refuse)?;
                self.add(&entry.path(), &format!("{to}/{name}"), depth + 1)?;
            }
            return Ok(());
        }
        if !kind.is_file() || self.entries.len() >= TREE_ENTRIES_MAX {
            return Err(refuse());
        }
        let entry = Entry::disk(to, 0o644, source.to_owned(), self.from.to_owned());
        let entry = entry.map_err(reading)?;
        match self.entries.insert(to.to_owned(), entry) {
            None => Ok(()),
            Some(before) => Err(is_taken(&before.path)),
        }
    }
}

/// The same, and each directory above them.
pub(super) fn with_directories(files: BTreeMap<String, Entry>) -> Vec<Entry> {
    let mut all = files;
    let paths: Vec<String> = all.keys().cloned().collect();
    for path in paths {
        let mut above = path.as_str();
        while let Some((directory, _)) = above
            .rsplit_once('/')
            .filter(|(directory, _)| !directory.is_empty())
        {
            let make = || Entry::directory(directory);
            all.entry(directory.to_owned()).or_insert_with(make);
            above = directory;
        }
    }
    all.into_values().collect()
}
