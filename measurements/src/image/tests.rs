use serde_json::Value;

use super::*;
use crate::predict::EventKind;

/// A small image whose files nobody has.
pub(crate) fn sample() -> ImageManifest {
    let event = |register, from: &str| PredictedEvent {
        register,
        kind: EventKind::Separator,
        digest: Digest48::of(from.as_bytes()),
        from: from.into(),
    };
    let prediction = Prediction {
        mrtd: Digest48::of(b"firmware"),
        events: vec![
            event(Register::Rtmr0, "tables"),
            event(Register::Rtmr1, "kernel"),
            event(Register::Rtmr2, "command line"),
            event(Register::Rtmr2, "initrd"),
        ],
    };
    let file = |name: &str| ImageFile {
        name: name.into(),
        bytes: name.len() as u64,
        sha256: Digest32::of(name.as_bytes()),
    };
    let root = VerityRoot {
        verity_hash: Digest32::of(b"root"),
        salt: Digest32::of(b"salt"),
        data_blocks: 7,
    };
    let parts = ImageParts {
        version: ImageManifest::VERSION,
        profile: Profile::Sim,
        lock_sha256: Digest32::of(b"lock"),
        compiler: "rustc 1.95.0".into(),
        files: ImageFiles {
            firmware: file("firmware.fd"),
            kernel: file("kernel"),
            initrd: file("initrd"),
            root: file("root.img"),
        },
        cmdline: format!("console=ttyS0 {} quiet", root.argument()),
        root,
        agent_sha384: Digest48::of(b"agent"),
        contents: vec![Content {
            path: "/agent".into(),
            mode: "0755".into(),
            bytes: 5,
            sha256: Digest32::of(b"agent"),
            from: "guest-agent".into(),
        }],
        packages: vec![Package {
            name: "ovmf".into(),
            version: "2025.02-8+deb13u1".into(),
            sha256: Digest32::of(b"ovmf"),
            role: Role::Firmware,
        }],
        machine: MachineSize {
            vcpus: 2,
            memory_mib: 2048,
        },
        registers: BootRegisters::from(&prediction),
        events: prediction.events,
    };
    ImageManifest::new(parts).unwrap()
}

#[test]
fn a_manifest_survives_the_round_trip_and_keeps_its_name() {
    let manifest = sample();
    let bytes = manifest.to_json();
    assert_eq!(ImageManifest::from_json(&bytes), Ok(manifest.clone()));
    assert!(bytes.ends_with(b"}\n"));
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    let compact = ImageManifest::from_json(value.to_string().as_bytes()).unwrap();
    assert_eq!(compact.digest(), manifest.digest());
    assert_eq!(value["events"][3]["register"], "rtmr2");
    assert_eq!(value["events"][3]["type"], "EV_SEPARATOR");
    assert_eq!(value["packages"][0]["role"], "firmware");
}

fn check(edit: impl FnOnce(&mut Value), expected: impl FnOnce(&ImageError) -> bool) {
    let mut json: Value = serde_json::from_slice(&sample().to_json()).unwrap();
    edit(&mut json);
    let refusal = ImageManifest::from_json(json.to_string().as_bytes()).expect_err("must fail");
    assert!(expected(&refusal), "{refusal:?}");
}

#[test]
fn unknown_fields_versions_and_words_are_refused() {
    let is_json = |e: &ImageError| matches!(e, ImageError::Json(_));
    for pointer in [
        "",
        "/files",
        "/files/root",
        "/root",
        "/contents/0",
        "/packages/0",
        "/machine",
        "/registers",
        "/events/0",
    ] {
        check(
            |j| j.pointer_mut(pointer).unwrap()["extra"] = 1.into(),
            is_json,
        );
    }
    check(|j| j["profile"] = "production".into(), is_json);
    check(|j| j["packages"][0]["role"] = "other".into(), is_json);
    check(|j| j["events"][0]["type"] = "EV_OTHER".into(), is_json);
    check(|j| j["lock_sha256"] = "AB".repeat(32).into(), is_json);
    check(
        |j| j["version"] = 2.into(),
        |e| *e == ImageError::Version { got: 2 },
    );
}

#[test]
fn a_file_name_leads_nowhere_else() {
    for bad in [
        "",
        ".",
        "..",
        ".x",
        "a/b",
        "/a",
        "a b",
        "a\\b",
        "ä",
        &"x".repeat(65),
    ] {
        check(
            |j| j["files"]["kernel"]["name"] = bad.into(),
            |e| {
                matches!(
                    e,
                    ImageError::Text {
                        what: "name of a file",
                        ..
                    }
                )
            },
        );
    }
    check(
        |j| j["files"]["kernel"]["name"] = "initrd".into(),
        |e| matches!(e, ImageError::SameFile { name } if name == "initrd"),
    );
}

