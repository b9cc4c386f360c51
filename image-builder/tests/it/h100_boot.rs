//! The image for H100 in an emulated machine, with and without a device that says it is an H100.
//!
//! The device is QEMU's `pci-testdev`, which a module of this test gives NVIDIA's ids before the driver is offered it. That module lies
//! in the initrd in the place of `tdx_guest`, which loads in trust domains only, and one with known answers for the driver's
//! cryptography after all others. The rest are the bytes of the image. Both modules are compiled here, as the driver is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use image_builder::compile::Kernel;
use image_builder::compile::out_of_tree::{self, Job};
use image_builder::error::Error;
use image_builder::formats::cpio;
use image_builder::lock::{PackageLock, Recipe, Role};
use image_builder::sandbox::Sandbox;
use image_builder::store::{Store, ensure_tree};
use tempfile::TempDir;

use crate::host_sandbox::IMAGE_BUILDER;

/// A quiet machine without KVM boots in half a minute.
const PATIENCE: Duration = Duration::from_secs(600);

#[test]
#[ignore = "long tier: compiles the image for H100, and boots it three times without KVM"]
fn its_driver_stops_the_boot_without_a_gpu_and_loads_for_one_that_then_does_not_answer() {
    let lab = Lab::new();

    let without = lab.boot("initrd", CONSOLE, &[]);
    let has = |text: &str| assert!(without.contains(text), "no `{text}` in:\n{without}");
    has("NVRM: No NVIDIA GPU found");
    has("nvidia.ko failed (ENODEV)");
    assert!(!without.contains("is an H100"), "{without}");
    assert!(!without.contains("stage0: modules loaded"), "{without}");

    let with = lab.boot("initrd", CONSOLE, &["-device", "pci-testdev"]);
    let has = |text: &str| assert!(with.contains(text), "no `{text}` in:\n{with}");
    has("is an H100");
    has("NVRM: loading NVIDIA UNIX Open Kernel Module");
    has("stand_in: device 195 nvidia");
    has("nvidia-uvm");
    has("known_answers: 12 of 12");
    // Every module loaded. What the driver's probe says of a device that it knows and cannot use: one that it does not know would be
    // ENODEV, and passed by.
    has("binding the driver nvidia to its device failed (EPERM)");
    assert!(!with.contains("stage0: modules loaded"), "{with}");

    // A driver of ours in the place of NVIDIA's, which takes that device: the root is verified, and the agent in it is the one that
    // stops, because nobody gives it a configuration.
    let line = fs::read_to_string(lab.path("image/cmdline")).expect("the image has one");
    let line = line.replacen("console=null", "console=ttyS0", 1);
    let root = "driver=file,filename=/lab/image/root.img,node-name=root,read-only=on";
    let disk = "virtio-blk-pci,drive=root,addr=0x2,disable-legacy=on";
    let devices = ["-device", "pci-testdev", "-blockdev", root, "-device", disk];
    let driven = lab.boot("driven", &line, &devices);
    for text in [
        "stage0: modules loaded",
        "stage0: root verified",
        "stage0: starting the agent",
        "reading the measured configuration vsock:2:9101: ",
    ] {
        assert!(driven.contains(text), "no `{text}` in:\n{driven}");
    }
    assert!(!driven.contains("\"ready\":true"), "{driven}");
}

/// A module called `nvidia` that compiles and would load, without SPDM: what the driver is where its configure script was misled.
#[test]
#[ignore = "long tier: fetches a compiler and the kernel's headers"]
fn the_builder_refuses_a_driver_that_never_enters_confidential_mode() {
    let locked = Locked::new();
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::at(directory.path());
    let driver = locked.stand_in("nvidia", "source");
    let refused = locked.compile(&driver, STAND_IN.as_ref(), &store);
    let refused = refused.expect_err("no driver").to_string();
    for words in [
        "the module nvidia does not fit kernel 7.",
        "it does not use crypto_alloc_sig",
    ] {
        assert!(refused.contains(words), "{refused}");
    }
}

/// What a boot is seen by.
const CONSOLE: &str = "console=ttyS0 panic=-1 loglevel=7";
/// Where the sources of this test's modules lie.
const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/h100_boot/stand_in");
const QUESTIONS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/it/h100_boot/known_answers"
);

/// The recipe, and what its lock names.
struct Locked {
    recipe: Recipe,
    store: Store,
    lock: PackageLock,
    kernel: Kernel,
}

impl Locked {
    fn new() -> Self {
        let recipe = Recipe::read(&recipe_file()).expect("a recipe");
        let lock = PackageLock::read(&recipe.lock_path(&recipe_file())).expect("a lock");
        let store = Store::from_environment().expect("a home directory, or CHRYSALIS_STORE");
        let kernel = ensure_tree(&store, &lock, &lock.kernel_packages(), &mut |_| ());
        let kernel = Kernel::open(&kernel.expect("fetched")).expect("a kernel");
        Self {
            recipe,
            store,
            lock,
            kernel,
        }
    }

    fn tree(&self, role: Role) -> PathBuf {
        let packages = self.lock.closure(role);
        ensure_tree(&self.store, &self.lock, &packages, &mut |_| ()).expect("fetched")
    }

    /// The recipe with one of the stand-ins in the driver's place, under a name.
    fn stand_in(&self, name: &str, source: &str) -> Recipe {
        let mut recipe = self.recipe.clone();
        let modules = recipe.modules.as_mut().expect("it has modules");
        modules.directory = ".".into();
        modules.objects.clear();
        modules.edits.clear();
        modules.make.push(format!("MODULE={name}"));
        modules.make.push(format!("SOURCE={source}"));
        modules.names = vec![name.into()];
        recipe
    }

