//! The user space of the `dev` recipe's root, against the tools that Debian's scripts would have run. It fetches packages of the lock
//! when the store lacks them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use image_builder::formats::entry::{Entry, Source, What};
use image_builder::lock::{PackageLock, Recipe, Role};
use image_builder::rootfs as userland;
use image_builder::rootfs::{Unpacked, Userland};
use image_builder::sandbox::Sandbox;
use image_builder::store::Store;

/// The program under test.
const IMAGE_BUILDER: &str = env!("CARGO_BIN_EXE_image-builder");

fn dev() -> (Recipe, PackageLock) {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let recipe = Recipe::read(&recipes.join("dev.yaml")).expect("committed");
    let lock = PackageLock::read(&recipes.join("dev.lock.json")).expect("committed");
    (recipe, lock)
}

fn unpacked() -> (Unpacked, Vec<String>) {
    let (recipe, lock) = dev();
    let store = Store::from_environment().expect("a place to keep packages");
    let packages = lock.closure(Role::Root);
    let unpacked = userland::ensure(&store, &lock, &packages, &mut |_| {}).expect("unpacked");
    (unpacked, recipe.root.expect("it has one").ignore_scripts)
}

/// Puts entries onto the disk, owners and attributes aside.
fn lay_out(entries: &[Entry], directory: &Path) {
    for entry in entries {
        let path = directory.join(entry.path.trim_start_matches('/'));
        match &entry.what {
            What::Directory => fs::create_dir_all(&path).expect("made"),
            What::Link { target, .. } => std::os::unix::fs::symlink(target, &path).expect("made"),
            What::SameAs { path: first, .. } => {
                let first = directory.join(first.trim_start_matches('/'));
                fs::hard_link(first, &path).expect("linked");
            }
            What::File { source, .. } => match source {
                Source::Disk(from) => {
                    fs::hard_link(from, &path)
                        .or_else(|_| fs::copy(from, &path).map(drop))
                        .expect("linked or copied");
                }
                Source::Memory(bytes) => fs::write(&path, bytes).expect("written"),
            },
        }
    }
}

#[test]
fn the_loaders_cache_is_the_one_that_ldconfig_writes() {
    let (unpacked, ignored) = unpacked();
    let Userland { entries, .. } = userland::complete(unpacked, &ignored, &[]).expect("complete");
    let (tree, out) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    lay_out(&entries, tree.path());
    let sandbox = Sandbox::new(tree.path())
        .launcher(IMAGE_BUILDER)
        .write(out.path(), "/out");
    let done = sandbox
        .command("/usr/sbin/ldconfig", ["-X", "-C", "/out/cache"])
        .output()
        .expect("it starts");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let listed = |cache: &str| {
        let listed = sandbox
            .command("/usr/sbin/ldconfig", ["-p", "-C", cache])
            .output()
            .expect("it starts");
        let text = String::from_utf8(listed.stdout).expect("text");
        text.lines().skip(1).map(String::from).collect::<Vec<_>>()
    };
    let (ours, theirs) = (listed("/etc/ld.so.cache"), listed("/out/cache"));
    assert!(theirs.len() > 30, "{theirs:?}");
    assert_eq!(ours, theirs);
    let ours = entries
        .iter()
        .find(|entry| entry.path == "/etc/ld.so.cache")
        .expect("there");
    let What::File {
        source: Source::Memory(ours),
        ..
    } = &ours.what
    else {
        panic!("it is a file of ours");
    };
    assert_eq!(ours, &fs::read(out.path().join("cache")).expect("written"));
}

#[test]
fn every_file_knows_its_package_and_every_link_leads_somewhere_inside() {
    let (unpacked, ignored) = unpacked();
    let (_, lock) = dev();
    let Userland { entries, not_run } =
        userland::complete(unpacked, &ignored, &[]).expect("complete");
    let names: Vec<String> = lock
        .closure(Role::Root)
        .into_iter()
        .map(|package| format!("{} {}", package.name, package.version))
        .collect();
    let by_path: BTreeMap<&str, &Entry> = entries
        .iter()
        .map(|entry| (entry.path.as_str(), entry))
        .collect();
    assert_eq!(by_path.len(), entries.len(), "no path is there twice");
    for entry in &entries {
        if let Some(from) = entry.from() {
            assert!(
                from == "image-builder" || names.iter().any(|name| name == from),
                "{}",
                entry.path
            );
        }
        if let Some((parent, _)) = entry
            .path
            .rsplit_once('/')
            .filter(|(parent, _)| !parent.is_empty())
        {
            assert!(matches!(by_path[parent].what, What::Directory), "{parent}");
        }
    }
    // Owners and bits that a tree on the disk would have lost.
    let owned = |path: &str| {
        (
            by_path[path].mode,
            by_path[path].owner.user,
            by_path[path].owner.group,
        )
    };
    assert_eq!(owned("/usr/bin/mount"), (0o4755, 0, 0));
    assert_eq!(owned("/var/mail"), (0o2775, 0, 8));
    assert_eq!(owned("/tmp"), (0o1777, 0, 0));
    assert_eq!(owned("/root"), (0o700, 0, 0));
    assert!(
        by_path["/etc/passwd"].from()
            == Some(
                names
                    .iter()
                    .find(|n| n.starts_with("base-passwd "))
                    .expect("there")
            )
    );
    assert!(
        not_run
            .iter()
            .any(|line| line.contains("libpam-runtime") && line.contains("ignored"))
    );
}
