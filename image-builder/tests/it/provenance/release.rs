//! What somebody does with an image who did not build it.

use std::fs;
use std::path::Path;

use image_builder::image::MANIFEST;
use image_builder::provenance;
use image_builder::provenance::{ENVELOPE, PublicKey, SBOM, STATEMENT, Sha1s};
use image_builder::release::{
    Change, Directory, Outcome, SIGNATURE, changes, check, differences, register_checks,
};
use predict::image::{ImageManifest, ImageParts};
use predict::{EventKind, replay};
use registers::{Digest32, Digest48, Register};

use super::made_image::{Made, ROOT_UNREAD, image, image_with, image_with_erofs, key, materials};

/// What does not hold of an image, or why it is none.
fn refusals(out: &Path, key: Option<&PublicKey>) -> Vec<String> {
    let directory = match Directory::open(out) {
        Ok(directory) => directory,
        Err(error) => return vec![error.to_string()],
    };
    let report = match check(&directory, key) {
        Ok(report) => report,
        Err(error) => return vec![error.to_string()],
    };
    let mut allowed = ROOT_UNREAD.to_vec();
    if key.is_none() {
        allowed.push(SIGNATURE);
    }
    let refused = report.refusal(&allowed).is_some();
    let found = { report.checks.into_iter() }.filter_map(|check| match check.outcome {
        Outcome::Differs(why) => Some(format!("{}: {why}", check.what)),
        Outcome::NotComputed(why) if !allowed.contains(&&*check.what) => {
            Some(format!("{} was not computed: {why}", check.what))
        }
        _ => None,
    });
    let found: Vec<String> = found.collect();
    assert_eq!(refused, !found.is_empty(), "{found:?}");
    found
}

fn public(seed: u8) -> PublicKey {
    key(seed).public()
}

#[test]
fn a_signed_image_verifies_with_its_key_and_no_other() {
    let made = image(b"agent", Some(&key(1)));
    assert_eq!(refusals(&made.out, Some(&public(1))), [""; 0]);
    let other = refusals(&made.out, Some(&public(2)));
    assert!(other[0].contains("somebody else signed it"), "{other:?}");
    let unsigned = image(b"agent", None);
    assert_eq!(refusals(&unsigned.out, None), [""; 0]);
    let asked = refusals(&unsigned.out, Some(&public(1)));
    assert!(asked[0].contains("not signed"), "{asked:?}");
}

#[test]
fn an_image_with_any_file_changed_or_missing_is_refused_by_the_files_name() {
    let made = image(b"agent", Some(&key(1)));
    let names: Vec<_> = { fs::read_dir(&made.out).expect("a directory") }
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("plain")
        })
        .collect();
    assert!(names.len() >= 9, "{names:?}");
    for name in names {
        let path = made.out.join(&name);
        let bytes = fs::read(&path).expect("there");
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).expect("written");
            let found = refusals(&made.out, Some(&public(1)));
            assert!(!found.is_empty(), "{name}, byte {at}");
            if ![ENVELOPE, STATEMENT, MANIFEST].contains(&&*name) {
                assert!(found[0].starts_with(&name), "{found:?}");
            }
        }
        fs::write(&path, [&bytes[..], b"\0"].concat()).expect("written");
        assert!(
            !refusals(&made.out, Some(&public(1))).is_empty(),
            "{name}, longer"
        );
        fs::remove_file(&path).expect("removed");
        let missing = refusals(&made.out, Some(&public(1)));
        // The statement beside the envelope is a convenience: the signed one is inside.
        assert_eq!(missing.is_empty(), name == STATEMENT, "{name}: {missing:?}");
        fs::write(&path, &bytes).expect("written");
        assert_eq!(refusals(&made.out, Some(&public(1))), [""; 0], "{name}");
    }
}

/// Writes a manifest and new papers, signed, as a dishonest builder would.
pub fn sign_again(made: &Made, change: impl FnOnce(&mut ImageParts)) {
    let mut parts = (*made.manifest).clone();
    change(&mut parts);
    let manifest = ImageManifest::new(parts).expect("it agrees with itself");
    fs::write(made.out.join(MANIFEST), manifest.to_json()).expect("written");
    let mut sha1s = Sha1s::new();
    for content in &manifest.contents {
        sha1s.insert(content.path.clone(), [0; 20]);
    }
    provenance::write(&made.out, &manifest, &materials(), sha1s, Some(&key(1))).expect("written");
}

