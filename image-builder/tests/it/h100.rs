//! The recipe for H100: what it says, and, in the long tier, that it builds to the same bytes twice.

use std::path::Path;
use std::process::Command;

use image_builder::lock::{PackageLock, Recipe, Role};

const RECIPE: &str = "recipes/h100.yaml";

fn recipe() -> Recipe {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(RECIPE);
    Recipe::read(&path).expect("the committed recipe parses")
}

fn lock() -> PackageLock {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(RECIPE);
    let lock = PackageLock::read(&recipe().lock_path(&path)).expect("the committed lock parses");
    lock.check(&recipe()).expect("it is of the recipe");
    lock
}

#[test]
fn kernel_headers_and_the_driver_are_of_one_version_each() {
    let lock = lock();
    let kernel = lock.kernel();
    let release = kernel.name.strip_prefix("linux-image-").expect("a kernel");
    let headers = format!("linux-headers-{release}");
    let modules = lock.closure(Role::Modules);
    let headers = modules.iter().find(|package| package.name == headers);
    assert_eq!(headers.expect("of this kernel").version, kernel.version);

    // Firmware and libraries refuse a driver of another version; a revision of Debian's does not matter to them.
    let driver = lock.alone("nvidia-open-kernel-dkms").expect("locked");
    let upstream = |version: &str| version.split('-').next().map(str::to_owned);
    for name in [
        "firmware-nvidia-gsp",
        "libcuda1",
        "libnvidia-ml1",
        "libnvidia-pkcs11-openssl3",
    ] {
        let package = lock.alone(name).expect(name);
        assert_eq!(
            upstream(&package.version),
            upstream(&driver.version),
            "{name}"
        );
    }
    let directory = &recipe().modules.expect("it has modules").directory;
    let version = upstream(&driver.version).expect("a version");
    assert!(directory.ends_with(&format!("-{version}")), "{directory}");
    let root = recipe().root.expect("it has a root");
    let firmware = format!("usr/lib/firmware/nvidia/{version}/gsp_ga10x.bin");
    assert!(
        root.files.iter().any(|file| file.to == firmware),
        "{firmware}"
    );
}

#[test]
fn the_root_has_what_asks_the_gpu_and_nothing_that_compiles_for_it() {
    let root = recipe().root.expect("it has a root");
    assert_eq!(root.programs, ["gpu-worker"]);
    let files = root.files.iter().map(|file| &file.to);
    for name in files.chain(&root.libraries) {
        for compiler in ["nvrtc", "ptxjit", "nvvm", "include", "cuda/"] {
            assert!(!name.contains(compiler), "{name}");
        }
    }
    // Each file is named by itself: none brings what else its input has.
    for file in &root.files {
        let name = file.to.rsplit('/').next().expect("a name");
        assert!(name.contains(".so") || name.ends_with(".bin"), "{name}");
        assert!(
            ["nvidia-gsp", "libcuda", "libnvidia-ml", "libnvidia-pkcs11"].contains(&&*file.input)
        );
    }
    for package in lock().closure(Role::Root) {
        let name = &package.name;
        assert!(!name.contains("nvidia") && !name.contains("cuda"), "{name}");
    }
}

#[test]
fn nothing_of_the_recipe_speaks_or_takes_modules_that_it_does_not_list() {
    let recipe = recipe();
    let modules = &recipe.initrd.modules;
    let names = &recipe.modules.as_ref().expect("it has modules").names;
    for name in names {
        assert!(
            modules.contains(&name.replace('-', "_")),
            "{name} is compiled and not loaded"
        );
    }
    // What `cpu` says on the same kernel, but for modules that Debian did not sign.
    let cpu = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/cpu.yaml");
    let mut cpu = Recipe::read(&cpu).expect("a recipe").cmdline;
    cpu.retain(|word| word != "module.sig_enforce=1");
    let sorted = |mut words: Vec<String>| {
        words.sort();
        words
    };
    assert_eq!(sorted(recipe.cmdline.clone()), sorted(cpu));
    // Without a program that loads modules no request of the kernel's is answered.
    let lock = lock();
    let root = lock.closure(Role::Root);
    assert!(!root.iter().any(|package| package.name == "kmod"));
}

/// Two builds with everything compiled twice, in circumstances that should not matter.
#[test]
#[ignore = "compiles the driver and the agent twice: most of an hour on two cores"]
fn the_image_for_h100_builds_to_the_same_bytes_twice() {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join(RECIPE);
    let output = Command::new(env!("CARGO_BIN_EXE_image-builder"))
        .arg("repro-check")
        .arg(recipe)
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert_eq!(said.lines().last(), Some("identical"), "{errors}");
}
