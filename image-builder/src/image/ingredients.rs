//! From a recipe and its lock to the parts of an image: fetched, unpacked, compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use attest::Profile;
use predict::{Firmware, FirmwareBuild, acpi::files::AcpiFiles};
use predict::{
    acpi::{Qemu, Tables},
    qemu::{MachineSize, launched_shape},
};
use registers::Digest32;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Model, Parts, RootParts, Step, acpi};
use crate::compile::{Compiler, Linkage, cubins};
use crate::error::{Error, Fault, error};
use crate::files;
use crate::formats::entry::Entry;
use crate::formats::erofs::writer as erofs;
use crate::formats::uki::STUB_PATH;
use crate::lock::ModelLock;
use crate::lock::package_lock::{Package, PackageLock, Role};
use crate::lock::recipe::{Output, Recipe, Root, STUB, Source};
use crate::provenance::SecretKey;
use crate::rootfs as userland;
use crate::rootfs::linkage;
use crate::sandbox::Sandbox;
use crate::store::fetch::ensure_models;
use crate::store::inputs::{self, InputSources, Opened};
use crate::store::packages::{ensure_packages, ensure_tree, tree_key};
use crate::store::{Progress, Store};

/// What an image is to be made of.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// By name.
    pub recipe: &'a Recipe,
    /// By digest.
    pub lock: &'a PackageLock,
    /// The models that are fetched.
    pub models: &'a ModelLock,
    /// The sources of our programs.
    pub workspace: &'a Path,
    /// Where everything is kept.
    pub store: &'a Store,
    /// A library to load into the tools that make the image: the clock of a second build ([`super::repro`]). Never set otherwise.
    pub preload: Option<&'a Path>,
    /// The recipe's file, which the provenance names with its digest.
    pub recipe_file: &'a Path,
    /// Who signs the provenance; none leaves it unsigned.
    pub key: Option<&'a SecretKey>,
}

impl Order<'_> {
    /// The sandbox in which a tool of `tree` runs.
    pub fn sandbox(&self, tree: &Path) -> Sandbox {
        match self.preload {
            Some(library) => Sandbox::new(tree)
                .read(library, PRELOADED)
                .env("LD_PRELOAD", PRELOADED),
            None => Sandbox::new(tree),
        }
    }

    /// The input of the recipe called `name`, as a directory of the store.
    pub(super) fn input(
        &self,
        name: &str,
        progress: &mut dyn FnMut(Step<'_>),
    ) -> Result<Opened, Error> {
        let places = InputSources {
            store: self.store,
            directory: self.recipe_file.parent().unwrap_or(Path::new("")),
            pypi_files_url: Some(self.models.pypi_files_url()),
        };
        let mut fetch = |p: Progress<'_>| progress(Step::Fetch(p));
        inputs::open(places, self.recipe, self.lock, name, &mut fetch)
    }
}

const PRELOADED: &str = "/preload.so";

/// What [`gather`] found.
pub struct Gathered<'a> {
    /// The image's parts.
    pub parts: Parts,
    /// The tree of the tools that make it.
    pub tools: PathBuf,
    /// What compiled its programs.
    pub compiler: Compiler<'a>,
}