#[test]
fn a_signature_never_stands_in_for_registers_or_for_what_lies_inside() {
    // The kernel has another byte, and all papers were made of that.
    let made = image(b"agent", Some(&key(1)));
    let path = made.out.join("kernel");
    let mut bytes = fs::read(&path).expect("there");
    // In its first section.
    bytes[0x290] ^= 1;
    fs::write(&path, &bytes).expect("written");
    sign_again(&made, |parts| {
        parts.files.kernel.sha256 = Digest32::of(&bytes)
    });
    let found = refusals(&made.out, Some(&public(1)));
    assert!(
        found.len() == 2 && found[0].starts_with("rtmr1: ") && found[1].starts_with("uki parts: "),
        "{found:?}"
    );

    // A file inside is another one than is listed, or is not listed.
    for (change, expected) in [
        (0, "/init has other content"),
        (1, "/init is not in the manifest"),
        (2, "/init has another mode"),
        (3, "/jnit is in the manifest alone"),
    ] {
        let made = image(b"agent", Some(&key(1)));
        sign_again(&made, |parts| {
            let at = parts
                .contents
                .iter()
                .position(|content| content.path == "/init");
            let at = at.expect("every image has one");
            let mut content = parts.contents[at].clone();
            match change {
                0 => {
                    let json = serde_json::to_string(&content).expect("JSON");
                    let digest = content.sha256().expect("a file").to_string();
                    let json = json.replace(&digest, &"0".repeat(64));
                    parts.contents[at] = serde_json::from_str(&json).expect("still one");
                }
                1 => drop(parts.contents.remove(at)),
                2 => parts.contents[at].mode = "0777".into(),
                _ => {
                    content.path = "/jnit".into();
                    parts.contents.insert(at + 1, content);
                }
            }
        });
        let found = refusals(&made.out, Some(&public(1)));
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    }
}

#[test]
fn a_manifest_that_lies_about_the_root_is_refused() {
    let verified = image_with_erofs(b"agent", Some(&key(1)));
    let report = |made: &Made| {
        let opened = Directory::open(&made.out).expect("opens");
        check(&opened, Some(&public(1))).expect("read")
    };
    assert_eq!(report(&verified).refusal(&[]), None);
    for (path, lie) in [("/agent", "mode"), ("/start", "owner"), ("/tmp", "path")] {
        let made = image_with_erofs(b"agent", Some(&key(1)));
        sign_again(&made, |parts| {
            let content = { parts.contents.iter_mut() }.find(|content| content.path == path);
            let content = content.expect("every root has it");
            match lie {
                "mode" => content.mode = "0777".into(),
                "owner" => content.user = 7,
                _ => content.path = "/tmpz".into(),
            }
        });
        let refused = report(&made).refusal(&[]).cloned();
        let refused = refused.unwrap_or_else(|| panic!("{path} {lie}"));
        assert_eq!(refused.what, "inside the root", "{path} {lie}");
    }
}

#[test]
fn the_registers_of_a_manifest_are_held_against_the_files_of_a_rebuild() {
    let rebuilt = image_with_erofs(b"agent", None);
    let directory = Directory::open(&rebuilt.out).expect("opens");
    let outcomes = |of: &ImageManifest| {
        let checks = register_checks(of, &directory).expect("read");
        let odd = { checks.into_iter() }.filter(|check| !matches!(check.outcome, Outcome::Same(_)));
        odd.map(|check| check.what).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&rebuilt.manifest), [""; 0]);
    let unified = ["uki", "uki parts", "uki rtmr1", "uki rtmr2"];
    let other = image_with_erofs(b"another agent", None);
    let differs = [&["root", "verity hash"][..], &unified].concat();
    assert_eq!(outcomes(&other.manifest), differs);
    // What was not computed is named, too.
    let forged = Directory::open(&forged().out).expect("opens").manifest;
    let named = [&["root", "verity hash", "rtmr0"][..], &unified].concat();
    assert_eq!(outcomes(&forged), named);
}

/// An image whose manifest is signed, agrees with itself, and states an RTMR0 that no machine of ours has: the ACPI tables' digests are
/// others, and everything that follows from them was computed again.
pub fn forged() -> Made {
    let made = image(b"agent", Some(&key(1)));
    sign_again(&made, |parts| {
        let tables = { parts.events.iter_mut() }.filter(|event| {
            event.register == Register::Rtmr0 && event.kind == EventKind::PlatformConfigFlags
        });
        for event in tables {
            event.digest = Digest48([0xee; 48]);
        }
        parts.registers.rtmr0 = replay(Register::Rtmr0, &parts.events);
    });
    made
}

