//! The unified kernel image that the builder made, and the disk with it: what a machine measures of them, by the log of its
//! software TPM, is what their manifest says, event by event. RTMR0 is another matter: a machine without a direct boot has
//! other boot options.

use crate::common;
use anyhow::Context;
use image_builder::formats::uki::STUB_PATH;
use image_builder::image::disk;
use image_builder::image::disk::BOOT_PATH;
use image_builder::lock::{PackageLock, Role};
use image_builder::store::{Store, ensure_tree};
use memchr::memmem;
use predict::{
    Boot, BootMethod, Edk2Release, KernelHeader, PredictedEvent, authenticode::authenticode,
};
use predict::{
    image::{ImageManifest, UkiRegisters},
    qemu::{Accelerator, Backends, MachineSize, Vsock, qemu_arguments},
};
use registers::Register;
use sha2::{Digest, Sha256};
use simulator::{BootError, Event, events_in_log};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tests::image::Built;
use tests::tools::Tools;
use tests::{Child, workspace_root};

/// A quiet machine without KVM takes a quarter of a minute until its kernel runs.
const PATIENCE: Duration = Duration::from_secs(300);
const SIZE: MachineSize = MachineSize {
    vcpus: 2,
    memory_mib: 1024,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_unified_kernel_image_measures_what_was_predicted() {
    let Some(lab) = Lab::new().await else { return };
    another_reader_agrees(&lab, &lab.read("image.efi"));
    let booted = lab.boot(Some(("/image/image.efi", "")), None);
    same(&booted, &lab.uki().kernel_events);
}

/// QEMU 10.0.13 with an OVMF of edk2 2022.11, which takes the kernel with QEMU's header: what the log of a TPM has of three such
/// boots of the kernel in the committed lock. That firmware is in no lock of ours, so they are not repeated here.
#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_with_qemus_header_is_what_an_older_firmware_measured() {
    let Some(lab) = Lab::new().await else { return };
    let kernel = fs::read(lab.image.join("kernel")).unwrap();
    if hex::encode(Sha256::digest(&kernel)) != OLDER_KERNEL {
        return without::skip(
            "an older firmware's boots",
            "the kernel is not the one of those boots",
        );
    }
    let initrd = [0; OLDER_INITRD_BYTES];
    for (memory_mib, initrd, measured) in [
        (1024, Some(&initrd[..]), OLDER_1024_MIB),
        (3072, Some(&initrd[..]), OLDER_3072_MIB),
        (1024, None, OLDER_WITHOUT_INITRD),
    ] {
        let boot = Boot::Direct {
            kernel: &kernel,
            initrd,
            cmdline: "console=ttyS0 panic=-1",
            header: KernelHeader::of("10.0.13", Edk2Release::FIRST, false, memory_mib).unwrap(),
        };
        let predicted = boot.events(Edk2Release::FIRST).unwrap();
        assert_eq!(predicted[0].digest.to_string(), measured);
    }
}

