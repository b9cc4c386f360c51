//! The image: what goes in, and the files that come out.
//!
//! ```text
//! Parts (checked, on this disk) -> Draft (every byte known by its digest) -> directory: firmware.fd kernel initrd cmdline root.img
//!                                                                           image.efi disk.img manifest.json, provenance
//! ```
//! Trusts the trees and programs that it is given: they come from the lock by digest, and from the compiler in the sandbox.
//! Promises that the same parts make the same bytes, whoever builds, where, and when; and that a directory which is there is whole.

pub mod acpi;
mod boot_disk;
mod build_cache;
pub mod disk;
pub(crate) mod ingredients;
mod initrd;
mod kernel;
mod manifest;
mod materials;
mod output_dir;
pub mod repro;
mod root;
mod root_files;
pub mod tools;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use attest::Profile;
use predict::acpi::Tables;
use predict::image::{BootRegisters, ImageManifest};
use predict::{Boot, Firmware, FirmwareBuild, Inputs, KernelHeader, PageOrder, Platform};
use registers::{Digest32, VerityRoot};
use sha2::{Digest as _, Sha256};

use crate::compile::kernel_modules::Kernel;
use crate::compile::out_of_tree;
use crate::error::{Error, Fault};
use crate::files;
use crate::formats::entry::{Entry, What};
use crate::limits::PROGRAM_BYTES_MAX;
pub use crate::provenance::{CMDLINE, MANIFEST};
use crate::provenance::{ENVELOPE, Materials, SBOM, STATEMENT, Sha1s};
use crate::store::Progress;
use crate::{compile, provenance};
pub use build_cache::BuildCache;
use build_cache::Kept;
use ingredients::Gathered;
pub use ingredients::{Order, mkfs};
use manifest::Measured;
pub use output_dir::{OutputDir, abandon};
pub(crate) use root::AGENT;

/// Makes the image of a recipe in the directory `out`, unless it is there already.
pub fn build(
    order: Order<'_>,
    out: &Path,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<Built, Error> {
    // First of all, so that a directory that cannot be used is known before the long work.
    let place = OutputDir::claim(out)?;
    let Gathered {
        parts,
        tools,
        compiler,
    } = ingredients::gather(order, progress)?;
    let draft = Draft::of(parts)?;
    let memory = BuildCache::of(order.store, &draft)?;
    let materials = materials::gather(order, &compiler)?;
    if let Some(image) = memory.find(out)
        && has_provenance(&order, &image, &materials, out)?
    {
        return Ok(Built::Already(image));
    }
    let mkfs = ingredients::mkfs(order.sandbox(&tools));
    // Reading all files once more takes its time, which the other core has.
    let (image, inside) = thread::scope(|scope| {
        let inside = scope.spawn(|| draft.sha1s());
        let image = draft.write(&mkfs, place.directory(), progress);
        (image, inside.join().expect("reading files does not panic"))
    });
    let (image, beside) = image?;
    if let Some(manifest) = &image.manifest {
        progress(Step::Provenance);
        let mut sha1s = inside?;
        sha1s.extend(beside);
        provenance::write(place.directory(), manifest, &materials, sha1s, order.key)?;
        Kept::of(order.store, manifest, &materials)?.keep(place.directory())?;
    }
    settle(place.directory())?;
    place.put()?;
    memory.keep(&image)?;
    Ok(Built::New(image))
}

/// Whether an image that is there has the provenance that it would be given, signed if it is to be.
fn has_provenance(
    order: &Order<'_>,
    image: &Image,
    materials: &Materials,
    out: &Path,
) -> Result<bool, Error> {
    let Some(manifest) = &image.manifest else {
        return Ok(true);
    };
    if !Kept::of(order.store, manifest, materials)?.are_in(out) {
        return Ok(false);
    }
    if let Some(key) = order.key {
        provenance::sign(out, key)?;
    }
    Ok(true)
}

/// What came of [`build`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Built {
    /// It was made.
    New(Image),
    /// It was there, whole.
    Already(Image),
}

/// What an image is made of.
pub struct Parts {
    /// What it is for.
    pub profile: Profile,
    /// Of the package lock.
    pub lock_sha256: Digest32,
    /// With its version.
    pub compiler: String,
    /// Those that became part of the image or made it.
    pub packages: Vec<predict::image::Package>,
    /// OVMF.
    pub firmware: PathBuf,
    /// How it was built, which its file does not say.
    pub firmware_build: FirmwareBuild<'static>,
    /// The kernel's tree.
    pub kernel: Kernel,
    /// The kernel's package and version.
    pub kernel_from: String,
    /// Modules that the initrd loads.
    pub modules: Vec<String>,
    /// The program that becomes `/init`.
    pub init: PathBuf,
    /// What the initrd mounts.
    pub root: Option<RootParts>,
    /// systemd's stub, if kernel, initrd and command line are to be one program, too. Only an image with a root has one.
    pub stub: Option<PathBuf>,
    /// Whether that program and the root are to be on one disk, too.
    pub disk: bool,
    /// Words of the command line.
    pub cmdline: Vec<String>,
    /// The machine to predict for.
    pub machine: predict::qemu::MachineSize,
    /// Its ACPI tables.
    pub acpi: Tables,
}