#[test]
fn a_signed_manifest_with_a_forged_rtmr0_is_not_verified() {
    let made = forged();
    let found = refusals(&made.out, Some(&public(1)));
    assert!(
        found.len() == 1 && found[0].starts_with("rtmr0 was not computed"),
        "{found:?}"
    );
    // Whoever asks for it by name takes the builder's word.
    let report = check(
        &Directory::open(&made.out).expect("opens"),
        Some(&public(1)),
    );
    let report = report.expect("read");
    assert_eq!(report.refusal(&["rtmr0", "inside the root", "agent"]), None);
    assert_eq!(
        report.refusal(&[SIGNATURE]).map(|check| &*check.what),
        Some("rtmr0")
    );
}

#[test]
fn papers_of_another_image_are_refused() {
    let made = image(b"agent", Some(&key(1)));
    let other = image(b"another agent", Some(&key(1)));
    for name in [ENVELOPE, STATEMENT, SBOM, MANIFEST] {
        let path = made.out.join(name);
        let kept = fs::read(&path).expect("there");
        fs::copy(other.out.join(name), &path).expect("copied");
        assert!(!refusals(&made.out, Some(&public(1))).is_empty(), "{name}");
        fs::write(&path, kept).expect("written");
    }
}

#[test]
fn what_two_manifests_say_differently_is_told_by_component() {
    let one = image(b"agent", None);
    let same = image(b"agent", None);
    assert_eq!(changes(&one.manifest, &same.manifest), []);
    let other = image_with(b"agent", |parts| {
        parts.init = parts.init.with_file_name("model.safetensors");
        parts.cmdline = vec!["oops=panic".into(), "panic=-1".into()];
        parts.machine.vcpus = 4;
        parts.packages[0].version = "6.13".into();
    });
    let found = changes(&one.manifest, &other.manifest);
    let names: Vec<_> = found
        .iter()
        .map(|change| (change.component, &*change.name))
        .collect();
    for expected in [
        ("image", "machine"),
        ("package", "linux for kernel"),
        ("file inside", "initrd:/init"),
        ("artifact", "initrd"),
        ("command line", "word 001"),
        ("register", "rtmr2"),
    ] {
        assert!(names.contains(&expected), "{expected:?} in {names:?}");
    }
    let absent = ("register", "rtmr1");
    assert!(!names.contains(&absent), "{names:?}");
    let back = changes(&other.manifest, &one.manifest);
    let turned = back.into_iter().map(|change| Change {
        first: change.second,
        second: change.first,
        ..change
    });
    assert_eq!(turned.collect::<Vec<_>>(), found);
}

#[test]
fn a_difference_is_named_by_artifact_file_origin_and_byte() {
    let one = image(b"agent", None);
    let other = image(b"agent", None);
    let told = |other: &Path| {
        let (first, second) = (Directory::open(&one.out), Directory::open(other));
        let found = differences(&first.expect("opens"), &second.expect("opens"));
        let found = found.expect("compared");
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(&other.out), [""; 0]);

    let flip = |name: &str, find: &[u8], by: usize| {
        let path = other.out.join(name);
        let before = fs::read(&path).expect("there");
        let mut bytes = before.clone();
        let at = bytes.windows(find.len()).position(|window| window == find);
        let at = at.expect("it is there") + by;
        bytes[at] ^= 1;
        fs::write(&path, &bytes).expect("written");
        let found = told(&other.out);
        fs::write(&path, before).expect("written");
        (at, found)
    };
    let (at, found) = flip("initrd", b"first program", 6);
    let expected = format!(
        "initrd /init (from compiled) has other content, first at byte 6 (byte {at} of initrd)"
    );
    assert_eq!(found, [expected]);
    // The time of a file is not its content: what describes it differs.
    let (at, found) = flip("initrd", b"07070100000006", 13);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains("its description") && found[0].contains(&format!("byte {at} of initrd")),
        "{found:?}"
    );
    let (at, found) = flip("kernel", b"PE\0\0", 4);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("kernel ") && found[0].contains(&format!("byte {at}")),
        "{found:?}"
    );
    let (at, found) = flip("firmware.fd", b"_FVH", 1);
    assert_eq!(
        found,
        [format!("firmware.fd has other bytes, first at byte {at}")]
    );

    // Without the bytes their digests tell.
    fs::remove_file(other.out.join("kernel")).expect("removed");
    assert_eq!(told(&other.out), [""; 0]);
    let another = image(b"another agent", None);
    fs::remove_file(another.out.join("root.img")).expect("removed");
    let found = told(&another.out);
    let root = "root.img has another digest; its bytes are not beside the manifest";
    assert!(found.iter().any(|line| line == root), "{found:?}");
    assert!(
        found
            .iter()
            .any(|line| line.starts_with("cmdline has another text")),
        "{found:?}"
    );
}
