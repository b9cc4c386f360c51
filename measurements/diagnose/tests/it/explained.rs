//! An image, its guest, and what is said of quotes that are not theirs.

#![allow(dead_code, reason = "each test program uses its part")]

use std::fs;

use attest::Manifest;
use diagnose::{
    EventLog,
    explain::{Explanation, Files, Finding, NamedManifest, Question, SuspectKind, explain},
};
use predict::{
    Boot, Inputs, KernelHeader, PageOrder, Prediction,
    acpi::{Qemu, acpi_files},
    image::ImageManifest,
    predict,
    qemu::{MachineSize, guest_shape},
};
use registers::{Digest48, Register, Registers};
use serde_json::{Value, json};

use crate::common::{image, made, platform};

pub const SIZE: MachineSize = MachineSize {
    vcpus: 2,
    memory_mib: 2048,
};

/// An image of a proven machine, its guest's manifest, and its files.
pub struct Case {
    pub directory: tempfile::TempDir,
    pub image: ImageManifest,
    pub guest: Manifest,
    pub kernel: Vec<u8>,
}

pub struct Machine {
    pub size: MachineSize,
    pub qemu: Qemu,
    pub tpm: bool,
    pub header: KernelHeader,
}

pub const STATED: Machine = Machine {
    size: SIZE,
    qemu: Qemu::V10_0_13,
    tpm: false,
    header: KernelHeader::AsOnDisk,
};

pub const OTHER_MEMORY: Machine = Machine {
    size: MachineSize {
        vcpus: 2,
        memory_mib: 16 * 1024,
    },
    ..STATED
};

impl Case {
    pub fn new() -> Case {
        let (directory, image) = image::image();
        let kernel = kernel_with_header();
        fs::write(directory.path().join("kernel"), &kernel).unwrap();
        let mut case = Case {
            guest: image.guest(Digest48::of(b"config"), &[]),
            directory,
            image,
            kernel,
        };
        let prediction = case.on(&STATED);
        let mut value: Value = serde_json::from_slice(&case.image.to_json()).unwrap();
        value["registers"] =
            serde_json::to_value(predict::image::BootRegisters::from(&prediction)).unwrap();
        value["events"] = serde_json::to_value(&prediction.events).unwrap();
        value["files"]["kernel"]["sha256"] =
            registers::Digest32::of(&case.kernel).to_string().into();
        let digest = registers::Digest32::of(b"package").to_string();
        value["packages"] = json!([
            {"name": "linux-image-6.12", "version": "6.12.1", "sha256": digest, "role": "kernel"},
            {"name": "ovmf", "version": "2025.02", "sha256": digest, "role": "firmware"},
        ]);
        case.image = ImageManifest::from_json(value.to_string().as_bytes()).unwrap();
        case.guest = case.image.guest(Digest48::of(b"config"), &[]);
        fs::write(
            case.directory.path().join("manifest.json"),
            case.image.to_json(),
        )
        .unwrap();
        case
    }

    pub fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.directory.path().join(name)).unwrap()
    }

    /// What the image measures to on another machine.
    pub fn on(&self, machine: &Machine) -> Prediction {
        let (firmware, initrd) = (self.file("firmware.fd"), self.file("initrd"));
        let shape = guest_shape(machine.size, machine.qemu, machine.tpm);
        predict(&Inputs {
            platform: platform(&firmware, machine.size.memory_mib),
            page_order: PageOrder::SinglePass,
            acpi: &acpi_files(&shape).unwrap(),
            boot: Boot::Direct {
                kernel: &self.kernel,
                initrd: Some(&initrd),
                cmdline: &self.image.cmdline,
                header: machine.header,
            },
        })
        .unwrap()
    }

    pub fn registers(&self, machine: &Machine) -> Registers {
        let mut registers = self.on(machine).registers();
        registers.rtmr[3] = self.guest.registers().rtmr[3];
        registers
    }

    pub fn manifests(&self) -> Vec<NamedManifest> {
        vec![
            NamedManifest::from_json("guest.json", &self.guest.to_json()).unwrap(),
            NamedManifest::from_json("image.json", &self.image.to_json()).unwrap(),
        ]
    }

    pub fn explain(&self, quoted: &Registers, logs: &[EventLog]) -> Explanation {
        let manifests = self.manifests();
        explain(&Question {
            manifests: &manifests,
            quoted,
            logs,
            configs: &[],
            files: None,
        })
        .unwrap()
    }

    pub fn explain_with_files(&self, quoted: &Registers) -> Explanation {
        let manifests = self.manifests();
        let (firmware, initrd) = (self.file("firmware.fd"), self.file("initrd"));
        explain(&Question {
            manifests: &manifests,
            quoted,
            logs: &[],
            configs: &[],
            files: Some(Files {
                firmware: &firmware,
                kernel: &self.kernel,
                initrd: &initrd,
            }),
        })
        .unwrap()
    }
}

/// The made kernel with a setup header, so that QEMU would change it.
pub fn kernel_with_header() -> Vec<u8> {
    let mut file = made::kernel();
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    file[0x211] = 1;
    file[0x236..0x238].copy_from_slice(&2u16.to_le_bytes());
    file
}

pub fn one(explanation: &Explanation, register: Register) -> &Finding {
    let mut all = explanation.registers.iter();
    all.find(|finding| finding.register == register).unwrap()
}

/// The only cause of the only register that differs.
pub fn cause(explanation: &Explanation, register: Register) -> (SuspectKind, String) {
    for finding in &explanation.registers {
        assert_eq!(
            finding.equal,
            Some(finding.register != register),
            "{finding:?}"
        );
    }
    let finding = one(explanation, register);
    assert!(finding.certain && !explanation.equal);
    assert_eq!(finding.suspects.len(), 1, "{finding:?}");
    (finding.suspects[0].kind, finding.suspects[0].what.clone())
}