/// What a root is made of.
pub struct RootParts {
    /// What Debian's packages make of it.
    pub userland: Vec<Entry>,
    /// The program that becomes `/agent`.
    pub agent: PathBuf,
    /// Programs that it starts, each at its name: `/gpu-worker`.
    pub programs: Vec<(String, PathBuf)>,
    /// Kernels of a GPU, each at its path, with the directories above them.
    pub cubins: Vec<Entry>,
    /// Its models.
    pub models: Vec<Model>,
}

/// A model's files: their names, and where they lie.
pub struct Model {
    /// The name that clients ask for.
    pub id: String,
    /// Name and place of each.
    pub files: Vec<(String, PathBuf)>,
}

/// Makes the command that runs `mkfs.erofs` for these entries and writes the named file of a directory.
pub type Mkfs<'a> = dyn Fn(&Path, &str, &[Entry]) -> Command + 'a;

/// What is being done, for a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Something is fetched or unpacked.
    Fetch(Progress<'a>),
    /// Packages become a tree: which.
    Tree(&'a str),
    /// A script of a package of the root is not run, and why that is right.
    NotRun(&'a str),
    /// One of our programs is compiled.
    Compile(compile::Step<'a>),
    /// Kernel modules are compiled.
    Modules(out_of_tree::Step<'a>),
    /// Kernels of a GPU are compiled.
    Cubins,
    /// The machine's ACPI tables are made from its shape.
    Tables,
    /// They are read from the locked QEMU, because they are not proven.
    TablesRead(&'a predict::acpi::AcpiError),
    /// Kernel and initrd are written.
    Initrd,
    /// The root's file system and its hash tree are written.
    Root,
    /// The unified kernel image and the disk are written.
    BootDisk,
    /// The registers are predicted.
    Measure,
    /// Bill of materials and provenance are written.
    Provenance,
}

/// An image that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The manifest. An image without a root has none: the manifest describes a whole guest.
    pub manifest: Option<ImageManifest>,
    /// What it measures to.
    pub registers: BootRegisters,
}

/// An image before the slow part: all that goes in, by digest.
pub struct Draft {
    parts: Parts,
    firmware: Vec<u8>,
    kernel: Vec<u8>,
    initrd: Vec<u8>,
    stub: Option<Vec<u8>>,
    initrd_entries: Vec<Entry>,
    root_entries: Option<Vec<Entry>>,
}

impl Draft {
    /// Reads the parts.
    pub fn of(parts: Parts) -> Result<Self, Error> {
        let read = |path: &Path, bytes_max: usize| files::read(path, bytes_max as u64);
        let firmware = read(&parts.firmware, predict::limits::FIRMWARE_BYTES_MAX)?;
        let kernel = read(parts.kernel.image(), predict::limits::KERNEL_BYTES_MAX)?;
        let modules = parts.kernel.load_order(&parts.modules)?;
        let init = read(&parts.init, PROGRAM_BYTES_MAX)?;
        let stub = parts.stub.as_deref();
        let stub = stub.map(|stub| read(stub, PROGRAM_BYTES_MAX)).transpose()?;
        let initrd_entries = initrd::entries(init, modules, &parts.kernel_from);
        let disk = Error::disk("writing", Path::new(INITRD));
        let initrd = initrd::write(&initrd_entries).map_err(disk)?;
        let entries = |root| root::entries(root, parts.profile);
        let root_entries = parts.root.as_ref().map(entries).transpose()?;
        Ok(Self {
            parts,
            firmware,
            kernel,
            initrd,
            stub,
            initrd_entries,
            root_entries,
        })
    }

    /// SHA-1 of each file inside, by its path.
    pub fn sha1s(&self) -> Result<Sha1s, Error> {
        let entries = self.root_entries.iter().flatten();
        let mut found = Sha1s::new();
        for entry in self.initrd_entries.iter().chain(entries) {
            if let What::File { source, .. } = &entry.what {
                let sha1 = source.open().and_then(provenance::sha1_of_stream);
                let disk = Error::disk("reading", Path::new(&entry.path));
                found.insert(entry.path.clone(), sha1.map_err(disk)?);
            }
        }
        Ok(found)
    }

    /// Stands for everything that decides the image's bytes, but for this program itself.
    pub fn digest(&self) -> Digest32 {
        let mut hasher = Sha256::new_with_prefix("chrysalis image 1\n");
        let mut add = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        let Parts {
            profile,
            lock_sha256,
            compiler,
            packages,
            machine,
            cmdline,
            acpi,
            disk,
            ..
        } = &self.parts;
        add(format!("{profile:?} {lock_sha256} {compiler} {machine:?} {packages:?}").as_bytes());
        add(format!("{cmdline:?} {disk}").as_bytes());
        let stub = self.stub.as_deref().unwrap_or_default();
        for bytes in [&self.firmware, &self.kernel, &self.initrd, stub] {
            add(bytes);
        }
        for (name, bytes) in acpi.iter() {
            add(name.as_bytes());
            add(bytes);
        }
        let entries = self.root_entries.iter().flatten();
        for entry in self.initrd_entries.iter().chain(entries) {
            add(entry.line().as_bytes());
        }
        Digest32(hasher.finalize().into())
    }

    /// Writes the image into `directory`, which is empty. Returns SHA-1 of its files, too.
    pub fn write(
        &self,
        mkfs: &Mkfs<'_>,
        directory: &Path,
        progress: &mut dyn FnMut(Step<'_>),
    ) -> Result<(Image, Sha1s), Error> {
        progress(Step::Initrd);
        write(directory, FIRMWARE, &self.firmware)?;
        write(directory, KERNEL, &self.kernel)?;
        write(directory, INITRD, &self.initrd)?;
        let mut words = self.parts.cmdline.clone();
        let mut root = None;
        if let Some(entries) = &self.root_entries {
            progress(Step::Root);
            let made = root::make(entries, mkfs, directory, ROOT)?;
            words.push(VerityRoot::from(made).argument());
            root = Some(made);
        }
        let cmdline = words.join(" ");
        write(directory, CMDLINE, cmdline.as_bytes())?;
        if root.is_some() && self.stub.is_some() {
            progress(Step::BootDisk);
        }
        // Most of either half is hashing, so each has a core.
        let (unified, direct) = thread::scope(|scope| {
            let unified = scope.spawn(|| match (&root, &self.stub) {
                (Some(root), Some(stub)) => {
                    boot_disk::make(self, stub, directory, &cmdline, root).map(Some)
                }
                _ => Ok(None),
            });
            let direct = self.direct(&cmdline, directory, root.is_some());
            let unified = unified.join().expect("writing files does not panic");
            (unified, direct)
        });
        let ((prediction, mut files), unified) = (direct?, unified?);
        progress(Step::Measure);
        let registers = BootRegisters::from(&prediction);
        let mut manifest = None;
        if let Some(root) = root {
            let (uki, others) = unified.unzip();
            files.extend(others.into_iter().flatten());
            let made = manifest::of(self, &files, cmdline, root.into(), (prediction, uki))?;
            write(directory, MANIFEST, &made.to_json())?;
            manifest = Some(made);
        }
        settle(directory)?;
        let sha1 = |measured: Measured| (measured.file.name, measured.sha1);
        let image = Image {
            manifest,
            registers,
        };
        Ok((image, files.into_iter().map(sha1).collect()))
    }

    /// What a direct boot measures to, and its files, which are written.
    fn direct(
        &self,
        cmdline: &str,
        directory: &Path,
        with_root: bool,
    ) -> Result<(predict::Prediction, Vec<Measured>), Error> {
        let firmware = Firmware::new(&self.firmware, self.parts.firmware_build)
            .map_err(Error::of(Fault::Recipe, ""))?;
        let prediction = predict::predict(&Inputs {
            platform: Platform::new(firmware, self.parts.machine.memory_mib),
            page_order: PageOrder::SinglePass,
            acpi: &self.parts.acpi,
            boot: Boot::Direct {
                kernel: &self.kernel,
                initrd: Some(&self.initrd),
                cmdline,
                header: KernelHeader::AsOnDisk,
            },
        })
        .map_err(Error::of(Fault::Recipe, "predicting the registers: "))?;
        let names = [FIRMWARE, KERNEL, INITRD].into_iter();
        let names = names.chain(with_root.then_some(ROOT));
        let files = names.map(|name| Measured::read(directory, name));
        Ok((prediction, files.collect::<Result<_, _>>()?))
    }
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    files::write(&directory.join(name), bytes)
}

/// Whatever the umask says: everybody may read an image, nobody should change one.
pub(crate) fn settle(directory: &Path) -> Result<(), Error> {
    let image = [FIRMWARE, KERNEL, INITRD, CMDLINE, ROOT, UKI, DISK, MANIFEST];
    let names = image.into_iter().chain([SBOM, STATEMENT, ENVELOPE]);
    let mut there = names
        .map(|name| directory.join(name))
        .filter(|path| path.exists());
    there.try_for_each(|file| files::set_mode(&file, 0o644))
}

/// Names in an image's directory.
pub const FIRMWARE: &str = "firmware.fd";
/// See [`FIRMWARE`].
pub const KERNEL: &str = "kernel";
/// See [`FIRMWARE`].
pub const INITRD: &str = "initrd";
/// See [`FIRMWARE`].
pub const ROOT: &str = "root.img";
/// See [`FIRMWARE`].
pub const UKI: &str = "image.efi";
/// See [`FIRMWARE`].
pub const DISK: &str = "disk.img";
