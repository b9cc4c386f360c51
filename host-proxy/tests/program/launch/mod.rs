//! `host-proxy launch` with fakes of QEMU, swtpm and vhost-device-vsock: what it starts, what it prints, and that nothing
//! stays behind. The fakes are this test binary itself, started by a script of two lines; where the system has no shell for
//! the script, the tests are skipped.

mod fake_programs;
mod fixture;

use fixture::{Fixture, fixture};
use nix::sys::signal::Signal;
use std::time::Duration;

/// A test must see an end long before this; a busy machine is slow to start programs.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_guest_boots_is_served_its_configuration_and_ends_when_asked() {
    let Some(fixture) = fixture("boots") else {
        return;
    };
    let mut launch = fixture.launch(&[]);
    let ready = launch.ready();
    let socket = fixture.run().join("vsock.sock");
    assert_eq!(ready["guest"], format!("hybrid:{}:9000", socket.display()));
    assert_eq!(ready["accelerator"], "tcg");
    assert!(ready["boot_s"].as_f64().expect("seconds") < LONG.as_secs_f64());
    let launched = fixture.json("run/launched.json");
    for (name, expected) in [
        ("firmware", "image/firmware.fd"),
        ("kernel", "image/kernel"),
        ("initrd", "image/initrd"),
        ("root", "image/root.img"),
        ("tpm_log", "run/swtpm.log"),
    ] {
        assert_eq!(
            launched[name],
            fixture.path(expected).display().to_string(),
            "{name}"
        );
    }
    assert_eq!(
        (
            &launched["version"],
            &launched["vcpus"],
            &launched["memory_mib"]
        ),
        (&1.into(), &1.into(), &64.into())
    );
    assert_eq!(launched["cmdline"], fixture::cmdline());
    assert_eq!(fixture.read("run/config.read"), fixture.read("guest.json"));
    // Exactly the measured machine, with the host's paths behind its devices.
    let arguments = fixture.read("run/qemu.arguments");
    assert!(
        arguments.contains("q35,kernel-irqchip=split,smm=off,pic=off,memory-backend=mem0"),
        "{arguments}"
    );
    assert!(
        arguments.contains(&format!(
            "type=unixio,path={}/tpm.sock",
            fixture.run().display()
        )),
        "{arguments}"
    );

    launch.signal(Signal::SIGTERM);
    let ended = launch.ended(LONG);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for stage in [
        "qemu ",
        "firmware ",
        "kernel ",
        "stage0 ",
        "agent ",
        "ready ",
    ] {
        assert!(
            ended.stderr.contains(&format!("s  {stage}")),
            "{stage}: {}",
            ended.stderr
        );
    }
    assert_eq!(fixture.sockets(), [""; 0]);
    fixture.wait_for_exit();
    assert!(
        fixture.read("run/qemu.end").contains("quit"),
        "QEMU was asked, not killed"
    );
}

#[test]
fn nothing_outlives_a_launch_that_is_killed() {
    let Some(fixture) = fixture("boots") else {
        return;
    };
    let mut launch = fixture.launch(&[]);
    launch.ready();
    assert!(fixture.programs().len() >= 3, "three programs run");
    launch.signal(Signal::SIGKILL);
    launch.ended(LONG);
    fixture.wait_for_exit();
    // What it left is no obstacle: the kernel has given up its lock.
    assert!(
        !fixture.sockets().is_empty(),
        "a killed program cleans nothing up"
    );
    let mut again = fixture.launch(&[]);
    again.ready();
    again.signal(Signal::SIGINT);
    assert_eq!(again.ended(LONG).code, Some(0));
    assert_eq!(fixture.sockets(), [""; 0]);
}

#[test]
fn a_directory_in_use_is_refused_and_its_guest_is_not_disturbed() {
    let Some(fixture) = fixture("boots") else {
        return;
    };
    let mut launch = fixture.launch(&[]);
    launch.ready();
    let second = fixture.launch(&[]).ended(LONG);
    assert_eq!(second.code, Some(1));
    assert!(
        second.stderr.contains("is used by another launch"),
        "{}",
        second.stderr
    );
    assert_eq!(fixture.sockets().len(), 5, "{:?}", fixture.sockets());
    launch.signal(Signal::SIGTERM);
    assert_eq!(launch.ended(LONG).code, Some(0));
}

