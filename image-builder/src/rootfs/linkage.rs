//! Whether every program and library of a root finds the libraries that it asks for, inside that root.
//!
//! What the loader would do is done here with the list of entries: the directories that a file names itself (`DT_RUNPATH`, `DT_RPATH`), then
//! the loader's cache, then the loader's own directories (ld.so(8)). Libraries that a program opens by name while it runs are in no
//! table; a recipe lists them in `root.libraries`, and they are looked for in the same way. A library may leave finding to whoever
//! loads it: what is loaded already is not looked for again, and all that a file asks for is loaded before what those ask for.
//!
//! **Lacks** versions: whether a library has each symbol that is asked of it, in the version that is asked for, is not looked at.

pub mod program;

use std::collections::BTreeSet;
use std::io::Cursor;

use super::view::View;
use super::{loader, unmakeable};
use crate::error::{Error, error};
use crate::files;
use crate::formats::elf;
use crate::formats::elf::Dynamic;
use crate::formats::entry::{Entry, Source, What};

/// Checks all files of a root, and that the libraries `asked` for are there.
pub fn check(entries: &[Entry], asked: &[String]) -> Result<(), Error> {
    let search = Search::of(entries)?;
    let mut tables = Vec::new();
    for entry in entries {
        if let Some(dynamic) = read(entry)? {
            tables.push((entry, dynamic));
        }
    }
    for (entry, dynamic) in &tables {
        let mut missing = search.missing(entry, dynamic);
        if let Some(missing) =
            missing.find(|library| !search.loaded(&tables, entry, dynamic, library))
        {
            return Err(unmakeable(
                entry,
                format!("asks for {missing}, which is not in the root"),
            ));
        }
    }
    match asked.iter().find(|library| !search.has(library, &[])) {
        None => Ok(()),
        Some(library) => Err(error!(
            Recipe,
            "the recipe's root.libraries names {library}, which is not in the root"
        )),
    }
}

struct Search<'a> {
    view: View<'a>,
    /// The names in the loader's cache.
    cached: BTreeSet<String>,
}

impl<'a> Search<'a> {
    fn of(entries: &'a [Entry]) -> Result<Self, Error> {
        let view = View::of(entries);
        let cached = loader::names(&view)?;
        Ok(Self { view, cached })
    }

    /// What a file asks for and does not find.
    fn missing<'d>(
        &'d self,
        entry: &Entry,
        dynamic: &'d Dynamic,
    ) -> impl Iterator<Item = &'d str> + use<'a, 'd> {
        let interpreter = dynamic.interpreter.as_deref();
        let gone = interpreter.filter(|path| !self.is_file(path));
        let directories = directories(entry, dynamic);
        let needed = dynamic.needed.iter().map(String::as_str);
        let lost = needed.filter(move |library| !self.has(library, &directories));
        gone.into_iter().chain(lost)
    }

    /// Whether all that ask for the library `entry` ask for what it lacks as well, and find that.
    fn loaded(
        &self,
        tables: &[(&Entry, Dynamic)],
        entry: &Entry,
        dynamic: &Dynamic,
        lacked: &str,
    ) -> bool {
        let file = entry.path.rsplit_once('/').map_or("", |(_, name)| name);
        let name = dynamic.name(file);
        let asks = |of: &Dynamic, library: &str| of.needed.iter().any(|one| one == library);
        let mut askers = tables
            .iter()
            .filter(|(_, one)| name.is_some_and(|name| asks(one, name)))
            .peekable();
        askers.peek().is_some()
            && askers.all(|(at, one)| asks(one, lacked) && self.has(lacked, &directories(at, one)))
    }

    fn has(&self, library: &str, directories: &[String]) -> bool {
        if library.contains('/') {
            return self.is_file(library);
        }
        let own = directories.iter().map(String::as_str);
        self.cached.contains(library)
            || own
                .chain(DEFAULT)
                .any(|directory| self.is_file(&format!("{directory}/{library}")))
    }

    fn is_file(&self, path: &str) -> bool {
        let found = self.view.resolve(path);
        found.is_some_and(|entry| matches!(entry.what, What::File { .. }))
    }
}

/// The directories that a file names itself.
fn directories(entry: &Entry, dynamic: &Dynamic) -> Vec<String> {
    let own = entry
        .path
        .rsplit_once('/')
        .map_or("", |(directory, _)| directory);
    let directories = dynamic.directories.iter();
    directories
        .map(|directory| directory.replace("${ORIGIN}", own).replace("$ORIGIN", own))
        .collect()
}

fn read(entry: &Entry) -> Result<Option<Dynamic>, Error> {
    let What::File { source, .. } = &entry.what else {
        return Ok(None);
    };
    let dynamic = match source {
        Source::Memory(bytes) => elf::dynamic(Cursor::new(bytes)),
        Source::Disk(path) => elf::dynamic(files::open(path)?),
    };
    dynamic.map_err(|problem| unmakeable(entry, problem))
}

/// Where Debian's packages have them.
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";
/// The loader's own directories on Debian for machines with x86-64 (`ld.so --list-diagnostics`).
const DEFAULT: [&str; 4] = ["/lib/x86_64-linux-gnu", LIBRARIES, "/lib", "/usr/lib"];

#[cfg(test)]
mod linkage_tests;
