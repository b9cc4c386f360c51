//! The program on images: predicting them, describing their guests, and finding what does not belong to them.

use std::{fs, path::Path};

use crate::common::{image::image, json, made, platform, run};
use attest::{Manifest, Mode};
use predict::{
    EventKind, PredictedEvent, VERITY_BLOCK_BYTES,
    acpi::{Qemu, acpi_files},
    image::{ImageManifest, ImageParts},
    qemu::guest_shape,
    replay, rtmr0,
};
use registers::{Digest48, Register};
use serde_json::Value;

fn verify(directory: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let fixed = ["image", "verify", "--json", "--image", "."];
    let output = run(directory, &[&fixed[..], more].concat());
    (output.status.code(), json(&output))
}

fn outcome<'a>(printed: &'a Value, what: &str) -> &'a str {
    let checks = printed["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["what"] == what);
    check.unwrap()["outcome"].as_str().unwrap()
}

const ALL: [&str; 16] = [
    "firmware",
    "kernel",
    "initrd",
    "root",
    "verity hash",
    "mrtd",
    "rtmr0",
    "rtmr1",
    "rtmr2",
    "uki",
    "uki parts",
    "uki rtmr1",
    "uki rtmr2",
    "disk",
    "disk rtmr1",
    "disk rtmr2",
];

#[test]
fn predict_prints_the_registers_of_the_whole_machine() {
    let (directory, manifest) = image();
    let whole = [
        "predict",
        "--firmware",
        "firmware.fd",
        "--kernel",
        "kernel",
        "--initrd",
        "initrd",
        "--cmdline",
        &manifest.cmdline,
        "--memory",
        "2G",
        "--acpi-tables",
        "acpi",
    ];
    let printed = json(&run(directory.path(), &[&whole[..], &["--json"]].concat()));
    let mut expected = serde_json::to_value(manifest.registers).unwrap();
    expected["events"] = serde_json::to_value(&manifest.events).unwrap();
    expected["usable_in_policy"] = false.into();
    expected["assumed"] = printed["assumed"].clone();
    assert_eq!(expected["assumed"].as_array().map(Vec::len), Some(1));
    assert_eq!(printed, expected);
    let people = run(directory.path(), &whole);
    let people = String::from_utf8(people.stdout).unwrap();
    assert!(people.contains(&manifest.registers.rtmr2.to_string()));
    assert_eq!(people.lines().count(), 4 + manifest.events.len());
}

/// With the tables made here, by size or by shape, nothing is said about policies.
#[test]
fn predict_needs_no_tables_of_a_machine_that_is_proven() {
    let (directory, manifest) = image();
    let shape = guest_shape(manifest.machine, Qemu::V10_0_13, true);
    fs::write(directory.path().join("shape.json"), shape.to_json()).unwrap();
    fs::write(directory.path().join("events.json"), "[]").unwrap();
    let firmware = made::firmware();
    let platform = platform(&firmware, manifest.machine.memory_mib);
    let events = rtmr0(&platform, &acpi_files(&shape).unwrap()).unwrap();
    let expected = serde_json::json!({
        "mrtd": manifest.registers.mrtd,
        "rtmr0": replay(Register::Rtmr0, &events),
        "rtmr3": Digest48::ZERO,
        "events": events,
    });
    for machine in [
        &["--vcpus", "2", "--memory", "2G", "--tpm"][..],
        &["--shape", "shape.json"],
    ] {
        let fixed = [
            "predict",
            "--firmware",
            "firmware.fd",
            "--runtime-events",
            "events.json",
            "--json",
        ];
        let output = run(directory.path(), &[&fixed[..], machine].concat());
        let mut printed = json(&output);
        let assumed = printed.as_object_mut().unwrap().remove("assumed").unwrap();
        assert!(assumed[0].as_str().unwrap().contains("without Secure Boot"));
        assert_eq!(printed, expected);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("policy") && said.contains("assumption"));
    }
    // The same tables from a file are somebody's.
    let tables = &acpi_files(&guest_shape(manifest.machine, Qemu::V10_0_13, false)).unwrap()["etc/acpi/tables"];
    fs::write(directory.path().join("tables.bin"), tables).unwrap();
    let foreign = [
        "predict",
        "--firmware",
        "firmware.fd",
        "--memory",
        "2G",
        "--acpi-tables",
        "tables.bin",
        "--json",
    ];
    let native = [
        "predict",
        "--firmware",
        "firmware.fd",
        "--memory",
        "2G",
        "--vcpus",
        "2",
        "--json",
    ];
    let output = run(directory.path(), &foreign);
    let (foreign, native) = (json(&output), json(&run(directory.path(), &native)));
    assert_eq!(foreign["rtmr0"], native["rtmr0"]);
    assert_eq!(foreign["usable_in_policy"], false);
    assert_eq!(native.get("usable_in_policy"), None);
    assert!(String::from_utf8_lossy(&output.stderr).contains("not usable in a policy"));
}

