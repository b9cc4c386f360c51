//! A whole image out of small made parts: what comes out depends on what goes in and on nothing else.
//!
//! `dd` stands for `mkfs.erofs`, so the root of these images is the stream itself; tests/build_parts.rs and the boot tests
//! look at the rest.

use crate::parts as made;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use attest::Profile;
use image_builder::compile::Kernel;
use image_builder::error::{Error, Fault};
use image_builder::formats::entry::Entry;
use image_builder::image::{BuildCache, Draft, Image, Model, OutputDir, Parts, RootParts};
use image_builder::store::Store;
use predict::acpi::Tables;
use predict::{
    Boot, BootMethod, Firmware, FirmwareBuild, Inputs, KernelHeader, PageOrder, Platform,
};
use predict::{
    image::{Content, ImageManifest, ImagePart, MethodRegisters, Package, Role},
    qemu::MachineSize,
};
use registers::{Digest32, Digest48};
use sha2::{Digest as _, Sha256};

/// The parts of an image, made below `directory`, its files in the order that `backwards` says.
fn parts(directory: &Path, backwards: bool) -> Parts {
    let release = "6.12-made";
    let mut files: Vec<(String, Vec<u8>)> = vec![
        ("firmware.fd".into(), made::firmware()),
        (
            format!("kernel/boot/vmlinuz-{release}"),
            made::modern_kernel(),
        ),
        (
            format!("kernel/usr/lib/modules/{release}/modules.builtin"),
            b"kernel/lib/built.ko\n".to_vec(),
        ),
        ("stub".into(), made::stub(5)),
        ("stage0".into(), b"first program".to_vec()),
        ("agent".into(), b"the agent".repeat(1000)),
        ("model/config.json".into(), b"{}".to_vec()),
        ("model/model.safetensors".into(), vec![7; 50_000]),
    ];
    for number in 0..20 {
        let path = format!("kernel/usr/lib/modules/{release}/kernel/unused{number}.ko");
        files.push((path, vec![number; 10]));
    }
    if backwards {
        files.reverse();
    }
    for (path, bytes) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().expect("below the directory")).expect("made");
        fs::write(path, bytes).expect("written");
    }
    let file = |name: &str| (name.to_owned(), directory.join("model").join(name));
    let mut models = vec![file("config.json"), file("model.safetensors")];
    if backwards {
        models.reverse();
    }
    Parts {
        profile: Profile::Sim,
        lock_sha256: Digest32([9; 32]),
        compiler: "rustc 0.0.0".into(),
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
                files: models,
            }],
        }),
        stub: Some(directory.join("stub")),
        disk: true,
        cmdline: vec!["panic=-1".into(), "oops=panic".into()],
        machine: MachineSize {
            vcpus: 2,
            memory_mib: 2048,
        },
        acpi: Tables::insecure_from(made::acpi()),
    }
}

/// Copies the stream, and fills the last block.
fn copy(directory: &Path, name: &str, _: &[Entry]) -> Command {
    let mut command = Command::new("dd");
    command.args(["status=none", "conv=sync", "ibs=4096", "iflag=fullblock"]);
    command.arg(format!("of={}", directory.join(name).display()));
    command
}

fn image(parts: Parts, out: &Path) -> Result<Image, Error> {
    let place = OutputDir::claim(out)?;
    let (image, _) = Draft::of(parts)?.write(&copy, place.directory(), &mut |_| {})?;
    place.put()?;
    Ok(image)
}

fn bytes(out: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(out).expect("a directory") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("known").permissions().mode();
        let bytes = fs::read(entry.path()).expect("a file");
        found.insert(
            entry.file_name().to_string_lossy().into_owned(),
            (mode & 0o777, bytes),
        );
    }
    found
}

#[test]
fn another_directory_and_another_order_of_files_change_no_byte() {
    let (one, two) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let (out, again) = (one.path().join("out"), two.path().join("a longer name"));
    let first = image(parts(one.path(), false), &out).expect("made");
    let second = image(parts(two.path(), true), &again).expect("made");
    assert_eq!(first, second);
    assert_eq!(bytes(&out), bytes(&again));
    let names: Vec<String> = bytes(&out).into_keys().collect();
    assert_eq!(
        names,
        [
            "cmdline",
            "disk.img",
            "firmware.fd",
            "image.efi",
            "initrd",
            "kernel",
            "manifest.json",
            "root.img"
        ]
    );
}

