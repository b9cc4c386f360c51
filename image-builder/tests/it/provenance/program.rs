//! The commands as one types them: what they print, and how they end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::made_image::{image, image_with_erofs};

const ALLOW: &str = "--allow-unchecked";

/// Exit code, stdout, stderr.
fn run(words: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_image-builder"))
        .args(words)
        .output()
        .expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("it ends by itself");
    (code, text(&output.stdout), text(&output.stderr))
}

fn json(words: &[&str]) -> (i32, Value) {
    let (code, stdout, _) = run(words);
    (
        code,
        serde_json::from_str(&stdout).expect("one JSON object"),
    )
}

#[test]
fn who_signs_and_who_verifies_need_no_other_program() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = |name: &str| directory.path().join(name).display().to_string();
    let (key, public, other) = (place("key"), place("key.pub"), place("other"));
    let (code, id, _) = run(&["keygen", "--out", &key]);
    assert_eq!((code, id.trim().len()), (0, 64));
    let mode = fs::metadata(&key).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = fs::read(&key).expect("there");
    assert_eq!(run(&["keygen", "--out", &key]).0, 1, "it is there already");
    assert_eq!(fs::read(&key).expect("there"), before);
    assert_eq!(run(&["keygen", "--out", &other]).0, 0);
    assert_ne!(fs::read(&other).expect("there"), before);

    let made = image(b"agent", None);
    let out = made.out.display().to_string();
    assert_eq!(
        run(&["verify", &out]).0,
        2,
        "a key, or the word that none is wanted"
    );
    let (code, _, words) = run(&["verify", &out, "--insecure-unsigned", ALLOW, "contents"]);
    assert!(code == 0 && words.contains("NOBODY SIGNED"), "{words}");
    assert_eq!(
        run(&["verify", &out, "--public-key", &public]).0,
        1,
        "not signed"
    );
    assert_eq!(run(&["sign", &out, "--key", &key]).0, 0);
    assert_eq!(
        run(&["verify", &out, "--public-key", &public]).0,
        1,
        "its root is no file system"
    );
    let (code, report) = json(&[
        "verify",
        &out,
        "--public-key",
        &public,
        "--json",
        ALLOW,
        "contents",
    ]);
    assert_eq!((code, &report["accepted"]), (0, &Value::from(true)));
    assert_eq!(
        report["verified"], false,
        "what was not computed is not verified"
    );
    assert_eq!(report["signed_by"], id.trim());
    let (code, report) = json(&[
        "verify",
        &out,
        "--public-key",
        &format!("{other}.pub"),
        "--json",
    ]);
    assert_eq!((code, &report["verified"]), (1, &Value::from(false)));
    assert_eq!(
        run(&["verify", &out, "--public-key", &key]).0,
        1,
        "a secret key is no public one"
    );
    assert_eq!(
        run(&["verify", &place("absent"), "--public-key", &public]).0,
        1
    );

    let to = place("fetched");
    let (code, stdout, _) = run(&[
        "fetch",
        &out,
        "--public-key",
        &public,
        "--out",
        &to,
        ALLOW,
        "contents",
    ]);
    assert_eq!((code, stdout.trim()), (0, &*to));
    assert_eq!(run(&["diff", &out, &to]).0, 0);
    assert_eq!(run(&["fetch", &out, "--out", &to]).0, 2, "without a key");
    assert_eq!(
        run(&[
            "fetch",
            &out,
            "--public-key",
            &format!("{other}.pub"),
            "--out",
            &to
        ])
        .0,
        1
    );
}

#[test]
fn an_image_of_which_all_was_computed_is_verified() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = |name: &str| directory.path().join(name).display().to_string();
    let (key, public, to) = (place("key"), place("key.pub"), place("fetched"));
    assert_eq!(run(&["keygen", "--out", &key]).0, 0);
    let made = image_with_erofs(b"agent", None);
    let out = made.out.display().to_string();
    assert_eq!(run(&["sign", &out, "--key", &key]).0, 0);
    let (code, report) = json(&["verify", &out, "--public-key", &public, "--json"]);
    assert_eq!(
        (code, &report["verified"]),
        (0, &Value::from(true)),
        "{report}"
    );
    assert_eq!(report["accepted"], true);
    let checks = report["checks"].as_array().expect("a list");
    let names: Vec<_> = checks.iter().map(|check| check["what"].as_str()).collect();
    for expected in [
        "signature",
        "mrtd",
        "rtmr0",
        "rtmr2",
        "inside the root",
        "agent",
    ] {
        assert!(names.contains(&Some(expected)), "{expected} in {names:?}");
    }
    assert!(checks.iter().all(|check| check["outcome"] == "holds"));
    let (code, _, words) = run(&["verify", &out, "--public-key", &public]);
    assert_eq!((code, words.trim()), (0, "verified"));
    assert_eq!(
        run(&["fetch", &out, "--public-key", &public, "--out", &to]).0,
        0
    );
    let words = run(&["verify", &to, "--public-key", &public]).2;
    assert_eq!(words.trim(), "verified");
}

