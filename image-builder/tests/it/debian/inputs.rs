//! Inputs of a recipe as directories.

use std::fs;

use image_builder::error::{Error, Fault};
use image_builder::lock::{PackageLock, Recipe};
use image_builder::store::Store;
use image_builder::store::inputs::{InputSources, open};
use registers::Digest32;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::archive::Archive;
use super::made_packages::{Made, deb, pool_path};

/// A wheel with one file.
fn wheel(name: &str) -> Vec<u8> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    writer.start_file(name, options).expect("a file");
    std::io::Write::write_all(&mut writer, b"library").expect("written");
    writer.finish().expect("a vector takes all").into_inner()
}

struct Place {
    archive: Archive,
    store: Store,
    recipe: Recipe,
    lock: PackageLock,
    directory: tempfile::TempDir,
}

impl Place {
    fn with(wheel: &[u8]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let archive = Archive::start();
        let package = deb(&[Made::File("./usr/lib/libcuda.so.1", 0o644, b"driver")]);
        archive.put(&pool_path("libcuda1"), &package);
        archive.put("w/nv-1-py3-none-any.whl", wheel);
        archive.put("f/header.h", b"header");
        let url = archive.url();
        let header = Digest32::of(b"header");
        let inputs = format!(
            "inputs:\n  - {{name: cuda, deb: libcuda1}}\n  - {{name: nv, pypi: nv, version: \"1\"}}\n  - {{name: header, url: \
             \"{url}/f/header.h\", sha256: \"{header}\", bytes: 6}}\n  - {{name: beside, path: keys}}\n\ninitrd:"
        );
        let sim = include_str!("../../../recipes/sim.yaml");
        let recipe = Recipe::parse(&sim.replacen("\ninitrd:", &format!("\n{inputs}"), 1));
        let one = |kind: &str, name: &str, version: &str, bytes: &[u8], seen: &str| {
            let (size, sha256) = (bytes.len(), Digest32::of(bytes));
            format!(
                "{{\"kind\": \"{kind}\", \"name\": \"{name}\", {version}\"bytes\": {size}, \"sha256\": \"{sha256}\", \"where\": \"{seen}\"}}"
            )
        };
        let inputs = [
            one("path", "beside", "", b"", "keys"),
            one("url", "header", "", b"header", &format!("{url}/f/header.h")),
            one(
                "pypi",
                "nv",
                "\"version\": \"1\", ",
                wheel,
                &format!("{url}/w/nv-1-py3-none-any.whl"),
            ),
        ];
        let (size, sha256) = (package.len(), Digest32::of(&package));
        let lock = format!(
            "{{\"version\": 2, \"recipe\": \"sim\", \"debian\": {{\"mirror\": \"{url}\", \"suites\": [{{\"name\": \"trixie\", \"release_sha256\": \
             \"{header}\", \"release_date\": \"Sat, 12 Sep 2026 07:55:41 UTC\"}}]}}, \"packages\": [{{\"name\": \"libcuda1\", \"version\": \"1.0-1\", \
             \"architecture\": \"amd64\", \"suite\": \"trixie\", \"path\": \"{}\", \"bytes\": {size}, \"sha256\": \"{sha256}\"}}], \"kernel\": \
             {{\"package\": \"libcuda1\"}}, \"firmware\": {{\"package\": \"libcuda1\"}}, \"tools\": {{\"build\": [], \"run\": []}}, \"alone\": \
             [\"libcuda1\"], \"inputs\": [{}]}}",
            pool_path("libcuda1"),
            inputs.join(", ")
        );
        Self {
            lock: PackageLock::parse(lock.as_bytes()).expect("a lock"),
            recipe: recipe.expect("a recipe"),
            archive,
            store: Store::at(directory.path()),
            directory,
        }
    }

    /// A file of an input, and what the input is.
    fn read(&self, name: &str, file: &str) -> Result<(Vec<u8>, String), Error> {
        let places = InputSources {
            store: &self.store,
            directory: self.directory.path(),
            pypi_files_url: None,
        };
        let opened = open(places, &self.recipe, &self.lock, name, &mut |_| {})?;
        let bytes = fs::read(opened.directory.join(file)).expect(file);
        Ok((bytes, opened.from))
    }
}

#[test]
fn packages_wheels_and_files_are_directories_and_are_fetched_once() {
    let place = Place::with(&wheel("nv/lib/libnv.so"));
    for _ in 0..2 {
        let (bytes, from) = place.read("cuda", "usr/lib/libcuda.so.1").expect("there");
        assert_eq!((&bytes[..], &*from), (&b"driver"[..], "libcuda1 1.0-1"));
        let (bytes, from) = place.read("nv", "nv/lib/libnv.so").expect("there");
        assert_eq!((&bytes[..], &*from), (&b"library"[..], "nv 1"));
        let (bytes, _) = place.read("header", "header.h").expect("there");
        assert_eq!(bytes, b"header");
    }
    assert_eq!(place.archive.asked().len(), 3);
}

#[test]
fn an_input_that_cannot_be_opened_is_refused_by_name() {
    let place = Place::with(&wheel("../libnv.so"));
    let broken = place.read("nv", "x").expect_err("it leads out");
    let text = broken.to_string();
    assert!(text.contains("nv") && text.contains("not plain"), "{text}");
    assert_eq!(broken.fault(), Fault::Lock);
    let left = fs::read_dir(place.store.root().join("inputs")).expect("there");
    assert_eq!(left.count(), 0, "nothing half is left");
    for (name, expected) in [("beside", "is not there"), ("nobody", "no input nobody")] {
        let error = place.read(name, "x").expect_err(name).to_string();
        assert!(error.contains(expected), "{error}");
    }
    place.archive.put("f/header.h", b"headex");
    assert!(place.read("header", "header.h").is_err(), "other bytes");
}