#[test]
fn a_stop_during_the_boot_is_no_failure() {
    let Some(fixture) = fixture("silent") else {
        return;
    };
    let launch = fixture.launch(&[]);
    fixture.wait_for("run/qemu.arguments");
    launch.signal(Signal::SIGTERM);
    let ended = launch.ended(LONG);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), ""),
        "{}",
        ended.stderr
    );
    fixture.wait_for_exit();
    assert_eq!(fixture.sockets(), [""; 0]);
}

#[test]
fn a_qemu_that_does_not_quit_is_killed() {
    let Some(fixture) = fixture("deaf") else {
        return;
    };
    let mut launch = fixture.launch(&[]);
    launch.ready();
    launch.signal(Signal::SIGTERM);
    assert_eq!(launch.ended(LONG).code, Some(0));
    fixture.wait_for_exit();
}

/// Expects a failed launch with every one of `expected` in its messages, and nothing left running.
fn fails(scenario: &str, arguments: &[&str], expected: &[&str]) -> Option<Fixture> {
    let fixture = fixture(scenario)?;
    let ended = fixture.launch(arguments).ended(LONG);
    assert_eq!(ended.code, Some(1), "{scenario}: {}", ended.stderr);
    // With --json nothing but the error is on stdout: nothing is ready.
    let said: serde_json::Value = serde_json::from_str(&ended.stdout).expect("one object");
    assert!(
        said["error"].is_string() && said["ready"].is_null(),
        "{scenario}: {said}"
    );
    for words in expected {
        assert!(
            ended.stderr.contains(words),
            "{scenario}: `{words}` in {}",
            ended.stderr
        );
    }
    fixture.wait_for_exit();
    assert_eq!(fixture.sockets(), [""; 0], "{scenario}");
    Some(fixture)
}

#[test]
fn a_guest_that_stops_itself_is_told_from_a_host_that_fails() {
    fails(
        "resets",
        &[],
        &[
            "the guest stopped itself at stage0: it reset itself",
            "  | stage0: the root is corrupt?[31m",
        ],
    );
    fails(
        "powers-off",
        &[],
        &["the guest stopped itself at kernel: it switched itself off"],
    );
    fails(
        "panics",
        &[],
        &["the guest stopped itself", "it reported a panic"],
    );
    fails(
        "dies",
        &[],
        &["QEMU has ended", "its last output: out of luck"],
    );
    fails(
        "no-socket",
        &[],
        &[
            "QEMU has ended",
            "its last output: cannot open the firmware",
        ],
    );
    fails("malformed", &[], &["QEMU's control socket sent"]);
    fails(
        "tpm-dies",
        &[],
        &["swtpm has ended", "its last output: no state"],
    );
    fails("vsock-dies", &[], &["vhost-device-vsock has ended"]);
}

#[test]
fn a_guest_that_never_answers_meets_the_hosts_deadline() {
    fails(
        "silent",
        &["--boot-timeout-s", "1"],
        &[
            "the guest came no further than qemu in 1",
            "it printed nothing",
        ],
    );
    fails(
        "unanswering",
        &["--boot-timeout-s", "6"],
        &["the guest came no further than agent in 6"],
    );
}

#[test]
fn a_guest_that_stops_after_it_was_ready_ends_the_launch() {
    let Some(fixture) = fixture("boots-then-resets") else {
        return;
    };
    let mut launch = fixture.launch(&[]);
    launch.ready();
    let ended = launch.ended(LONG);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("the guest stopped itself at ready"),
        "{}",
        ended.stderr
    );
    fixture.wait_for_exit();
}

#[test]
fn where_kvm_fails_the_launch_starts_over_with_tcg_and_remembers() {
    for scenario in ["kvm-stops", "kvm-dies", "kvm-refuses"] {
        let Some(fixture) = fixture(scenario) else {
            return;
        };
        let kvm = fixture.path("kvm");
        std::fs::write(&kvm, "").expect("written");
        let try_kvm = [
            "--accelerator",
            "auto",
            "--kvm-device",
            kvm.to_str().expect("text"),
        ];
        let mut launch = fixture.launch(&try_kvm);
        let ready = launch.ready();
        assert_eq!(ready["accelerator"], "tcg", "{scenario}");
        assert_eq!(fixture.json("run/launched.json")["accelerator"], "tcg");
        launch.signal(Signal::SIGTERM);
        let said = launch.ended(LONG).stderr;
        assert!(
            said.contains("kvm does not boot this guest here"),
            "{scenario}: {said}"
        );
        let mut again = fixture.launch(&try_kvm);
        assert_eq!(again.ready()["accelerator"], "tcg");
        again.signal(Signal::SIGTERM);
        let said = again.ended(LONG).stderr;
        assert!(!said.contains("kvm"), "{scenario} is remembered: {said}");
        fixture.wait_for_exit();
        // Asked for by name, nothing else will do.
        let only = fixture.launch(&["--accelerator", "kvm"]).ended(LONG);
        assert_eq!(only.code, Some(1), "{scenario}: {}", only.stderr);
    }
}