/// Fetches, unpacks and compiles.
pub fn gather<'a>(
    order: Order<'a>,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<Gathered<'a>, Error> {
    let Order { recipe, lock, .. } = order;
    lock.check(recipe)?;
    let profile = Profile::parse(&recipe.profile).ok_or_else(|| {
        let got = &recipe.profile;
        error!(
            Recipe,
            "the recipe's profile is `{got}`; this program makes sim, cpu, h100 and dev"
        )
    })?;
    let Trees {
        kernel,
        firmware,
        build,
        run,
    } = trees(order, progress)?;
    let firmware = inside(&firmware, &recipe.firmware.file)?;
    let machine = MachineSize {
        vcpus: recipe.machine.vcpus,
        memory_mib: recipe.machine.memory_mib.into(),
    };

    let compiler = Compiler::new(order.store, order.sandbox(&build), order.workspace)?;
    let compile = |name: &str, linkage, progress: &mut dyn FnMut(Step<'_>)| {
        let program = compiler.compile(name, linkage, &mut |step| progress(Step::Compile(step)))?;
        Ok::<PathBuf, Error>(program.path)
    };
    // Before minutes of compiling.
    let firmware_build = firmware_build(recipe, &firmware)?;
    let bytes = files::read(&firmware, predict::limits::FIRMWARE_BYTES_MAX as u64)?;
    Firmware::new(&bytes, firmware_build).map_err(Error::of(Fault::Recipe, ""))?;
    let init = compile(&recipe.initrd.init, Linkage::Static, progress)?;
    let mut root = None;
    if let Some(wanted) = &recipe.root {
        let userland = userland(order, wanted, progress)?;
        let mut programs = Vec::new();
        for name in &wanted.programs {
            let path = compile(name, Linkage::Dynamic, progress)?;
            linkage::program::check(&path, &build, &userland)?;
            programs.push((name.clone(), path));
        }
        root = Some(RootParts {
            userland,
            agent: compile(&wanted.agent, Linkage::Static, progress)?,
            programs,
            cubins: cubins(order, &compiler, &build, progress)?,
            models: find_models(order, &wanted.models, &mut |p| progress(Step::Fetch(p)))?,
        });
    }
    let stub = match recipe.outputs().contains(&Output::Uki) {
        true => Some(inside(&run, STUB_PATH)?),
        false => None,
    };
    let acpi = tables(order, &run, &firmware, profile, machine, progress)?;
    let parts = Parts {
        profile,
        lock_sha256: lock.digest(),
        compiler: compiler.version().to_owned(),
        packages: packages(recipe, lock),
        firmware_build,
        firmware,
        kernel: super::kernel::kernel(order, &kernel, progress)?,
        kernel_from: from(lock.kernel_modules()),
        modules: recipe.initrd.modules.clone(),
        init,
        root,
        stub,
        disk: recipe.outputs().contains(&Output::Disk),
        cmdline: recipe.cmdline.clone(),
        machine,
        acpi,
    };
    Ok(Gathered {
        parts,
        tools: build,
        compiler,
    })
}

struct Trees {
    kernel: PathBuf,
    firmware: PathBuf,
    build: PathBuf,
    run: PathBuf,
}

/// Fetches and unpacks what is no part of the root, and beside it the root's packages.
fn trees(order: Order<'_>, progress: &mut dyn FnMut(Step<'_>)) -> Result<Trees, Error> {
    let Order { lock, store, .. } = order;
    let root = lock.closure(Role::Root);
    let missing = !root.is_empty() && !userland::is_there(store, &root);
    if missing {
        progress(Step::Tree("user space of the root"));
        let progress = &mut |p: Progress<'_>| progress(Step::Fetch(p));
        ensure_packages(store, lock, &root, progress)?;
    }
    thread::scope(|scope| {
        let userland =
            missing.then(|| scope.spawn(|| userland::unpack_fetched(store, &root, &mut |_| {})));
        let mut tree = |what, packages: &[&Package]| {
            progress(Step::Tree(what));
            ensure_tree(store, lock, packages, &mut |p| progress(Step::Fetch(p)))
        };
        let trees = Trees {
            kernel: tree("kernel", &lock.kernel_packages())?,
            firmware: tree("firmware", &[lock.firmware()])?,
            build: tree("tools that make the image", &lock.closure(Role::Build))?,
            run: tree("tools that run it", &lock.closure(Role::Run))?,
        };
        if let Some(userland) = userland {
            userland.join().expect("unpacking does not panic")?;
        }
        Ok(trees)
    })
}

/// `mkfs.erofs` of a tree, in the sandbox: it reads its standard input, writes one directory, and sees nothing else.
pub fn mkfs(sandbox: Sandbox) -> impl Fn(&Path, &str, &[Entry]) -> std::process::Command {
    move |directory, name, entries| {
        let arguments = erofs::arguments(entries, &format!("/out/{name}"));
        let sandbox = sandbox.clone().write(directory, "/out");
        sandbox.command("/usr/bin/mkfs.erofs", arguments)
    }
}

