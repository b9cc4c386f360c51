//! SMBIOS made here against SMBIOS made by QEMU.

use crate::common::{gunzip, vector};
use predict::{
    acpi::Qemu,
    smbios::{ProcessorId, SmbiosMachine, SmbiosMachineError, q35_of, smbios_tables},
};
use registers::Digest48;

/// Every machine of the two grids: 11 of QEMU 10.0.13 and 24 of 11.1.3 by every byte, the others by 96 bits of their digest.
#[test]
fn every_machine_of_the_grids_has_the_same_structures() {
    for (qemu, directory, machines, whole) in [
        (Qemu::V10_0_13, "acpi/grid-qemu-10.0.13", 20, 11),
        (Qemu::V11_1_3, "acpi/grid-qemu-11.1.3", 60, 24),
    ] {
        let Some(index) = vector(&format!("{directory}/index.txt")) else {
            return;
        };
        let index = format!("\n{}", String::from_utf8(index).unwrap());
        let (mut seen, mut by_bytes) = (0, 0);
        for entry in index.split("\n== ").skip(1) {
            let (name, line) = entry.split_once([' ', ':']).unwrap();
            let arguments = line.lines().next().unwrap();
            let digest = line
                .lines()
                .find_map(|line| line.trim().strip_prefix("smbiost "));
            let Some((bytes, digest)) = digest.and_then(|words| words.split_once(' ')) else {
                continue;
            };
            let made = smbios_tables(&machine(qemu, arguments)).unwrap();
            assert_eq!(made.len().to_string(), bytes, "{name}");
            assert!(
                Digest48::of(&made).to_string().starts_with(digest),
                "{name}"
            );
            seen += 1;
            let file = format!("{directory}/{name}/smbiost.bin.gz");
            if crate::common::vectors().join(&file).exists() {
                assert_eq!(made, gunzip(&vector(&file).unwrap()), "{name}");
                by_bytes += 1;
            }
        }
        assert_eq!((seen, by_bytes), (machines, whole));
    }
}

/// Larger machines than the grids', of four machine types, as both versions of QEMU hand them over; digests by
/// `tests/vectors/smbios.txt`.
#[test]
fn large_machines_and_old_types_have_the_same_structures() {
    let lines = include_str!("../vectors/smbios.txt");
    let mut seen = 0;
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, machine_type, vcpus, memory_mib, digest] = words[..] else {
            panic!("{line}");
        };
        let machine = SmbiosMachine {
            machine_type,
            processor: SKYLAKE,
            vcpus_max: vcpus.parse().unwrap(),
            memory_mib: memory_mib.parse().unwrap(),
        };
        let made = smbios_tables(&machine).unwrap();
        assert_eq!(Digest48::of(&made).to_string(), digest, "{line}");
        seen += 1;
    }
    assert!(seen >= 20, "{seen}");
}

#[test]
fn what_was_not_compared_has_no_answer() {
    let machine = SmbiosMachine {
        machine_type: "pc-q35-10.0",
        processor: SKYLAKE,
        vcpus_max: 200,
        memory_mib: 512 * 1024,
    };
    assert!(smbios_tables(&machine).is_ok());
    let check = |edit: &dyn Fn(&mut SmbiosMachine<'static>), expected: SmbiosMachineError| {
        let mut machine = machine;
        edit(&mut machine);
        assert_eq!(smbios_tables(&machine), Err(expected));
    };
    use SmbiosMachineError::{Impossible, MachineType, Unproven};
    check(&|m| m.vcpus_max = 201, Unproven("more than 200 processors"));
    check(&|m| m.vcpus_max = 0, Impossible("no processor"));
    check(
        &|m| m.memory_mib += 1,
        Unproven("more than 512 GiB of memory"),
    );
    check(&|m| m.memory_mib = 0, Impossible("no memory"));
    for got in ["q35", "pc-q35-8.1", "pc-q35-11.2", "pc-i440fx-10.0", ""] {
        check(&|m| m.machine_type = got, MachineType { got: got.into() });
    }
}

#[test]
fn a_lone_processor_has_no_hyper_threading_bit() {
    let with = |vcpus_max, features| {
        smbios_tables(&SmbiosMachine {
            machine_type: q35_of(Qemu::V10_0_13),
            processor: ProcessorId {
                features,
                ..SKYLAKE
            },
            vcpus_max,
            memory_mib: 1024,
        })
        .unwrap()
    };
    assert_eq!(
        with(1, SKYLAKE.features),
        with(1, SKYLAKE.features | 1 << 28)
    );
    assert_eq!(
        with(2, SKYLAKE.features),
        with(2, SKYLAKE.features | 1 << 28)
    );
    assert_ne!(with(1, SKYLAKE.features), with(2, SKYLAKE.features));
    assert_ne!(with(2, SKYLAKE.features), with(2, SKYLAKE.features ^ 1));
}

fn machine(qemu: Qemu, arguments: &str) -> SmbiosMachine<'_> {
    let after = |option: &str| {
        let found = arguments.split_once(option);
        found.map(|(_, rest)| rest.split(' ').next().unwrap())
    };
    let number = |text: &str| {
        let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        digits.parse::<u64>().unwrap()
    };
    let vcpus = after("-smp ").unwrap_or("1");
    let vcpus = vcpus.split_once("maxcpus=").map_or(vcpus, |(_, max)| max);
    let kind = after("-machine ").unwrap().split(',').next().unwrap();
    // The older grid names a processor only where it is not qemu64.
    let skylake = after("-cpu ").is_some_and(|cpu| cpu.starts_with("Skylake-Server"));
    SmbiosMachine {
        machine_type: if kind == "q35" { q35_of(qemu) } else { kind },
        processor: if skylake { SKYLAKE } else { QEMU64 },
        vcpus_max: number(vcpus) as u32,
        memory_mib: number(after("-m ").unwrap()),
    }
}

/// QEMU's models under its own translator, which leaves out what it cannot translate.
const QEMU64: ProcessorId = ProcessorId {
    signature: 0x0006_0fb1,
    features: 0x078b_fbfd,
};
const SKYLAKE: ProcessorId = ProcessorId {
    signature: 0x0005_0654,
    features: 0x078b_fbfd,
};