#[test]
fn predict_says_what_it_lacks_and_refuses_half_a_question() {
    let (directory, manifest) = image();
    let only = run(
        directory.path(),
        &["predict", "--firmware", "firmware.fd", "--json"],
    );
    assert_eq!(only.status.code(), Some(0));
    let expected = serde_json::json!({ "mrtd": manifest.registers.mrtd, "events": [] });
    assert_eq!(json(&only), expected);
    assert!(String::from_utf8_lossy(&only.stderr).contains("rtmr1 is not predicted"));

    let firmware = ["predict", "--firmware", "firmware.fd"];
    let code = |more: &[&str]| {
        run(directory.path(), &[&firmware[..], more].concat())
            .status
            .code()
    };
    for misuse in [
        &["--kernel", "kernel"][..],
        &["--initrd", "initrd"],
        &["--vcpus", "2"],
        &["--kernel", "kernel", "--cmdline", "x", "--uki", "kernel"],
        &["--uki", "kernel", "--loader", "kernel"],
        &["--vcpus", "2", "--memory", "2G", "--shape", "shape.json"],
        &["--memory", "2048", "--acpi-tables", "acpi"],
        &["--memory", "-1G", "--acpi-tables", "acpi"],
        &["--memory", "99999999999999999999G", "--acpi-tables", "acpi"],
        &["--page-order", "three"],
        &["--kernel", "kernel", "--cmdline", "x", "--edk2", "1999"],
    ] {
        assert_eq!(code(misuse), Some(2), "{misuse:?}");
    }
    for failure in [
        &["--acpi-tables", "acpi"][..],
        &["--cmdline", "x"],
        &["--memory", "2G"],
        &["--vcpus", "2", "--memory", "1M"],
        &["--vcpus", "2", "--memory", "2G", "--qemu", "8.2.2"],
        &["--shape", "kernel"],
        &["--uki", "kernel"],
        &["--uki", "kernel", "--disk", "initrd"],
        &["--kernel", "kernel", "--cmdline", "x", "--qemu", "8.2.2"],
        &["--memory", "2G", "--acpi-tables", "kernel"],
        &["--runtime-events", "kernel"],
        &["--memory", "1M", "--acpi-tables", "acpi"],
        &["--memory", "2G", "--acpi-tables", "."],
        &["--kernel", "initrd", "--cmdline", "x"],
        &["--kernel", "kernel", "--cmdline", "a\nb"],
    ] {
        assert_eq!(code(failure), Some(1), "{failure:?}");
    }
    fs::rename(
        directory.path().join("acpi/tables"),
        directory.path().join("acpi/tables.bin.gz"),
    )
    .unwrap();
    let packed = ["--memory", "2G", "--acpi-tables", "acpi"];
    let output = run(directory.path(), &[&firmware[..], &packed].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("gunzip acpi/*.gz"));
}

