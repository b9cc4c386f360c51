//! A small image with its provenance. `dd` stands for `mkfs.erofs`, so its root is the stream itself, or [`erofs_of`], so that it is one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use attest::Profile;
use image_builder::compile::{Crate, Ingredients, Kernel};
use image_builder::formats::entry::Entry;
use image_builder::image::{Draft, Mkfs, Model, Parts, RootParts};
use image_builder::lock::{InputKind, LockedInput};
use image_builder::provenance;
use image_builder::provenance::{DebianPackage, Input, Materials, ModelInput, SecretKey};
use predict::FirmwareBuild;
use predict::acpi::{Qemu, acpi_files};
use predict::{
    image::{ImageManifest, Package, Role},
    qemu::{MachineSize, guest_shape},
};
use registers::Digest32;
use zeroize::Zeroizing;

use crate::erofs_image::erofs_of;
use crate::parts;

/// A key of a test.
pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([seed; 32]))
}

/// An image in a directory of its own.
pub struct Made {
    _directory: tempfile::TempDir,
    pub out: PathBuf,
    pub manifest: ImageManifest,
}

/// An image whose agent has these bytes, with papers, signed if there is a key.
pub fn image(agent: &[u8], key: Option<&SecretKey>) -> Made {
    make(agent, key, &copy, |_| {})
}

/// The same with a root that is a file system.
pub fn image_with_erofs(agent: &[u8], key: Option<&SecretKey>) -> Made {
    let mkfs = |directory: &Path, name: &str, entries: &[Entry]| {
        fs::write(directory.join(name), erofs_of(entries)).expect("written");
        Command::new("cat")
    };
    make(agent, key, &mkfs, |_| {})
}

/// The same of changed parts, and unsigned.
pub fn image_with(agent: &[u8], change: impl FnOnce(&mut Parts)) -> Made {
    make(agent, None, &copy, change)
}

fn make(
    agent: &[u8],
    key: Option<&SecretKey>,
    mkfs: &Mkfs<'_>,
    change: impl FnOnce(&mut Parts),
) -> Made {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("out");
    fs::create_dir(&out).expect("made");
    let mut parts = parts(directory.path(), agent);
    change(&mut parts);
    let draft = Draft::of(parts).expect("a draft");
    let (image, _) = draft.write(mkfs, &out, &mut |_| {}).expect("written");
    let manifest = image.manifest.expect("it has a root");
    let inside = draft.sha1s().expect("read");
    provenance::write(&out, &manifest, &materials(), inside, key).expect("written");
    Made {
        _directory: directory,
        out,
        manifest,
    }
}

/// What the papers of that image tell of.
pub fn materials() -> Materials {
    let one = |name: &str, sha256: Option<Digest32>| Crate {
        name: name.into(),
        version: "1.2.3".into(),
        licence: Some("MIT OR Apache-2.0".into()),
        sha256,
    };
    let input = |name: &str| Input {
        name: name.into(),
        sha256: Digest32([9; 32]),
    };
    let program = |name: &str| Ingredients {
        program: name.into(),
        package: one(name, None),
        linked: vec![one("serde", Some(Digest32([2; 32]))), one("wire", None)],
        building: vec![one("syn", Some(Digest32([3; 32])))],
    };
    let package = |name: &str, version: &str, role| DebianPackage {
        name: name.into(),
        version: version.into(),
        architecture: "amd64".into(),
        sha256: Digest32([1; 32]),
        url: format!("https://mirror.example/pool/{name}.deb"),
        suite: "trixie".into(),
        role,
    };
    Materials {
        recipe: input("made.yaml"),
        lock: input("made.lock.json"),
        crates: input("Cargo.lock"),
        sources: Digest32([4; 32]),
        compiler: "rustc 0.0.0 abc".into(),
        date: "2026-09-12T07:55:41Z".into(),
        packages: vec![
            package("linux", "6.12", Role::Kernel),
            package("g++", "4:14.2-1", Role::Build),
        ],
        programs: BTreeMap::from([
            ("/init".to_owned(), program("stage0")),
            ("/agent".to_owned(), program("guest-agent")),
        ]),
        inputs: vec![LockedInput {
            kind: InputKind::Pypi,
            name: "nvrtc".into(),
            version: Some("12.4.127".into()),
            bytes: 10,
            sha256: Digest32([6; 32]),
            seen: "https://pypi.example/nvidia_cuda_nvrtc_cu12-12.4.127-py3.whl".into(),
        }],
        models: vec![ModelInput {
            id: "tiny".into(),
            licence: None,
            archive: Some(("https://pypi.example/tiny.whl".into(), Digest32([5; 32]))),
        }],
    }
}

fn parts(directory: &Path, agent: &[u8]) -> Parts {
    let release = "6.12-made";
    let modules = format!("kernel/usr/lib/modules/{release}");
    let files: [(String, Vec<u8>); 8] = [
        ("stub".into(), parts::stub(5)),
        ("firmware.fd".into(), parts::firmware()),
        (
            format!("kernel/boot/vmlinuz-{release}"),
            parts::modern_kernel(),
        ),
        (
            format!("{modules}/modules.builtin"),
            b"kernel/lib/built.ko\n".to_vec(),
        ),
        (format!("{modules}/kernel/unused.ko"), b"module".to_vec()),
        ("stage0".into(), b"first program".to_vec()),
        ("agent".into(), agent.to_vec()),
        ("model.safetensors".into(), vec![7; 5000]),
    ];
    for (path, bytes) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().expect("below the directory")).expect("made");
        fs::write(path, bytes).expect("written");
    }
    let model = "model.safetensors";
    Parts {
        profile: Profile::Sim,
        lock_sha256: Digest32([9; 32]),
        compiler: "rustc 0.0.0 abc".into(),
        packages: vec![Package {
            name: "linux".into(),
            version: "6.12".into(),
            sha256: Digest32([1; 32]),
            role: Role::Kernel,
        }],
        firmware: directory.join("firmware.fd"),
        firmware_build: FirmwareBuild::STABLE202502,
        kernel: Kernel::open(&directory.join("kernel")).expect("a tree"),
        kernel_from: "linux 6.12".into(),
        modules: vec!["built".into()],
        init: directory.join("stage0"),
        root: Some(RootParts {
            userland: Vec::new(),
            agent: directory.join("agent"),
            programs: Vec::new(),
            cubins: Vec::new(),
            models: vec![Model {
                id: "tiny".into(),
                files: vec![(model.into(), directory.join(model))],
            }],
        }),
        stub: Some(directory.join("stub")),
        disk: false,
        cmdline: vec!["panic=-1".into(), "oops=panic".into()],
        machine: SIZE,
        acpi: { Qemu::ALL.into_iter() }
            .find_map(|qemu| acpi_files(&guest_shape(SIZE, qemu, true)).ok())
            .expect("a machine whose tables are known"),
    }
}

/// Checks that cannot be made of that root, which is no file system: somebody who uses these images has to allow it.
pub const ROOT_UNREAD: [&str; 2] = ["inside the root", "agent"];

const SIZE: MachineSize = MachineSize {
    vcpus: 2,
    memory_mib: 2048,
};

/// Copies the stream, and fills the last block.
fn copy(directory: &Path, name: &str, _: &[Entry]) -> Command {
    let mut command = Command::new("dd");
    command.args(["status=none", "conv=sync", "ibs=4096", "iflag=fullblock"]);
    command.arg(format!("of={}", directory.join(name).display()));
    command
}