#[test]
fn what_was_not_computed_is_not_verified() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = |name: &str| directory.path().join(name).display().to_string();
    let (key, public, to) = (place("key"), place("key.pub"), place("fetched"));
    assert_eq!(run(&["keygen", "--out", &key]).0, 0);
    let made = super::release::forged();
    let out = made.out.display().to_string();
    assert_eq!(run(&["sign", &out, "--key", &key]).0, 0);
    let verify = ["verify", &out, "--public-key", &public, ALLOW, "contents"];
    let (code, _, words) = run(&verify);
    assert!(code == 1 && words.contains("refused: rtmr0"), "{words}");
    let (code, report) = json(&[&verify[..], &["--json"]].concat());
    assert_eq!((code, &report["verified"]), (1, &Value::from(false)));
    let allow = [ALLOW, "rtmr0"];
    assert_eq!(run(&[&verify[..], &allow].concat()).0, 0);
    let fetch = [
        "fetch",
        &out,
        "--public-key",
        &public,
        "--out",
        &to,
        ALLOW,
        "contents",
    ];
    let (code, _, words) = run(&fetch);
    assert!(
        code == 1 && words.contains("rtmr0 was not computed"),
        "{words}"
    );
    assert!(!Path::new(&to).exists());
    assert_eq!(run(&[&fetch[..], &allow].concat()).0, 0);
}

#[test]
fn images_are_shown_and_compared() {
    let (one, other) = (image(b"agent", None), image(b"another agent", None));
    let path = |directory: &Path| directory.display().to_string();
    let (one_path, other_path) = (path(&one.out), path(&other.out));
    let manifest = path(&other.out.join("manifest.json"));
    let (code, report) = json(&["inspect", &one_path, "--json"]);
    assert_eq!(
        (code, &report["manifest"]["profile"]),
        (0, &Value::from("sim"))
    );
    let (code, text, _) = run(&["inspect", &manifest, "--all"]);
    assert!(
        code == 0 && text.contains("protects nothing") && text.contains("/agent"),
        "{text}"
    );

    assert_eq!(
        run(&["diff", &one_path, &one_path]),
        (0, String::new(), "the same image\n".into())
    );
    let (code, report) = json(&["diff", &one_path, &manifest, "--json"]);
    assert_eq!((code, &report["same"]), (1, &Value::from(false)));
    assert_eq!(run(&["diff", &one_path, "absent"]).0, 1);
    fs::write(other.out.join("manifest.json"), "{}").expect("written");
    assert_eq!(
        run(&["diff", &one_path, &other_path]).0,
        1,
        "neither the same nor different"
    );
    assert_eq!(run(&["inspect", &other_path]).0, 1);

    let (code, text, _) = run(&["sbom", &one_path]);
    assert!(
        code == 0 && text.contains("pkg:cargo/serde@1.2.3"),
        "{text}"
    );
    let (code, document) = json(&["sbom", &one_path, "--json"]);
    assert_eq!(
        (code, &document["spdxVersion"]),
        (0, &Value::from("SPDX-2.3"))
    );
    let foreign = image(b"a third agent", None);
    fs::copy(
        foreign.out.join("sbom.spdx.json"),
        one.out.join("sbom.spdx.json"),
    )
    .expect("copied");
    assert_eq!(run(&["sbom", &one_path]).0, 1, "another image's");
    fs::remove_file(one.out.join("sbom.spdx.json")).expect("removed");
    assert_eq!(run(&["sbom", &one_path]).0, 1);
}

#[test]
fn an_image_of_another_lock_is_different_before_anything_is_built() {
    let made = image(b"agent", None);
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/sim.yaml");
    let manifest = made.out.join("manifest.json").display().to_string();
    let (code, text, _) = run(&["reproduce", &manifest, "--recipe", recipe]);
    assert_eq!((code, text.lines().last()), (1, Some("different")));
    assert!(text.contains("was built from the lock 0909"), "{text}");
    assert!(text.contains("package linux"), "{text}");
}

#[test]
fn every_command_about_images_teaches_with_an_example() {
    for command in [
        "inspect",
        "diff",
        "sbom",
        "verify",
        "fetch",
        "reproduce",
        "keygen",
        "sign",
    ] {
        let (code, text, _) = run(&[command, "--help"]);
        let taught = text.contains("Example") && text.contains("Exit code");
        assert!(
            code == 0 && taught && text.contains("--json"),
            "{command}: {text}"
        );
    }
}
