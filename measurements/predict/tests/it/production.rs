//! Production machines of QEMU 10.1.0: their tables by every byte, and their RTMR0.

use crate::common::{gunzip, platform, vector};
use predict::{
    acpi::{AcpiError, Qemu, Serial, Shape, Slot, acpi_files, words},
    replay, rtmr0,
};
use registers::Register;

const DIRECTORY: &str = "acpi/tinfoil-qemu-10.1.0";

/// One line of the index, which says what the machine has and the register that it gave.
struct Case {
    name: String,
    line: String,
    rtmr0: String,
}

impl Case {
    /// The machine as a command line, its devices in the index's order.
    fn read(line: &str) -> Case {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, vcpus, memory) = (words[0], words[1], words[2]);
        let disks: usize = words[3].parse().unwrap();
        let mut made = format!(
            "-nodefaults -machine q35,kernel_irqchip=split,smm=off,pic=off -cpu host,phys-bits=46 \
             -smp {vcpus} -m {memory} -global q35-pcihost.pci-hole64-size={} \
             -device e1000,netdev=net0,addr=0x2,romfile= -device virtio-serial-pci",
            words[5]
        );
        for _ in 0..disks {
            made += " -device virtio-scsi-pci,disable-legacy=on,iommu_platform=true";
        }
        made += &ports(words[4]);
        Case {
            name: name.into(),
            line: made,
            rtmr0: words.last().unwrap().to_string(),
        }
    }

    fn shape(&self) -> Shape {
        Shape::from_command_line(Qemu::V10_1_0, &self.line).unwrap()
    }
}

/// Root ports, each with a passed-through device.
fn ports(profile: &str) -> String {
    let (count, gpus) = match profile {
        "none" => return String::new(),
        "single" => {
            return " -device pcie-root-port,id=p0,slot=1,pref64-reserve=512G \
                    -device vfio-pci,host=01:00.0,bus=p0"
                .into();
        }
        "blackwell" => (8, 8),
        "hopper" => (12, 8),
        other => panic!("{other}"),
    };
    let mut made = String::new();
    for index in 0..count {
        let (slot, function) = (0x16 + index / 8, index % 8);
        let several = if function == 0 {
            ",multifunction=on"
        } else {
            ""
        };
        let (port, chassis) = (16 + index, 1 + index);
        made += &format!(
            " -device pcie-root-port,port={port},chassis={chassis},id=p{index},bus=pcie.0{several},addr={slot:#x}.{function} \
             -device vfio-pci,host=01:00.0,bus=p{index}"
        );
    }
    for gpu in 1..=gpus {
        made += &format!(" -fw_cfg name=opt/ovmf/X-PciMmio64Mb{gpu},string=262144");
    }
    made
}

fn cases() -> Vec<Case> {
    let Some(index) = vector(&format!("{DIRECTORY}/index.txt")) else {
        return Vec::new();
    };
    let index = String::from_utf8(index).unwrap();
    let lines = index.lines().filter(|line| !line.starts_with('#'));
    let cases: Vec<Case> = lines.map(Case::read).collect();
    assert_eq!(cases.len(), 7);
    cases
}

#[test]
fn production_machines_have_qemus_tables_and_their_rtmr0() {
    for case in cases() {
        let (name, shape) = (&case.name, case.shape());
        let files = acpi_files(&shape).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (file, dump) in [
            ("etc/acpi/tables", "acpi_tables"),
            ("etc/acpi/rsdp", "rsdp"),
            ("etc/table-loader", "table_loader"),
        ] {
            let dump = vector(&format!("{DIRECTORY}/{name}/{dump}.bin.gz")).unwrap();
            assert!(gunzip(&dump) == files[file], "{name}: {file}");
        }
        let firmware = vector("firmware/ovmf-2025.02-3ubuntu2.fd").unwrap();
        let events = rtmr0(&platform(&firmware, shape.memory_mib), &files).unwrap();
        let rtmr0 = replay(Register::Rtmr0, &events).to_string();
        assert_eq!(rtmr0, case.rtmr0, "{name}");
        assert_eq!(Shape::from_json(&shape.to_json()).unwrap(), shape, "{name}");
    }
}

type Change = fn(&mut Shape);

/// Eight GPUs and four switches, or one GPU behind a port that reserves.
fn machine(profile: &str) -> Shape {
    Case::read(&format!("made 16 65536M 3 {profile} 4096G -")).shape()
}

