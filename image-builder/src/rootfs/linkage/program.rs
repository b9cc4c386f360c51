//! A program of ours that opens libraries by name while it runs, which a static one of glibc cannot: what it may ask of the loader,
//! and that it was linked against the very libraries that the root has.

use std::io::Cursor;
use std::path::Path;

use super::super::view::View;
use super::LIBRARIES;
use crate::error::{Error, error};
use crate::files;
use crate::formats::elf;
use crate::formats::entry::{Entry, What};
use crate::limits::PROGRAM_BYTES_MAX;
use registers::Digest32;

/// What it may ask for. All of it comes from libc6 and libgcc-s1.
const ALLOWED: [&str; 4] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", LOADER];
const LOADER: &str = "ld-linux-x86-64.so.2";
const INTERPRETER: &str = "/lib64/ld-linux-x86-64.so.2";

/// Why a program is none that a root may have, if so.
pub fn problem_of(program: &[u8]) -> Option<String> {
    let dynamic = match elf::dynamic(Cursor::new(program)) {
        Ok(Some(dynamic)) => dynamic,
        Ok(None) => return Some("asks for no loader: it could open no library".into()),
        Err(problem) => return Some(problem.into()),
    };
    let interpreter = dynamic.interpreter.as_deref().unwrap_or_default();
    if interpreter != INTERPRETER {
        return Some(format!(
            "asks for the loader `{interpreter}`; it has to be {INTERPRETER}"
        ));
    }
    if dynamic.has_directories {
        return Some("names directories for libraries (DT_RPATH or DT_RUNPATH)".into());
    }
    let other = { dynamic.needed.iter() }.find(|library| !ALLOWED.contains(&library.as_str()))?;
    Some(format!(
        "asks for {other}; allowed are {}",
        ALLOWED.join(", ")
    ))
}

/// Checks that a `program` which `tree` linked finds, in a root of these entries, what it was linked against: each library with the
/// same bytes.
pub fn check(program: &Path, tree: &Path, entries: &[Entry]) -> Result<(), Error> {
    let name = program.display();
    let bytes = files::read(program, PROGRAM_BYTES_MAX as u64)?;
    if let Some(problem) = problem_of(&bytes) {
        return Err(error!(Tool, "{name} {problem}"));
    }
    let dynamic = elf::dynamic(Cursor::new(&bytes)).ok().flatten();
    let needed = dynamic.iter().flat_map(|dynamic| &dynamic.needed);
    let view = View::of(entries);
    let digest = |path: &str| match &view.resolve(path)?.what {
        What::File { sha256, .. } => Some(*sha256),
        _ => None,
    };
    let libraries = needed.map(|library| (library.as_str(), format!("{LIBRARIES}/{library}")));
    for (library, path) in libraries.chain([(LOADER, INTERPRETER.to_owned())]) {
        let linked = tree.join(&format!("{LIBRARIES}/{library}")[1..]);
        let linked = Digest32::of(&files::read(&linked, PROGRAM_BYTES_MAX as u64)?);
        match digest(&path) {
            Some(there) if there == linked => {}
            Some(there) => {
                return Err(error!(
                    Recipe,
                    "{name} was linked against a {library} with SHA-256 {linked}, and {path} of the root has {there}: both have to \
                     come from one package"
                ));
            }
            None => {
                return Err(error!(
                    Recipe,
                    "{name} asks for {library}, and the root has no {path}: name its package in root.packages"
                ));
            }
        }
    }
    Ok(())
}
