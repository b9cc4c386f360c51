//! What the program is told about a firmware decides what it predicts, and half of it is refused.

use std::{fs, path::Path};

use crate::common::{image::image, json, made, run};
use predict::{
    BiosInformation, Firmware, FirmwareBuild, Platform,
    acpi::{Qemu, acpi_files},
    qemu::{MachineSize, guest_shape},
    replay, rtmr0,
    smbios::{ProcessorId, SmbiosMachine, q35_of, smbios_tables},
};
use registers::Register;

const MACHINE: [&str; 7] = [
    "predict",
    "--firmware",
    "firmware.fd",
    "--vcpus",
    "2",
    "--memory",
    "2G",
];
const BIOS: [&str; 6] = [
    "--bios-vendor",
    "EDK II",
    "--bios-version",
    "edk2-stable202511",
    "--bios-date",
    "11/24/2025",
];
const NEWER: [&str; 4] = ["--edk2", "202511", "--processor", "c06f2:078bfbff"];

/// What the library makes of the same firmware and machine.
fn newer(processor: u32) -> String {
    let (firmware, size) = (
        made::firmware(),
        MachineSize {
            vcpus: 2,
            memory_mib: 2048,
        },
    );
    let bios = BiosInformation {
        vendor: "EDK II",
        version: "edk2-stable202511",
        date: "11/24/2025",
    };
    let build = FirmwareBuild::new("202511".parse().unwrap(), Some(bios), false).unwrap();
    let firmware = Firmware::new(&firmware, build).unwrap();
    let shape = guest_shape(size, Qemu::V10_0_13, false);
    let smbios = smbios_tables(&SmbiosMachine {
        machine_type: q35_of(Qemu::V10_0_13),
        processor: ProcessorId {
            signature: processor,
            features: 0x078b_fbff,
        },
        vcpus_max: shape.vcpus_max,
        memory_mib: 2048,
    })
    .unwrap();
    let platform = Platform {
        smbios: Some(&smbios),
        ..Platform::new(firmware, 2048)
    };
    let events = rtmr0(&platform, &acpi_files(&shape).unwrap()).unwrap();
    replay(Register::Rtmr0, &events).to_string()
}

fn refusal(directory: &Path, more: &[&str]) -> (Option<i32>, String) {
    let output = run(directory, &[&MACHINE[..], more].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn the_newer_generation_is_predicted_for_one_processor() {
    let (directory, manifest) = image();
    let told = [&MACHINE[..], &NEWER, &BIOS, &["--json"]].concat();
    let printed = json(&run(directory.path(), &told));
    assert_eq!(printed["rtmr0"], newer(0xc_06f2));
    assert_eq!(printed.get("assumed"), None);
    assert_ne!(newer(0xc_06f2), newer(0xc_06f1));

    // A set is the same for each machine of it.
    let set = [
        "predict-set",
        "--manifest",
        "manifest.json",
        "--vcpus",
        "2",
        "--memory",
        "2G",
        "--qemu",
        "10.0.13",
        "--devices",
        "guest",
        "--json",
    ];
    let printed = json(&run(directory.path(), &[&set[..], &NEWER, &BIOS].concat()));
    assert_eq!(printed["machines"][0]["rtmr0"], newer(0xc_06f2));
    assert_eq!(printed["rtmr2"], manifest.registers.rtmr2.to_string());
}

#[test]
fn the_older_generation_need_not_be_assumed() {
    let (directory, _) = image();
    let assumed = json(&run(
        directory.path(),
        &[&MACHINE[..], &["--json"]].concat(),
    ));
    let stated = [&MACHINE[..], &["--edk2", "202502", "--json"]].concat();
    let stated = json(&run(directory.path(), &stated));
    assert_eq!(assumed["rtmr0"], stated["rtmr0"]);
    assert!(assumed.get("assumed").is_some() && stated.get("assumed").is_none());
}

#[test]
fn half_a_description_is_refused() {
    let (directory, _) = image();
    fs::write(
        directory.path().join("signer.pem"),
        "-----BEGIN CERTIFICATE-----\n",
    )
    .unwrap();
    fs::write(directory.path().join("signer.der"), [0x30, 0]).unwrap();
    for (more, code, why) in [
        (&NEWER[..], 1, "add --bios-vendor"),
        (
            &[&["--edk2", "202505"], &BIOS[..]].concat(),
            1,
            "add --processor",
        ),
        (&BIOS, 1, "measures no SMBIOS"),
        (&["--processor", "1:2"], 1, "leave --processor out"),
        (&["--signer", "signer.pem"], 1, "openssl x509"),
        (
            &["--signer", "signer.der"],
            1,
            "does not have Secure Boot on",
        ),
        (&["--secure-boot"], 1, "variable store is broken"),
        (&["--processor", "c06f2"], 2, "EAX:EDX"),
        (&["--processor", "123456789:0"], 2, "EAX:EDX"),
        (&["--processor", "+1:0"], 2, "EAX:EDX"),
        (&["--bios-vendor", "EDK II"], 2, "--bios-version"),
    ] {
        let (got, said) = refusal(directory.path(), more);
        assert_eq!(got, Some(code), "{more:?}: {said}");
        assert!(said.contains(why), "{more:?}: {said}");
    }
}

/// A file that is known needs no word, and a word against it is a mistake.
#[test]
fn a_known_firmware_is_not_described_otherwise() {
    let Some(firmware) = crate::common::vector("firmware/ovmf-2025.02-8+deb13u1.fd") else {
        return;
    };
    let (directory, _) = image();
    fs::write(directory.path().join("firmware.fd"), firmware).unwrap();
    let told = [&MACHINE[..], &["--edk2", "202502", "--json"]].concat();
    let printed = json(&run(directory.path(), &told));
    assert_eq!(printed.get("assumed"), None);
    let (code, said) = refusal(directory.path(), &["--secure-boot"]);
    assert!(
        code == Some(1) && said.contains("known by its SHA-256"),
        "{said}"
    );
}
