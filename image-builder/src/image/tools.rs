//! The programs that run an image: QEMU and swtpm out of the lock, and `vhost-device-vsock` compiled from the crate registry.
//!
//! They are described and not installed: a description says, for each program, the words that start it in the sandbox. Whoever
//! launches a guest adds the files that the program needs, `--`, the program and its arguments.
//!
//! Trusts the lock and the crates' digests. Promises programs that are the same on every host, so that what a guest measures of
//! its virtual hardware is the same too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::compile;
use crate::compile::{Compiler, Linkage};
use crate::error::{Error, error};
use crate::files;
use crate::lock::package_lock::{PackageLock, Role};
use crate::sandbox::Sandbox;
use crate::store::packages::ensure_tree;
use crate::store::{Progress, Store};

/// The description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tools {
    /// By name: `qemu`, `swtpm`, `vhost-device-vsock`. One that the recipe does not ask for is missing.
    pub programs: BTreeMap<String, Tool>,
}

/// How one program is started: `run`, then files and devices, then `--`, then `program`, then its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// The sandbox: this program, `run`, and what the program is part of.
    pub run: Vec<String>,
    /// Its path inside.
    pub program: String,
}

/// What is being done, for whoever waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a> {
    /// A package is fetched or unpacked.
    Fetch(Progress<'a>),
    /// A program is compiled.
    Compile(compile::Step<'a>),
}

/// What tools are made of, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The packages.
    pub lock: &'a PackageLock,
    /// A checkout, which has the pin of `vhost-device-vsock`.
    pub workspace: &'a Path,
    /// Where everything is kept.
    pub store: &'a Store,
    /// The `image-builder` that starts the programs.
    pub image_builder: &'a Path,
}

/// Makes the tools be in the store and writes their description there. Returns it and its path.
pub fn ensure_tools(
    order: Order<'_>,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<(Tools, PathBuf), Error> {
    let Order { lock, store, .. } = order;
    let mut tree = |role| {
        ensure_tree(store, lock, &lock.closure(role), &mut |event| {
            progress(Step::Fetch(event));
        })
    };
    let run = tree(Role::Run)?;
    let mut programs = BTreeMap::new();
    for (name, program) in PACKAGED {
        if run.join(program.trim_start_matches('/')).is_file() {
            programs.insert(name.into(), tool(order.image_builder, &run, None, program)?);
        }
    }
    if let Some(version) = lock.vhost_device_vsock() {
        let pin = order.workspace.join(PIN);
        check_pin(&pin.join("Cargo.lock"), version)?;
        let build = tree(Role::Build)?;
        let compiler = Compiler::new(store, Sandbox::new(build), &pin)?;
        let made = compiler.compile_of(VSOCK, VSOCK, Linkage::Static, &mut |step| {
            progress(Step::Compile(step))
        })?;
        let inside = format!("/opt/{VSOCK}");
        let tool = tool(order.image_builder, &run, Some(&made.path), &inside)?;
        programs.insert(VSOCK.into(), tool);
    }
    let tools = Tools { programs };
    let path = keep(store, lock, &tools)?;
    Ok((tools, path))
}

/// The words for one program; `file` is shown at `program` if the tree does not have it.
fn tool(
    image_builder: &Path,
    tree: &Path,
    file: Option<&Path>,
    program: &str,
) -> Result<Tool, Error> {
    let word = |path: &Path| {
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| {
            let path = path.display();
            error!(
                Disk,
                "{path} is no text in UTF-8, so it cannot be described"
            )
        })
    };
    let tree = fs::canonicalize(tree).map_err(Error::disk("finding", tree))?;
    let mut run = vec![
        word(image_builder)?,
        "run".into(),
        "--tree".into(),
        word(&tree)?,
    ];
    if let Some(file) = file {
        let file = fs::canonicalize(file).map_err(Error::disk("finding", file))?;
        run.extend(["--read".into(), format!("{}={program}", word(&file)?)]);
    }
    Ok(Tool {
        run,
        program: program.to_owned(),
    })
}