#[test]
fn an_images_files_are_measured_again() {
    let (directory, manifest) = image();
    let (code, printed) = verify(directory.path(), &["--allow-unchecked", "rtmr0"]);
    assert_eq!((code, &printed["verified"]), (Some(0), &false.into()));
    assert_eq!(printed["accepted"], true);
    assert_eq!(printed["unchecked"], serde_json::json!(["rtmr0"]));
    assert_eq!(printed["image_sha256"], manifest.digest().to_string());
    for what in ALL {
        let expected = if what == "rtmr0" {
            "not computed"
        } else {
            "same"
        };
        assert_eq!(outcome(&printed, what), expected, "{what}");
    }
    assert_eq!(outcome(&printed, "agent"), "not computed");
    assert_eq!(outcome(&printed, "contents"), "not computed");

    let (code, printed) = verify(directory.path(), &["--acpi-tables", "acpi"]);
    assert_eq!((code, outcome(&printed, "rtmr0")), (Some(0), "same"));
    assert_eq!(printed["verified"], true);
}

/// A manifest that its author forged and made consistent again: the table's digest in RTMR0 is one that no machine has. Any
/// signature over it would hold.
#[test]
fn a_forged_register_that_cannot_be_computed_is_refused() {
    let (directory, manifest) = image();
    let write = |edit: &dyn Fn(&mut Vec<PredictedEvent>)| {
        let mut parts = (*manifest).clone();
        edit(&mut parts.events);
        parts.registers.rtmr0 = replay(Register::Rtmr0, &parts.events);
        let manifest = ImageManifest::new(parts).expect("it agrees with itself");
        fs::write(directory.path().join("manifest.json"), manifest.to_json()).unwrap();
    };
    let honest = |events: &mut Vec<PredictedEvent>| {
        let shape = guest_shape(manifest.machine, Qemu::V10_0_13, true);
        let firmware = made::firmware();
        let platform = platform(&firmware, manifest.machine.memory_mib);
        let computed = rtmr0(&platform, &acpi_files(&shape).unwrap()).unwrap();
        events.retain(|event| event.register != Register::Rtmr0);
        events.splice(0..0, computed);
    };
    write(&honest);
    let (code, printed) = verify(directory.path(), &[]);
    assert_eq!((code, &printed["verified"]), (Some(0), &true.into()));
    assert_eq!(outcome(&printed, "rtmr0"), "same");

    write(&|events| {
        honest(events);
        let table = |event: &&mut PredictedEvent| event.kind == EventKind::PlatformConfigFlags;
        events.iter_mut().find(table).unwrap().digest = Digest48::of(b"forged");
    });
    let (code, printed) = verify(directory.path(), &[]);
    assert_eq!((code, &printed["verified"]), (Some(1), &false.into()));
    assert_eq!(outcome(&printed, "rtmr0"), "not computed");
    let output = run(
        directory.path(),
        &["image", "verify", "--manifest", "manifest.json"],
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("refused: rtmr0 was not computed"), "{said}");
    let (code, printed) = verify(directory.path(), &["--allow-unchecked", "rtmr0"]);
    assert_eq!((code, &printed["verified"]), (Some(0), &false.into()));
    assert_eq!(printed["unchecked"], serde_json::json!(["rtmr0"]));
    // Another register's permission does not help, and neither does any against a register that differs.
    let (code, _) = verify(directory.path(), &["--allow-unchecked", "uki"]);
    assert_eq!(code, Some(1));
    fs::write(directory.path().join("initrd"), b"another").unwrap();
    let (code, printed) = verify(directory.path(), &["--allow-unchecked", "rtmr0"]);
    assert_eq!((code, outcome(&printed, "rtmr2")), (Some(1), "differs"));
}

