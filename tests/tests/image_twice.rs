//! The same image from another folder, by another user, with another umask: every byte of it, by the digests in its manifest.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use tests::Image;
use tests::programs::workspace_root;

const RECIPE: &str = "image-builder/recipes/sim.yaml";
/// Folders that are no sources.
const LEFT_OUT: [&str; 3] = ["target", ".git", "shared"];

/// Compiled once, for a compilation takes ten minutes; everything after it is done again.
#[tokio::test(flavor = "multi_thread")]
async fn another_folder_and_another_user_make_the_same_image() {
    let Some((builder, image)) = this_image().await else {
        return;
    };
    let place = TempDir::new().unwrap();
    build_as_another(&builder, &image, workspace_root(), None, place.path());
    same(&image, place.path());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "compiles the agent once more: ten minutes on two cores"]
async fn other_sources_another_store_and_another_user_make_the_same_image() {
    let Some((builder, image)) = this_image().await else {
        return;
    };
    let place = TempDir::new().unwrap();
    let sources = place.path().join("elsewhere");
    copy(workspace_root(), &sources);
    let store = place.path().join("store");
    build_as_another(&builder, &image, &sources, Some(&store), place.path());
    same(&image, place.path());
}

async fn this_image() -> Option<(PathBuf, Image)> {
    common::made(|programs| {
        let image = Image::build(programs, "sim", true)?;
        Ok((programs.path("image-builder"), image))
    })
    .await
}

/// Builds as user 1234 of a user namespace and with an umask that hides what it makes from everybody else.
fn build_as_another(
    builder: &Path,
    image: &Image,
    sources: &Path,
    store: Option<&Path>,
    place: &Path,
) {
    let mut words: Vec<&OsStr> = Vec::new();
    let recipe = sources.join(RECIPE);
    let out = place.join("image");
    words.extend([
        "build".as_ref(),
        recipe.as_os_str(),
        "--out".as_ref(),
        out.as_os_str(),
    ]);
    if let Some(store) = store {
        words.extend(["--store".as_ref(), store.as_os_str()]);
    }
    if let Some(lock) = &image.fresh_lock {
        words.extend(["--lock".as_ref(), lock.as_os_str()]);
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-user=1234", "--map-group=1234", "sh", "-c"])
        .args([
            "umask 077; exec \"$0\" \"$@\"".as_ref(),
            builder.as_os_str(),
        ])
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("unshare and sh are everywhere that Linux is");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The manifest holds the digest of every file; the files are held against it.
fn same(image: &Image, place: &Path) {
    let other = place.join("image");
    let manifest = |dir: &Path| fs::read_to_string(dir.join("manifest.json")).unwrap();
    assert_eq!(manifest(&image.dir), manifest(&other));
    for (name, file) in image.manifest.files.each() {
        let bytes = fs::read(other.join(&file.name)).unwrap();
        assert!(measurements::Digest32::of(&bytes) == file.sha256, "{name}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (name, kind) = (entry.file_name(), entry.file_type().unwrap());
        if LEFT_OUT.iter().any(|left| name == *left) {
            continue;
        }
        if kind.is_dir() {
            copy(&entry.path(), &to.join(name));
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}