    /// The recipe with our questions in the driver's place, and in a directory the driver's sources with ours beside them, without the
    /// half that is compiled.
    fn known_answers(&self, directory: &Path) -> Recipe {
        let mut recipe = self.recipe.clone();
        let modules = recipe.modules.as_mut().expect("it has modules");
        let driver = self.lock.alone("nvidia-open-kernel-dkms").expect("locked");
        let sources = ensure_tree(&self.store, &self.lock, &[driver], &mut |_| ());
        let sources = sources.expect("fetched").join(&modules.directory);
        let copied = directory.join(&modules.directory);
        fs::create_dir_all(&copied).expect("a directory");
        let mut copy = Command::new("cp");
        copy.args(["-r", "--no-preserve=all"])
            .arg(sources.join("."))
            .arg(&copied);
        assert!(copy.status().expect("coreutils").success());
        fs::remove_file(copied.join("nvidia/nv-kernel.o_binary")).expect("it was there");
        let ours = copied.join("known_answers");
        fs::create_dir(&ours).expect("a directory");
        for name in ["known_answers.Kbuild", "questions.c"] {
            fs::copy(Path::new(QUESTIONS).join(name), ours.join(name)).expect("copied");
        }
        modules.objects.clear();
        modules
            .make
            .retain(|word| !word.starts_with("NV_KERNEL_MODULES="));
        modules.make.push("NV_KERNEL_MODULES=known_answers".into());
        modules.names = vec!["known_answers".into()];
        recipe
    }

    /// The one module of a recipe, compiled as the driver is.
    fn compile(&self, recipe: &Recipe, sources: &Path, store: &Store) -> Result<Vec<u8>, Error> {
        let tools = self.tree(Role::Modules);
        let job = Job {
            store,
            wanted: recipe.modules.as_ref().expect("it has modules"),
            sources,
            tools: &tools,
            sandbox: Sandbox::new(&tools).launcher(IMAGE_BUILDER),
            kernel: &self.kernel,
        };
        let compiled = out_of_tree::ensure(&job, &mut |_| ())?;
        Ok(fs::read(&compiled[0].path).expect("it was compiled"))
    }
}

fn recipe_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/h100.yaml")
}

/// QEMU of the image's lock, and a directory with the image and the initrd of this test.
struct Lab {
    qemu: Sandbox,
    directory: TempDir,
}

impl Lab {
    fn new() -> Self {
        let locked = Locked::new();
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let mut build = Command::new(IMAGE_BUILDER);
        build.arg("build").arg(recipe_file());
        build.arg("--out").arg(path("image"));
        assert!(build.status().expect("it starts").success());

        let store = Store::at(path("store"));
        let compile = |name: &str, source: &str| {
            let recipe = locked.stand_in(name, source);
            let module = locked.compile(&recipe, STAND_IN.as_ref(), &store);
            module.expect("it compiles")
        };
        let stand_in = compile("stand_in", "source");
        let questions = locked.known_answers(&path("sources"));
        let questions = locked.compile(&questions, &path("sources"), &store);
        let initrd = fs::read(path("image/initrd")).expect("the image has one");
        let place = |module| file_of(&initrd, module);
        let with = |name: &str, modules: &[(String, Vec<u8>)]| {
            // The kernel unpacks archive after archive, and what comes later wins.
            let mut archive = cpio::Writer::new(Vec::new());
            for (file, module) in modules {
                archive.file(file, 0o644, module).expect("in memory");
            }
            let more = archive.finish().expect("in memory");
            fs::write(path(name), [&initrd[..], &more].concat()).expect("written");
        };
        let last = "modules/99-known_answers.ko".to_owned();
        let questions = (last, questions.expect("it compiles"));
        let stand_in = (place("tdx_guest"), stand_in);
        with("initrd", &[stand_in.clone(), questions]);
        let driver = (place("nvidia"), compile("driven", "driver"));
        let nothing = (place("nvidia_uvm"), compile("nothing", "source"));
        with("driven", &[stand_in, driver, nothing]);
        Self {
            qemu: Sandbox::new(locked.tree(Role::Run)).launcher(IMAGE_BUILDER),
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Boots a machine with these devices more until it stops by itself, and gives what it said.
    fn boot(&self, initrd: &str, line: &str, devices: &[&str]) -> String {
        let initrd = format!("/lab/{initrd}");
        let words = "-accel tcg -M q35 -cpu max -smp 2 -m 2048 -nodefaults -display none -no-reboot \
             -serial file:/lab/serial.log -kernel /lab/image/kernel";
        let append = ["-initrd", &initrd, "-append", line];
        let words = words.split_whitespace().chain(append);
        let qemu = self.qemu.clone().write(self.directory.path(), "/lab");
        let words = words.chain(devices.iter().copied());
        let mut qemu = qemu.command("/usr/bin/qemu-system-x86_64", words);
        let mut qemu = qemu.stdin(Stdio::null()).spawn().expect("it starts");
        let begun = Instant::now();
        while qemu.try_wait().expect("a child").is_none() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(200));
        }
        // It has ended, or has had its time.
        let _ = qemu.kill();
        qemu.wait().expect("a child");
        let serial = fs::read(self.path("serial.log")).expect("it spoke");
        String::from_utf8_lossy(&serial).into_owned()
    }
}

/// Where an initrd has a module.
fn file_of(initrd: &[u8], module: &str) -> String {
    let end = format!("-{module}.ko\0");
    let mut windows = initrd.windows(end.len());
    let at = windows.position(|window| window == end.as_bytes());
    let at = at.expect("it has the module");
    let file = &initrd[at - "modules/00".len()..at + end.len() - 1];
    String::from_utf8(file.to_vec()).expect("a path")
}