#[test]
fn a_changed_file_is_found_in_itself_and_in_what_measures_it() {
    let check = |name: &str, at: usize, expected: &[&str], more: &[&str]| {
        let (directory, _) = image();
        let path = directory.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (code, printed) = verify(directory.path(), more);
        assert_eq!((code, &printed["verified"]), (Some(1), &false.into()));
        for what in ALL {
            let differs = outcome(&printed, what) == "differs";
            assert_eq!(differs, expected.contains(&what), "{name}: {what}");
        }
    };
    check("firmware.fd", 0x2000, &["firmware", "mrtd"], &[]);
    check("firmware.fd", 0x800, &["firmware", "rtmr0"], &[]);
    check("kernel", 0x300, &["kernel", "rtmr1", "uki parts"], &[]);
    check("kernel", 0, &["kernel", "rtmr1", "uki parts"], &[]);
    check("initrd", 3, &["initrd", "rtmr2", "uki parts"], &[]);
    check("root.img", 9000, &["root", "verity hash"], &[]);
    check("root.img", 3 * VERITY_BLOCK_BYTES, &["root"], &[]);
    let both = ["uki rtmr1", "disk rtmr1"];
    check(
        "disk.img",
        512 + 60,
        &["disk", "disk rtmr1", "disk rtmr2"],
        &[],
    );
    // A byte of the headers, then one of the kernel inside.
    check("image.efi", 2, &[&["uki"], &both[..]].concat(), &[]);
    let all = ["uki", "uki parts", "uki rtmr2", "disk rtmr2"];
    check("image.efi", 0xc00 + 0x300, &[&all, &both[..]].concat(), &[]);
    check("acpi/tables", 1, &["rtmr0"], &["--acpi-tables", "acpi"]);
}

/// A manifest may agree with itself and still not be about these files.
#[test]
fn a_manifest_of_another_machine_or_root_is_found() {
    let check = |edit: &dyn Fn(&mut ImageParts), expected: &[&str], more: &[&str]| {
        let (directory, manifest) = image();
        let mut parts = (*manifest).clone();
        edit(&mut parts);
        let other = ImageManifest::new(parts).unwrap();
        fs::write(directory.path().join("manifest.json"), other.to_json()).unwrap();
        let (code, printed) = verify(directory.path(), more);
        assert_eq!(code, Some(1));
        for what in ALL {
            let differs = outcome(&printed, what) == "differs";
            assert_eq!(differs, expected.contains(&what), "{what}");
        }
    };
    check(&|parts| parts.machine.memory_mib = 4096, &["rtmr0"], &[]);
    let both = ["rtmr2", "uki parts"];
    check(&|parts| parts.cmdline.push_str(" extra"), &both, &[]);
    check(
        &|parts| {
            parts.root.data_blocks = 1 << 40;
            parts.cmdline = parts.root.argument();
        },
        &["verity hash", "rtmr2", "uki parts"],
        &[],
    );
    check(
        &|parts| parts.registers.mrtd = Digest48::of(b"other"),
        &["mrtd"],
        &[],
    );
    let (directory, _) = image();
    let (code, printed) = verify(directory.path(), &["--page-order", "two"]);
    assert_eq!((code, outcome(&printed, "mrtd")), (Some(1), "differs"));
}

#[test]
fn a_unified_kernel_image_and_a_disk_may_be_missing_or_be_none() {
    let (directory, manifest) = image();
    fs::remove_file(directory.path().join("disk.img")).unwrap();
    let rtmr0 = ["--allow-unchecked", "rtmr0", "--allow-unchecked", "disk"];
    assert_eq!(verify(directory.path(), &rtmr0[..2]).0, Some(1));
    let (code, printed) = verify(directory.path(), &rtmr0);
    assert_eq!(code, Some(0));
    assert_eq!(outcome(&printed, "disk"), "not computed");
    assert_eq!(outcome(&printed, "uki rtmr1"), "same");
    fs::remove_file(directory.path().join("image.efi")).unwrap();
    let all = [&rtmr0[..], &["--allow-unchecked", "uki"]].concat();
    let (code, printed) = verify(directory.path(), &all);
    assert_eq!((code, outcome(&printed, "uki")), (Some(0), "not computed"));
    assert_eq!(outcome(&printed, "uki rtmr1"), "not computed");

    // Another command line in the image than beside it.
    let mut parts = (*manifest).clone();
    parts.cmdline.push_str(" extra");
    let (directory, _) = image();
    let other = ImageManifest::new(parts).unwrap();
    fs::write(directory.path().join("manifest.json"), other.to_json()).unwrap();
    let (code, printed) = verify(directory.path(), &[]);
    assert_eq!((code, outcome(&printed, "uki parts")), (Some(1), "differs"));
    assert_eq!(outcome(&printed, "uki rtmr2"), "same");
}

