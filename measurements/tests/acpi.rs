//! The ACPI tables made here against those that QEMU gave its guests.

mod common;

use std::collections::BTreeMap;

use common::{gunzip, vector};
use measurements::{
    Accelerator, Backends, Digest48, MachineSize, Vsock,
    acpi::{AcpiError, AddressWidth, Qemu, Serial, Shape, Slot, acpi_files},
    guest_shape,
    predict::acpi::AcpiFiles,
    qemu_arguments,
};

const SIZE: MachineSize = MachineSize {
    vcpus: 2,
    memory_mib: 2048,
};
const GRIDS: [(Qemu, &str); 2] = [
    (Qemu::V10_0_13, "acpi/grid-qemu-10.0.13"),
    (Qemu::V11_1_3, "acpi/grid-qemu-11.1.3"),
];
const FILES: [(&str, &str); 3] = [
    ("etc/acpi/tables", "tables"),
    ("etc/acpi/rsdp", "rsdp"),
    ("etc/table-loader", "loader"),
];

/// Whole dumps where they were kept, digests where only those were. What is refused is named.
#[test]
fn every_machine_of_the_grids_has_qemus_tables_or_is_refused() {
    let (mut bytes, mut digests, mut refused, mut different) = (0, 0, vec![], vec![]);
    for (qemu, folder) in GRIDS {
        let Some(index) = vector(&format!("{folder}/index.txt")) else {
            return;
        };
        for case in cases(qemu, &String::from_utf8(index).unwrap()) {
            let files = match acpi_files(&case.shape) {
                Ok(files) => files,
                Err(AcpiError::Unproven(why)) => {
                    refused.push(format!("{qemu:?} {}: {why}", case.name));
                    continue;
                }
                Err(error) => panic!("{}: {error}", case.name),
            };
            let same = |(name, short): &(&str, &str)| {
                let digest = Digest48::of(&files[*name]).to_string();
                digest.starts_with(&case.digests[*short])
            };
            let dump = dump(folder, &case.name);
            let identical = dump.as_ref().is_none_or(|dump| *dump == files);
            if !FILES.iter().all(same) || !identical {
                different.push(format!("{qemu:?} {}", case.name));
                continue;
            }
            println!(
                "identical: {qemu:?} {}{}",
                case.name,
                if dump.is_some() { ", every byte" } else { "" }
            );
            digests += 1;
            bytes += usize::from(dump.is_some());
        }
    }
    println!("{digests} machines by digest, {bytes} of them by every byte; refused: {refused:#?}");
    assert_eq!(different, Vec::<String>::new());
    assert_eq!(refused, Vec::<String>::new());
    assert!(digests >= 80 && bytes >= 35);
}

/// Read through QEMU's test port while its firmware ran, from the QEMU of the lock file.
#[test]
fn the_machine_of_a_simulated_guest_has_qemus_tables() {
    let dump = AcpiFiles::from([
        (
            "etc/acpi/tables".into(),
            gunzip(include_bytes!("vectors/acpi-simulated/tables.gz")),
        ),
        (
            "etc/acpi/rsdp".into(),
            gunzip(include_bytes!("vectors/acpi-simulated/rsdp.gz")),
        ),
        (
            "etc/table-loader".into(),
            gunzip(include_bytes!("vectors/acpi-simulated/table-loader.gz")),
        ),
        ("etc/tpm/log".into(), vec![0; 64 * 1024]),
    ]);
    let shape = guest_shape(SIZE, Qemu::V10_0_13, true);
    assert!(acpi_files(&shape).unwrap() == dump);
}

/// The shape is written once more beside the arguments; here it is read from them.
#[test]
fn the_shape_of_a_guest_is_that_of_its_arguments() {
    for tpm in [None, Some("/run/tpm.sock")] {
        let backends = Backends {
            firmware: "/firmware.fd",
            boot: None,
            root: None,
            vsock: Vsock::StandIn,
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
                shape(qemu, &arguments),
                guest_shape(SIZE, qemu, tpm.is_some())
            );
        }
    }
}

struct Case {
    name: String,
    shape: Shape,
    digests: BTreeMap<String, String>,
}

