//! Wheels, files of the web and directories beside a recipe: fetched, unpacked, copied, and refused.

use std::fs::{self, Permissions};
use std::io::{Cursor, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use image_builder::error::{Error, Fault};
use image_builder::lock::{InputKind, LockedInput};
use image_builder::store::Store;
use image_builder::store::inputs::{InputSources, ensure_input};
use registers::Digest32;
use zip::write::SimpleFileOptions;

use super::archive::Archive;

/// A zip archive with these members: name, mode with its kind, content.
fn zip_of(members: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, mode, bytes) in members {
        let options = SimpleFileOptions::default().unix_permissions(*mode);
        if mode & 0o170_000 == 0o120_000 {
            let target = std::str::from_utf8(bytes).expect("a target");
            zip.add_symlink(*name, target, options).expect("memory");
            continue;
        }
        match name.strip_suffix('/') {
            Some(directory) => zip.add_directory(directory, options).expect("memory"),
            None => zip.start_file(*name, options).expect("memory"),
        }
        if !name.ends_with('/') {
            zip.write_all(bytes).expect("memory");
        }
    }
    zip.finish().expect("memory").into_inner()
}

struct Place {
    archive: Archive,
    directory: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self {
            archive: Archive::start(),
            store: Store::at(directory.path().join("store")),
            directory,
        }
    }

    fn ensure(&self, input: &LockedInput) -> Result<PathBuf, Error> {
        let places = InputSources {
            store: &self.store,
            directory: self.directory.path(),
            pypi_files_url: None,
        };
        ensure_input(places, input, &mut |_| {})
    }

    /// An input that the archive serves.
    fn served(&self, kind: InputKind, file: &str, bytes: &[u8]) -> LockedInput {
        self.archive.put(file, bytes);
        LockedInput {
            kind,
            name: "thing".into(),
            version: (kind == InputKind::Pypi).then(|| "1".into()),
            bytes: bytes.len() as u64,
            sha256: Digest32::of(bytes),
            seen: format!("{}/{file}", self.archive.url()),
        }
    }

    /// Nothing at a final place, nothing half made, nothing outside the store.
    fn is_clean(&self) {
        let inputs = self.store.root().join("inputs");
        assert_eq!(fs::read_dir(inputs).map_or(0, Iterator::count), 0);
        let beside = fs::read_dir(self.directory.path()).expect("there");
        assert!(beside.count() <= 2, "the store, and what a test put there");
    }
}

fn read(directory: &Path, path: &str) -> Vec<u8> {
    fs::read(directory.join(path)).expect(path)
}

#[test]
fn a_wheel_becomes_a_directory_once() {
    let place = Place::new();
    let wheel = zip_of(&[
        ("pkg/", 0o040_755, b""),
        ("pkg/lib/a.so", 0o100_644, b"library"),
        ("pkg/a.h", 0o100_644, b"header"),
    ]);
    let input = place.served(InputKind::Pypi, "a-1-py3-none-any.whl", &wheel);
    let directory = place.ensure(&input).expect("a good wheel");
    assert_eq!(read(&directory, "pkg/lib/a.so"), b"library");
    assert_eq!(place.ensure(&input), Ok(directory));
    assert_eq!(place.archive.asked().len(), 1, "nobody is asked again");
}

#[test]
fn a_hostile_wheel_is_refused_and_leaves_nothing() {
    let check = |members: &[(&str, u32, &[u8])], expected: &str| {
        let place = Place::new();
        let input = place.served(InputKind::Pypi, "a-1-py3-none-any.whl", &zip_of(members));
        let error = place.ensure(&input).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        let begin = "the input thing is the one in the lock, but ";
        assert!(error.to_string().starts_with(begin), "{error}");
        assert_eq!(error.fault(), Fault::Lock);
        place.is_clean();
    };
    let file = 0o100_644;
    for name in [
        "../evil",
        "a/../../evil",
        "/evil",
        "a//b",
        "./a",
        "a\\..\\b",
        "a\nb",
    ] {
        check(&[(name, file, b"x")], "has a name that is not plain");
    }
    check(&[(&"a/".repeat(520), 0o040_755, b"")], "not plain");
    check(&[("link", 0o120_777, b"/etc")], "is a link");
    check(
        &[("link", 0o120_777, b".."), ("link/evil", file, b"x")],
        "is a link",
    );
    let place = Place::new();
    let noise = place.served(InputKind::Pypi, "a-1-py3-none-any.whl", b"no archive");
    let error = place.ensure(&noise).expect_err("no zip");
    assert!(error.to_string().contains("is no wheel"), "{error}");
    place.is_clean();
}

