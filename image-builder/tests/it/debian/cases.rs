//! A small archive and some models on which the program was wrong once, in a directory beside the clone: each command of a
//! case's `cmd`, with the end and the words that its `expect` demands.

use super::archive::Archive;
use crate::host_sandbox::IMAGE_BUILDER;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The cases' archive, served, with a store and recipes for it.
struct Served {
    archive: Archive,
    repository: PathBuf,
    directory: tempfile::TempDir,
}

impl Served {
    fn start(cases: &Path) -> Self {
        let (archive, repository) = (Archive::start(), cases.join("repo"));
        put(&archive, &repository, "");
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("keys")).unwrap();
        for key in ["keys/archive.asc", "keys/rsa.asc"] {
            fs::copy(repository.join(key), directory.path().join(key)).unwrap();
        }
        Served {
            archive,
            repository,
            directory,
        }
    }

    fn recipe(&self, suite: &str) -> String {
        let recipe = self.repository.join(format!("r-{suite}.yaml"));
        let recipe = fs::read_to_string(recipe).unwrap();
        recipe.replace("http://127.0.0.1:8099", self.archive.url())
    }

    fn lock(&self, recipe: &str) -> (Option<i32>, String) {
        fs::write(self.directory.path().join("recipe.yaml"), recipe).unwrap();
        self.run(&["lock", "recipe.yaml", "--store", "store"])
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut program = Command::new(IMAGE_BUILDER);
        program.args(arguments).current_dir(&self.directory);
        let output = program.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        (output.status.code(), said)
    }
}

fn put(archive: &Archive, directory: &Path, path: &str) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap().path();
        let name = entry.file_name().unwrap().to_str().unwrap();
        let path = format!("{path}{name}");
        match entry.is_dir() {
            true => put(archive, &entry, &(path + "/")),
            false => archive.put(&path, &fs::read(&entry).unwrap()),
        }
    }
}

fn check(what: &str, (got, said): (Option<i32>, String), code: i32, words: &[&str]) {
    assert_eq!(got, Some(code), "{what}: {said}");
    for words in words {
        assert!(said.contains(words), "{what}: `{words}` in {said}");
    }
}

#[test]
fn suites_are_locked_as_apt_takes_them() {
    let Some(cases) = without::cases() else {
        return;
    };
    let served = Served::start(&cases);
    for (suite, code, words) in SUITES {
        check(suite, served.lock(&served.recipe(suite)), *code, words);
    }
}

/// Two of Debian 13's own, as many packages as apt installs, firmware and kernel besides.
#[test]
#[ignore = "fetches Debian's index: half a minute"]
fn packages_of_debian_with_foreign_alternatives_are_locked() {
    let Some(cases) = without::cases() else {
        return;
    };
    let case = cases.join("11-apt-foreign-alternative");
    let served = Served::start(&cases);
    for key in fs::read_dir(case.join("keys")).unwrap() {
        let key = key.unwrap();
        let copy = served.directory.path().join("keys").join(key.file_name());
        fs::copy(key.path(), copy).unwrap();
    }
    for (name, packages) in [("crossbuild-essential-arm64", 39), ("wine64-tools", 237)] {
        let recipe = fs::read_to_string(case.join(format!("s-{name}.yaml"))).unwrap();
        check(name, served.lock(&recipe), 0, &[]);
        let lock = served.directory.path().join(format!("s-{name}.lock.json"));
        let lock: serde_json::Value = serde_json::from_slice(&fs::read(lock).unwrap()).unwrap();
        assert_eq!(
            lock["packages"].as_array().unwrap().len(),
            packages + 2,
            "{name}"
        );
    }
}

/// `dpkg` is the oracle. There is no `mkfs.erofs` in the archive, so that packing ends when the packages are unpacked.
#[test]
fn packages_are_unpacked_as_dpkg_unpacks_them() {
    let Some(cases) = without::cases() else {
        return;
    };
    let served = Served::start(&cases);
    let model = cases.join("17-model-not-whole/good");
    for name in ["t-bin2", "t-bin21", "t-xz2", "t-zst2"] {
        let recipe = served.recipe("good").replace("good", "unp");
        let packages = format!("[erofs-utils, {name}]");
        let locked = served.lock(&recipe.replace("[t-none]", &packages));
        check(name, locked, 0, &[]);
        let trees = served.directory.path().join("store/trees");
        let _ = fs::remove_dir_all(&trees);
        let arguments = ["model", "pack", model.to_str().unwrap(), "--out", "out"];
        let more = ["--lock", "unp.lock.json", "--store", "store"];
        let packed = served.run(&[&arguments[..], &more].concat());
        check(name, packed, 1, &["127"]);
        let mut trees = fs::read_dir(trees).unwrap();
        let there = trees.any(|tree| tree.unwrap().path().join("usr/share").join(name).exists());
        assert!(there, "{name}");
    }
}

#[test]
fn what_is_no_whole_model_is_not_packed() {
    let Some(cases) = without::cases() else {
        return;
    };
    let served = Served::start(&cases);
    for (model, words) in MODELS {
        let path = cases.join("17-model-not-whole").join(model);
        let packed = served.run(&["model", "pack", path.to_str().unwrap(), "--out", "out"]);
        check(model, packed, 1, words);
        assert!(!served.directory.path().join("out").exists(), "{model}");
    }
}

/// A suite, and how locking ends.
const SUITES: &[(&str, i32, &[&str])] = &[
    ("good", 0, &[]),
    // The mirror has the new index by its digest alone.
    ("byhash", 0, &[]),
    ("di386", 0, &[]),
    ("dgt", 0, &[]),
    ("dcomma", 0, &[]),
    ("pvge", 0, &[]),
    ("pvarch", 0, &[]),
    ("pvcomma", 0, &[]),
    ("jst", 1, &["Valid-Until"]),
    ("odate", 1, &["a date `Mon, Jan 08 2024"]),
    ("zdate", 0, &[]),
];

const MODELS: &[(&str, &[&str])] = &[
    ("m01-missing-shard", &["model-00002-of-00002.safetensors"]),
    ("m02-truncated", &["model.safetensors"]),
    ("m03-lfs-weights", &["Git LFS"]),
    (
        "m04-lfs-tokenizer",
        &["tokenizer.json", "tokenizer.model", "Git LFS"],
    ),
    ("m10-dup", &["is a shard by its name"]),
    ("m11-emptyjson", &["config.json"]),
    ("m14-hdr", &["model.safetensors"]),
];