#[test]
fn neighbours_of_production_machines_are_refused_by_name() {
    let large: [(Change, &str); 13] = [
        (
            |shape| (shape.vcpus, shape.vcpus_max) = (33, 33),
            "QEMU 10.1.0 and more than 32 processors",
        ),
        (
            |shape| shape.vcpus = 15,
            "QEMU 10.1.0 and room for more processors",
        ),
        (
            |shape| shape.memory_mib = 512 * 1024 + 1,
            "more than 512 GiB of memory",
        ),
        (|shape| shape.hpet = false, "QEMU 10.1.0 and hpet=off"),
        (|shape| shape.smm = true, "QEMU 10.1.0 and smm=on"),
        (|shape| shape.pic = true, "QEMU 10.1.0 and pic=on"),
        (
            |shape| shape.serial = Serial::Added,
            "QEMU 10.1.0 and a serial port",
        ),
        (|shape| shape.tpm = true, "QEMU 10.1.0 and a TPM"),
        (
            |shape| shape.pci_hole64_gib = 2048,
            "QEMU 10.1.0 and a PCI hole other than 4096 GiB",
        ),
        (
            |shape| put(shape, 9, Slot::Port),
            "QEMU 10.1.0 and a port without a passed-through device",
        ),
        (
            |shape| _ = shape.functions.insert((0x17, 4), PASSED),
            "QEMU 10.1.0 and more than twelve root ports",
        ),
        (
            |shape| put(shape, 0x16, RESERVING),
            "a port's reserve and further root ports",
        ),
        (
            |shape| shape.qemu = Qemu::V10_0_13,
            "a passed-through device and a QEMU other than 10.1.0",
        ),
    ];
    for (change, what) in large {
        refused(machine("hopper"), change, what);
    }
    let single: [(Change, &str); 3] = [
        (
            |shape| shape.memory_mib = 254 * 1024 + 1,
            "a port's reserve and more than 254 GiB of memory",
        ),
        (
            |shape| put(shape, 6, Slot::PortWithPassed { reserved_gib: 256 }),
            "QEMU 10.1.0 and a port's reserve other than 512 GiB",
        ),
        (
            |shape| put(shape, 6, PASSED),
            "QEMU 10.1.0 and one root port without a reserve of 512 GiB",
        ),
    ];
    for (change, what) in single {
        refused(machine("single"), change, what);
    }
}

fn put(shape: &mut Shape, slot: u8, device: Slot) {
    shape.slots.insert(slot, device);
}

fn refused(mut shape: Shape, change: Change, what: &'static str) {
    assert!(acpi_files(&shape).is_ok());
    change(&mut shape);
    assert_eq!(acpi_files(&shape), Err(AcpiError::Unproven(what)));
}

const PASSED: Slot = Slot::PortWithPassed { reserved_gib: 0 };
const RESERVING: Slot = Slot::PortWithPassed { reserved_gib: 512 };

#[test]
fn functions_need_a_slot_and_a_number() {
    for (place, what) in [
        ((0x18, 1), "a slot that has no function 0"),
        ((0x16, 0), "a function other than 0 to 7"),
        ((0x16, 8), "a function other than 0 to 7"),
    ] {
        let mut shape = machine("hopper");
        shape.functions.insert(place, PASSED);
        assert_eq!(acpi_files(&shape), Err(AcpiError::Impossible(what)));
    }
}

/// Every word left out or said twice: a shape, or a reason.
#[test]
fn lines_near_a_production_machines_never_panic() {
    let line = Case::read("made 16 65536M 3 hopper 4096G -").line;
    let all = words(&line).unwrap();
    for index in 0..all.len() {
        let mut fewer = all.clone();
        let word = fewer.remove(index);
        let mut more = all.clone();
        more.insert(index, word);
        for arguments in [fewer, more] {
            if let Ok(shape) = Shape::from_arguments(Qemu::V10_1_0, &arguments) {
                let _: Result<_, AcpiError> = acpi_files(&shape);
            }
        }
    }
}

#[test]
fn settings_that_move_the_window_are_refused() {
    let line = Case::read("made 16 65536M 3 hopper 4096G -").line;
    for more in [
        "-fw_cfg name=opt/ovmf/X-PciMmio64Mb,string=262144",
        "-fw_cfg name=opt/ovmf/X-PciMmio64Mb0,string=262144",
        "-fw_cfg name=opt/other,string=1",
        "-device pcie-root-port,id=q,addr=0x18.1",
        "-device pcie-root-port,id=q,addr=0x17.3",
        "-device pcie-root-port,id=q,addr=0x17.8",
        "-device pcie-root-port,id=q,addr=0x18,pref64-reserve=512G",
        "-device vfio-pci,host=02:00.0",
        "-device virtio-rng-pci,addr=0x17.4",
    ] {
        let line = format!("{line} {more}");
        assert!(
            Shape::from_command_line(Qemu::V10_1_0, &line).is_err(),
            "{more}"
        );
    }
}