#[test]
fn a_wheel_with_any_byte_changed_is_refused_or_stays_inside() {
    let good = zip_of(&[("a/b", 0o100_644, b"one"), ("c", 0o100_644, b"two")]);
    for at in 0..good.len() {
        let place = Place::new();
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let input = place.served(InputKind::Pypi, "a-1-py3-none-any.whl", &bytes);
        match place.ensure(&input) {
            Ok(_) => {}
            Err(error) if error.fault() == Fault::Lock => place.is_clean(),
            Err(error) => panic!("byte {at}: {error}"),
        }
        let beside = fs::read_dir(place.directory.path()).expect("there");
        assert_eq!(beside.count(), 1, "byte {at}: nothing outside the store");
    }
}

#[test]
fn a_file_on_the_web_is_what_the_lock_says_or_refused() {
    let place = Place::new();
    let input = place.served(InputKind::Url, "x/c.tar.gz", b"sources");
    let directory = place.ensure(&input).expect("there");
    assert_eq!(read(&directory, "c.tar.gz"), b"sources");
    let place = Place::new();
    let input = place.served(InputKind::Url, "x/c.tar.gz", b"sources");
    place.archive.put("x/c.tar.gz", b"sourceZ");
    let error = place.ensure(&input).expect_err("other bytes");
    assert!(
        error.to_string().contains("the input thing cannot"),
        "{error}"
    );
    assert_eq!(error.fault(), Fault::Mirror);
    place.is_clean();
    place.archive.drop("x/c.tar.gz");
    let error = place.ensure(&input).expect_err("gone");
    assert!(
        error.to_string().contains("the input thing is gone"),
        "{error}"
    );
    assert_eq!(error.fault(), Fault::Gone);
    place.is_clean();
}

/// The lock's line about what lies at `local`, made as `lock` makes it.
fn local(place: &Place) -> LockedInput {
    let path = place.directory.path().join("local");
    let found = image_builder::store::inputs::local::copy("thing", &path, None);
    let found = found.expect("a directory");
    LockedInput {
        kind: InputKind::Path,
        name: "thing".into(),
        version: None,
        bytes: found.bytes,
        sha256: found.sha256,
        seen: "local".into(),
    }
}

#[test]
fn a_directory_beside_the_recipe_is_copied_and_its_changes_are_noticed() {
    let place = Place::new();
    let local_directory = place.directory.path().join("local");
    fs::create_dir_all(local_directory.join("sub")).expect("writable");
    fs::write(local_directory.join("sub/a"), b"one").expect("writable");
    fs::write(local_directory.join(".b"), b"two").expect("writable");
    let input = local(&place);
    let directory = place.ensure(&input).expect("as it was locked");
    assert_eq!(read(&directory, "sub/a"), b"one");
    assert_eq!(read(&directory, ".b"), b"two");
    let mode = |mode| {
        let path = local_directory.join("sub/a");
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
    };
    // What a umask makes of a checkout does not count; whether a file is a program does.
    mode(0o664);
    assert_eq!(local(&place), input);
    mode(0o755);
    assert_ne!(local(&place), input);
    mode(0o644);
    for (path, content) in [("sub/a", "onE"), ("sub/c", "")] {
        fs::write(local_directory.join(path), content).expect("writable");
        let error = place.ensure(&input).expect_err("changed");
        assert!(error.to_string().contains("lock --update thing"), "{error}");
        assert_eq!(error.fault(), Fault::Recipe);
    }
    fs::remove_file(local_directory.join("sub/c")).expect("there");
    fs::write(local_directory.join("sub/a"), b"one").expect("writable");
    assert_eq!(place.ensure(&input), Ok(directory));
    fs::remove_dir_all(&local_directory).expect("ours");
    let error = place.ensure(&input).expect_err("gone");
    assert!(error.to_string().contains("is not there"), "{error}");
}

#[test]
fn links_beside_the_recipe_are_refused_by_name() {
    for target in ["/etc/passwd", "a", ".."] {
        let place = Place::new();
        let local_directory = place.directory.path().join("local");
        fs::create_dir(&local_directory).expect("writable");
        fs::write(local_directory.join("a"), b"one").expect("writable");
        let input = local(&place);
        symlink(target, local_directory.join("link")).expect("writable");
        let error = place.ensure(&input).expect_err("a link");
        assert!(error.to_string().contains("neither a file nor"), "{error}");
        place.is_clean();
    }
}

#[test]
fn a_single_file_beside_the_recipe_is_an_input_too() {
    let place = Place::new();
    fs::write(place.directory.path().join("local"), b"one").expect("writable");
    let input = local(&place);
    assert_eq!(input.sha256, Digest32::of(b"one"));
    let directory = place.ensure(&input).expect("there");
    assert_eq!(read(&directory, "local"), b"one");
}
