//! Whether every program and library of a root finds the libraries that it asks for, inside that root.
//!
//! What the loader would do is done here with the list of entries: the folders that a file names itself (`DT_RUNPATH`, `DT_RPATH`), then
//! the loader's cache, then the loader's own folders (ld.so(8)). Libraries that a program opens by name while it runs are in no
//! table; a recipe lists them in `root.libraries`, and they are looked for in the same way.
//!
//! **Lacks** versions: whether a library has each symbol that is asked of it, in the version that is asked for, is not looked at.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Cursor;

use super::UserlandError;
use super::elf::{self, Dynamic};
use super::loader;
use super::view::View;
use crate::build::contents::{Entry, Source, What};
use crate::error::FetchError;

/// Checks all files of a root, and that the libraries `asked` for are there.
pub fn check(entries: &[Entry], asked: &[String]) -> Result<(), UserlandError> {
    let search = Search::of(entries)?;
    for entry in entries {
        let Some(dynamic) = read(entry)? else {
            continue;
        };
        if let Some(missing) = search.missing(entry, &dynamic) {
            return Err(UserlandError::Unresolved {
                path: entry.path.clone(),
                package: entry.from().unwrap_or("no package").to_owned(),
                library: missing.to_owned(),
            });
        }
    }
    match asked.iter().find(|library| !search.has(library, &[])) {
        None => Ok(()),
        Some(library) => Err(UserlandError::NoLibrary {
            library: library.clone(),
        }),
    }
}

struct Search<'a> {
    view: View<'a>,
    /// The names in the loader's cache.
    cached: BTreeSet<String>,
}

impl<'a> Search<'a> {
    fn of(entries: &'a [Entry]) -> Result<Self, UserlandError> {
        let view = View::of(entries);
        let cached = loader::names(&view)?;
        Ok(Self { view, cached })
    }

    /// The first thing that a file asks for and does not get.
    fn missing<'d>(&self, entry: &Entry, dynamic: &'d Dynamic) -> Option<&'d str> {
        let interpreter = dynamic.interpreter.as_deref();
        if let Some(gone) = interpreter.filter(|path| !self.is_file(path)) {
            return Some(gone);
        }
        let own = entry.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folders = dynamic.folders.iter().map(|folder| {
            let folder = folder.replace("${ORIGIN}", own);
            folder.replace("$ORIGIN", own)
        });
        let folders: Vec<String> = folders.collect();
        let mut needed = dynamic.needed.iter().map(String::as_str);
        needed.find(|library| !self.has(library, &folders))
    }

    fn has(&self, library: &str, folders: &[String]) -> bool {
        if library.contains('/') {
            return self.is_file(library);
        }
        let own = folders.iter().map(String::as_str);
        self.cached.contains(library)
            || own
                .chain(DEFAULT)
                .any(|folder| self.is_file(&format!("{folder}/{library}")))
    }

    fn is_file(&self, path: &str) -> bool {
        let found = self.view.resolve(path);
        found.is_some_and(|entry| matches!(entry.what, What::File { .. }))
    }
}

fn read(entry: &Entry) -> Result<Option<Dynamic>, UserlandError> {
    let What::File { source, .. } = &entry.what else {
        return Ok(None);
    };
    let dynamic = match source {
        Source::Memory(bytes) => elf::dynamic(Cursor::new(bytes)),
        Source::Disk(path) => {
            let file = File::open(path).map_err(FetchError::disk("opening", path))?;
            elf::dynamic(file)
        }
    };
    dynamic.map_err(|problem| super::unmakeable(entry, problem))
}

/// The loader's own folders on Debian for machines with x86-64 (`ld.so --list-diagnostics`).
const DEFAULT: [&str; 4] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib",
    "/usr/lib",
];

#[cfg(test)]
mod tests;