#[test]
fn a_missing_file_ends_with_1_and_its_name() {
    let (directory, _) = image();
    fs::remove_file(directory.path().join("root.img")).unwrap();
    let output = run(
        directory.path(),
        &["image", "verify", "--manifest", "manifest.json"],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("root.img"));
}

#[test]
fn the_manifest_of_a_guest_names_its_image() {
    let (directory, image) = image();
    fs::write(directory.path().join("guest.json"), b"config bytes").unwrap();
    let arguments = [
        "manifest",
        "vm",
        "--image",
        "manifest.json",
        "--config",
        "guest.json",
    ];
    let computed = [&arguments[..], &["--acpi-tables", "acpi"]].concat();
    let output = run(directory.path(), &computed);
    assert_eq!(output.status.code(), Some(0));
    let manifest = Manifest::from_json(&output.stdout).unwrap();
    assert_eq!(manifest, image.guest(Digest48::of(b"config bytes"), &[]));
    assert!(!manifest.note().contains("NOT COMPUTED"));
    assert!(matches!(manifest.mode(), Mode::Vm { image: digest, .. } if digest == image.digest()));
    assert!(String::from_utf8_lossy(&output.stderr).contains("simulated"));

    // A guest that demands a GPU measures which one it has: nobody can leave it out, and nobody names one that is not demanded.
    fs::write(directory.path().join("gpu.json"), br#"{"gpu": true}"#).unwrap();
    let named = "5a".repeat(32);
    let demanding = arguments.map(|word| {
        if word == "guest.json" {
            "gpu.json"
        } else {
            word
        }
    });
    let with = |arguments: [&str; 6], more: &[&str]| {
        let words = [&arguments[..], &["--acpi-tables", "acpi"], more].concat();
        run(directory.path(), &words)
    };
    let with_gpu = Manifest::from_json(&with(demanding, &["--gpu", &named]).stdout).unwrap();
    let event = wire::GpuReport::event(&wire::Digest([0x5a; 32]));
    let events = with_gpu.rtmr3_events();
    assert_eq!(
        events
            .last()
            .map(|last| (last.name.as_str(), last.digest.0)),
        Some(("gpu", event.digest))
    );
    assert_eq!(events.len(), 3);
    for (arguments, more, why) in [
        (demanding, &[][..], "gpu.json demands a GPU"),
        (arguments, &["--gpu", &named][..], "guest.json demands none"),
        (demanding, &["--gpu", "5a"][..], "--gpu"),
    ] {
        let output = with(arguments, more);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{said}");
    }

    // A deleted image of another boot method is in no register of this guest.
    fs::remove_file(directory.path().join("image.efi")).unwrap();
    assert_eq!(run(directory.path(), &computed).stdout, output.stdout);

    // RTMR0 is of tables that no QEMU makes: stated, not computed, so nobody predicted it.
    let output = run(directory.path(), &arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(said.contains("refused: rtmr0 was not computed"), "{said}");
    let allowed = [&arguments[..], &["--allow-unchecked", "rtmr0"]].concat();
    let output = run(directory.path(), &allowed);
    let manifest = Manifest::from_json(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        manifest.note().contains("NOT COMPUTED: RTMR0"),
        "{}",
        manifest.note()
    );

    // Another kernel than the manifest's gives no manifest at all.
    let mut kernel = fs::read(directory.path().join("kernel")).unwrap();
    kernel[0x300] ^= 1;
    fs::write(directory.path().join("kernel"), kernel).unwrap();
    let output = run(directory.path(), &allowed);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
}
