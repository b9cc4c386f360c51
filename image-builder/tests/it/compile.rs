//! The first program of a guest, compiled twice on a machine pretending to be two.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::host_sandbox::{IMAGE_BUILDER, host_sandbox};
use image_builder::compile::{Compiler, Linkage, Program, Step, workspace_around};
use image_builder::error::Error;
use image_builder::sandbox::Sandbox;
use image_builder::store::Store;

/// The workspace that this test belongs to.
fn workspace() -> PathBuf {
    workspace_around(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("a workspace")
}

/// Copies what version control would have, all of it last changed at `time`.
fn copy(from: &Path, to: &Path, time: SystemTime) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        if [".git", "target", "node_modules", "shared"]
            .iter()
            .any(|not| name == *not)
        {
            continue;
        }
        let (path, copied) = (entry.path(), to.join(&name));
        if path.is_dir() {
            copy(&path, &copied, time);
        } else if path.is_file() {
            fs::copy(&path, &copied).expect("copied");
            let file = File::options().append(true).open(&copied).expect("ours");
            file.set_modified(time).expect("ours");
        }
    }
}

/// Compiles `stage0` from `sources` into the store.
fn compile(sandbox: &Sandbox, sources: &Path, store: &Path) -> Result<Program, Error> {
    compile_one(sandbox, sources, store, "stage0")
}

fn compile_one(
    sandbox: &Sandbox,
    sources: &Path,
    store: &Path,
    name: &str,
) -> Result<Program, Error> {
    let store = Store::at(store);
    let compiler = Compiler::new(&store, sandbox.clone(), sources)?;
    assert!(compiler.version().starts_with("rustc 1."));
    let mut steps = Vec::new();
    let program = compiler.compile(name, Linkage::Static, &mut |step| {
        steps.push(matches!(step, Step::Compiling { program, .. } if program == name));
    });
    assert_eq!(
        steps.last(),
        Some(&true),
        "the last step has the program's name"
    );
    program
}

#[test]
fn the_same_sources_in_two_places_make_the_same_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    copy(&workspace(), &path("a"), SystemTime::now());
    copy(&workspace(), &path("elsewhere/much/deeper"), past);
    // Nothing of it may matter: a file that nobody compiles, a configuration that nobody asked for.
    fs::write(path("a/guest-agent/stage0/notes.txt"), "notes").expect("written");
    fs::create_dir_all(path("a/.cargo")).expect("a directory");
    let flags = "[build]\nrustflags = [\"-Cdebuginfo=2\"]\n[profile.image]\nopt-level = 0\n";
    fs::write(path("a/.cargo/config.toml"), flags).expect("written");

    let (_tree, sandbox) = host_sandbox();
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| compile(&sandbox, &path("a"), &path("store-a")));
        let second = compile(
            &sandbox,
            &path("elsewhere/much/deeper"),
            &path("another/store"),
        );
        (first.join().expect("no panic"), second)
    });
    let (first, second) = (first.expect("compiled"), second.expect("compiled"));
    assert_eq!(first.sha256, second.sha256);
    assert_eq!(first.sha384, second.sha384);
    assert_ne!(first.path, second.path);
    assert_eq!(fs::read(&first.path).ok(), fs::read(&second.path).ok());

    // It runs where there is no loader and no library. It is no guest's first process there, and says so.
    let empty = tempfile::tempdir().expect("a directory");
    let alone = Sandbox::new(empty.path())
        .launcher(IMAGE_BUILDER)
        .read(&first.path, "/stage0");
    let said = alone.command("/stage0", [""; 0]).output().expect("starts");
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.starts_with("stage0: "), "{said}");
    let bytes = fs::read(&first.path).expect("there");
    for word in [directory.path().to_str().expect("UTF-8"), "/cargo/registry"] {
        let found = bytes
            .windows(word.len())
            .any(|window| window == word.as_bytes());
        assert!(!found, "{word} stands in the program");
    }

    // A change is seen although the file's time says that it is old; an undone change gives the first bytes again.
    let source = path("a/guest-agent/stage0/src/main.rs");
    let text = fs::read_to_string(&source).expect("there");
    let main = "fn main() ";
    let changed = text.replacen(
        main,
        &format!("#[used]\nstatic MARK: [u8; 16] = *b\"a mark for tests\";\n{main}"),
        1,
    );
    assert_ne!(text, changed, "the program has a main function");
    let write = |text: &str| {
        fs::write(&source, text).expect("written");
        let file = File::options().append(true).open(&source).expect("ours");
        file.set_modified(past).expect("ours");
    };
    write(&changed);
    let third = compile(&sandbox, &path("a"), &path("store-a")).expect("compiled");
    assert_ne!(third.sha256, first.sha256);
    assert!(first.path.is_file(), "the first one stays");
    write(&text);
    let fourth = compile(&sandbox, &path("a"), &path("store-a")).expect("compiled");
    assert_eq!(fourth.sha256, first.sha256);
}

#[test]
#[ignore = "compiles the agent twice, which takes half an hour of two processors"]
fn the_agent_is_the_same_bytes_in_two_places_and_runs_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let (_tree, sandbox) = host_sandbox();
    copy(&workspace(), &path("b/c"), SystemTime::now());
    let agent = "guest-agent-sim";
    let first = compile_one(&sandbox, &workspace(), &path("one"), agent).expect("compiled");
    let second = compile_one(&sandbox, &path("b/c"), &path("two"), agent).expect("compiled");
    assert_eq!(first.sha256, second.sha256);

    let empty = tempfile::tempdir().expect("a directory");
    let alone = Sandbox::new(empty.path())
        .launcher(IMAGE_BUILDER)
        .read(&first.path, "/agent");
    let said = alone
        .command("/agent", ["--help"])
        .output()
        .expect("starts");
    assert!(said.status.success());
    assert!(String::from_utf8_lossy(&said.stdout).contains("--listen"));
}

#[test]
fn a_program_that_no_package_has_is_refused_before_anything_is_compiled() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_tree, sandbox) = host_sandbox();
    let store = Store::at(directory.path());
    let compiler = Compiler::new(&store, sandbox, &workspace()).expect("a toolchain");
    let error = compiler.compile("no-such-program", Linkage::Static, &mut |_| {
        panic!("nothing is done")
    });
    let error = error.expect_err("no such program").to_string();
    assert!(error.contains("has a program called no-such-program"));
    assert_eq!(
        fs::read_dir(directory.path()).expect("a directory").count(),
        0
    );
}

#[test]
fn sources_that_pin_no_toolchain_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_tree, sandbox) = host_sandbox();
    let store = Store::at(directory.path().join("store"));
    let error = Compiler::new(&store, sandbox, directory.path()).err();
    let error = error.expect("no toolchain").to_string();
    assert!(error.contains("pins no Rust version"), "{error}");
}
