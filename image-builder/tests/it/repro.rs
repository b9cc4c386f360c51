//! The circumstances of `repro-check`'s second build are other ones. That whole images come out the same is tested where
//! images are made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::host_sandbox::executable;
use image_builder::image::repro::Variation;

const PROGRAM: &str = env!("CARGO_BIN_EXE_image-builder");

/// Stands for the builder, and writes down what it sees.
const WITNESS: &str = r#"#!/bin/sh
{
echo "path=$(dirname "$2")"
echo "user=$(id -u)"
echo "umask=$(umask)"
echo "host name=$(uname -n)"
echo "locale=$LC_ALL"
echo "time zone=$TZ"
echo "clock=$(date +%Y)"
echo "core count=$(nproc)"
echo "directory order=$(ls -U "$(dirname "$2")" | tr '\n' ' ')"
echo "arguments=$*"
} > "$WITNESS"
"#;

fn seen(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(what, value)| (what.into(), value.into()))
        .collect()
}

fn script(directory: &Path) -> PathBuf {
    let text = directory.join("witness.sh");
    fs::write(&text, WITNESS).expect("written");
    executable(&text, &directory.join("witness"))
}

fn ran(command: &mut Command, witness: &Path) -> BTreeMap<String, String> {
    let Output { status, stderr, .. } = command.env("WITNESS", witness).output().expect("runs");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    seen(&fs::read_to_string(witness).expect("the witness spoke"))
}

#[test]
fn the_second_build_is_elsewhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    for made in ["sources/target", "sources/.git", "place", "store"] {
        fs::create_dir_all(path(made)).expect("made");
    }
    for name in ["a", "b", "c", "d", "recipe.yaml", "target/x"] {
        fs::write(path("sources").join(name), name).expect("written");
    }
    // The calendar, with this machine's compiler: the check uses the lock's.
    let clock = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/image/repro/clock.c");
    let flags = ["-O2", "-fPIC", "-shared", "-nostdlib", "-fno-builtin", "-o"];
    let mut compile = Command::new("cc");
    compile.args(flags).arg(path("clock.so")).arg(clock);
    assert!(compile.status().expect("a C compiler").success());

    let plan = Variation {
        builder: script(directory.path()),
        workspace: path("sources"),
        place: path("place"),
        recipe: "recipe.yaml".into(),
        out: path("out"),
        store: path("store"),
        preload: Some(path("clock.so")),
        arguments: vec!["--mirror".into(), "http://m".into()],
    };
    let mut here = Command::new(&plan.builder);
    here.arg("build").arg(path("sources/recipe.yaml"));
    let here = ran(&mut here, &path("here"));
    let words = serde_json::to_string(&plan).expect("JSON");
    let mut elsewhere = Command::new(PROGRAM);
    elsewhere.args(["repro-variation", &words]);
    let elsewhere = ran(&mut elsewhere, &path("elsewhere"));

    for (what, value) in &here {
        let same = elsewhere[what] == *value;
        // One processor is one processor.
        let may_be = what == "core count" && value == "1";
        assert!(!same || may_be, "{what} is {value} in both");
    }
    assert_eq!(elsewhere["user"], "1234");
    assert_eq!(elsewhere["core count"], "1");
    assert_eq!(elsewhere["directory order"], "a b c d recipe.yaml ");
    let year = |seen: &BTreeMap<String, String>| seen["clock"].parse::<u32>().expect("a year");
    assert!((3..=4).contains(&(year(&elsewhere) - year(&here))));
    let out = path("out").display().to_string();
    let arguments = &elsewhere["arguments"];
    assert!(arguments.contains(&format!("--out {out} --store")));
    assert!(arguments.ends_with(&format!(
        "--mirror http://m --preload {}",
        path("clock.so").display()
    )));
    // Its file system went with it.
    assert_eq!(fs::read_dir(path("place")).expect("there").count(), 0);
}

#[test]
fn a_check_of_no_recipe_is_misuse_and_a_broken_plan_a_failure() {
    let code = |words: &[&str]| {
        let output = Command::new(PROGRAM).args(words).output().expect("runs");
        output.status.code()
    };
    assert_eq!(code(&["repro-check"]), Some(2));
    assert_eq!(code(&["repro-check", "/nowhere.yaml"]), Some(1));
    assert_eq!(code(&["repro-variation", "{}"]), Some(1));
}
