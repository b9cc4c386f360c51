//! What `engine run --device` says where there is no GPU.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// `engine run` of a small model, on `device`.
fn run(engine: &Path, device: &str) -> Output {
    let models = random_model::models(env!("CARGO_TARGET_TMPDIR"), "random-model");
    let mut engine = Command::new(engine);
    engine
        .arg("run")
        .arg(models.expect("written").join("random-model"));
    engine.args(["--prompt", "Hello", "--device", device]);
    engine.output().expect("the program starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_program_without_cuda_says_how_to_build_one_with_it() {
    let engine = Path::new(env!("CARGO_BIN_EXE_engine"));
    let output = run(engine, "cuda");
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("--features cuda"), "{said}");
    for device in ["gpu", "cuda:x"] {
        assert_eq!(run(engine, device).status.code(), Some(2));
    }
    assert!(run(engine, "cpu").status.success());
}

#[test]
#[ignore = "compiles Burn's CUDA backend: several minutes"]
fn a_program_with_cuda_links_without_it_and_says_that_there_is_no_driver() {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cuda");
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--locked",
            "--package",
            "engine-cli",
            "--features",
            "cuda",
        ])
        .arg("--target-dir")
        .arg(&target)
        .status();
    assert!(built.expect("cargo starts").success());
    let output = run(&target.join("debug/engine"), "cuda:4096");
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    let driver = Path::new("/dev/nvidiactl").exists();
    let sentence = if driver {
        "there is no GPU number"
    } else {
        "no CUDA driver"
    };
    assert!(said.contains(sentence), "{said}");
}
