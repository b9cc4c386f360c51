//! A machine as a file, and as a command line of QEMU: what is read, and what is refused by name.

use std::fs;

use crate::common::{json, run};
use predict::{
    acpi::{CommandLineError, Qemu, Serial, Shape, ShapeError, Slot, acpi_files},
    qemu::{MachineSize, guest_shape},
};
use registers::Digest48;

const SIZE: MachineSize = MachineSize {
    vcpus: 4,
    memory_mib: 4096,
};

fn with_every_device() -> Shape {
    let mut shape = guest_shape(SIZE, Qemu::V11_1_3, true);
    shape.slots.extend([
        (1, Slot::Plain),
        (4, Slot::Port),
        (
            5,
            Slot::PortWith {
                bar_gib: 128,
                more_mib: 48,
            },
        ),
    ]);
    shape
}

#[test]
fn a_shape_survives_its_file() {
    let plain = Shape::new(Qemu::V10_0_13, 1, 2100);
    for shape in [
        guest_shape(SIZE, Qemu::V10_0_13, false),
        with_every_device(),
        plain,
    ] {
        let bytes = shape.to_json();
        assert_eq!(Shape::from_json(&bytes).unwrap(), shape);
        assert_eq!(Shape::from_json(&bytes).unwrap().to_json(), bytes);
    }
}

/// The example that the pages show.
#[test]
fn the_documented_shape_is_one() {
    let page = include_str!("../../../docs/measurements.md");
    let (_, rest) = page.split_once("```json shape\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let shape = Shape::from_json(example.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(shape.to_json()).unwrap(), example);
    acpi_files(&shape).unwrap();
}

#[test]
fn a_shape_that_is_not_exact_is_refused() {
    let good = String::from_utf8(with_every_device().to_json()).unwrap();
    let refusal = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        Shape::from_json(good.replacen(from, to, 1).as_bytes()).unwrap_err()
    };
    let json = |error: &ShapeError| matches!(error, ShapeError::Json(_));
    for (from, to) in [
        ("\"hpet\": true,", ""),
        ("\"hpet\": true,", "\"hpet\": true, \"hpet\": true,"),
        ("\"hpet\": true,", "\"hpet\": true, \"numa\": 2,"),
        ("\"hpet\": true", "\"hpet\": \"on\""),
        ("\"vcpus\": 4", "\"vcpus\": -4"),
        ("\"vcpus\": 4", "\"vcpus\": 4294967296"),
        ("\"serial\": \"isa\"", "\"serial\": \"usb\""),
        ("\"slot\": 1", "\"slot\": 256"),
        ("\"slot\": 1", "\"slot\": 1, \"bar\": 2"),
        ("\"device\": \"plain\"", "\"device\": \"iommu\""),
    ] {
        assert!(json(&refusal(from, to)), "{to}");
    }
    let size = |field, unit, got: &str| ShapeError::Size {
        field,
        unit,
        got: got.into(),
    };
    assert_eq!(refusal("\"4G\"", "\"4096\""), size("memory", "MiB", "4096"));
    assert_eq!(refusal("\"4G\"", "\"1K\""), size("memory", "MiB", "1K"));
    assert_eq!(refusal("\"4G\"", "\"0x1G\""), size("memory", "MiB", "0x1G"));
    assert_eq!(
        refusal("\"32G\"", "\"33M\""),
        size("pci_hole64", "GiB", "33M")
    );
    assert_eq!(refusal("\"128G\"", "\"\""), size("largest_bar", "GiB", ""));
    assert_eq!(
        refusal("\"version\": 1", "\"version\": 2"),
        ShapeError::Version { got: 2 }
    );
    assert_eq!(refusal("46", "52"), ShapeError::AddressBits { got: 52 });
    assert_eq!(
        refusal("\"slot\": 5", "\"slot\": 4"),
        ShapeError::SameSlot { slot: 4 }
    );
    let version = refusal("11.1.3", "11.1.4").to_string();
    assert!(
        version.contains("\"11.1.4\" were never compared"),
        "{version}"
    );
    let max = predict::limits::SHAPE_BYTES_MAX;
    let long = format!("{good}{}", " ".repeat(max + 1 - good.len()));
    assert_eq!(
        Shape::from_json(long.as_bytes()),
        Err(ShapeError::TooLong { got: max + 1, max })
    );
}

#[test]
fn no_damaged_shape_ends_the_program() {
    let good = with_every_device().to_json();
    for at in 0..good.len() {
        assert!(at + 1 == good.len() || Shape::from_json(&good[..at]).is_err());
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let _ = Shape::from_json(&bad);
        }
    }
}

