//! An image in many machines: the set as it is predicted, as a file, and as what a quote is matched with.

use std::{fs, path::Path};

use crate::common::{image::image, json, made, platform, run};
use diagnose::{Devices, MachineSet, MachineSetError};
use predict::{
    acpi::{Qemu, Shape, acpi_files},
    qemu::{Accelerator, Backends, MachineSize, Vsock, guest_shape, qemu_arguments},
    replay, rtmr0,
};
use registers::{Digest48, Register, Registers};

/// Two versions of QEMU, two sizes each way.
fn set_of(directory: &Path) -> MachineSet {
    let arguments = [
        "predict-set",
        "--manifest",
        "manifest.json",
        "--vcpus",
        "2,4",
        "--memory",
        "2G,4G",
        "--out",
        "set.json",
        "--json",
    ];
    let output = run(directory, &arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, fs::read(directory.join("set.json")).unwrap());
    MachineSet::from_json(&output.stdout).unwrap()
}

#[test]
fn a_set_has_every_machine_that_is_asked_for_and_its_rtmr0() {
    let (directory, manifest) = image();
    let set = set_of(directory.path());
    assert_eq!(set.machines().len(), 8);
    assert_eq!(set.image_sha256, manifest.digest());
    let firmware = made::firmware();
    for (machine, expected) in set.machines() {
        assert_eq!(
            machine.devices,
            Devices::GuestWithTpm,
            "that of a simulated image"
        );
        let size = MachineSize {
            vcpus: machine.vcpus,
            memory_mib: machine.memory_mib,
        };
        let tables = acpi_files(&guest_shape(size, machine.qemu, true)).unwrap();
        let events = rtmr0(&platform(&firmware, machine.memory_mib), &tables).unwrap();
        assert_eq!(expected, replay(Register::Rtmr0, &events), "{machine}");
    }
    let application = Digest48::of(b"application");
    let registers = set.registers(application);
    assert_eq!(set.policy(application).registers, registers);
    for (index, one) in registers.iter().enumerate() {
        assert!(registers[..index].iter().all(|other| other != one));
        let stated = manifest.registers;
        assert_eq!(
            (one.mrtd, one.rtmr[1], one.rtmr[2]),
            (stated.mrtd, stated.rtmr1, stated.rtmr2)
        );
        assert_eq!(one.rtmr[3], application);
    }
    let people = [
        "predict-set",
        "--manifest",
        "manifest.json",
        "--vcpus",
        "2",
        "--memory",
        "2G",
        "--devices",
        "guest",
    ];
    let people = String::from_utf8(run(directory.path(), &people).stdout).unwrap();
    assert_eq!(people.lines().count(), 3 + 2);
    assert!(people.contains("2 vCPUs, 2048 MiB, QEMU 10.0.13"));
}

/// Each GPU of a set is what a stand-in with its BARs is on a command line, whose tables were compared with QEMU's.
#[test]
fn a_set_has_machines_with_gpus_and_says_what_was_not_compared() {
    let (directory, _) = image();
    let names = "guest,guest-with-1-h100";
    let arguments = [
        ["predict-set", "--manifest", "manifest.json", "--json"].as_slice(),
        &["--vcpus", "8", "--memory", "16G", "--devices", names],
    ]
    .concat();
    let output = run(directory.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = json(&output)["not_compared"].clone();
    assert!(
        said.as_str()
            .unwrap()
            .contains("no passed-through GPU was compared")
    );
    let set = MachineSet::from_json(&output.stdout).unwrap();
    assert_eq!(set.machines().len(), 4);
    let firmware = made::firmware();
    for (machine, expected) in set.machines() {
        let gpu = machine.devices == Devices::GuestWithH100;
        let shape = with_stand_ins(machine.qemu, gpu);
        let tables = acpi_files(&shape).unwrap();
        let events = rtmr0(&platform(&firmware, machine.memory_mib), &tables).unwrap();
        assert_eq!(expected, replay(Register::Rtmr0, &events), "{machine}");
    }
    let mut all: Vec<_> = set.machines().map(|(_, rtmr0)| rtmr0).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 4, "a GPU more is another register");
    // A file that keeps it to itself is no set, and neither is one that says it of other machines.
    let written = String::from_utf8(set.to_json()).unwrap();
    let silent = written.replacen(&format!(",\"not_compared\":{said}"), "", 1);
    let without = written.replace("no passed", "Every passed");
    for text in [silent, without] {
        assert_ne!(text, written);
        let refusal = MachineSet::from_json(text.as_bytes()).unwrap_err();
        assert!(
            matches!(refusal, MachineSetError::NotCompared { .. }),
            "{refusal}"
        );
    }
    for (devices, why) in [
        ("guest-with-2-h100", "has one H100"),
        ("guest-with-7-h100", "has one H100"),
        ("guest-with-8-h100", "Protected PCIe"),
        ("guest-with-9-h100", "no list of devices"),
    ] {
        let output = run(directory.path(), &[&arguments[..9], &[devices]].concat());
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(why), "{said}");
    }
}