#[test]
fn another_umask_changes_no_byte_and_no_mode() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut seen = Vec::new();
    for umask in [0o077, 0o000] {
        let parts = parts(directory.path(), false);
        let out = directory.path().join(format!("out{umask}"));
        // It belongs to the whole process; the other tests here do not depend on theirs.
        let before = umask_is(umask);
        image(parts, &out).expect("made");
        umask_is(before);
        let mode = fs::metadata(&out).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        seen.push(bytes(&out));
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].values().all(|(mode, _)| *mode == 0o644));
}

fn umask_is(mode: u32) -> u32 {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mode)).bits()
}

#[test]
fn the_manifest_tells_of_what_lies_beside_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("out");
    let image = image(parts(directory.path(), false), &out).expect("made");
    let files = bytes(&out);
    let manifest = ImageManifest::from_json(&files["manifest.json"].1).expect("reads");
    assert_eq!(Some(&manifest), image.manifest.as_ref());
    assert_eq!(manifest.files.all().count(), 6);
    for (_, file) in manifest.files.all() {
        let (_, bytes) = &files[&file.name];
        assert_eq!(
            (file.bytes, file.sha256),
            (bytes.len() as u64, Digest32::of(bytes))
        );
    }
    assert_eq!(files["cmdline"].1, manifest.cmdline.as_bytes());
    assert_eq!(
        manifest.cmdline,
        format!("panic=-1 oops=panic {}", manifest.root.argument())
    );
    assert_eq!(
        manifest.agent_sha384,
        Digest48::of(&b"the agent".repeat(1000))
    );
    let root = &files["root.img"].1;
    let data = &root[..manifest.root.data_blocks as usize * 4096];
    assert_eq!(manifest.root.salt.0[..], Sha256::digest(data)[..]);
    let inside = |part| {
        let of = move |content: &&Content| content.part == part;
        let contents = manifest.contents.iter().filter(of);
        contents.map(|c| c.path.as_str()).collect::<Vec<_>>()
    };
    let initrd = [
        "/dev",
        "/dev/console",
        "/dev/null",
        "/devices",
        "/init",
        "/modules",
        "/newroot",
        "/proc",
        "/sys",
    ];
    assert_eq!(inside(ImagePart::Initrd), initrd);
    assert_eq!(
        inside(ImagePart::Root),
        [
            "/",
            "/agent",
            "/dev",
            "/models",
            "/models/tiny",
            "/models/tiny/config.json",
            "/models/tiny/model.safetensors",
            "/proc",
            "/run",
            "/start",
            "/sys",
            "/tmp",
        ]
    );
    let predicted = predict::predict(&Inputs {
        platform: Platform::new(
            Firmware::new(&files["firmware.fd"].1, FirmwareBuild::STABLE202502).expect("measures"),
            2048,
        ),
        page_order: PageOrder::SinglePass,
        acpi: &Tables::insecure_from(made::acpi()),
        boot: Boot::Direct {
            kernel: &files["kernel"].1,
            initrd: Some(&files["initrd"].1),
            cmdline: &manifest.cmdline,
            header: KernelHeader::AsOnDisk,
        },
    });
    assert_eq!(predicted.expect("predicted").events, manifest.events);
}

#[test]
fn the_other_roads_lead_to_the_same_kernel_initrd_command_line_and_root() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("out");
    let image = image(parts(directory.path(), false), &out).expect("made");
    let manifest = image.manifest.expect("it has a root");
    let files = bytes(&out);
    let of = |name: &str| &files[name].1;
    let registers = manifest.uki.as_ref().expect("there is such an image");
    let uki = of("image.efi");
    let direct = MethodRegisters {
        rtmr1: manifest.registers.rtmr1,
        rtmr2: manifest.registers.rtmr2,
    };
    let disk = registers.disk.expect("there is a disk");
    assert!(direct != registers.kernel && registers.kernel.rtmr1 != disk.rtmr1);
    assert_eq!(registers.kernel.rtmr2, disk.rtmr2);
    let events = |method| {
        Boot::Uki { uki, method }
            .events(predict::Edk2Release::STABLE202502)
            .expect("predicted")
    };
    let method = BootMethod::Kernel { append: None };
    assert_eq!(events(method), registers.kernel_events);
    let (table, loader) = (&of("disk.img")[..1 << 20], None);
    let method = BootMethod::Disk { table, loader };
    assert_eq!(events(method), registers.disk_events);

    let has = |name: &str, part: &[u8]| {
        let digest = Digest48::of(part);
        let from = format!("section {name}");
        let mut events = registers.kernel_events.iter();
        events.any(|event| event.from == from && event.digest == digest)
    };
    assert!(has(".linux", of("kernel")) && has(".initrd", of("initrd")));
    assert!(has(".cmdline", of("cmdline")) && has(".uname", b"6.12-made"));
    assert!(has(
        ".osrel",
        b"ID=chrysalis\nNAME=Chrysalis\nVARIANT_ID=sim\n"
    ));
    let (disk, root) = (of("disk.img"), of("root.img"));
    let second = u64::from_le_bytes(disk[1024 + 128 + 32..][..8].try_into().expect("eight"));
    assert_eq!(disk[second as usize * 512..][..root.len()], root[..]);
}