#[test]
fn the_command_line_names_this_root_once() {
    let argument = sample().root.argument();
    let is_root = |e: &ImageError| matches!(e, ImageError::Root { .. });
    let other = argument.replace(",7", ",8");
    for bad in [
        "quiet".to_owned(),
        other.clone(),
        format!("{argument} {other}"),
        format!("{argument} {argument}"),
        format!("x{argument}"),
    ] {
        check(|j| j["cmdline"] = bad.into(), is_root);
    }
    check(|j| j["root"]["data_blocks"] = 8.into(), is_root);
    for bad in [
        String::new(),
        format!("{argument} a\nb"),
        format!("x=\"{argument} y\" {argument}"),
        format!("{argument} {}", "x".repeat(limits::CMDLINE_BYTES_MAX)),
    ] {
        check(
            |j| j["cmdline"] = bad.into(),
            |e| {
                matches!(
                    e,
                    ImageError::Text {
                        what: "command line",
                        ..
                    }
                )
            },
        );
    }
}

#[test]
fn registers_are_what_the_events_lead_to() {
    let eleven = "11".repeat(48);
    for (name, register) in [
        ("rtmr0", Register::Rtmr0),
        ("rtmr1", Register::Rtmr1),
        ("rtmr2", Register::Rtmr2),
    ] {
        check(
            |j| j["registers"][name] = eleven.clone().into(),
            |e| matches!(e, ImageError::Contradiction { register: r, .. } if *r == register),
        );
    }
    check(
        |j| j["registers"]["mrtd"] = "00".repeat(48).into(),
        |e| {
            matches!(
                e,
                ImageError::Zero {
                    register: Register::Mrtd
                }
            )
        },
    );
    check(
        |j| {
            j["registers"]["rtmr1"] = "00".repeat(48).into();
            j["events"].as_array_mut().unwrap().remove(1);
        },
        |e| {
            matches!(
                e,
                ImageError::Zero {
                    register: Register::Rtmr1
                }
            )
        },
    );
    check(
        |j| j["events"].as_array_mut().unwrap().swap(2, 3),
        |e| {
            matches!(
                e,
                ImageError::Contradiction {
                    register: Register::Rtmr2,
                    ..
                }
            )
        },
    );
    check(
        |j| j["events"][0]["register"] = "rtmr3".into(),
        |e| {
            matches!(
                e,
                ImageError::EventRegister {
                    got: Register::Rtmr3
                }
            )
        },
    );
}

#[test]
fn texts_lists_and_machines_are_bounded() {
    let is_text = |e: &ImageError| matches!(e, ImageError::Text { .. });
    check(|j| j["compiler"] = "".into(), is_text);
    check(|j| j["compiler"] = "x".repeat(513).into(), is_text);
    check(|j| j["contents"][0]["path"] = "a\u{1b}[2J".into(), is_text);
    for mode in ["755", "0758", "00755", "rwxr"] {
        check(|j| j["contents"][0]["mode"] = mode.into(), is_text);
    }
    let is_limit = |e: &ImageError| matches!(e, ImageError::OverLimit { .. });
    check(
        |j| j["events"] = vec![j["events"][0].clone(); limits::IMAGE_EVENTS_MAX + 1].into(),
        is_limit,
    );
    check(
        |j| j["packages"] = vec![j["packages"][0].clone(); limits::IMAGE_PACKAGES_MAX + 1].into(),
        is_limit,
    );
    let is_machine = |e: &ImageError| matches!(e, ImageError::Machine(_));
    check(|j| j["machine"]["vcpus"] = 0.into(), is_machine);
    check(|j| j["machine"]["vcpus"] = 1025.into(), is_machine);
    check(|j| j["machine"]["memory_mib"] = 0.into(), is_machine);
    let max = limits::IMAGE_MANIFEST_BYTES_MAX;
    assert_eq!(
        ImageManifest::from_json(&vec![b' '; max + 1]),
        Err(ImageError::TooLong { got: max + 1, max })
    );
}

#[test]
fn no_flipped_byte_or_cut_makes_it_panic() {
    let bytes = sample().to_json();
    for at in 0..bytes.len() {
        for mask in [0x01, 0x20, 0x80] {
            let mut flipped = bytes.clone();
            flipped[at] ^= mask;
            let _ = ImageManifest::from_json(&flipped);
        }
        let cut = ImageManifest::from_json(&bytes[..at]);
        assert!(cut.is_err() || at == bytes.len() - 1, "cut at {at}");
    }
}
