//! ACPI tables that are made from a shape, against those that the locked QEMU makes.

use std::fs;
use std::path::Path;
use std::process::Command;

use predict::acpi::{Qemu, Shape, acpi_files};
use predict::qemu::{Accelerator, Backends, MachineSize, Vsock, guest_shape, qemu_arguments};

const SIZE: MachineSize = MachineSize {
    vcpus: 3,
    memory_mib: 3072,
};

#[test]
#[ignore = "starts the locked QEMU three times, whose packages it may have to fetch"]
fn the_locked_qemu_makes_the_tables_that_a_shape_says() {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/sim.yaml");
    let directory = tempfile::tempdir().expect("a directory");
    let guest = |tpm| {
        let backends = Backends {
            firmware: "/any",
            boot: None,
            root: None,
            model: None,
            vsock: Vsock::StandIn,
            gpu: None,
            tpm,
            serial: None,
            qmp: &[],
        };
        qemu_arguments(SIZE, Accelerator::Tcg, &backends)
    };
    let other = "-nodefaults -machine q35 -cpu max,phys-bits=46 -smp 2,maxcpus=5 -m 1G -serial null -display none \
        -device e1000,romfile= -device pcie-root-port,id=a,chassis=1 -device pci-testdev,membar=1G,bus=a";
    let other = predict::acpi::words(other).expect("words");
    let shape = Shape::from_arguments(Qemu::V10_0_13, &other).expect("a shape");
    for (name, words, shape) in [
        (
            "guest",
            guest(None),
            guest_shape(SIZE, Qemu::V10_0_13, false),
        ),
        (
            "simulated",
            guest(Some("/any")),
            guest_shape(SIZE, Qemu::V10_0_13, true),
        ),
        ("other", other, shape),
    ] {
        let line = directory.path().join("line.txt");
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        fs::write(&line, quoted.join(" ")).expect("written");
        let output = Command::new(env!("CARGO_BIN_EXE_image-builder"))
            .arg("dump-acpi")
            .arg(&recipe)
            .arg("--from-qemu-file")
            .arg(&line)
            .args(["--name", name, "--out"])
            .arg(directory.path())
            .output()
            .expect("it starts");
        assert!(output.status.success(), "{name}: {output:?}");
        let made = acpi_files(&shape).expect("proven");
        let dump = directory.path().join(name);
        for (fw_cfg, file) in [
            ("etc/acpi/tables", "tables.bin"),
            ("etc/acpi/rsdp", "rsdp.bin"),
            ("etc/table-loader", "loader.bin"),
        ] {
            assert!(
                fs::read(dump.join(file)).expect("dumped") == made[fw_cfg],
                "{name}: {file}"
            );
        }
        assert_eq!(
            dump.join("tpm-log.bin").exists(),
            made.contains_key("etc/tpm/log")
        );
    }
    let index = fs::read_to_string(directory.path().join("index.txt")).expect("an index");
    assert_eq!(
        index.lines().filter(|line| line.starts_with("== ")).count(),
        3
    );
}