#[test]
fn versions_are_those_compared_and_no_others() {
    for (text, expected) in [
        ("10.0.13", Some(Qemu::V10_0_13)),
        ("1:10.0.13+ds-0+deb13u1", Some(Qemu::V10_0_13)),
        ("1:11.1.3+ds-1~bpo13+1", Some(Qemu::V11_1_3)),
        ("9.2.1", Some(Qemu::V9_2_1)),
        ("10.2.1", Some(Qemu::V10_2_1)),
        ("10.0.12", None),
        ("10.0", None),
        ("10.0.130", None),
        ("11.1.3~rc1", None),
        ("", None),
    ] {
        assert_eq!(Qemu::parse(text).ok(), expected, "{text}");
    }
    for version in Qemu::ALL {
        assert_eq!(Qemu::parse(version.as_str()), Ok(version));
    }
}

const BASE: &str = "-nodefaults -machine q35,smm=off,pic=off -cpu host -smp 4 -m 4G";

fn read(more: &str) -> Result<Shape, CommandLineError> {
    Shape::from_command_line(Qemu::V10_0_13, &format!("{BASE} {more}"))
}

#[test]
fn a_command_line_is_read_as_qemu_reads_it() {
    let mut shape = guest_shape(SIZE, Qemu::V10_0_13, false);
    shape.serial = Serial::Absent;
    shape.slots.clear();
    assert_eq!(read("").unwrap(), shape);
    let same = [
        "-accel kvm -name \"a guest, with -numa in its name\" -append 'console=hvc0 -device'",
        "-display none -vga none -monitor none -object iothread,id=io0 -serial none",
        "-netdev user,id=n0 -drive file=a,if=none,id=d0 -blockdev driver=null-co,node-name=x",
    ];
    for more in same {
        assert_eq!(read(more).unwrap(), shape, "{more}");
    }
    let lines = format!(
        "/usr/bin/qemu-system-x86_64 \\\n {}\n",
        BASE.replace(" -", " \\\n  --")
    );
    let typed = Shape::from_command_line(Qemu::V10_0_13, &lines);
    assert_eq!(typed.unwrap(), shape);

    let slots = |more: &str| read(more).unwrap().slots.into_iter().collect::<Vec<_>>();
    assert_eq!(
        slots(
            "-device virtio-net-pci,addr=0x1 -device virtio-blk-pci,drive=a -device e1000,addr=1e.0"
        ),
        [(1, Slot::Virtio), (2, Slot::Virtio), (30, Slot::Plain)]
    );
    let gpu =
        "-device pcie-root-port,id=p0,bus=pcie.0,chassis=0 -device pci-testdev,membar=128G,bus=p0";
    let behind = Slot::PortWith {
        bar_gib: 128,
        more_mib: 0,
    };
    assert_eq!(slots(gpu), [(1, behind)]);
    let numbers = Shape::from_command_line(
        Qemu::V10_0_13,
        "-nodefaults -M pc-q35-9.2,hpet=off -cpu max,phys-bits=52,-avx512f,pmu=off -m size=2048 \
        -smp cpus=2,maxcpus=8,sockets=1,cores=8,threads=1 -global q35-pcihost.pci-hole64-size=0x100000000000",
    )
    .unwrap();
    assert_eq!(
        (numbers.vcpus, numbers.vcpus_max, numbers.memory_mib),
        (2, 8, 2048)
    );
    assert_eq!(
        (numbers.hpet, numbers.smm, numbers.pci_hole64_gib),
        (false, true, 16 * 1024)
    );
}