#[test]
fn kvm_that_boots_the_guest_is_kept() {
    let Some(fixture) = fixture("boots") else {
        return;
    };
    let kvm = fixture.path("kvm");
    std::fs::write(&kvm, "").expect("written");
    let mut launch = fixture.launch(&[
        "--accelerator",
        "auto",
        "--kvm-device",
        kvm.to_str().expect("text"),
    ]);
    assert_eq!(launch.ready()["accelerator"], "kvm");
    assert_eq!(fixture.json("run/launched.json")["accelerator"], "kvm");
    launch.signal(Signal::SIGTERM);
    assert_eq!(launch.ended(LONG).code, Some(0));
}

#[test]
fn a_damaged_image_starts_nothing() {
    for name in ["firmware.fd", "kernel", "initrd", "root.img"] {
        let Some(fixture) = fixture("boots") else {
            return;
        };
        let path = fixture.path(&format!("image/{name}"));
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[0] ^= 1;
        std::fs::write(&path, &bytes).expect("written");
        let ended = fixture.launch(&[]).ended(LONG);
        assert_eq!(ended.code, Some(1));
        assert!(
            ended.stderr.contains(&format!("image/{name} has SHA-256")),
            "{}",
            ended.stderr
        );
        bytes.pop();
        std::fs::write(&path, &bytes).expect("written");
        let ended = fixture.launch(&[]).ended(LONG);
        assert!(
            ended
                .stderr
                .contains(&format!("image/{name} has {} bytes", bytes.len())),
            "{}",
            ended.stderr
        );
        assert!(
            !fixture.run().exists(),
            "not even the run directory is made"
        );
    }
}

#[test]
fn an_image_is_launched_as_its_profile_says_or_not_at_all() {
    let Some(fixture) = fixture("boots") else {
        return;
    };
    let check = |profile, arguments: &[&str], expected: &str| {
        fixture.write_manifest(profile);
        let ended = fixture.launch(arguments).ended(LONG);
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
        assert!(!fixture.run().exists());
    };
    for accelerator in ["tcg", "kvm"] {
        let arguments = ["--accelerator", accelerator];
        check(
            attest::Profile::Cpu,
            &arguments,
            "runs as a TDX trust domain or not at all",
        );
    }
    check(
        attest::Profile::Cpu,
        &["--simulate"],
        "runs as a TDX trust domain or not at all",
    );
    check(
        attest::Profile::Sim,
        &["--simulate", "--vsock", "kernel"],
        "--simulate needs --vsock user",
    );
    check(
        attest::Profile::Sim,
        &["--accelerator", "tdx"],
        "cannot run as a trust domain",
    );
}

/// A host with an H100 that can be passed, as files.
fn with_gpu(fixture: &Fixture) -> String {
    let (host, gpu) = (
        fixture.path("host"),
        "host/sys/bus/pci/devices/0000:17:00.0",
    );
    let device = fixture.path(gpu);
    for made in [
        device.join("iommu_group/devices"),
        device.join("vfio-dev/vfio0"),
        host.join("dev/vfio/devices"),
    ] {
        std::fs::create_dir_all(made).expect("made");
    }
    for (name, text) in [
        (device.join("vendor"), "0x10de\n"),
        (device.join("device"), "0x2330\n"),
        (device.join("class"), "0x030200\n"),
        (host.join("dev/iommu"), ""),
        (host.join("dev/vfio/devices/vfio0"), ""),
    ] {
        std::fs::write(name, text).expect("written");
    }
    std::os::unix::fs::symlink("/nowhere/vfio-pci", device.join("driver")).expect("a link");
    host.display().to_string()
}

