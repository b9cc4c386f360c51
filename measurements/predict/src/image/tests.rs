use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::EventKind;

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
    let over_kernel = prediction.events[1..].to_vec();
    let table = event(Register::Rtmr1, "partition table");
    let from_disk = [&[table], &over_kernel[..]].concat();
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
            uki: Some(file("image.efi")),
            disk: Some(file("disk.img")),
        },
        cmdline: format!("console=ttyS0 {} quiet", root.argument()),
        root,
        agent_sha384: Digest48::of(b"agent"),
        contents: contents(),
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
        uki: Some(UkiRegisters {
            kernel: MethodRegisters::of(&over_kernel),
            kernel_events: over_kernel,
            disk: Some(MethodRegisters::of(&from_disk)),
            disk_events: from_disk,
        }),
    };
    ImageManifest::new(parts).unwrap()
}

/// One of each kind.
fn contents() -> Vec<Content> {
    let one = |part, path: &str, kind, from: Option<&str>| Content {
        part,
        path: path.into(),
        mode: "0755".into(),
        user: 0,
        group: 0,
        attributes: BTreeMap::new(),
        kind,
        from: from.map(str::to_owned),
    };
    let console = ContentKind::Device { major: 5, minor: 1 };
    let file = |bytes: &[u8]| ContentKind::File {
        bytes: bytes.len() as u64,
        sha256: Digest32::of(bytes),
    };
    let link = ContentKind::Link {
        target: "agent".into(),
    };
    let same = ContentKind::Same {
        target: "/agent".into(),
    };
    use ImagePart::{Initrd, Root};
    let capable = Content {
        user: 7,
        group: 8,
        mode: "4711".into(),
        attributes: BTreeMap::from([("security.capability".into(), "0100".into())]),
        ..one(Root, "/ping", file(b"ping"), Some("iputils-ping 3"))
    };
    vec![
        one(Initrd, "/dev", ContentKind::Directory, None),
        one(Initrd, "/dev/console", console, None),
        one(Root, "/agent", file(b"agent"), Some("compiled")),
        one(Root, "/dev", ContentKind::Directory, None),
        one(Root, "/link", link, Some("a 1")),
        capable,
        one(Root, "/same", same, Some("a 1")),
    ]
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
        "/uki",
        "/uki/disk",
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
        |j| j["version"] = 1.into(),
        |e| *e == ImageError::Version { got: 1 },
    );
}

#[test]
fn what_is_listed_has_a_line_each_and_what_is_usual_is_left_out() {
    let json = String::from_utf8(sample().to_json()).unwrap();
    let lines: Vec<&str> = json.lines().map(str::trim_start).collect();
    for line in [
        r#"{"in": "initrd", "path": "/dev/console", "kind": "device", "mode": "0755", "device": [5, 1]},"#,
        r#"{"in": "root", "path": "/dev", "kind": "directory", "mode": "0755"},"#,
        r#"{"in": "root", "path": "/link", "kind": "link", "mode": "0755", "target": "agent", "from": "a 1"},"#,
    ] {
        assert!(lines.contains(&line), "{line} is not in\n{json}");
    }
    let ping = lines.iter().find(|line| line.contains("/ping")).unwrap();
    for part in [
        r#""mode": "4711", "user": 7, "group": 8, "attributes": {"security.capability": "0100"}, "bytes": 4, "sha256": ""#,
        r#"", "from": "iputils-ping 3"}"#,
    ] {
        assert!(ping.contains(part), "{ping}");
    }
    let opened = json.lines().filter(|line| line.starts_with("  \"")).count();
    assert_eq!(opened, 14, "each field of the manifest begins a line");
}

#[test]
fn what_lies_inside_is_sorted_and_of_one_kind() {
    let is_order =
        |path: &'static str| move |e: &ImageError| *e == ImageError::Order { path: path.into() };
    check(
        |j| j["contents"].as_array_mut().unwrap().swap(3, 4),
        is_order("/dev"),
    );
    check(
        |j| j["contents"][3] = j["contents"][4].clone(),
        is_order("/link"),
    );
    check(
        |j| j["contents"][0]["in"] = "root".into(),
        is_order("/dev/console"),
    );
    let is_json = |e: &ImageError| matches!(e, ImageError::Json(_));
    let kinds = ["file", "directory", "link", "device", "socket"];
    for (index, own) in [(2, "file"), (3, "directory"), (4, "link"), (1, "device")] {
        for kind in kinds.into_iter().filter(|kind| *kind != own) {
            check(|j| j["contents"][index]["kind"] = kind.into(), is_json);
        }
    }
    for field in ["bytes", "sha256"] {
        check(
            |j| drop(j["contents"][2].as_object_mut().unwrap().remove(field)),
            is_json,
        );
    }
    let is_text = |e: &ImageError| matches!(e, ImageError::Text { .. });
    check(|j| j["contents"][2]["path"] = "agent".into(), is_text);
    check(|j| j["contents"][4]["target"] = "".into(), is_text);
    for value in ["0", "0G", "AB", &"00".repeat(257)] {
        let edit =
            |j: &mut Value| j["contents"][5]["attributes"]["security.capability"] = value.into();
        check(edit, is_text);
    }
    check(
        |j| {
            for number in 0..16 {
                j["contents"][5]["attributes"][format!("user.{number}")] = "".into();
            }
        },
        |e| matches!(e, ImageError::OverLimit { got: 17, .. }),
    );
}

#[test]
fn an_image_and_a_disk_have_registers_and_no_others_do() {
    let is_method = |name| move |e: &ImageError| *e == ImageError::BootMethod(name);
    let remove = |pointer: &'static str, key: &'static str| {
        move |j: &mut Value| {
            let object = j.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
            object.remove(key).unwrap();
        }
    };
    check(remove("/files", "uki"), is_method("uki"));
    check(remove("", "uki"), is_method("uki"));
    check(remove("/files", "disk"), is_method("disk"));
    check(remove("/uki", "disk"), is_method("disk"));
    for method in ["kernel", "disk"] {
        for register in ["rtmr1", "rtmr2"] {
            check(
                |j| j["uki"][method][register] = "11".repeat(48).into(),
                |e| matches!(e, ImageError::Contradiction { .. }),
            );
        }
        check(
            |j| j["uki"][format!("{method}_events")][0]["register"] = "rtmr0".into(),
            |e| {
                matches!(
                    e,
                    ImageError::EventRegister {
                        got: Register::Rtmr0
                    }
                )
            },
        );
    }
    // Without both, it is a whole manifest again.
    let mut json: Value = serde_json::from_slice(&sample().to_json()).unwrap();
    remove("/files", "uki")(&mut json);
    remove("/files", "disk")(&mut json);
    remove("", "uki")(&mut json);
    let read = ImageManifest::from_json(json.to_string().as_bytes()).unwrap();
    assert_eq!(
        (read.files.all().count(), sample().files.all().count()),
        (4, 6)
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
    check(|j| j["contents"][0]["path"] = "/a\u{1b}[2J".into(), is_text);
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
        let mut flipped = bytes.clone();
        flipped[at] ^= [0x01, 0x20, 0x80][at % 3];
        let _ = ImageManifest::from_json(&flipped);
        let cut = ImageManifest::from_json(&bytes[..at]);
        assert!(cut.is_err() || at == bytes.len() - 1, "cut at {at}");
    }
}
