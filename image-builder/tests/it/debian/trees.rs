//! Packages into the store and trees out of them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use image_builder::error::{Error, Fault};
use image_builder::lock::{PackageLock, Role};
use image_builder::store::{
    Progress, Store, ensure_package, ensure_packages, ensure_tree, tree_key, visit_files,
};
use tar::EntryType;

use super::archive::Archive;
use super::made_packages::{Made, deb, lock_of, lock_text, pool_path};

/// Made by `dpkg-deb -Zxz`; its programs are set-user-ID, and a library lies in `lib`.
pub const HELLO: &[u8] = include_bytes!("hello.deb");

struct Place {
    archive: Archive,
    store: Store,
    lock: PackageLock,
    _directory: tempfile::TempDir,
}

impl Place {
    fn with(packages: &[(&str, &[u8])]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let archive = Archive::start();
        Self {
            lock: lock_of(&archive, packages),
            archive,
            store: Store::at(directory.path()),
            _directory: directory,
        }
    }

    fn tree(&self) -> Result<PathBuf, Error> {
        let packages = self.lock.closure(Role::Run);
        ensure_tree(&self.store, &self.lock, &packages, &mut |_| {})
    }

    /// Nothing at a tree's place and nothing beside it.
    fn has_no_tree(&self) {
        let trees = names(&self.store.root().join("trees"));
        assert_eq!(trees, [""; 0]);
    }
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("readable").file_name())
        .map(|name| name.into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

fn link(path: &Path) -> String {
    let target = fs::read_link(path).expect("a link");
    target.into_os_string().into_string().expect("UTF-8")
}

#[test]
fn a_package_of_dpkg_becomes_a_tree() {
    let place = Place::with(&[("hello", HELLO)]);
    let tree = place.tree().expect("a good package");
    assert_eq!(names(&tree), ["bin", "lib", "lib64", "sbin", "usr"]);
    assert_eq!(link(&tree.join("bin")), "usr/bin");
    assert_eq!(
        names(&tree.join("usr")),
        ["bin", "lib", "lib64", "sbin", "share"]
    );
    let metadata = |path: &str| fs::symlink_metadata(tree.join(path)).expect(path);
    let program = metadata("usr/bin/hello");
    assert_eq!(program.permissions().mode() & 0o7777, 0o755, "not 4755");
    assert_eq!(program.ino(), metadata("usr/bin/hello-again").ino());
    assert_eq!(
        fs::read(tree.join("usr/lib/libhello.so")).expect("mapped"),
        b"a library\n"
    );
    let documents = tree.join("usr/share/doc/hello");
    assert_eq!(link(&documents.join("program")), "../../../bin/hello");
    assert_eq!(
        link(&documents.join("settings")),
        "../../../../etc/hello.conf",
        "an absolute link stays in the tree, whoever follows it"
    );
    assert!(documents.join("n".repeat(120)).is_file(), "a GNU long name");
    for path in [
        "",
        "usr",
        "usr/bin/hello",
        "usr/share/doc/hello/program",
        "bin",
    ] {
        assert_eq!(metadata(path).mtime(), 1, "{path}");
    }
    for path in ["usr", "usr/share/doc", "usr/lib64"] {
        assert_eq!(metadata(path).permissions().mode() & 0o7777, 0o755);
    }
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let place = Place::with(&[
        ("hello", HELLO),
        ("world", &deb(&[Made::Directory("./srv")])),
    ]);
    let packages = place.lock.closure(Role::Run);
    let ensure = || ensure_packages(&place.store, &place.lock, &packages, &mut |_| {});
    ensure().expect("two packages");
    assert_eq!(place.archive.asked().len(), 2);
    place.archive.drop(&pool_path("hello"));
    place.archive.drop(&pool_path("world"));
    ensure().expect("offline");
    let tree = place.tree().expect("offline");
    assert_eq!(place.tree(), Ok(tree.clone()));
    // A tree that is there needs no packages.
    fs::remove_dir_all(place.store.root().join("sha256")).expect("removable");
    assert_eq!(place.tree(), Ok(tree));
    assert_eq!(place.archive.asked().len(), 2);
}

#[test]
fn order_and_mirror_do_not_change_a_tree_and_content_does() {
    let other = deb(&[Made::Directory("./srv")]);
    let place = Place::with(&[("hello", HELLO), ("world", &other)]);
    let mut packages = place.lock.closure(Role::Run);
    let key = tree_key(&packages);
    packages.reverse();
    assert_eq!(tree_key(&packages), key);
    assert_ne!(tree_key(&packages[..1]), key);
}

#[test]
fn a_package_that_the_mirror_dropped_is_named_with_what_to_do() {
    let place = Place::with(&[("hello", HELLO)]);
    place.archive.drop(&pool_path("hello"));
    let error = place.tree().expect_err("gone");
    let text = error.to_string();
    assert!(
        text.contains("no mirror has hello 1.0-1 any more")
            && text.contains("`image-builder lock --update hello`"),
        "{text}"
    );
    assert_eq!(error.fault(), Fault::Gone);
    place.has_no_tree();
}

#[test]
fn a_package_is_had_from_the_next_mirror_and_at_last_from_the_past() {
    let place = Place::with(&[("hello", HELLO)]);
    let path = pool_path("hello");
    let (lacks, spoils, breaks) = (Archive::start(), Archive::start(), Archive::start());
    let mut other = HELLO.to_vec();
    other[500] ^= 1;
    spoils.put(&path, &other);
    breaks.put(&path, HELLO);
    breaks.cut(&path, 300);
    let mirrors = |last: &Archive| {
        [&lacks, &spoils, &breaks, last]
            .map(|mirror| mirror.url().to_owned())
            .to_vec()
    };
    let packages = place.lock.closure(Role::Run);
    let ensure = |lock: &PackageLock, store: &Store| {
        let mut refused = Vec::new();
        let result = ensure_packages(store, lock, &packages, &mut |event| {
            if let Progress::Refused { reason } = event {
                refused.push(reason.to_owned());
            }
        });
        (result, refused)
    };
    let lock = place.lock.clone();
    let lock = lock.fetched_from(&mirrors(&place.archive)).expect("URLs");
    let (result, refused) = ensure(&lock, &place.store);
    assert_eq!(result, Ok(()));
    assert!(refused[0].contains("HTTP status 404"), "{refused:?}");
    assert!(
        refused[1].contains("sent a file with SHA-256"),
        "{refused:?}"
    );
    assert!(
        refused[2].contains("the network failed after 300"),
        "{refused:?}"
    );
    let asked = place.archive.asked();
    assert_eq!(asked, [format!("{path} from 300")], "only what was missing");

    // The archive by time has it, a day after the lock's date.
    let past = Archive::start();
    past.put(&format!("20260913T075541Z/{path}"), HELLO);
    let text = lock_text(&Archive::start(), &[("hello", HELLO)]);
    let text = text.replacen(
        "\"suites\"",
        &format!("\"snapshot\": \"{}\", \"suites\"", past.url()),
        1,
    );
    let lock = PackageLock::parse(text.as_bytes()).expect("with a snapshot");
    let lock = lock.fetched_from(&[lacks.url().to_owned()]).expect("URLs");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (result, refused) = ensure(&lock, &Store::at(directory.path()));
    assert_eq!((result, refused.len()), (Ok(()), 2));
    assert_eq!(
        past.asked(),
        [
            format!("20260912T075541Z/{path}"),
            format!("20260913T075541Z/{path}")
        ]
    );

    // And when nobody has it, the sentence names the package, everybody who was asked, and what to do.
    past.drop(&format!("20260913T075541Z/{path}"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::at(directory.path());
    let error = ensure(&lock, &store).0.expect_err("gone");
    assert_eq!(error.fault(), Fault::Gone);
    let text = error.to_string();
    for part in [
        "hello 1.0-1",
        lacks.url(),
        past.url(),
        "lock --update hello",
    ] {
        assert!(text.contains(part), "{text}");
    }
    // A mirror that fails in another way may have it still.
    let both = [lacks.url().to_owned(), spoils.url().to_owned()];
    let lock = place.lock.clone().fetched_from(&both).expect("URLs");
    let error = ensure(&lock, &store).0.expect_err("nowhere");
    assert_eq!(error.fault(), Fault::Mirror);
    assert!(
        error.to_string().contains("from any of 2 places"),
        "{error}"
    );
    let dead = ["http://127.0.0.1:1".to_owned(), lacks.url().to_owned()];
    let lock = place.lock.clone().fetched_from(&dead).expect("URLs");
    let error = ensure(&lock, &store).0.expect_err("nowhere");
    assert_eq!(error.fault(), Fault::Network);
    assert!(
        place
            .lock
            .clone()
            .fetched_from(&["ftp://x".into()])
            .is_err()
    );
}

#[test]
fn a_broken_download_is_resumed_by_the_next_run() {
    let place = Place::with(&[("hello", HELLO)]);
    place.archive.cut(&pool_path("hello"), 300);
    let error = place.tree().expect_err("the mirror dies");
    assert_eq!(error.fault(), Fault::Network);
    place.has_no_tree();
    assert_eq!(names(&place.store.root().join("partial")).len(), 1);
    assert_eq!(names(&place.store.root().join("sha256")), [""; 0]);
    place.archive.mend();
    place.tree().expect("whole now");
    let asked = place.archive.asked();
    assert_eq!(
        asked.last(),
        Some(&format!("{} from 300", pool_path("hello")))
    );
}

#[test]
fn other_bytes_than_the_lock_names_are_refused() {
    let check = |change: &dyn Fn(&mut Vec<u8>), expected: &str| {
        let place = Place::with(&[("hello", HELLO)]);
        let mut bytes = HELLO.to_vec();
        change(&mut bytes);
        place.archive.put(&pool_path("hello"), &bytes);
        let error = place.tree().expect_err("other bytes");
        assert!(
            error.fault() == Fault::Mirror && error.to_string().contains(expected),
            "{error}"
        );
        place.has_no_tree();
        for directory in ["partial", "sha256"] {
            assert_eq!(names(&place.store.root().join(directory)), [""; 0]);
        }
    };
    check(&|bytes| bytes[500] ^= 1, " sent a file with SHA-256 ");
    check(&|bytes| bytes.push(0), " bytes where the lock has ");
    check(&|bytes| bytes.truncate(700), " announced 700 bytes ");
}

#[test]
fn a_spoilt_package_in_the_store_is_fetched_again() {
    let place = Place::with(&[("hello", HELLO)]);
    let hello = &place.lock.packages()[0];
    let ensure = || ensure_package(&place.store, &place.lock, hello, &mut |_| {});
    let path = ensure().expect("fetched");
    let mut bytes = HELLO.to_vec();
    bytes[500] ^= 1;
    fs::write(&path, bytes).expect("writable");
    assert_eq!(ensure(), Ok(path.clone()));
    assert_eq!(fs::read(path).expect("there"), HELLO);
}

#[test]
fn two_packages_share_directories_and_no_file() {
    let one = deb(&[
        Made::Directory("./usr/share"),
        Made::File("./usr/share/a", 0o644, b"1"),
    ]);
    let two = deb(&[
        Made::Directory("./usr/share"),
        Made::File("./usr/share/b", 0o600, b"2"),
    ]);
    let place = Place::with(&[("aa", &one), ("bb", &two)]);
    let tree = place.tree().expect("no clash");
    assert_eq!(names(&tree.join("usr/share")), ["a", "b"]);
    let mode = |path: &str| fs::metadata(tree.join(path)).expect(path).mode() & 0o777;
    assert_eq!((mode("usr/share"), mode("usr/share/b")), (0o755, 0o600));

    let three = deb(&[Made::File("usr/share/a", 0o644, b"1")]);
    let place = Place::with(&[("aa", &one), ("cc", &three)]);
    let error = place.tree().expect_err("both have it").to_string();
    assert!(error.contains("`usr/share/a` is there already"), "{error}");
    place.has_no_tree();

    let through = deb(&[Made::Link("./usr/share", EntryType::Symlink, "../srv")]);
    let place = Place::with(&[("aa", &one), ("dd", &through)]);
    place.tree().expect_err("a directory and a link");
    place.has_no_tree();
}

#[test]
fn single_files_are_read_without_writing_the_rest() {
    let place = Place::with(&[("hello", HELLO)]);
    let hello = &place.lock.packages()[0];
    let path = ensure_package(&place.store, &place.lock, hello, &mut |_| {}).expect("fetched");
    let mut library = Vec::new();
    visit_files(&path, "hello", |path, content| {
        if path == "usr/lib/libhello.so" {
            content.read_to_end(&mut library)?;
        }
        Ok(())
    })
    .expect("a good package");
    assert_eq!(library, b"a library\n");
    place.has_no_tree();
}

#[test]
fn leftovers_of_a_killed_run_are_no_obstacle() {
    let place = Place::with(&[("hello", HELLO)]);
    let key = tree_key(&place.lock.closure(Role::Run));
    let leftover = place.store.root().join(format!("trees/.new-{key}"));
    fs::create_dir_all(leftover.join("usr/bin")).expect("writable");
    fs::write(leftover.join("usr/bin/hello"), b"half").expect("writable");
    let tree = place.tree().expect("made anew");
    assert_eq!(
        fs::read(tree.join("usr/bin/hello")).expect("there"),
        b"#!/bin/sh\necho hello\n"
    );
    assert_eq!(names(tree.parent().expect("trees")), [key.to_string()]);
}