#[test]
fn a_dry_run_prints_the_machine_with_the_gpu_and_starts_nothing() {
    let Some(fixture) = fixture("boots") else {
        return;
    };
    let host = with_gpu(&fixture);
    fixture.write_manifest(attest::Profile::H100);
    let mut config: serde_json::Value = fixture.json("guest.json");
    (config["profile"], config["gpu"]) = ("h100".into(), true.into());
    std::fs::write(fixture.path("guest.json"), config.to_string()).expect("written");
    let run = |gpu: &[&str]| {
        let fixed = ["--dry-run", "--accelerator", "tdx", "--vsock", "kernel"];
        let arguments = [&fixed[..], &["--host-root", &host], gpu].concat();
        fixture.launch(&arguments).ended(LONG)
    };
    let refused = run(&[]);
    assert!(
        refused.stderr.contains("name it with --gpu"),
        "{}",
        refused.stderr
    );
    let refused = run(&["--gpu", "0000:18:00.0"]);
    assert!(
        refused.stderr.contains("no PCI device 0000:18:00.0"),
        "{}",
        refused.stderr
    );
    assert!(!fixture.run().exists());
    assert_eq!(run(&["--gpu", "17:00.0"]).code, Some(2));

    let ended = run(&["--gpu", "auto"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let printed: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let words: Vec<String> = serde_json::from_value(printed["qemu"].clone()).expect("words");
    assert_eq!(words[0], fixture.path("qemu").display().to_string());
    let passed = "vfio-pci,host=0000:17:00.0,bus=gpu0,iommufd=iommufd0,romfile=";
    let port = words
        .iter()
        .position(|word| word.starts_with("pcie-root-port,id=gpu0,"));
    let port = port.expect("a root port");
    assert_eq!(words[port + 2], passed);
    // The machine whose tables a manifest of this image was made with.
    let size = predict::qemu::MachineSize {
        vcpus: 1,
        memory_mib: 64,
    };
    let qemu = predict::acpi::Qemu::V11_1_3;
    let shape = predict::acpi::Shape::from_arguments(qemu, &words[1..]).expect("a machine");
    let mut expected = predict::qemu::launched_shape(attest::Profile::H100, size, qemu);
    expected
        .slots
        .insert(4, predict::acpi::Slot::PortWithPassed { reserved_gib: 0 });
    assert_eq!(shape, expected);
    assert!(fixture.sockets().is_empty());
    assert!(!fixture.path("run/qemu.arguments").exists());
    let ended = fixture
        .launch(&["--gpu", "auto", "--dry-run", "--accelerator", "tcg"])
        .ended(LONG);
    let only = "runs as a TDX trust domain or not at all";
    assert!(ended.stderr.contains(only), "{}", ended.stderr);
}

#[test]
fn misuse_and_unusable_files_are_told_apart() {
    let Some(fixture) = fixture("boots") else {
        return;
    };
    for arguments in [
        ["--cid", "2"],
        ["--accelerator", "sev"],
        ["--boot-timeout-s", "0"],
        ["--fast", "1"],
    ] {
        assert_eq!(
            fixture.launch(&arguments).ended(LONG).code,
            Some(2),
            "{arguments:?}"
        );
    }
    let gone = r#"{"programs":{"qemu":{"run":["/nowhere/image-builder","run"],"program":"/usr/bin/qemu"}}}"#;
    let treeless = r#"{"programs":{"qemu":{"run":["/bin/true","--tree","/nowhere/tree"],"program":"/usr/bin/qemu"}}}"#;
    let fileless = r#"{"programs":{"qemu":{"run":["/bin/true","--read","/nowhere/rom=/rom"],"program":"/usr/bin/qemu"}}}"#;
    for (file, text, expected) in [
        (
            "tools.json",
            treeless,
            "programs.qemu: /nowhere/tree is not on this host (any more); write the file again",
        ),
        (
            "tools.json",
            fileless,
            "programs.qemu: /nowhere/rom is not on this host",
        ),
        // A builder that is no more is not the accelerator's fault.
        (
            "tools.json",
            gone,
            "programs.qemu: /nowhere/image-builder is not a program on this host",
        ),
        ("guest.json", "version: 1", "does not parse"),
        ("tools.json", "{\"programs\":{}}", "has no qemu"),
        (
            "image/manifest.json",
            "{}",
            "the image manifest is not valid",
        ),
    ] {
        let path = fixture.path(file);
        let before = std::fs::read(&path).expect("read");
        std::fs::write(&path, text).expect("written");
        let ended = fixture.launch(&[]).ended(LONG);
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
        std::fs::write(&path, before).expect("written");
    }
    assert_eq!(fixture.check(&["--root"]).code, Some(2));
    let bare = fixture.path("bare");
    std::fs::create_dir(&bare).expect("made");
    let ended = fixture.check(&[
        "--json",
        "--root",
        bare.to_str().expect("text"),
        "--qemu",
        "/nonexistent",
    ]);
    assert_eq!(ended.code, Some(1));
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(report["ready"], false);
    assert_eq!(report["items"].as_array().expect("a list").len(), 10);
}
