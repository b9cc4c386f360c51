//! The ACPI tables made here against those that QEMU gave its guests.

use std::collections::BTreeMap;

use crate::common::{gunzip, vector};
use predict::{
    PageOrder,
    acpi::{
        AcpiError, AddressWidth, Qemu, Serial, Shape, Slot, acpi_files,
        files::{AcpiFiles, allocated_by},
    },
    mrtd,
    qemu::{Accelerator, Backends, MachineSize, Vsock, guest_shape, qemu_arguments},
    replay, rtmr0,
};
use registers::{Digest48, Register};

const SIZE: MachineSize = MachineSize {
    vcpus: 2,
    memory_mib: 2048,
};
const GRIDS: [(Qemu, &str); 2] = [
    (Qemu::V10_0_13, "acpi/grid-qemu-10.0.13"),
    (Qemu::V11_1_3, "acpi/grid-qemu-11.1.3"),
];
const OTHER_MACHINE: &str = "this version of QEMU, of which one other machine was compared,";
const FILES: [(&str, &str); 3] = [
    ("etc/acpi/tables", "tables"),
    ("etc/acpi/rsdp", "rsdp"),
    ("etc/table-loader", "loader"),
];

/// Whole dumps where they were kept, digests where only those were. What is refused is named.
#[test]
fn the_machines_of_the_grids_have_qemus_tables() {
    let (mut by_digest, mut by_byte) = (0, 0);
    for (qemu, directory) in GRIDS {
        let Some(index) = vector(&format!("{directory}/index.txt")) else {
            return;
        };
        // What every machine of the index has and its lines leave out.
        let common = match qemu {
            Qemu::V10_0_13 => "-nodefaults -serial null -cpu qemu64,phys-bits=46",
            _ => "-nodefaults",
        };
        for case in cases(qemu, common, std::str::from_utf8(&index).unwrap()) {
            let files = case.compare();
            by_digest += 1;
            if let Some(dump) = dump(directory, &case.name) {
                assert!(dump == files, "{}", case.name);
                by_byte += 1;
            }
        }
    }
    println!("{by_digest} machines, {by_byte} of them by every byte");
    assert!(by_digest >= 80 && by_byte >= 35);
}

/// Digests of what QEMU gave machines like our guests, read through its test port while the firmware ran.
#[test]
fn machines_like_our_guests_have_qemus_tables() {
    let indexes = [
        (Qemu::V10_0_13, include_str!("../vectors/acpi-10.0.13.txt")),
        (Qemu::V11_1_3, include_str!("../vectors/acpi-11.1.3.txt")),
    ];
    for (qemu, index) in indexes {
        for case in cases(qemu, "-nodefaults", index) {
            case.compare();
        }
    }
}

/// Read through QEMU's test port while its firmware ran, from the QEMU of the lock file.
#[test]
fn the_machine_of_a_simulated_guest_has_qemus_tables() {
    let dump = AcpiFiles::from([
        (
            "etc/acpi/tables".into(),
            gunzip(include_bytes!("../vectors/acpi-simulated/tables.gz")),
        ),
        (
            "etc/acpi/rsdp".into(),
            gunzip(include_bytes!("../vectors/acpi-simulated/rsdp.gz")),
        ),
        (
            "etc/table-loader".into(),
            gunzip(include_bytes!("../vectors/acpi-simulated/table-loader.gz")),
        ),
        ("etc/tpm/log".into(), vec![0; 64 * 1024]),
    ]);
    let shape = guest_shape(SIZE, Qemu::V10_0_13, true);
    assert!(acpi_files(&shape).unwrap().into_files() == dump);
}

/// The shape is written once more beside the arguments; here it is read from them.
#[test]
fn the_shape_of_a_guest_is_that_of_its_arguments() {
    for tpm in [None, Some("/run/tpm.sock")] {
        let backends = Backends {
            firmware: "/firmware.fd",
            boot: None,
            root: None,
            model: None,
            vsock: Vsock::StandIn,
            gpu: None,
            tpm,
            serial: None,
            qmp: &[],
        };
        for (qemu, accelerator) in [
            (Qemu::V10_0_13, Accelerator::Tcg),
            (Qemu::V11_1_3, Accelerator::Tdx),
        ] {
            let arguments = qemu_arguments(SIZE, accelerator, &backends);
            assert_eq!(
                Shape::from_arguments(qemu, &arguments).unwrap(),
                guest_shape(SIZE, qemu, tpm.is_some())
            );
        }
    }
}