/// Stub, kernel, boot loader and image have the digests that Google's `authenticode` gives them.
fn another_reader_agrees(lab: &Lab, uki: &[u8]) {
    let read = |path: &Path| fs::read(path).unwrap();
    let stub = read(&lab.stub);
    let loader = read(&lab.stub.with_file_name("systemd-bootx64.efi"));
    let kernel = read(&lab.image.join("kernel"));
    for program in [&stub, &loader, &kernel, uki] {
        let file = pe::read::pe::PeFile64::parse(program).unwrap();
        let mut hash = sha2_of_authenticode::Sha384::default();
        authenticode::authenticode_digest(&file, &mut hash).unwrap();
        let theirs = sha2_of_authenticode::Digest::finalize(hash);
        assert_eq!(authenticode(program).unwrap().0, theirs[..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long tier: three boots"]
async fn it_does_so_from_its_disk_through_a_loader_and_with_a_passed_command_line() {
    let Some(lab) = Lab::new().await else { return };
    let booted = lab.boot(None, Some("/image/disk.img"));
    same(&booted, &lab.uki().disk_events);
    lab.until("stage0 starts the agent of the disk's root", || {
        let serial = fs::read(lab.directory.path().join("serial.log")).ok()?;
        memmem::find(&serial, b"stage0: starting the agent").map(drop)
    });
    drop(booted);

    let uki = lab.read("image.efi");
    let append = "console=ttyS0 panic=-1";
    let boot = Boot::Uki {
        uki: &uki,
        method: BootMethod::Kernel {
            append: Some(append),
        },
    };
    let over_kernel = Some(("/image/image.efi", append));
    same(
        &lab.boot(over_kernel, None),
        &boot.events(Edk2Release::STABLE202502).unwrap(),
    );

    let loader = fs::read(lab.stub.with_file_name("systemd-bootx64.efi")).unwrap();
    let path = lab.directory.path().join("disk.img");
    let disk = File::create_new(&path).unwrap();
    let parts = disk::Parts {
        files: &[(BOOT_PATH, &loader), ("EFI/LINUX/CHRYSALI.EFI", &uki)],
        root: None,
    };
    disk::write(&parts, &disk).unwrap();
    let boot = Boot::Uki {
        uki: &uki,
        method: BootMethod::Disk {
            table: &fs::read(path).unwrap()[..1 << 20],
            loader: Some(&loader),
        },
    };
    let disk = Some("/lab/disk.img");
    same(
        &lab.boot(None, disk),
        &boot.events(Edk2Release::STABLE202502).unwrap(),
    );
}

/// A direct boot without an initrd, which no image of this repository has.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long tier: a boot"]
async fn a_direct_boot_without_an_initrd_measures_what_was_predicted() {
    let Some(lab) = Lab::new().await else { return };
    let kernel = fs::read(lab.image.join("kernel")).unwrap();
    let cmdline = "console=ttyS0 panic=-1";
    let boot = Boot::Direct {
        kernel: &kernel,
        initrd: None,
        cmdline,
        header: KernelHeader::AsOnDisk,
    };
    let booted = lab.boot(Some(("/image/kernel", cmdline)), None);
    same(&booted, &boot.events(Edk2Release::STABLE202502).unwrap());
}

/// RTMR1 and RTMR2, each event in its order.
fn same(booted: &Booted, predicted: &[PredictedEvent]) {
    for (index, register) in [(1, Register::Rtmr1), (2, Register::Rtmr2)] {
        let of = |event: &&PredictedEvent| event.register == register;
        let predicted = predicted.iter().filter(of);
        let predicted: Vec<_> = predicted.map(|event| event.digest).collect();
        let seen = booted.measured.iter().filter(|event| event.rtmr == index);
        let seen: Vec<_> = seen.map(|event| event.digest).collect();
        assert_eq!(predicted, seen, "{register:?}");
        assert!(!predicted.is_empty(), "{register:?} has events");
    }
}

/// A machine whose kernel has left the firmware. It ends with this value.
struct Booted {
    measured: Vec<Event>,
    _programs: [Child; 2],
}

/// An image, the tools of its lock, and a directory.
struct Lab {
    image: PathBuf,
    stub: PathBuf,
    tools: Tools,
    directory: tempfile::TempDir,
}

impl Lab {
    async fn new() -> Option<Lab> {
        let image = common::made(|programs| {
            let built = Built::from_recipe(programs, "sim", true)?;
            let lock = built.fresh_lock.clone();
            let lock = lock.unwrap_or(workspace_root().join("image-builder/recipes/sim.lock.json"));
            let store =
                Store::from_environment().context("a home directory, or CHRYSALIS_STORE")?;
            let lock = PackageLock::read(&lock)?;
            let tree = ensure_tree(&store, &lock, &lock.closure(Role::Run), &mut |_| ())?;
            Ok((built, tree.join(STUB_PATH)))
        });
        let (image, stub) = image.await?;
        Some(Lab {
            image: image.dir,
            stub,
            tools: Tools::read(&image.tools).unwrap(),
            directory: tempfile::Builder::new()
                .prefix("chrysalis-")
                .tempdir()
                .unwrap(),
        })
    }

    /// A file of the image.
    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.image.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// What the manifest says of the unified kernel image.
    fn uki(&self) -> UkiRegisters {
        let manifest = ImageManifest::from_json(&self.read("manifest.json")).unwrap();
        manifest.uki.clone().expect("the image has one")
    }

    /// Boots a program with a command line, or from a disk, and gives what was measured until its kernel left the firmware.
    fn boot(&self, program: Option<(&str, &str)>, disk: Option<&str>) -> Booted {
        for left in ["tpm.sock", "tpm.log", "tpm/tpm2-00.permall"] {
            let _ = fs::remove_file(self.directory.path().join(left));
        }
        fs::create_dir_all(self.directory.path().join("tpm")).unwrap();
        let tpm = self.start_tpm();
        let boot = program.map(|(kernel, cmdline)| predict::qemu::Boot {
            kernel,
            initrd: None,
            cmdline,
        });
        let arguments = qemu_arguments(
            SIZE,
            Accelerator::Tcg,
            &Backends {
                firmware: "/image/firmware.fd",
                boot,
                root: disk,
                model: None,
                vsock: Vsock::StandIn,
                gpu: None,
                tpm: Some("/lab/tpm.sock"),
                serial: Some("/lab/serial.log"),
                qmp: &[],
            },
        );
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let images = [(self.image.as_path(), "/image")];
        let directory = [(self.directory.path(), "/lab")];
        let qemu = self
            .tools
            .start("qemu", &images, &directory, &words)
            .unwrap();
        let measured = self.until("the boot is over", || {
            let log = File::open(self.directory.path().join("tpm.log")).ok()?;
            match events_in_log(BufReader::new(log)) {
                Err(BootError::NotOver) => None,
                events => Some(events.unwrap()),
            }
        });
        Booted {
            measured,
            _programs: [qemu, tpm],
        }
    }

    fn start_tpm(&self) -> Child {
        let directory = [(self.directory.path(), "/lab")];
        let words = "socket --tpm2 --tpmstate dir=/lab/tpm --ctrl type=unixio,path=/lab/tpm.sock \
             --log file=/lab/tpm.log,level=20 --seccomp action=none --flags not-need-init,startup-clear";
        let words: Vec<&str> = words.split_whitespace().collect();
        let tpm = self.tools.start("swtpm", &[], &directory, &words).unwrap();
        let socket = self.directory.path().join("tpm.sock");
        self.until("swtpm has a socket", || socket.exists().then_some(()));
        tpm
    }

    fn until<T>(&self, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(value) = done() {
                return value;
            }
            if begun.elapsed() > PATIENCE {
                let serial = fs::read(self.directory.path().join("serial.log"));
                let serial = serial.unwrap_or_default();
                panic!("waited until {what}; serial: {}", serial.escape_ascii());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Debian's 6.12.107-1, SHA-256.
const OLDER_KERNEL: &str = "d1bc2c60a78ae6979736d081bc3c90e45ace6baf414f767dff588e319d3492bd";
/// The initrd's length is in the header, its contents are not.
const OLDER_INITRD_BYTES: usize = 1407;
const OLDER_1024_MIB: &str = "a2b6b6f9c98a7aebf28c2941fc358b8d5b048cb8094d7b810ad265d5c0001e9eb118c97d3191b2dd2baf51f3bb5f82fb";
const OLDER_3072_MIB: &str = "320cc54107f4c5e6fbacb72c3f204740999c9fd013621fb0f46044f3cb0dad6a0ce98616a7fe3948daf58041d6942724";
const OLDER_WITHOUT_INITRD: &str = "01d54675109d69ebf9d45a51ac38084ec4ad6c9f0d76a2ad345527e1bee33bde7680a1e0593845646be3982f5cf520d4";