#[test]
fn an_image_has_no_road_that_was_not_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let check = |stub: bool, disk: bool, files: usize| {
        let made = Parts {
            stub: stub.then(|| directory.path().join("stub")),
            disk,
            ..parts(directory.path(), false)
        };
        let out = directory.path().join("out");
        let manifest = image(made, &out).expect("made").manifest.expect("a root");
        let registers = manifest.uki.as_ref();
        assert_eq!(manifest.files.all().count(), files);
        assert_eq!(registers.is_some(), stub);
        let disk_registers = registers.and_then(|uki| uki.disk);
        assert_eq!(disk_registers.is_some(), stub && disk);
        assert_eq!(bytes(&out).len(), files + 2);
    };
    check(true, true, 6);
    check(true, false, 5);
    check(false, false, 4);
}

#[test]
fn the_agent_is_told_of_a_simulator_only_in_a_simulated_image() {
    let start = |profile: Profile| {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("out");
        let made = Parts {
            profile,
            ..parts(directory.path(), false)
        };
        image(made, &out).expect("made");
        let root = fs::read(out.join("root.img")).expect("there");
        let mut stream = tar::Archive::new(&root[..]);
        let mut entries = stream.entries().expect("a stream");
        let start = entries.find_map(|entry| {
            let mut entry = entry.ok()?;
            (entry.path().ok()?.as_ref() == Path::new("start")).then(|| {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut entry, &mut text).expect("text");
                text
            })
        });
        start.expect("there is one")
    };
    let real = "--listen\nvsock:9000\n--config\nvsock:2:9101\n--models\n/models\n";
    assert_eq!(start(Profile::Cpu), real);
    let simulated = "--listen\nvsock:9000\n--simulator\nvsock:2:9100\n--config\nvsock:2:9101\n--models\n/models\n";
    assert_eq!(start(Profile::Sim), simulated);
}

#[test]
fn an_image_without_a_root_has_neither_disk_nor_manifest() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("out");
    let made = Parts {
        root: None,
        ..parts(directory.path(), false)
    };
    let image = image(made, &out).expect("made");
    assert_eq!(image.manifest, None);
    let place = OutputDir::claim(&out).expect("this is an image, too");
    drop(place);
    assert_eq!(bytes(&out)["cmdline"].1, b"panic=-1 oops=panic");
    assert_eq!(bytes(&out).len(), 4);
}

/// What changes the digest of a draft, by which an image that is there is known again.
#[test]
fn every_part_changes_the_drafts_digest() {
    let directory = tempfile::tempdir().expect("a directory");
    let digest = |change: &dyn Fn(&mut Parts)| {
        let mut made = parts(directory.path(), false);
        change(&mut made);
        Draft::of(made).expect("a draft").digest()
    };
    let same = digest(&|_| {});
    assert_eq!(same, digest(&|_| {}));
    let put =
        |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).expect("written");
    let changes: [&dyn Fn(&mut Parts); 13] = [
        &|parts| parts.disk = false,
        &|parts| parts.stub = None,
        &|parts| parts.stub = Some(directory.path().join("stage0")),
        &|parts| parts.profile = Profile::Dev,
        &|parts| parts.lock_sha256.0[31] ^= 1,
        &|parts| parts.compiler.push('1'),
        &|parts| parts.packages.clear(),
        &|parts| parts.cmdline.reverse(),
        &|parts| parts.cmdline = vec!["panic=-1 oops=panic".into()],
        &|parts| parts.machine.memory_mib += 1,
        &|parts| {
            let mut files = parts.acpi.clone().into_files();
            files.entry("etc/acpi/tables".into()).or_default()[0] ^= 1;
            parts.acpi = Tables::insecure_from(files);
        },
        &|parts| parts.root = None,
        &|parts| {
            put("another", b"another program");
            parts.init = directory.path().join("another");
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert_ne!(same, digest(change), "change {number}");
    }
    assert_eq!(same, digest(&|_| {}));
    assert_ne!(
        same,
        digest(&|parts| {
            put("other.json", b"[]");
            let root = parts.root.as_mut().expect("it has one");
            root.models[0].files[0].1 = directory.path().join("other.json");
        })
    );
}