/// Another project's predictor, with tables of two versions of QEMU. The files do not say which: the first has the method of
/// processors that QEMU had before 10, the second that of 10.
#[test]
fn another_predictors_machines_have_qemus_tables() {
    let defaults = "-nodefaults -serial null -machine q35,kernel-irqchip=split,hpet=off,smm=off,pic=off -smp 4 -m 2048M \
        -cpu qemu64,phys-bits=46";
    let defaults = Shape::from_command_line(Qemu::V9_2_1, defaults).unwrap();
    let Some(metadata) = vector("acpi/q35-with-hpet/metadata.json") else {
        return;
    };
    let with_hpet = Shape::from_arguments(Qemu::V10_0_13, &arguments_of(&metadata)).unwrap();
    for (fixture, shape) in [
        ("canonical-defaults", defaults),
        ("q35-with-hpet", with_hpet),
    ] {
        let tables = vector(&format!("acpi/{fixture}/acpi_tables.bin")).unwrap();
        let files = acpi_files(&shape).unwrap();
        assert!(files["etc/acpi/tables"] == tables, "{fixture}");
        // The whole registers, with nothing of the other predictor but its firmware.
        let expected = vector(&format!("acpi/{fixture}/expected.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
        let firmware = vector("firmware/ovmf-2025.02-3ubuntu2.fd").unwrap();
        let platform = crate::common::platform(&firmware, shape.memory_mib);
        let events = rtmr0(&platform, &files).unwrap();
        let rtmr0 = replay(Register::Rtmr0, &events);
        assert_eq!(rtmr0.to_string(), expected["rtmr0"], "{fixture}");
        let mrtd = mrtd(&firmware, PageOrder::SinglePass).unwrap();
        assert_eq!(mrtd.to_string(), expected["mrtd"], "{fixture}");
    }
}

/// The arguments that the other predictor makes of its description.
fn arguments_of(metadata: &[u8]) -> Vec<String> {
    let metadata: serde_json::Value = serde_json::from_slice(metadata).unwrap();
    let config = &metadata["boot_config"];
    let qemu = &config["qemu"];
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let mut arguments = vec![
        "-nodefaults".into(),
        "-smp".into(),
        config["cpus"].to_string(),
    ];
    for (option, value) in [
        ("-m", &config["memory"]),
        ("-machine", &qemu["machine"]),
        ("-cpu", &qemu["cpu"]),
    ] {
        arguments.extend([option.into(), text(value)]);
    }
    for (option, list) in [
        ("-global", "globals"),
        ("-object", "objects"),
        ("-device", "devices"),
    ] {
        let list = qemu[list].as_array().unwrap();
        arguments.extend(
            list.iter()
                .flat_map(|value| [option.to_owned(), text(value)]),
        );
    }
    arguments
}

/// The blob of a live trust domain under QEMU 10.2.1; 10.0.13 made the same of the same machine.
#[test]
fn the_machine_of_a_trust_domain_has_its_tables() {
    let line = "-nodefaults -m 16384M -smp 8,maxcpus=8 -cpu Skylake-Server,phys-bits=46 \
        -machine q35,kernel_irqchip=split,memory-backend=mem0,smm=off,pic=off \
        -global q35-pcihost.pci-hole64-size=4096G -object memory-backend-ram,id=mem0,size=16384M \
        -device e1000,netdev=net0,bus=pcie.0,addr=0x2,romfile= -device virtio-serial-pci,id=vs0 \
        -device virtio-scsi-pci,id=scsi0 -device virtio-scsi-pci,id=scsi1 -device virtio-scsi-pci,id=scsi2";
    for qemu in [Qemu::V10_0_13, Qemu::V10_2_1] {
        let shape = Shape::from_command_line(qemu, line).unwrap();
        let tables = &acpi_files(&shape).unwrap()["etc/acpi/tables"];
        let digest = Digest48::of(tables).to_string();
        assert!(digest.starts_with("66bb50e2") && digest.ends_with("b2492048"));
    }
}

#[test]
fn every_part_of_a_shape_is_in_the_tables() {
    let guest = guest_shape(SIZE, Qemu::V10_0_13, false);
    let with = |change: Change| {
        let mut changed = guest.clone();
        change(&mut changed);
        acpi_files(&changed).unwrap()
    };
    let different = [
        with(|_| {}),
        with(|shape| shape.qemu = Qemu::V11_1_3),
        with(|shape| (shape.vcpus, shape.vcpus_max) = (3, 3)),
        with(|shape| shape.vcpus_max = 3),
        with(|shape| shape.memory_mib += 1),
        with(|shape| shape.hpet = false),
        with(|shape| shape.smm = true),
        with(|shape| shape.pic = true),
        with(|shape| shape.pci_hotplug = false),
        with(|shape| shape.serial = Serial::Absent),
        with(|shape| shape.serial = Serial::Board),
        with(|shape| shape.tpm = true),
        with(|shape| shape.slots = BTreeMap::from([(2, Slot::Virtio), (4, Slot::Virtio)])),
        with(|shape| shape.address_width = AddressWidth::Bits40),
        with(|shape| shape.pci_hole64_gib = 64),
    ];
    for (index, one) in different.iter().enumerate() {
        assert!(
            different[..index].iter().all(|other| other != one),
            "{index}"
        );
    }
}

/// Whatever is asked for: no panic, and what is made hangs together. The script's own checks are those of the predictor.
#[test]
fn any_shape_gives_whole_tables_or_a_reason() {
    let mut bytes = crate::common::random("shapes");
    let mut made = 0;
    for _ in 0..2000 {
        let mut draw = || {
            let mut byte = [0];
            bytes(&mut byte);
            byte[0]
        };
        let shape = drawn(&mut draw);
        let Ok(files) = acpi_files(&shape) else {
            continue;
        };
        made += 1;
        let names = allocated_by(&files["etc/table-loader"]).unwrap();
        assert_eq!(names.len() + 1, files.len());
        assert!(names.iter().all(|name| files.contains_key(name)));
        let tables = &files["etc/acpi/tables"];
        let rsdp = &files["etc/acpi/rsdp"];
        let root = u32::from_le_bytes(rsdp[16..20].try_into().unwrap()) as usize;
        assert_eq!(signatures(tables).last().unwrap(), &(root, *b"RSDT"));
    }
    assert!(made > 200, "{made}");
}

fn drawn(draw: &mut impl FnMut() -> u8) -> Shape {
    let small = [0, 1, 2, 3, 200, 201, u32::MAX];
    let large = [0, 511, 512, 2815, 2816, 4096, 512 * 1024, u64::MAX];
    let slots = [
        Slot::Plain,
        Slot::Virtio,
        Slot::Port,
        Slot::PortWith {
            bar_gib: 128,
            more_mib: 48,
        },
        Slot::PortWith {
            bar_gib: u64::MAX,
            more_mib: u64::MAX,
        },
    ];
    let mut shape = Shape::new(Qemu::V10_0_13, 1, large[usize::from(draw()) % 8]);
    shape.vcpus_max = small[usize::from(draw()) % 7];
    shape.vcpus = small[usize::from(draw()) % 7].min(shape.vcpus_max);
    shape.hpet = draw() & 1 == 0;
    shape.pci_hotplug = draw() & 1 == 0;
    shape.tpm = draw() & 1 == 0;
    shape.pci_hole64_gib = [1, 32, 4096, u64::MAX][usize::from(draw()) % 4];
    for _ in 0..draw() % 6 {
        put(&mut shape, draw() % 32, slots[usize::from(draw()) % 5]);
    }
    shape
}

/// Where each table begins, up to the zeros that fill the file.
fn signatures(tables: &[u8]) -> Vec<(usize, [u8; 4])> {
    let word = |at: usize| -> [u8; 4] { tables[at..at + 4].try_into().unwrap() };
    let mut found = Vec::new();
    let mut at = 0;
    while word(at) != [0; 4] {
        found.push((at, word(at)));
        at += u32::from_le_bytes(word(at + 4)) as usize;
    }
    assert!(tables[at..].iter().all(|byte| *byte == 0));
    found
}

#[test]
fn what_was_never_compared_is_refused_by_name() {
    let refusal = |change: Change| {
        let mut shape = guest_shape(SIZE, Qemu::V10_0_13, false);
        change(&mut shape);
        acpi_files(&shape).unwrap_err()
    };
    let unproven: [(Change, &str); 11] = [
        (|shape| shape.qemu = Qemu::V9_2_1, OTHER_MACHINE),
        (|shape| shape.qemu = Qemu::V10_2_1, OTHER_MACHINE),
        (|shape| shape.vcpus_max = 201, "more than 200 processors"),
        (
            |shape| shape.memory_mib = 511,
            "less than 512 MiB of memory",
        ),
        (
            |shape| shape.memory_mib = 512 * 1024 + 1,
            "more than 512 GiB of memory",
        ),
        (
            |shape| shape.memory_mib = u64::MAX,
            "more than 512 GiB of memory",
        ),
        (
            |shape| shape.pci_hole64_gib = u64::MAX,
            "a PCI hole of more than 16 TiB",
        ),
        (
            |shape| (4..13).for_each(|number| put(shape, number, Slot::Port)),
            "more than eight root ports",
        ),
        (
            |shape| {
                shape.address_width = AddressWidth::Bits40;
                put(shape, 4, behind(1, 0));
            },
            "a device behind a port, and narrow addresses",
        ),
        (
            |shape| put(shape, 4, behind(128, 49)),
            "more than 48 MiB of further BARs behind a port",
        ),
        (
            |shape| put(shape, 4, behind(32, 1)),
            "further BARs beside one of less than 64 GiB",
        ),
    ];
    for (change, what) in unproven {
        assert_eq!(refusal(change), AcpiError::Unproven(what));
    }
    let impossible: [(Change, &str); 6] = [
        (|shape| shape.vcpus = 0, "no processor"),
        (|shape| shape.vcpus = 3, "more processors than there can be"),
        (
            |shape| put(shape, 0, Slot::Virtio),
            "a slot other than 1 to 30",
        ),
        (
            |shape| put(shape, 31, Slot::Virtio),
            "a slot other than 1 to 30",
        ),
        (
            |shape| put(shape, 4, behind(3, 0)),
            "a BAR that is no power of two up to 256 GiB",
        ),
        (|shape| shape.pci_hole64_gib = 0, "no PCI hole"),
    ];
    for (change, what) in impossible {
        assert_eq!(refusal(change), AcpiError::Impossible(what));
    }
}

type Change = fn(&mut Shape);

fn behind(bar_gib: u64, more_mib: u64) -> Slot {
    Slot::PortWith { bar_gib, more_mib }
}

fn put(shape: &mut Shape, number: u8, slot: Slot) {
    shape.slots.insert(number, slot);
}

struct Case {
    name: String,
    shape: Shape,
    digests: BTreeMap<String, String>,
}

impl Case {
    /// The files made here, which have the digests of QEMU's.
    fn compare(&self) -> AcpiFiles {
        let files =
            acpi_files(&self.shape).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let files = files.into_files();
        for (name, short) in FILES {
            let digest = Digest48::of(&files[name]).to_string();
            let expected = &self.digests[short];
            let same = expected.len() == 24 && digest.starts_with(expected);
            assert!(same, "{}: {name}", self.name);
        }
        println!("identical: {:?} {}", self.shape.qemu, self.name);
        files
    }
}

/// The machines of an index that have digests.
fn cases(qemu: Qemu, common: &str, index: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in index.lines() {
        if let Some(line) = line.strip_prefix("== ") {
            let (head, arguments) = line.split_once(": ").unwrap();
            let name = head.split(' ').next().unwrap();
            let arguments = match arguments.strip_prefix('(') {
                Some(remark) => remark.split_once(") ").unwrap().1,
                None => arguments,
            };
            cases.push(Case {
                name: name.into(),
                shape: Shape::from_command_line(qemu, &format!("{common} {arguments}")).unwrap(),
                digests: BTreeMap::new(),
            });
        } else if let Some(line) = line.strip_prefix("  ")
            && let [name, _, digest] = line.split(' ').collect::<Vec<_>>()[..]
            && let Some(case) = cases.last_mut()
        {
            case.digests.insert(name.into(), digest.into());
        }
    }
    cases.retain(|case| !case.digests.is_empty());
    cases
}

fn dump(directory: &str, name: &str) -> Option<AcpiFiles> {
    if !crate::common::vectors().join(directory).join(name).is_dir() {
        return None;
    }
    let read = |(full, short): (&str, &str)| {
        let packed = vector(&format!("{directory}/{name}/{short}.bin.gz")).unwrap();
        (full.to_owned(), gunzip(&packed))
    };
    Some(FILES.map(read).into())
}