/// The arguments of a guest, and perhaps a device with a BAR of 128 GiB and a buffer of 48 MiB.
fn with_stand_ins(qemu: Qemu, gpu: bool) -> Shape {
    let size = MachineSize {
        vcpus: 8,
        memory_mib: 16 * 1024,
    };
    let backends = Backends {
        firmware: "/firmware.fd",
        boot: None,
        root: None,
        model: None,
        vsock: Vsock::StandIn,
        gpu: None,
        tpm: None,
        serial: None,
        qmp: &[],
    };
    let mut arguments = qemu_arguments(size, Accelerator::Tdx, &backends);
    if gpu {
        let line = "-device pcie-root-port,id=pci.0,bus=pcie.0,chassis=0,addr=0x4 \
             -object memory-backend-ram,id=bar0,size=128G,share=on,reserve=off \
             -device nvme,serial=s0,bus=pci.0,cmb_size_mb=48,pmrdev=bar0";
        arguments.extend(line.split_whitespace().map(str::to_owned));
    }
    Shape::from_arguments(qemu, &arguments).unwrap()
}

/// One machine that is not proven, and there is no set.
#[test]
fn a_set_that_would_guess_is_refused_by_the_machines_name() {
    let (directory, _) = image();
    let said = |more: &[&str]| {
        let fixed = [
            "predict-set",
            "--manifest",
            "manifest.json",
            "--out",
            "set.json",
        ];
        let output = run(directory.path(), &[&fixed[..], more].concat());
        assert_eq!(output.status.code(), Some(1), "{more:?}");
        assert!(!directory.path().join("set.json").exists());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(
        said(&["--vcpus", "2,201", "--memory", "2G"])
            .contains("201 vCPUs, 2048 MiB, a TPM, QEMU 10.0.13")
    );
    assert!(said(&["--vcpus", "2", "--memory", "1024G"]).contains("more than 512 GiB of memory"));
    assert!(said(&["--vcpus", "2", "--memory", "2G", "--qemu", "8.2.2"]).contains("8.2.2"));
    assert!(
        said(&["--vcpus", "2", "--memory", "2G", "--qemu", "10.2.1"]).contains("one other machine")
    );
    let mut firmware = made::firmware();
    firmware[0x2000] ^= 1;
    fs::write(directory.path().join("firmware.fd"), firmware).unwrap();
    assert!(said(&["--vcpus", "2", "--memory", "2G"]).contains("not the one of the image"));
}

#[test]
fn a_quote_is_matched_to_its_machine_or_to_none() {
    let (directory, _) = image();
    let set = set_of(directory.path());
    let quote = crate::common::Case::simulated(simulator::Flaws::default()).quote;
    let matched = |registers: &Registers| {
        let mut quote = quote.clone();
        // The registers in a version 4 quote: Intel's TDX DCAP quoting library API, appendix 3.
        quote[184..232].copy_from_slice(&registers.mrtd.0);
        for (index, value) in registers.rtmr.iter().enumerate() {
            quote[376 + 48 * index..][..48].copy_from_slice(&value.0);
        }
        // In hexadecimal, as tappd gives it.
        fs::write(directory.path().join("quote.hex"), hex::encode(quote)).unwrap();
        let arguments = [
            "match",
            "--set",
            "set.json",
            "--quote",
            "quote.hex",
            "--json",
        ];
        let output = run(directory.path(), &arguments);
        let printed = json(&output);
        assert_eq!(
            output.status.code(),
            Some(if printed["matches"] == true { 0 } else { 1 })
        );
        (printed, String::from_utf8(output.stderr).unwrap())
    };
    let all = set.registers(Digest48::of(b"any application"));
    for (registers, (machine, _)) in all.iter().zip(set.machines()) {
        let (printed, _) = matched(registers);
        assert_eq!(printed["matches"], true);
        let found = &printed["machines"][0];
        assert_eq!(found["qemu"], machine.qemu.as_str());
        assert_eq!(
            (&found["vcpus"], &found["memory_mib"]),
            (&machine.vcpus.into(), &machine.memory_mib.into())
        );
        assert_eq!(printed["machines"].as_array().unwrap().len(), 1);
    }
    let other = Digest48::of(b"other");
    let of = |change: &dyn Fn(&mut Registers)| {
        let mut registers = all[0];
        change(&mut registers);
        matched(&registers).1
    };
    assert!(of(&|r| r.rtmr[0] = other).contains("its RTMR0 is that of no machine listed"));
    let kernel = of(&|r| r.rtmr[1] = other);
    assert!(
        kernel
            .contains("2 vCPUs, 2048 MiB, a TPM, QEMU 10.0.13, but the kernel (RTMR1) is another"),
        "{kernel}"
    );
    assert!(
        of(&|r| r.rtmr[2] = other).contains("the initrd or the command line (RTMR2) is another")
    );
    let nothing = of(&|r| (r.mrtd, r.rtmr[0]) = (other, other));
    assert!(
        nothing.contains("the firmware (MRTD) is another, and its RTMR0 is that of no machine"),
        "{nothing}"
    );
}

#[test]
fn a_set_that_contradicts_itself_is_refused() {
    let (directory, _) = image();
    let set = set_of(directory.path());
    let good = String::from_utf8(set.to_json()).unwrap();
    let read = |text: &str| MachineSet::from_json(text.as_bytes());
    assert_eq!(read(&good), Ok(set.clone()));
    let lines: Vec<&str> = good.lines().collect();
    assert_eq!(lines.len(), 2 + 8);
    // Another order is the same set.
    let turned = [
        lines[0],
        lines[2],
        ",",
        &lines[1][..lines[1].len() - 1],
        "]}",
    ]
    .join("\n");
    let turned = turned.replacen(",\n,", ",", 1);
    let two: Vec<_> = read(&turned).unwrap().machines().collect();
    assert!(two == set.machines().take(2).collect::<Vec<_>>());

    let twice = good.replacen("\"vcpus\":4", "\"vcpus\":2", 1).replacen(
        "\"memory_mib\":4096",
        "\"memory_mib\":2048",
        1,
    );
    assert!(
        matches!(read(&twice), Err(MachineSetError::Twice { .. })),
        "{twice}"
    );
    assert!(matches!(
        read(&format!("{}]}}", lines[0])),
        Err(MachineSetError::Count { got: 0 })
    ));
    assert!(matches!(
        read(&good.replace("\"version\":1", "\"version\":2")),
        Err(MachineSetError::Version { got: 2 })
    ));
    assert!(matches!(
        read(&good.replacen("10.0.13", "10.0.14", 1)),
        Err(MachineSetError::Qemu(_))
    ));
    let zeros = good.replace(&set.rtmr1.to_string(), &"0".repeat(96));
    assert_eq!(read(&zeros), Err(MachineSetError::Zero));
    for (from, to) in [
        ("\"vcpus\":2", "\"vcpus\":-2"),
        ("\"vcpus\":2", "\"vcpus\":2,\"gpus\":1"),
        ("guest-with-tpm", "guest-with-gpu"),
        ("guest-with-tpm", "guest-with-0-h100"),
        ("guest-with-tpm", "guest-with-8-h100"),
        ("guest-with-tpm", "guest-with-01-h100"),
        ("\"mrtd\":\"", "\"mrtd\":\"A"),
        ("\"mrtd\":", "\"mrtd2\":"),
    ] {
        assert!(
            matches!(
                read(&good.replacen(from, to, 1)),
                Err(MachineSetError::Json(_))
            ),
            "{to}"
        );
    }
    let many = vec![lines[1]; 4097].concat();
    let many = format!("{}{}{}", lines[0], many.trim_end_matches(','), "]}");
    assert!(read(&many).is_err());
    let long = format!("{good}{}", " ".repeat(2 * 1024 * 1024));
    assert!(matches!(read(&long), Err(MachineSetError::TooLong { .. })));
    for at in 0..good.len() {
        assert!(at + 1 == good.len() || read(&good[..at]).is_err());
        let mut bad = good.clone().into_bytes();
        bad[at] ^= 1 << (at % 8);
        let _ = MachineSet::from_json(&bad);
    }
}
