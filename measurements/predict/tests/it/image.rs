//! An image of small files, as a builder would write it.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeMap;
use std::fs;

use attest::Profile;
use predict::{
    Boot, BootMethod, Edk2Release, Firmware, FirmwareBuild, Inputs, KernelHeader, PageOrder,
    Platform, VERITY_BLOCK_BYTES, VerityHash,
    acpi::Tables,
    image::{
        BootRegisters, Content, ContentKind, ImageFile, ImageFiles, ImageManifest, ImagePart,
        ImageParts, MethodRegisters, UkiRegisters,
    },
    predict,
    qemu::MachineSize,
};
use registers::{Digest32, Digest48, VerityRoot};

use super::made;

const INITRD: &[u8] = b"an initrd";
const DATA_BLOCKS: u64 = 3;

/// An image of small files as a builder would write it, and the ACPI tables of its machine.
pub fn image() -> (tempfile::TempDir, ImageManifest) {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        fs::write(directory.path().join(name), bytes).unwrap();
        ImageFile {
            name: name.into(),
            bytes: bytes.len() as u64,
            sha256: Digest32::of(bytes),
        }
    };
    let data = vec![0x33; DATA_BLOCKS as usize * VERITY_BLOCK_BYTES];
    let salt = Digest32::of(b"salt");
    let mut hash = VerityHash::new(salt);
    data.chunks(VERITY_BLOCK_BYTES)
        .for_each(|block| hash.block(block.try_into().unwrap()));
    let root = VerityRoot {
        verity_hash: hash.finish().unwrap(),
        salt,
        data_blocks: DATA_BLOCKS,
    };
    let cmdline = format!("console=ttyS0 {}", root.argument());
    let machine = MachineSize {
        vcpus: 2,
        memory_mib: 2048,
    };
    let (firmware, kernel, acpi) = (made::firmware(), made::modern_kernel(), made::acpi());
    fs::create_dir(directory.path().join("acpi")).unwrap();
    for (file, name) in [
        ("etc/table-loader", "table-loader"),
        ("etc/acpi/rsdp", "rsdp.bin"),
        ("etc/acpi/tables", "tables"),
    ] {
        write(&format!("acpi/{name}"), &acpi[file]);
    }
    let prediction = predict(&Inputs {
        platform: Platform::new(
            Firmware::new(&firmware, FirmwareBuild::STABLE202502).unwrap(),
            machine.memory_mib,
        ),
        page_order: PageOrder::SinglePass,
        acpi: &Tables::insecure_from(acpi),
        boot: Boot::Direct {
            kernel: &kernel,
            initrd: Some(INITRD),
            cmdline: &cmdline,
            header: KernelHeader::AsOnDisk,
        },
    })
    .unwrap();
    let uki = uki(&cmdline);
    let manifest = ImageManifest::new(ImageParts {
        version: ImageManifest::VERSION,
        profile: Profile::Sim,
        lock_sha256: Digest32::of(b"lock"),
        compiler: "rustc 1.95.0".into(),
        files: ImageFiles {
            firmware: write("firmware.fd", &firmware),
            kernel: write("kernel", &kernel),
            initrd: write("initrd", INITRD),
            root: write("root.img", &[&data[..], b"a tree"].concat()),
            uki: Some(write("image.efi", &uki)),
            disk: Some(write("disk.img", &made::partition_table())),
        },
        cmdline,
        root,
        agent_sha384: Digest48::of(b"agent"),
        contents: vec![Content {
            part: ImagePart::Root,
            path: "/agent".into(),
            mode: "0755".into(),
            user: 0,
            group: 0,
            attributes: BTreeMap::new(),
            kind: ContentKind::File {
                bytes: 5,
                sha256: Digest32::of(b"agent"),
            },
            from: Some("guest-agent".into()),
        }],
        packages: Vec::new(),
        machine,
        registers: BootRegisters::from(&prediction),
        events: prediction.events,
        uki: Some(registers(&uki)),
    })
    .unwrap();
    fs::write(directory.path().join("manifest.json"), manifest.to_json()).unwrap();
    (directory, manifest)
}

fn uki(cmdline: &str) -> Vec<u8> {
    let kernel = made::modern_kernel();
    let sections: [(&str, &[u8]); 4] = [
        (".sdmagic", made::SDMAGIC),
        (".cmdline", cmdline.as_bytes()),
        (".initrd", INITRD),
        (".linux", &kernel),
    ];
    made::uki(&sections)
}

fn registers(uki: &[u8]) -> UkiRegisters {
    let table = &made::partition_table();
    let events = |method| {
        Boot::Uki { uki, method }
            .events(Edk2Release::STABLE202502)
            .unwrap()
    };
    let kernel_events = events(BootMethod::Kernel { append: None });
    let disk_events = events(BootMethod::Disk {
        table,
        loader: None,
    });
    UkiRegisters {
        kernel: MethodRegisters::of(&kernel_events),
        kernel_events,
        disk: Some(MethodRegisters::of(&disk_events)),
        disk_events,
    }
}