#[test]
fn what_a_command_line_has_and_nobody_compared_is_refused_by_name() {
    for (more, named) in [
        ("-numa node,mem=2G", "-numa"),
        ("-smbios type=1,serial=x", "-smbios"),
        ("-fw_cfg name=opt/x,string=y", "-fw_cfg"),
        ("-acpitable file=x", "-acpitable"),
        ("-no-hpet", "-no-hpet"),
        ("stray", "stray"),
        ("-append", "-append"),
        ("-vga std", "std"),
        ("-nic user", "user"),
        ("-drive file=a,if=pflash", "if=pflash"),
        ("-drive file=a", "no if"),
        (
            "-object acpi-generic-initiator,id=g",
            "acpi-generic-initiator",
        ),
        ("-global PIIX4_PM.disable_s3=1", "PIIX4_PM.disable_s3=1"),
        (
            "-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=maybe",
            "maybe",
        ),
        ("-global q35-pcihost.pci-hole64-size=1M", "1M"),
        ("-device intel-iommu", "intel-iommu"),
        ("-device vmgenid", "vmgenid"),
        ("-device pc-dimm,memdev=m", "pc-dimm"),
        ("-device vfio-pci,host=01:00.0", "vfio-pci"),
        ("-device virtio-gpu-pci", "virtio-gpu-pci"),
        ("-device virtio-vga", "virtio-vga"),
        ("-device tpm-tis,tpmdev=t", "tpm-tis"),
        ("-device pxb-pcie,bus_nr=9", "pxb-pcie"),
        ("-device pci-testdev,membar=1G", "pci-testdev on pcie.0"),
        ("-device virtio-net-pci,bus=p7", "virtio-net-pci on p7"),
        ("-device virtio-net-pci,acpi-index=1", "acpi-index=1"),
        (
            "-device virtio-net-pci,multifunction=on",
            "multifunction=on",
        ),
        ("-device virtio-net-pci,addr=0x2.1", "addr=0x2.1"),
        ("-device virtio-net-pci,addr=0", "addr=0"),
        ("-device virtio-net-pci,addr=0x1f", "addr=0x1f"),
        (
            "-device virtio-net-pci,addr=2 -device e1000,addr=2",
            "addr=2",
        ),
        ("-device pcie-root-port,id=a,hotplug=off", "hotplug=off"),
        (
            "-device pcie-root-port,id=a,addr=5 -device pcie-root-port,id=b,addr=4",
            "earlier port",
        ),
        (
            "-device pcie-root-port,id=a -device pcie-root-port,id=a",
            "name of a port",
        ),
        ("-device '{\"driver\":\"e1000\"}'", "-device"),
        ("-serial null -serial null", "a serial port"),
        ("-serial none -serial null", "a serial port"),
        (
            "-object '{\"qom-type\":\"acpi-generic-initiator\",\"id\":\"g\"}'",
            "-object",
        ),
        ("-serial null -device isa-serial,chardev=c", "a serial port"),
        ("-m 2G", "-m"),
        ("-cpu max,phys-bits=46", "-cpu"),
    ] {
        let refusal = read(more).unwrap_err().to_string();
        assert!(refusal.contains(named), "{more}: {refusal}");
    }
    for (from, to, named) in [
        ("-nodefaults", "", "-nodefaults"),
        ("-m 4G", "", "-m is missing"),
        ("-machine q35,smm=off,pic=off", "", "-machine is missing"),
        ("-cpu host", "", "-cpu is missing"),
        ("q35", "pc", "\"pc\""),
        ("q35", "pc-q35-11.1", "pc-q35-11.1"),
        ("smm=off", "smm=auto", "smm=auto"),
        ("smm=off", "nvdimm=on", "nvdimm=on"),
        ("smm=off", "acpi=off", "acpi=off"),
        ("smm=off", "kernel-irqchip=on", "kernel-irqchip=on"),
        (
            "smm=off",
            "confidential-guest-support=tdx0",
            "smm=off is missing",
        ),
        ("smm=off", "smm=off,smm=on", "smm of -machine"),
        ("-cpu host", "-cpu max", "without phys-bits"),
        ("-cpu host", "-cpu max,phys-bits=40", "phys-bits=40"),
        ("-cpu host", "-cpu host,-pdpe1gb", "-pdpe1gb"),
        ("-cpu host", "-cpu EPYC,phys-bits=48", "EPYC"),
        ("-smp 4", "-smp 4,sockets=2", "sockets=2"),
        ("-smp 4", "-smp 4,threads=2", "threads=2"),
        ("-smp 4", "-smp 4,cores=2", "cores=2"),
        ("-smp 4", "-smp +4", "+4"),
        ("-m 4G", "-m 4G,slots=2,maxmem=8G", "slots=2"),
        ("-m 4G", "-m 4.5G", "4.5G"),
    ] {
        let line = BASE.replacen(from, to, 1);
        let refusal = Shape::from_command_line(Qemu::V10_0_13, &line)
            .unwrap_err()
            .to_string();
        assert!(refusal.contains(named), "{line}: {refusal}");
    }
    assert_eq!(read("-append 'x"), Err(CommandLineError::Quote));
    let long = format!(
        "-append {}",
        "x".repeat(predict::limits::QEMU_COMMAND_BYTES_MAX)
    );
    assert!(matches!(
        read(&long),
        Err(CommandLineError::TooLong { what: "bytes", .. })
    ));
    let many = vec!["-S"; predict::limits::QEMU_COMMAND_WORDS_MAX + 1];
    let many = Shape::from_arguments(Qemu::V10_0_13, &many);
    assert!(matches!(
        many,
        Err(CommandLineError::TooLong { what: "words", .. })
    ));
}