/// What the root's packages make of it, and what was not run for that.
fn userland(
    order: Order<'_>,
    wanted: &Root,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<Vec<Entry>, Error> {
    let packages = order.lock.closure(Role::Root);
    let files = super::root_files::entries(order, progress)?;
    if packages.is_empty() {
        userland::linkage::check(&files, &wanted.libraries)?;
        return Ok(files);
    }
    let mut unpacked = userland::ensure(order.store, order.lock, &packages, &mut |p| {
        progress(Step::Fetch(p))
    })?;
    unpacked.add(files)?;
    let made = userland::complete(unpacked, &wanted.ignore_scripts, &wanted.libraries)?;
    for line in &made.not_run {
        progress(Step::NotRun(line));
    }
    Ok(made.entries)
}

/// The root's kernels for a GPU, compiled, with the directories above them.
fn cubins(
    order: Order<'_>,
    compiler: &Compiler<'_>,
    build: &Path,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<Vec<Entry>, Error> {
    let root = order.recipe.root.as_ref();
    let Some(wanted) = root.and_then(|root| root.cubins.as_ref()) else {
        return Ok(Vec::new());
    };
    let nvrtc = order.input(&wanted.compiler, progress)?;
    let job = cubins::Job {
        store: order.store,
        sources: compiler.kernels(&wanted.program)?,
        names: &wanted.names,
        nvrtc: &nvrtc.directory,
        sandbox: order.sandbox(build),
    };
    let mut entries = BTreeMap::new();
    for (name, path) in cubins::ensure(&job, &mut || progress(Step::Cubins))? {
        let inside = format!("{CUBINS}/{name}.cubin");
        let reading = Error::disk("reading", &path);
        let from = format!("{} compiled by {}", wanted.program, nvrtc.from);
        let entry = Entry::disk(&inside, 0o644, path.clone(), from).map_err(reading)?;
        entries.insert(inside, entry);
    }
    Ok(super::root_files::with_directories(entries))
}

/// Where `gpu-worker` finds its kernels.
const CUBINS: &str = "/usr/lib/chrysalis/cubins";

/// A file of a package. A link may point elsewhere in the package and not out of it.
pub(super) fn inside(tree: &Path, file: &str) -> Result<PathBuf, Error> {
    let path = tree.join(file);
    let real = |path: &Path| fs::canonicalize(path).map_err(Error::disk("finding", path));
    let found = real(&path)?;
    match found.starts_with(real(tree)?) {
        true => Ok(found),
        false => Err(error!(Recipe, "{file} leads out of its package")),
    }
}

/// Models by name: those of the model lock, from the store.
fn find_models(
    order: Order<'_>,
    ids: &[String],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<Model>, Error> {
    if !ids.is_empty() {
        ensure_models(order.store, order.models, progress)?;
    }
    let find = |id: &String| {
        let model = order.models.model(id).ok_or_else(|| {
            error!(
                Recipe,
                "the recipe names the model `{id}`, which is not in the model lock"
            )
        })?;
        let directory = order.store.model_dir(id);
        let files = model.all_files();
        let files = files.map(|(name, ..)| (name.to_owned(), directory.join(name)));
        Ok(Model {
            id: id.clone(),
            files: files.collect(),
        })
    };
    ids.iter().map(find).collect()
}

/// The machine's ACPI tables: made from its shape, where those of the locked QEMU are proven; otherwise read from that QEMU,
/// which is said, because then only who runs the same program can check them.
fn tables(
    order: Order<'_>,
    run: &Path,
    firmware: &Path,
    profile: Profile,
    machine: MachineSize,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<Tables, Error> {
    let version = order.lock.package(QEMU).map_or("", |qemu| &qemu.version);
    let made = Qemu::parse(version)
        .and_then(|qemu| predict::acpi::acpi_files(&launched_shape(profile, machine, qemu)));
    match made {
        Ok(tables) => {
            progress(Step::Tables);
            Ok(tables)
        }
        // Nobody has a GPU where an image is built.
        Err(error) if profile == Profile::H100 => Err(error!(
            Recipe,
            "the tables of the recipe's machine with a GPU are not known: {error}"
        )),
        Err(error) => {
            progress(Step::TablesRead(&error));
            // A simulated guest's registers are in a TPM.
            let tpm = profile == Profile::Sim;
            tables_of_qemu(order, run, firmware, machine, tpm).map(Tables::insecure_from)
        }
    }
}

/// As the digest of the file says, or else the recipe.
fn firmware_build(recipe: &Recipe, path: &Path) -> Result<FirmwareBuild<'static>, Error> {
    let bytes = files::read(path, predict::limits::FIRMWARE_BYTES_MAX as u64)?;
    let said = recipe.firmware.edk2.is_some();
    let stated = said.then_some(FirmwareBuild::STABLE202502);
    FirmwareBuild::known(&bytes).or(stated).ok_or_else(|| {
        let sha256 = Digest32::of(&bytes);
        error!(
            Recipe,
            "the firmware (SHA-256 {sha256}) is not known, and its file does not say how it was built: if it is of \
             edk2-stable202502 without Secure Boot, say so in the recipe with `edk2: \"202502\"` beside its name"
        )
    })
}

/// Reading them starts the machine, so the answer is kept: they depend on nothing but the tools, the firmware and the
/// machine's arguments.
fn tables_of_qemu(
    order: Order<'_>,
    run: &Path,
    firmware: &Path,
    machine: MachineSize,
    tpm: bool,
) -> Result<AcpiFiles, Error> {
    let bytes = files::read(firmware, predict::limits::FIRMWARE_BYTES_MAX as u64)?;
    let mut hasher = Sha256::new_with_prefix("chrysalis acpi tables 2\n");
    hasher.update(tree_key(&order.lock.closure(Role::Run)).0);
    hasher.update(Sha256::digest(bytes));
    hasher.update(format!("{machine:?} {tpm}"));
    // A change of the machine's list of devices comes with a new program.
    hasher.update(super::build_cache::this_program()?.0);
    let key = Digest32(hasher.finalize().into()).to_string();
    let kept = order.store.root().join("acpi").join(key);
    if let Ok(bytes) = fs::read(&kept)
        && let Ok(Kept(files)) = serde_json::from_slice(&bytes)
    {
        return Ok(files);
    }
    let files: AcpiFiles = acpi::read(&Sandbox::new(run), firmware, machine, tpm)?
        .into_iter()
        .collect();
    let text = serde_json::to_vec(&Kept(files.clone())).expect("names and bytes have a JSON form");
    files::replace(&kept, &text, 0o644)?;
    Ok(files)
}

#[derive(Serialize, Deserialize)]
struct Kept(AcpiFiles);

/// Debian's package of the program that runs guests.
const QEMU: &str = "qemu-system-x86";

/// Packages that become part of the image or make it, as the manifest lists them.
pub(crate) fn packages(recipe: &Recipe, lock: &PackageLock) -> Vec<predict::image::Package> {
    use predict::image::Role as For;
    let one = |package: &Package, role| predict::image::Package {
        name: package.name.clone(),
        version: package.version.clone(),
        sha256: package.sha256,
        role,
    };
    let mut packages = vec![one(lock.firmware(), For::Firmware)];
    let kernel = lock.kernel_packages();
    packages.extend(kernel.into_iter().map(|package| one(package, For::Kernel)));
    let stub = lock.package(STUB).filter(|_| !recipe.outputs().is_empty());
    packages.extend(stub.map(|package| one(package, For::Stub)));
    let root = lock.closure(Role::Root);
    packages.extend(root.into_iter().map(|package| one(package, For::Root)));
    // Taken without what they depend on: the sources of the kernel's modules, and what has files of the root.
    for input in &recipe.inputs {
        if let Source::Deb { package } = &input.source
            && let Some(package) = lock.alone(&package.name)
        {
            let modules = recipe.modules.as_ref();
            let kernel = modules.is_some_and(|modules| modules.input == input.name);
            packages.push(one(package, if kernel { For::Kernel } else { For::Root }));
        }
    }
    let tools = [Role::Build, Role::Modules].map(|role| lock.closure(role));
    let tools = tools.into_iter().flatten();
    packages.extend(tools.map(|package| one(package, For::Build)));
    let mut seen = BTreeSet::new();
    packages.retain(|package| seen.insert((package.name.clone(), package.role as u8)));
    packages
}

fn from(package: &Package) -> String {
    format!("{} {}", package.name, package.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firmware_that_nobody_knows_is_described_by_its_recipe_or_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("OVMF.fd");
        fs::write(&path, "nobody knows it").expect("written");
        let sim = include_str!("../../recipes/sim.yaml");
        let build = |text: &str| firmware_build(&Recipe::parse(text).expect("a recipe"), &path);
        for release in ["202502", "2025.02", "edk2-stable202502"] {
            let described = format!("OVMF.fd, edk2: \"{release}\"}}");
            let found = build(&sim.replacen("OVMF.fd}", &described, 1)).expect("described");
            assert_eq!(found, FirmwareBuild::STABLE202502);
        }
        let refused = build(sim).expect_err("not described").to_string();
        assert!(refused.contains("edk2: \"202502\""), "{refused}");
    }
}