/// The machines of an index that have digests.
fn cases(qemu: Qemu, index: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in index.lines() {
        if let Some(line) = line.strip_prefix("== ") {
            let (head, arguments) = line.split_once(": ").unwrap();
            let name = head.split(' ').next().unwrap();
            let at = arguments.find('-').unwrap();
            let arguments = match arguments.starts_with('(') {
                true => arguments.split_once(") ").unwrap().1,
                false => &arguments[at..],
            };
            let mut shape = shape(qemu, &words(arguments));
            if qemu == Qemu::V10_0_13 {
                shape.serial = Serial::Board; // all of that grid have it, and its index does not say so
            }
            cases.push(Case {
                name: name.into(),
                shape,
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

fn dump(folder: &str, name: &str) -> Option<AcpiFiles> {
    if !common::vectors().join(folder).join(name).is_dir() {
        return None;
    }
    let read = |(full, short): (&str, &str)| {
        let packed = vector(&format!("{folder}/{name}/{short}.bin.gz")).unwrap();
        (full.to_owned(), gunzip(&packed))
    };
    Some(FILES.map(read).into())
}

/// Words of a command line; what stands in quotes is one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('"').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

/// The machine of a command line. An option that this does not know ends the test.
fn shape(qemu: Qemu, arguments: &[String]) -> Shape {
    let mut shape = Shape::new(qemu, 1, 128);
    shape.address_width = AddressWidth::Bits40;
    let mut words = arguments.iter().map(String::as_str);
    while let Some(option) = words.next() {
        if ["-no-reboot", "-nodefaults", "-no-user-config", "-nographic"].contains(&option) {
            continue;
        }
        let value = words.next().unwrap();
        let (kind, rest) = value.split_once(',').unwrap_or((value, ""));
        let settings = rest
            .split(',')
            .filter_map(|setting| setting.split_once('='));
        let settings: BTreeMap<&str, &str> = settings.collect();
        match option {
            "-machine" => {
                let on = |name| settings.get(name) != Some(&"off");
                (shape.hpet, shape.smm, shape.pic) = (on("hpet"), on("smm"), on("pic"));
            }
            "-smp" => {
                shape.vcpus = kind.parse().unwrap();
                shape.vcpus_max = settings
                    .get("maxcpus")
                    .map_or(shape.vcpus, |max| max.parse().unwrap());
            }
            "-m" => shape.memory_mib = value.trim_end_matches('M').parse().unwrap(),
            "-cpu" if kind == "qemu64" => shape.address_width = AddressWidth::Bits40,
            "-cpu" => shape.address_width = AddressWidth::Bits46,
            "-global" => global(&mut shape, value),
            "-serial" => shape.serial = Serial::Board,
            "-device" => device(&mut shape, kind, &settings),
            "-append" | "-drive" | "-netdev" | "-accel" | "-vga" | "-monitor" | "-bios"
            | "-object" | "-chardev" | "-kernel" | "-initrd" | "-display" | "-blockdev"
            | "-tpmdev" => {}
            _ => panic!("{option}"),
        }
    }
    shape
}

fn global(shape: &mut Shape, value: &str) {
    match value.split_once('=').unwrap() {
        ("ICH9-LPC.acpi-pci-hotplug-with-bridge-support", "off") => shape.pci_hotplug = false,
        ("q35-pcihost.pci-hole64-size", "0x100000000000") => shape.pci_hole64_gib = 16 * 1024,
        ("q35-pcihost.pci-hole64-size", "4096G") => shape.pci_hole64_gib = 4096,
        _ => panic!("{value}"),
    }
}

fn device(shape: &mut Shape, kind: &str, settings: &BTreeMap<&str, &str>) {
    let free = (1..=30)
        .find(|slot| !shape.slots.contains_key(slot))
        .unwrap();
    let asked = settings
        .get("addr")
        .map(|address| address.trim_start_matches("0x"));
    let number = asked.map_or(free, |address| u8::from_str_radix(address, 16).unwrap());
    let slot = match kind {
        "isa-serial" => return shape.serial = Serial::Added,
        "tpm-crb" => return shape.tpm = true,
        "virtconsole" => return,
        "pci-testdev" => {
            let bar_gib = settings["membar"].trim_end_matches('G').parse().unwrap();
            let port: usize = settings["bus"].trim_start_matches("pci.").parse().unwrap();
            let mut ports = shape
                .slots
                .values_mut()
                .filter(|slot| **slot != Slot::Virtio);
            *ports.nth(port).unwrap() = Slot::PortWith { bar_gib };
            return;
        }
        "pcie-root-port" => Slot::Port,
        "e1000" => Slot::Plain,
        _ if kind.starts_with("virtio-") => Slot::Virtio,
        _ => panic!("{kind}"),
    };
    assert_eq!(shape.slots.insert(number, slot), None);
}