/// Holds the pin to the version that the lock asks for.
fn check_pin(path: &Path, asked: &str) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let text = fs::read_to_string(path).map_err(Error::disk("reading", path))?;
    let lock: Result<Lock, _> = toml::from_str(&text);
    let packages = lock.map_or_else(|_| Vec::new(), |lock| lock.package);
    let found = packages.into_iter().find(|package| package.name == VSOCK);
    let pinned = found.map_or_else(|| "none".into(), |package| package.version);
    if pinned == asked {
        return Ok(());
    }
    Err(error!(
        Lock,
        "the lock asks for vhost-device-vsock {asked}; {} pins {pinned}: change the recipe and lock again, or change the pin",
        path.display()
    ))
}

/// Writes the description, whole or not at all.
fn keep(store: &Store, lock: &PackageLock, tools: &Tools) -> Result<PathBuf, Error> {
    let name = format!("{}.json", lock.digest());
    let path = store.root().join("tools").join(name);
    let mut text = serde_json::to_string_pretty(tools).expect("names and words have a JSON form");
    text.push('\n');
    files::replace(&path, text.as_bytes(), 0o600)?;
    // The directory's name may be relative; a description is for programs that run elsewhere.
    fs::canonicalize(&path).map_err(Error::disk("finding", &path))
}

/// Names of programs that packages have, and where.
const PACKAGED: [(&str, &str); 2] = [
    ("qemu", "/usr/bin/qemu-system-x86_64"),
    ("swtpm", "/usr/bin/swtpm"),
];
/// The program that is compiled, and the package on the crate registry.
const VSOCK: &str = "vhost-device-vsock";
/// Where it is pinned.
const PIN: &str = "image-builder/tools/vhost-device-vsock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_is_the_version_that_the_recipe_asks_for() {
        let pin = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/vhost-device-vsock/Cargo.lock");
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/sim.yaml");
        let recipe = crate::lock::recipe::Recipe::read(&recipe).expect("the recipe parses");
        let asked = recipe.vhost_device_vsock.expect("it asks for one");
        assert_eq!(check_pin(&pin, &asked), Ok(()));
        let error = check_pin(&pin, "9.9.9").expect_err("another version");
        assert!(error.to_string().contains("9.9.9"), "{error}");
        assert_eq!(error.fault(), crate::error::Fault::Lock);
        assert!(check_pin(&recipe_without_pin(), &asked).is_err());
    }

    fn recipe_without_pin() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")
    }

    #[test]
    fn every_crate_of_the_pin_has_its_digest() {
        let pin = include_str!("../../tools/vhost-device-vsock/Cargo.lock");
        let packages: Vec<_> = pin.split("[[package]]").skip(1).collect();
        assert!(packages.len() > 50);
        let without = packages
            .iter()
            .filter(|package| !package.contains("checksum = \""));
        let without: Vec<_> = without.collect();
        assert_eq!(
            without.len(),
            1,
            "the pin itself and nothing else: {without:?}"
        );
        assert!(!pin.contains("git+"));
    }

    #[test]
    fn a_description_has_the_words_that_start_a_program() {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = fs::canonicalize(directory.path()).expect("there");
        let tree = directory.to_str().expect("UTF-8");
        let qemu = tool(Path::new("/ib"), &directory, None, "/usr/bin/q").expect("UTF-8");
        let text = serde_json::to_string(&qemu).expect("JSON");
        assert_eq!(
            text,
            format!(
                "{{\"run\":[\"/ib\",\"run\",\"--tree\",\"{tree}\"],\"program\":\"/usr/bin/q\"}}"
            )
        );
        let mine = tool(Path::new("/ib"), &directory, Some(&directory), "/opt/v").expect("UTF-8");
        assert_eq!(
            mine.run[4..],
            ["--read".to_owned(), format!("{tree}=/opt/v")]
        );
    }
}