#[test]
fn an_image_is_known_again_only_if_it_is_the_one_that_would_be_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let (out, store) = (
        directory.path().join("out"),
        Store::at(directory.path().join("store")),
    );
    let memory = |change: &dyn Fn(&mut Parts)| {
        let mut made = parts(directory.path(), false);
        change(&mut made);
        BuildCache::of(&store, &Draft::of(made).expect("a draft")).expect("a key")
    };
    let same = memory(&|_| {});
    let image = image(parts(directory.path(), false), &out).expect("made");
    assert_eq!(same.find(&out), None, "nobody has said so yet");
    same.keep(&image).expect("kept");
    assert_eq!(same.find(&out), Some(image));
    assert_eq!(
        memory(&|parts| parts.cmdline.push("quiet".into())).find(&out),
        None
    );
    assert_eq!(same.find(directory.path()), None);
    for (name, (_, bytes)) in bytes(&out) {
        let (mut changed, path) = (bytes.clone(), out.join(&name));
        changed[bytes.len() / 2] ^= 1;
        fs::write(&path, &changed).expect("written");
        assert_eq!(same.find(&out), None, "{name} changed");
        fs::write(&path, &bytes[1..]).expect("written");
        assert_eq!(same.find(&out), None, "{name} cut");
        fs::remove_file(&path).expect("removed");
        assert_eq!(same.find(&out), None, "{name} gone");
        fs::write(&path, &bytes).expect("written");
        assert!(same.find(&out).is_some(), "{name} back");
    }
}

#[test]
fn a_directory_that_holds_something_else_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("out");
    fs::create_dir(&out).expect("made");
    image(parts(directory.path(), false), &out).expect("an empty one will do");
    image(parts(directory.path(), false), &out).expect("so will an image");
    let occupied = |out: &Path| {
        OutputDir::claim(out).is_err_and(|error| error.to_string().contains("holds no image"))
    };
    let home = directory.path().join("home");
    fs::create_dir(&home).expect("made");
    fs::write(home.join("letters"), b"dear").expect("written");
    assert!(occupied(&home) && occupied(&home.join("letters")) && occupied(Path::new("/")));
    assert_eq!(fs::read(home.join("letters")).expect("there"), b"dear");

    // A link where the new directory goes would have its target cleared.
    let linked = directory.path().join("linked");
    symlink(&home, directory.path().join(".linked.new")).expect("linked");
    assert!(OutputDir::claim(&linked).is_err());
    assert!(home.join("letters").exists());
}

#[test]
fn two_builds_do_not_write_one_image_and_a_failure_leaves_the_old_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("out");
    let first = OutputDir::claim(&out).expect("free");
    let busy = OutputDir::claim(&out).expect_err("the first one has it");
    assert!(busy.to_string().starts_with("another build is writing "));
    fs::write(first.directory().join("half"), b"an image").expect("written");
    drop(first);
    assert!(!out.exists());

    image(parts(directory.path(), false), &out).expect("made");
    let before = bytes(&out);
    let fails = |_: &Path, _: &str, _: &[Entry]| Command::new("false");
    let place = OutputDir::claim(&out).expect("an image");
    let draft = Draft::of(parts(directory.path(), false)).expect("a draft");
    let error = draft.write(&fails, place.directory(), &mut |_| {});
    let error = error.map(drop).expect_err("mkfs fails");
    assert_eq!(error.fault(), Fault::Tool, "{error}");
    assert!(error.to_string().starts_with("mkfs.erofs "), "{error}");
    drop(place);
    assert_eq!(bytes(&out), before);
    let left: Vec<_> = fs::read_dir(directory.path())
        .expect("a directory")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    // What a killed build left is cleared, whatever its mode.
    let killed = directory.path().join(".out.new");
    fs::create_dir_all(killed.join("deep")).expect("made");
    fs::write(killed.join("deep/root.img"), b"half").expect("written");
    fs::set_permissions(&killed, Permissions::from_mode(0o700)).expect("set");
    image(parts(directory.path(), false), &out).expect("made");
    assert_eq!(bytes(&out), before);
}
