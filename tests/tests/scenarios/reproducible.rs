//! The same image from another directory, by another user, at another time: every byte of it, by `image-builder repro-check`.

use crate::common;
use std::process::{Command, Stdio};

use tests::Image;
use tests::workspace_root;

/// Compiled once, for a compilation takes ten minutes; everything after it is done again, in a store of its own.
#[tokio::test(flavor = "multi_thread")]
async fn elsewhere_and_as_another_user_the_same_image_comes_out() {
    check("sim", &["--share-programs"], "compiled once").await;
}

/// A recipe of profile `cpu` with a root of Debian packages, in which the small program `stage0` stands for the agent.
#[tokio::test(flavor = "multi_thread")]
async fn a_reduced_image_for_a_processor_comes_out_the_same_with_its_programs_compiled_again() {
    check("bench", &[], "compiled twice").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "compiles the agent twice: twenty minutes on two cores"]
async fn elsewhere_and_compiled_again_the_image_for_a_processor_comes_out_the_same() {
    check("cpu", &[], "compiled twice").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "compiles the agent once more: ten minutes on two cores"]
async fn elsewhere_and_compiled_again_the_same_image_comes_out() {
    check("sim", &[], "compiled twice").await;
}

/// One after the other: a second check in the same store is refused while the first runs.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn check(recipe: &'static str, more: &[&str], programs: &str) {
    let _turn = ONE.lock().await;
    let builder = common::made(move |programs| {
        let image = Image::build(programs, recipe, true)?;
        Ok((programs.path("image-builder"), image))
    });
    let Some((builder, image)) = builder.await else {
        return;
    };
    let recipe = workspace_root().join(format!("image-builder/recipes/{recipe}.yaml"));
    let mut command = Command::new(builder);
    command
        .arg("repro-check")
        .arg(recipe)
        .arg("--json")
        .args(more);
    if let Some(lock) = &image.fresh_lock {
        command.arg("--lock").arg(lock);
    }
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["identical"], true, "{report}");
    assert_eq!(report["programs"], programs);
    assert_eq!(
        report["varied"].as_array().map(Vec::len),
        Some(9),
        "{report}"
    );
    let files = report["files"].as_array().expect("a list");
    assert!(files.iter().any(|file| file["name"] == "root.img"));
}