/// The machine of which two other tools give the whole RTMR0, from its command line to its register.
#[test]
fn a_command_line_leads_to_the_register_that_two_other_tools_say() {
    let firmware = crate::common::vectors().join("firmware/ovmf-2025.02-8+deb13u1.fd");
    if crate::common::vector("firmware/ovmf-2025.02-8+deb13u1.fd").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let line = "-nodefaults -serial null -cpu qemu64,phys-bits=46 \
        -machine q35,kernel-irqchip=split,hpet=off,smm=off,pic=off -smp 4 -m 2048M";
    let translated = [
        "shape",
        "--qemu",
        "10.0.13",
        "--out",
        "shape.json",
        "--from-qemu",
        line,
    ];
    assert_eq!(run(directory.path(), &translated).status.code(), Some(0));
    let predicted = ["predict", "--shape", "shape.json", "--json", "--firmware"];
    let predicted = [&predicted[..], &[firmware.to_str().unwrap()]].concat();
    let printed = json(&run(directory.path(), &predicted));
    let expected = "252f61b41c0c2560d1fd737b5932fcc0961e7e94a28e702972843afea4bd354ce997c13cba801a16faf18c921cec4474";
    assert_eq!(printed["rtmr0"], expected);
}

#[test]
fn the_program_writes_a_shape_and_the_files_of_its_machine() {
    let directory = tempfile::tempdir().unwrap();
    let line = format!(
        "{BASE} -device virtio-blk-pci,addr=2 -device virtio-blk-pci,addr=0xc -device virtio-rng-pci -device isa-serial,chardev=c"
    );
    let line = line.replace("virtio-rng-pci", "virtio-rng-pci,addr=3");
    let translated = run(
        directory.path(),
        &[
            "shape",
            "--qemu",
            "10.0.13",
            "--from-qemu",
            &line,
            "--out",
            "shape.json",
        ],
    );
    assert_eq!(translated.status.code(), Some(0), "{translated:?}");
    let expected = guest_shape(SIZE, Qemu::V10_0_13, false);
    assert!(fs::read(directory.path().join("shape.json")).unwrap() == expected.to_json());

    fs::write(directory.path().join("line.txt"), &line).unwrap();
    let from_file = ["shape", "--qemu", "10.0.13", "--from-qemu-file", "line.txt"];
    assert!(run(directory.path(), &from_file).stdout == expected.to_json());

    let files = acpi_files(&expected).unwrap();
    let by_shape = ["acpi", "--shape", "shape.json", "--out", "one", "--json"];
    let printed = json(&run(directory.path(), &by_shape));
    let by_size = ["acpi", "--vcpus", "4", "--memory", "4G", "--out", "two"];
    let people = String::from_utf8(run(directory.path(), &by_size).stdout).unwrap();
    for (fw_cfg, name) in [
        ("etc/acpi/tables", "tables"),
        ("etc/acpi/rsdp", "rsdp"),
        ("etc/table-loader", "table-loader"),
    ] {
        for out in ["one", "two"] {
            assert!(fs::read(directory.path().join(out).join(name)).unwrap() == files[fw_cfg]);
        }
        let digest = Digest48::of(&files[fw_cfg]).to_string();
        assert!(people.contains(&format!("{digest}  {name}\n")));
        let listed = printed["files"].as_array().unwrap();
        assert!(
            listed
                .iter()
                .any(|file| file["sha384"] == digest && file["file"] == name)
        );
    }

    let refused = |arguments: &[&str]| run(directory.path(), arguments).status.code();
    assert_eq!(refused(&by_size), Some(1), "the directory is not empty");
    assert_eq!(
        refused(&["acpi", "--vcpus", "500", "--memory", "4G", "--out", "three"]),
        Some(1)
    );
    assert_eq!(
        refused(&[
            "acpi", "--vcpus", "4", "--memory", "4G", "--qemu", "8.2.2", "--out", "three"
        ]),
        Some(1)
    );
    assert_eq!(refused(&["acpi", "--out", "three"]), Some(1));
    assert_eq!(
        refused(&["acpi", "--vcpus", "4", "--out", "three"]),
        Some(2)
    );
    assert_eq!(
        refused(&[
            "acpi",
            "--shape",
            "shape.json",
            "--vcpus",
            "4",
            "--memory",
            "4G",
            "--out",
            "three"
        ]),
        Some(2)
    );
    assert_eq!(
        refused(&["shape", "--qemu", "10.0.13", "--from-qemu", "-numa x"]),
        Some(1)
    );
    assert_eq!(refused(&["shape", "--qemu", "10.0.13"]), Some(2));
    assert!(!directory.path().join("three").exists());
}
